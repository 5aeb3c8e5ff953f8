//! Membership of a connection in its server: the roster of a server's connections on one thread, and how a shutdown ends them.
//!
//! A connection holds its [`Site`], which is its configuration and the roster, if a server has opened it; it knows its place there.
//! Nothing here calls back into the program: what is closed or given up is only marked, and the loop goes on with it at its next turn. So
//! a callback that does not return keeps nobody else.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use threadwire_proto::CloseCode;
use threadwire_worker::EventLoop;

use super::{Connection, Phase, WeakConnection};
use crate::Config;
use crate::server::CloseProblem;
use threadwire_core::server::tally::{MemberNote, ShutdownOrder, WorkerTally};

/// The place of a connection that is no server's, or has ended.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Where a connection belongs: one for each server of a thread, and one for each connection that is no server's.
pub(crate) struct Site {
    pub(crate) config: Arc<Config>,
    roster: Option<Box<Roster>>,
}

impl Site {
    /// For a connection that is no server's.
    pub(crate) fn alone(config: Arc<Config>) -> Rc<Site> {
        Rc::new(Site { config, roster: None })
    }

    /// For the connections that a server has on this thread.
    pub(crate) fn of_server(config: Arc<Config>, tally: Arc<WorkerTally>) -> Rc<Site> {
        let roster = Roster { tally, members: RefCell::default(), leaving: RefCell::default() };
        Rc::new(Site { config, roster: Some(Box::new(roster)) })
    }

    pub(crate) fn roster(&self) -> Option<&Roster> {
        self.roster.as_deref()
    }
}

/// The connections of a server on one thread.
pub(crate) struct Roster {
    tally: Arc<WorkerTally>,
    /// Those that have not ended. Each knows its place.
    members: RefCell<Vec<WeakConnection>>,
    leaving: RefCell<Option<Leaving>>,
}

/// A shutdown under way.
struct Leaving {
    order: Arc<ShutdownOrder>,
    /// In the order of the members.
    notes: Vec<MemberNote>,
}

fn note(connection: Option<Connection>) -> MemberNote {
    let peer = connection.and_then(|connection| connection.peer_addr().ok());
    MemberNote { peer, ..MemberNote::default() }
}

impl Roster {
    /// The order to shut down, once it has come.
    pub(crate) fn order(&self) -> Option<Arc<ShutdownOrder>> {
        self.leaving.borrow().as_ref().map(|leaving| Arc::clone(&leaving.order))
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.leaving.borrow().is_some()
    }

    /// Whether a shutdown has begun that sets the deadline of the connection at a place.
    fn decides_on(&self, place: u32) -> bool {
        let leaving = self.leaving.borrow();
        let note = leaving.as_ref().and_then(|leaving| leaving.notes.get(place as usize));
        note.is_some_and(|note| !note.is_excused)
    }

    /// What a connection that is still open is closed with at the end of its worker.
    pub(super) fn farewell(&self) -> Option<(CloseCode, String)> {
        let order = self.order()?;
        Some((order.shutdown.code, order.shutdown.reason.clone()))
    }

    /// A connection has opened. Returns its place.
    fn enter(&self, connection: WeakConnection) -> u32 {
        self.tally.opened();
        if let Some(leaving) = &mut *self.leaving.borrow_mut() {
            leaving.notes.push(note(connection.upgrade()));
        }
        let mut members = self.members.borrow_mut();
        if members.len() == members.capacity() {
            // In small steps: an idle connection is not to cost another's place.
            let step = members.len() / 8 + 4;
            members.reserve_exact(step);
        }
        members.push(connection);
        (members.len() - 1) as u32
    }

    /// The connection at a place has ended: cleanly, or as it is said. The last of the list moves there.
    fn leave(&self, place: u32, problem: Option<CloseProblem>) {
        let mut members = self.members.borrow_mut();
        let removed = members.swap_remove(place as usize);
        let moved = members.get(place as usize).and_then(WeakConnection::upgrade);
        if members.is_empty() {
            // After a crowd, its memory is given back.
            *members = Vec::new();
        }
        drop(members);
        drop(removed);
        if let Some(moved) = moved {
            moved.0.place.set(place);
        }
        let note =
            self.leaving.borrow_mut().as_mut().map(|leaving| leaving.notes.swap_remove(place as usize));
        self.tally.ended(note, problem);
    }

    /// Those that are still there: what is done with them may change the list.
    fn members(&self) -> Vec<Connection> {
        self.members.borrow().iter().filter_map(WeakConnection::upgrade).collect()
    }

    /// Takes note of who is here when a shutdown begins.
    pub(crate) fn begin(&self, order: &Arc<ShutdownOrder>) {
        let notes = self.members.borrow().iter().map(|member| note(member.upgrade())).collect();
        *self.leaving.borrow_mut() = Some(Leaving { order: Arc::clone(order), notes });
    }

