//! What one worker of a server has: its connections, its handshakes, perhaps sockets that accept. It is where a shutdown
//! of that worker happens.
//!
//! The connections of a thread find the station by the configuration they share with it, so that they need not know more
//! than their place in its list. Nothing here calls back into the program: what is closed or given up is only marked, and
//! the loop goes on with it at its next turn. So a callback that does not return keeps nobody else.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use threadwire_worker::EventLoop;

use super::accept::Acceptor;
use super::control::{MARGIN, Order, Post};
use super::upgrade::Upgrading;
use crate::connection::WeakConnection;
use crate::{CloseCode, Config, Connection};
use threadwire_core::server::{Standing, Unanswered};

thread_local! {
    /// One for each server that this thread works for: rarely more than one.
    static STATIONS: RefCell<Vec<Rc<Station>>> = const { RefCell::new(Vec::new()) };
}

pub(crate) struct Station {
    config: Arc<Config>,
    post: Arc<Post>,
    /// The connections that have not ended. Each knows its place.
    members: RefCell<Vec<WeakConnection>>,
    /// Those under way, in the same manner.
    handshakes: RefCell<Vec<Weak<Upgrading>>>,
    acceptors: RefCell<Vec<Weak<Acceptor>>>,
    leaving: RefCell<Option<Leaving>>,
}

/// A shutdown under way.
struct Leaving {
    order: Arc<Order>,
    /// In the order of the members.
    notes: Vec<Note>,
}

/// What a shutdown knows of a connection.
struct Note {
    peer: Option<SocketAddr>,
    /// How it stood when the time had passed.
    standing: Option<Standing>,
    /// A callback of it waits for the shutdown, which does not wait for it then.
    is_excused: bool,
}

impl Note {
    fn new(connection: Option<&Connection>) -> Note {
        let peer = connection.and_then(|connection| connection.peer_addr().ok());
        Note { peer, standing: None, is_excused: false }
    }
}

impl Station {
    /// No place in a list.
    pub(crate) const NOWHERE: u32 = u32::MAX;

    /// This thread begins to work for a server.
    pub(super) fn open(config: &Arc<Config>, post: Arc<Post>) {
        let station = Rc::new(Station {
            config: Arc::clone(config),
            post,
            members: RefCell::default(),
            handshakes: RefCell::default(),
            acceptors: RefCell::default(),
            leaving: RefCell::default(),
        });
        STATIONS.with_borrow_mut(|stations| stations.push(station));
    }

    /// This thread works for it no more.
    pub(super) fn close(config: &Arc<Config>) {
        STATIONS.with_borrow_mut(|stations| stations.retain(|station| !Arc::ptr_eq(&station.config, config)));
    }

    fn find(is_it: impl Fn(&Station) -> bool) -> Option<Rc<Station>> {
        // None at the end of the thread.
        let found =
            STATIONS.try_with(|stations| stations.borrow().iter().find(|station| is_it(station)).cloned());
        found.ok().flatten()
    }

    /// This thread's station of a server.
    pub(crate) fn of(config: &Arc<Config>) -> Option<Rc<Station>> {
        Station::find(|station| Arc::ptr_eq(&station.config, config))
    }

    pub(super) fn of_post(post: &Arc<Post>) -> Option<Rc<Station>> {
        Station::find(|station| Arc::ptr_eq(&station.post, post))
    }

    pub(super) fn post(&self) -> &Arc<Post> {
        &self.post
    }

    /// The order to shut down, once it has come.
    pub(super) fn order(&self) -> Option<Arc<Order>> {
        self.leaving.borrow().as_ref().map(|leaving| Arc::clone(&leaving.order))
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.leaving.borrow().is_some()
    }

    /// Whether a shutdown has begun that sets the deadline of the connection at a place.
    pub(crate) fn decides_on(&self, place: u32) -> bool {
        let leaving = self.leaving.borrow();
        let note = leaving.as_ref().and_then(|leaving| leaving.notes.get(place as usize));
        note.is_some_and(|note| !note.is_excused)
    }

    /// What a connection that is still open is closed with at the end of its worker.
    pub(crate) fn farewell(&self) -> Option<(CloseCode, String)> {
        let order = self.order()?;
        Some((order.shutdown.code, order.shutdown.reason.clone()))
    }

    /// A socket that this worker accepts connections from.
    pub(super) fn add_acceptor(&self, acceptor: &Rc<Acceptor>) {
        self.acceptors.borrow_mut().push(Rc::downgrade(acceptor));
    }

    /// A handshake has begun. Returns its place.
    pub(super) fn begin_handshake(&self, upgrading: &Rc<Upgrading>) -> u32 {
        append(&self.handshakes, Rc::downgrade(upgrading))
    }

    /// The handshake at a place is over.
    pub(super) fn end_handshake(&self, place: u32) {
        if let Some(moved) = remove(&self.handshakes, place, Weak::upgrade) {
            moved.set_place(place);
        }
    }

    /// A handshake is answered with 503.
    pub(super) fn count_refused(&self) {
        self.post.tally().refused += 1;
    }

