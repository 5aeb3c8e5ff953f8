//! The state of a worker that all threads share: inbox, status, and place in the tree.
//!
//! Each worker has one lock, over its status and its place in the tree. Two rules keep that simple: a thread that holds it may
//! take the lock of the parent (which a worker does once, at its end), and that of an inbox, and no other; and no value or
//! closure of a user is called or dropped under it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, Weak};

use super::event::Event;
use super::inbox::{DISCARD, Inbox, Overflow, PAUSE, STOP};
use super::mail::{Call, Mail};
use super::status::{Outcome, Status, StatusChange};
use super::topics::KeptListener;
use super::waker::Waker;
use crate::lock::{Condition, Lock};
use crate::{EventLoop, ListenerId, Remote};

/// The number of a worker, unique for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub(crate) u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.0)
    }
}

/// The library's own events that a worker wants, as a set.
#[derive(Clone, Copy)]
pub(crate) struct Wanted(u8);

impl Wanted {
    pub(crate) const CHILDREN: Wanted = Wanted(1);
    pub(crate) const FAILURES: Wanted = Wanted(2);
}

/// The state that a worker, its handles and its relatives share.
pub(crate) struct WorkerState {
    pub(crate) id: WorkerId,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) daemon: bool,
    /// Whether it runs on the main thread of the process.
    pub(crate) is_main: AtomicBool,
    /// Whether the worker can be started again.
    is_restartable: bool,
    pub(crate) inbox: Inbox<Box<dyn Mail>, Waker>,
    interest: AtomicU8,
    /// The number of events that nobody listened or waited for.
    pub(crate) unheard: AtomicU64,
    /// Listeners that are not attached to a loop: those of the next run, and those that the loop has not seen yet.
    kept: Lock<Vec<Box<dyn KeptListener>>>,
    life: Lock<Lifecycle>,
    /// Notified when a child has ended.
    pub(crate) left: Condition,
}

/// The part of a worker's state that changes over its life.
pub(crate) struct Lifecycle {
    pub(crate) status: Status,
    /// The number of starts.
    pub(crate) run: u64,
    pub(crate) parent: Option<Arc<WorkerState>>,
    /// The parent of the run that has ended.
    pub(crate) last_parent: Weak<WorkerState>,
    /// Children that have not ended, in the order in which they were made.
    pub(crate) children: BTreeMap<WorkerId, Arc<WorkerState>>,
    /// Whether the worker is ending, and stops new children at once.
    pub(crate) ending: bool,
    watchers: Vec<Weak<WorkerState>>,
    /// Workers whose loops are woken at this worker's end.
    waiting: BTreeMap<WorkerId, Arc<WorkerState>>,
}

impl WorkerState {
    pub(crate) fn new(
        name: Option<Arc<str>>,
        daemon: bool,
        limit: Option<(usize, Overflow)>,
        is_restartable: bool,
    ) -> WorkerState {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let life = Lifecycle {
            status: Status::New,
            run: 0,
            parent: None,
            last_parent: Weak::new(),
            children: BTreeMap::new(),
            ending: false,
            watchers: Vec::new(),
            waiting: BTreeMap::new(),
        };
        WorkerState {
            id: WorkerId(COUNT.fetch_add(1, Ordering::Relaxed)),
            name,
            daemon,
            is_main: AtomicBool::new(false),
            is_restartable,
            inbox: Inbox::new(limit),
            interest: AtomicU8::new(0),
            unheard: AtomicU64::new(0),
            kept: Lock::default(),
            life: Lock::new(life),
            left: Condition::new(),
        }
    }