    /// A callback on this thread waits for the shutdown: that is not to wait for those whose callbacks can't return before.
    /// They stay open until the worker ends, if they are not closing already.
    pub(crate) fn excuse_callers(&self) {
        let is_busy = |member: &WeakConnection| member.upgrade().is_some_and(|it| it.is_in_callback());
        let busy: Vec<bool> = self.members.borrow().iter().map(is_busy).collect();
        let mut excused = 0;
        if let Some(leaving) = &mut *self.leaving.borrow_mut() {
            let notes = leaving.notes.iter_mut().zip(busy);
            for (note, _) in notes.filter(|(note, is_busy)| *is_busy && !note.is_excused) {
                note.is_excused = true;
                excused += 1;
            }
        }
        (0..excused).for_each(|_| self.tally.one_less());
    }

    /// Closes all that are not excused.
    pub(crate) fn close_all(&self) {
        let Some(order) = self.order() else { return };
        for connection in self.members().iter().filter(|connection| self.decides_on(connection.place())) {
            connection.shut_down(order.shutdown.code, &order.shutdown.reason);
        }
    }

    /// The server stops without a shutdown, or after one: closes those that are open.
    pub(crate) fn say_goodbye(&self) {
        let (code, reason) = self.farewell().unwrap_or((CloseCode::GOING_AWAY, String::new()));
        for connection in self.members() {
            // The code may be sent, and was checked if it is the program's.
            let _ = connection.close_with(code, &reason);
        }
    }

    /// The time of the shutdown has passed: gives up those that are left.
    pub(crate) fn give_up(&self) {
        for connection in self.members() {
            if let Some(leaving) = &mut *self.leaving.borrow_mut() {
                let note = leaving.notes.get_mut(connection.place() as usize);
                let Some(note) = note.filter(|note| !note.is_excused) else { continue };
                note.problem = connection.problem();
            }
            connection.give_up();
        }
    }
}

impl Connection {
    fn roster(&self) -> Option<&Roster> {
        self.0.site.roster()
    }

    /// Joins the connections of its server on this thread.
    pub(super) fn enter(&self) {
        if let Some(roster) = self.roster() {
            self.0.place.set(roster.enter(WeakConnection(Rc::downgrade(&self.0))));
        }
    }

    /// Leaves them: TCP is over.
    pub(super) fn leave(&self) {
        let place = self.0.place.replace(NOWHERE);
        if let Some(roster) = self.roster().filter(|_| place != NOWHERE) {
            roster.leave(place, if self.is_clean() { None } else { self.problem() });
        }
    }

    /// Closes, if the server has begun to shut down on this thread before the connection came here: the order has gone round already.
    pub(super) fn follow_order(&self) {
        if let Some(order) = self.roster().and_then(Roster::order) {
            self.shut_down(order.shutdown.code, &order.shutdown.reason);
        }
    }

    fn place(&self) -> u32 {
        self.0.place.get()
    }

    fn is_clean(&self) -> bool {
        self.0.session.borrow().closing().is_some_and(|closing| closing.is_clean())
    }

    /// Whether its server shuts down, and sets the deadline.
    pub(super) fn is_shutting_down(&self) -> bool {
        self.roster().is_some_and(|roster| roster.decides_on(self.place()))
    }

    /// Whether a callback is running, and waits: it is not only that there is no listener any more.
    pub(crate) fn is_in_callback(&self) -> bool {
        self.0.phase.get() == Phase::Running && self.0.listener.borrow().is_none()
    }

    /// Whether one of its callbacks is running, `on_close` too, whatever has become of the connection meanwhile. What can only come when
    /// that has returned must not be waited for.
    pub(crate) fn is_in_own_callback(&self) -> bool {
        let is_over = self.0.extras.borrow().as_ref().is_some_and(|extras| extras.is_over);
        self.0.listener.borrow().is_none() && !is_over
    }

    /// Closes, at the loop's next turn. How long that may take is up to the server from now on.
    fn shut_down(&self, code: CloseCode, reason: &str) {
        if let Some(timer) = self.with_extras(|extras| extras.timer.take()) {
            EventLoop::current().cancel(timer);
        }
        self.0.overdue.set(None);
        if self.close_with(code, reason).is_err() {
            debug_assert!(false, "code and reason were checked");
        }
    }

    /// What there is to say of it when the time has passed; `None` if nothing is wrong.
    fn problem(&self) -> Option<CloseProblem> {
        CloseProblem::of(self.0.session.borrow().closing(), self.is_in_callback(), self.buffered())
    }

    /// Gives it up, at the loop's next turn.
    fn give_up(&self) {
        let mut session = self.0.session.borrow_mut();
        if let Some(deadline) = session.deadline(Instant::now()) {
            session.expire(deadline);
        }
        drop(session);
        self.mark_dirty();
    }
}
