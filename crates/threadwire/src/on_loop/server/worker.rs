//! One thread's share of a server: its connections, its handshakes, perhaps sockets that accept; a shutdown happens here.
//!
//! What other threads leave for a server on this one (sockets that they have accepted, the order to shut down) finds it by its tally.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use threadwire_worker::EventLoop;

use super::Hook;
use super::accept::Acceptor;
use super::control::{MARGIN, WorkerRemote};
use super::opening_handshake::Upgrading;
use crate::connection::membership::{Roster, Site};
use crate::{Error, Listener};
use threadwire_core::server::pending::PendingHandshakes;
use threadwire_core::server::settings::ServerSettings;
use threadwire_core::server::tally::{ShutdownOrder, WorkerTally};

thread_local! {
    /// One for each server that this thread works for: rarely more than one.
    static WORKERS: RefCell<Vec<Rc<ServerWorker>>> = const { RefCell::new(Vec::new()) };
}

type MakeListener = dyn Fn() -> io::Result<Box<dyn Listener>>;

pub(crate) struct ServerWorker {
    pub(super) settings: Arc<ServerSettings>,
    pub(super) hook: Hook,
    site: Rc<Site>,
    remote: WorkerRemote,
    pending: RefCell<PendingHandshakes<Weak<Upgrading>>>,
    acceptors: RefCell<Vec<Weak<Acceptor>>>,
    /// What makes the listener of a connection for which the hook has given none.
    make_listener: OnceCell<Box<MakeListener>>,
}

impl ServerWorker {
    /// This thread begins to work for a server.
    pub(super) fn open(settings: Arc<ServerSettings>, hook: Hook, remote: WorkerRemote) -> Rc<ServerWorker> {
        let worker = Rc::new(ServerWorker {
            site: Site::of_server(Arc::clone(&settings.config), Arc::clone(&remote.tally)),
            pending: RefCell::new(PendingHandshakes::new(Arc::clone(&settings.gate))),
            acceptors: RefCell::default(),
            make_listener: OnceCell::new(),
            settings,
            hook,
            remote,
        });
        WORKERS.with_borrow_mut(|workers| workers.push(Rc::clone(&worker)));
        worker
    }

    /// The worker that this thread is already with these settings.
    pub(super) fn of_settings(settings: &Arc<ServerSettings>) -> Option<Rc<ServerWorker>> {
        let is_it = |worker: &&Rc<ServerWorker>| {
            Arc::ptr_eq(&worker.settings, settings) && worker.remote.remote.is_current()
        };
        WORKERS.with_borrow(|workers| workers.iter().find(is_it).cloned())
    }

    /// Has connections listened to by what this makes, unless the hook gives them a listener. To be said once.
    pub(crate) fn listen_with(&self, make: impl Fn() -> io::Result<Box<dyn Listener>> + 'static) {
        let was_set = self.make_listener.set(Box::new(make)).is_err();
        debug_assert!(!was_set, "it is said once");
    }

    /// Fails if the system has not got what the connection would need.
    pub(super) fn listener(&self) -> io::Result<Box<dyn Listener>> {
        match self.make_listener.get() {
            Some(make) => make(),
            None => Ok(Box::new(Nobody)),
        }
    }

    /// This thread works for it no more. Its connections go on to their ends.
    pub(crate) fn close(&self) {
        // At the end of the thread the list may be gone.
        let _ = WORKERS.try_with(|workers| {
            let is_other = |worker: &Rc<ServerWorker>| !std::ptr::eq(&**worker, self);
            workers.borrow_mut().retain(is_other);
        });
    }

    /// The one that a message of another thread is for.
    pub(super) fn of_tally(tally: &Arc<WorkerTally>) -> Option<Rc<ServerWorker>> {
        let is_it = |worker: &&Rc<ServerWorker>| Arc::ptr_eq(&worker.remote.tally, tally);
        let found = WORKERS.try_with(|workers| workers.borrow().iter().find(is_it).cloned());
        found.ok().flatten()
    }

    pub(crate) fn remote(&self) -> &WorkerRemote {
        &self.remote
    }