    pub(crate) fn life(&self) -> MutexGuard<'_, Lifecycle> {
        self.life.lock()
    }

    /// The name in reports and logs: that of the worker, or its number.
    pub(crate) fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.id.to_string(), |name| name.to_string())
    }

    /// Begins a run, and returns its number. `None` if the worker runs already.
    pub(crate) fn start(self: &Arc<WorkerState>) -> Option<u64> {
        let mut life = self.life();
        if life.status.is_alive() {
            return None;
        }
        life.run += 1;
        life.ending = false;
        life.last_parent = Weak::new();
        self.interest.store(0, Ordering::Relaxed);
        self.inbox.open();
        let run = life.run;
        self.set_status(life, Status::Starting);
        Some(run)
    }

    /// The task begins.
    pub(crate) fn begin(self: &Arc<WorkerState>) {
        let life = self.life();
        if life.status == Status::Starting {
            self.set_status(life, Status::Running);
        }
    }

    /// The worker is asked to stop. `signals` is `STOP`, and perhaps `DISCARD`.
    pub(crate) fn stop(self: &Arc<WorkerState>, signals: u8) {
        let life = self.life();
        debug_assert!(signals & !(STOP | DISCARD) == 0);
        if self.inbox.signal(signals, PAUSE) && life.status != Status::Stopping {
            self.set_status(life, Status::Stopping);
        }
    }

    pub(crate) fn pause(self: &Arc<WorkerState>) {
        let life = self.life();
        if matches!(life.status, Status::Starting | Status::Running) && self.inbox.signal(PAUSE, 0) {
            self.set_status(life, Status::Paused);
        }
    }

    pub(crate) fn resume(self: &Arc<WorkerState>) {
        let life = self.life();
        if life.status == Status::Paused && self.inbox.signal(0, PAUSE) {
            self.set_status(life, Status::Running);
        }
    }

    /// The worker has ended. Its inbox is closed already.
    pub(crate) fn end(self: &Arc<WorkerState>, outcome: Outcome) {
        self.hand_children_on();
        let mut life = self.life();
        let parent = life.parent.take();
        life.last_parent = parent.as_ref().map_or_else(Weak::new, Arc::downgrade);
        let waiting = std::mem::take(&mut life.waiting);
        let seen = self.change_status(&mut life, Status::Ended(outcome));
        // Under the same lock as the change of status: who sees the one sees the other.
        if let Some(parent) = &parent {
            self.leave_family(parent);
        }
        drop(life);
        for waiting in waiting.values() {
            waiting.inbox.poke();
        }
        drop((seen, parent, waiting));
    }

    /// Hands daemons that are still at work on to the next one up.
    fn hand_children_on(&self) {
        loop {
            let (parent, orphans) = {
                let mut life = self.life();
                (life.parent.clone(), std::mem::take(&mut life.children))
            };
            if orphans.is_empty() {
                return;
            }
            for orphan in orphans.into_values() {
                let is_taken = parent.as_ref().is_some_and(|parent| orphan.join_family(parent));
                if !is_taken {
                    orphan.life().parent = None;
                }
            }
        }
    }

    /// Changes the status, and tells the watchers, in the order in which it changes. The watchers that are returned must be
    /// dropped after the lock: the last reference to a worker drops values of the user.
    #[must_use]
    fn change_status(self: &Arc<WorkerState>, life: &mut Lifecycle, status: Status) -> Vec<Arc<WorkerState>> {
        let mut seen = Vec::new();
        life.watchers.retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else { return false };
            let change = StatusChange { worker: Remote(Arc::clone(self)), status: status.clone() };
            let is_alive = watcher.inform(change);
            seen.push(watcher);
            is_alive
        });
        life.status = status;
        seen
    }

    fn set_status(self: &Arc<WorkerState>, mut life: MutexGuard<'_, Lifecycle>, status: Status) {
        let seen = self.change_status(&mut life, status);
        drop(life);
        drop(seen);
    }

    pub(crate) fn watch(&self, watcher: &Arc<WorkerState>) {
        self.life().watchers.push(Arc::downgrade(watcher));
    }

    pub(crate) fn unwatch(&self, watcher: &Arc<WorkerState>) {
        self.life().watchers.retain(|other| !std::ptr::eq(other.as_ptr(), &**watcher));
    }

    /// Whether a run has ended.
    pub(crate) fn is_over(&self, run: u64) -> bool {
        let life = self.life();
        life.run > run || !life.status.is_alive()
    }

    /// Has the loop of `waiting` woken when this worker ends, if it has not ended.
    pub(crate) fn tell_of_end(&self, waiting: &Arc<WorkerState>) {
        let mut life = self.life();
        if life.status.is_alive() {
            life.waiting.insert(waiting.id, Arc::clone(waiting));
        }
    }

    /// Sends one of the library's own events to the worker, past the limit of the inbox. Returns whether it was taken.
    pub(crate) fn inform<T: Send + 'static>(&self, data: T) -> bool {
        self.inbox.push(Box::new(Event::new(data)), true).is_ok()
    }

    pub(crate) fn want(&self, interest: Wanted) {
        self.interest.fetch_or(interest.0, Ordering::Relaxed);
    }

    pub(crate) fn wants(&self, interest: Wanted) -> bool {
        self.interest.load(Ordering::Relaxed) & interest.0 != 0
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Box<dyn KeptListener>>> {
        self.kept.lock()
    }

    /// Adds a listener that outlives runs.
    pub(crate) fn keep_listener(&self, listener: Box<dyn KeptListener>) {
        self.kept().push(listener);
        let call = Call(|event_loop: &EventLoop| event_loop.worker().employ_kept(event_loop));
        let does_run = self.inbox.push(Box::new(call), true).is_ok();
        // The next start of a worker that does not run attaches the listener.
        if !does_run && !self.is_restartable {
            self.store_kept(Vec::new());
        }
    }

    /// Attaches stored listeners to the loop.
    pub(crate) fn employ_kept(&self, event_loop: &EventLoop) {
        let kept = std::mem::take(&mut *self.kept());
        for listener in kept {
            listener.attach(event_loop);
        }
    }

    /// Takes the listeners back at the end of a run, before those that were added too late for it. Without a next run
    /// they are dropped: they may hold the worker itself.
    pub(crate) fn store_kept(&self, listeners: Vec<Box<dyn KeptListener>>) {
        let late = std::mem::take(&mut *self.kept());
        let (kept, dropped): (Vec<_>, Vec<_>) = listeners
            .into_iter()
            .chain(late)
            .partition(|listener| self.is_restartable && listener.is_permanent());
        self.kept().splice(0..0, kept);
        threadwire_guard::discard_all(dropped);
    }

    /// Removes a listener that is not attached. Returns whether it was there.
    pub(crate) fn remove_kept(&self, id: ListenerId) -> bool {
        let removed = {
            let mut kept = self.kept();
            let place = kept.iter().position(|listener| listener.id() == id);
            place.map(|place| kept.remove(place))
        };
        removed.is_some()
    }
}