    /// A connection has opened. Returns its place.
    pub(crate) fn enter(&self, connection: WeakConnection) -> u32 {
        self.post.opened();
        if let Some(leaving) = &mut *self.leaving.borrow_mut() {
            leaving.notes.push(Note::new(connection.upgrade().as_ref()));
        }
        append(&self.members, connection)
    }

    /// The connection at a place has ended: cleanly, or as it is said.
    pub(crate) fn leave(&self, place: u32, standing: Option<Standing>) {
        if let Some(moved) = remove(&self.members, place, WeakConnection::upgrade) {
            moved.set_place(place);
        }
        self.post.ended();
        let note =
            self.leaving.borrow_mut().as_mut().map(|leaving| leaving.notes.swap_remove(place as usize));
        if let Some(note) = note {
            if note.is_excused {
                return;
            }
            let mut tally = self.post.tally();
            match note.standing.or(standing) {
                None => tally.clean += 1,
                Some(standing) => tally.unanswered.push(Unanswered::new(note.peer, standing)),
            }
        }
        self.post.one_less();
    }

    /// Those of a list that are still there: what is done with them may change the list.
    fn members(&self) -> Vec<Connection> {
        self.members.borrow().iter().filter_map(WeakConnection::upgrade).collect()
    }

    fn handshakes(&self) -> Vec<Rc<Upgrading>> {
        self.handshakes.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Shuts down, or (if that has begun) sets another deadline. `waits_here` if a call on this very thread waits for it.
    pub(super) fn begin(self: &Rc<Station>, order: &Arc<Order>, deadline: Option<Instant>, waits_here: bool) {
        let event_loop = EventLoop::current();
        if let Some(deadline) = deadline {
            let station = Rc::clone(self);
            event_loop.at(deadline, move || station.time_is_up());
            if let Some(late) = deadline.checked_add(MARGIN) {
                // Whoever waits for the shutdown stops the worker before; unless a callback keeps it from that.
                event_loop.at(late, || EventLoop::current().remote().stop());
            }
        }
        let is_first = !self.is_shutting_down();
        if is_first {
            self.take_note(order);
        }
        if waits_here {
            self.excuse_callers();
        }
        if is_first {
            self.close_all(order);
        }
    }

    fn take_note(&self, order: &Arc<Order>) {
        let notes = self.members.borrow().iter().map(|member| Note::new(member.upgrade().as_ref())).collect();
        *self.leaving.borrow_mut() = Some(Leaving { order: Arc::clone(order), notes });
    }

    fn close_all(&self, order: &Order) {
        for connection in self.members().iter().filter(|connection| self.decides_on(connection.place())) {
            connection.shut_down(order.shutdown.code, &order.shutdown.reason);
        }
        for handshake in self.handshakes() {
            handshake.shut_down();
        }
        if order.shutdown.keep_listening {
            return;
        }
        let acceptors: Vec<Rc<Acceptor>> = self.acceptors.borrow().iter().filter_map(Weak::upgrade).collect();
        for acceptor in acceptors {
            acceptor.shut_down();
        }
    }

    /// A callback on this thread waits for the shutdown: that is not to wait for those whose callbacks can't return before.
    /// They stay open until the worker ends, if they are not closing already.
    fn excuse_callers(&self) {
        let busy = |member: &WeakConnection| member.upgrade().is_some_and(|it| it.is_in_callback());
        let busy: Vec<bool> = self.members.borrow().iter().map(busy).collect();
        let mut excused = 0;
        if let Some(leaving) = &mut *self.leaving.borrow_mut() {
            let notes =
                leaving.notes.iter_mut().zip(busy).filter(|(note, is_busy)| *is_busy && !note.is_excused);
            for (note, _) in notes {
                note.is_excused = true;
                excused += 1;
            }
        }
        (0..excused).for_each(|_| self.post.one_less());
        for handshake in self.handshakes() {
            handshake.excuse_if_asking();
        }
    }

    /// Gives up those that are left.
    fn time_is_up(&self) {
        for connection in self.members() {
            if let Some(leaving) = &mut *self.leaving.borrow_mut() {
                let note = leaving.notes.get_mut(connection.place() as usize);
                let Some(note) = note.filter(|note| !note.is_excused) else { continue };
                note.standing = connection.standing();
            }
            connection.give_up();
        }
        for handshake in self.handshakes() {
            handshake.give_up();
        }
    }
}

/// Adds something to a list, and returns its place.
fn append<T>(list: &RefCell<Vec<T>>, what: T) -> u32 {
    let mut list = list.borrow_mut();
    if list.len() == list.capacity() {
        // In small steps: an idle connection is not to cost another's place.
        let step = list.len() / 8 + 4;
        list.reserve_exact(step);
    }
    list.push(what);
    (list.len() - 1) as u32
}

/// Removes what is at a place. The last of the list moves there, and is returned.
fn remove<T, R>(list: &RefCell<Vec<T>>, place: u32, look_up: impl Fn(&T) -> Option<R>) -> Option<R> {
    let mut list = list.borrow_mut();
    let removed = list.swap_remove(place as usize);
    let moved = list.get(place as usize).and_then(look_up);
    if list.is_empty() {
        // After a crowd, its memory.
        *list = Vec::new();
    }
    drop(list);
    drop(removed);
    moved
}