    pub(crate) fn tally(&self) -> &Arc<WorkerTally> {
        &self.remote.tally
    }

    /// For the connections that are opened here.
    pub(crate) fn site(&self) -> &Rc<Site> {
        &self.site
    }

    fn roster(&self) -> &Roster {
        match self.site.roster() {
            Some(roster) => roster,
            None => unreachable!("the site of a server has a roster"),
        }
    }

    /// The order to shut down, once it has come.
    pub(super) fn order(&self) -> Option<Arc<ShutdownOrder>> {
        self.roster().order()
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        self.roster().is_shutting_down()
    }

    /// A socket that this worker accepts connections from.
    pub(super) fn add_acceptor(&self, acceptor: &Rc<Acceptor>) {
        self.acceptors.borrow_mut().push(Rc::downgrade(acceptor));
    }

    /// The server stops, and the thread goes on.
    pub(super) fn stop(&self) {
        self.stop_accepting();
        self.roster().say_goodbye();
    }

    /// Closes the sockets that accept, and drops the handshakes.
    pub(crate) fn stop_accepting(&self) {
        for acceptor in self.acceptors() {
            acceptor.close();
        }
        for handshake in self.handshakes() {
            handshake.condemn(Error::Stopped);
        }
    }

    /// A handshake has begun. Returns its number.
    pub(super) fn begin_handshake(&self, upgrading: &Rc<Upgrading>) -> u64 {
        let (number, oldest) =
            self.pending.borrow_mut().enter(Rc::downgrade(upgrading), |entry| droppable(entry));
        drop_handshake(oldest);
        number
    }

    /// The handshake of a number is over.
    pub(super) fn end_handshake(&self, number: u64) {
        let ended = self.pending.borrow_mut().leave(number);
        drop(ended);
    }

    /// Makes room where sockets are short.
    pub(super) fn drop_oldest_handshake(&self) {
        let oldest = self.pending.borrow_mut().oldest(|entry| droppable(entry));
        drop_handshake(oldest);
    }

    /// Those that are still there: what is done with them may change the list.
    fn handshakes(&self) -> Vec<Rc<Upgrading>> {
        self.pending.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    fn acceptors(&self) -> Vec<Rc<Acceptor>> {
        self.acceptors.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Shuts down, or (if that has begun) sets another deadline. `waits_here` if a call on this very thread waits for it.
    pub(super) fn shut_down(
        self: &Rc<ServerWorker>,
        order: &Arc<ShutdownOrder>,
        deadline: Option<Instant>,
        waits_here: bool,
    ) {
        let event_loop = EventLoop::current();
        if let Some(deadline) = deadline {
            let worker = Rc::clone(self);
            event_loop.at(deadline, move || worker.give_up());
            if let Some(late) = deadline.checked_add(MARGIN) {
                // The caller of the shutdown stops the worker before, unless a callback keeps it from that.
                let remote = self.remote.clone();
                event_loop.at(late, move || remote.stop());
            }
        }
        let is_first = !self.is_shutting_down();
        if is_first {
            self.roster().begin(order);
        }
        if waits_here {
            self.roster().excuse_callers();
            for handshake in self.handshakes() {
                handshake.excuse_if_asking();
            }
        }
        if !is_first {
            return;
        }
        self.roster().close_all();
        for handshake in self.handshakes() {
            handshake.shut_down();
        }
        if !order.shutdown.keep_listening {
            for acceptor in self.acceptors() {
                acceptor.shut_down();
            }
        }
    }

    /// The time of the shutdown has passed.
    fn give_up(&self) {
        self.roster().give_up();
        for handshake in self.handshakes() {
            handshake.give_up();
        }
    }
}

/// Listens to a connection that nobody wants to listen to.
struct Nobody;

impl Listener for Nobody {}

fn droppable(entry: &Weak<Upgrading>) -> Option<Rc<Upgrading>> {
    entry.upgrade().filter(|upgrading| !upgrading.is_condemned())
}

fn drop_handshake(oldest: Option<Rc<Upgrading>>) {
    if let Some(oldest) = oldest {
        oldest.condemn(Error::other("there are too many handshakes, and it was the oldest"));
    }
}
