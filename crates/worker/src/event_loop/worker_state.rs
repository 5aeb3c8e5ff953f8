//! A worker as all threads see it.
//!
//! Each node has one lock, over its status and its place in the tree. Two rules keep it simple: who holds it may take the lock
//! of the parent (which a worker does once, at its end), and that of an inbox, and no other; and nothing of the users' is
//! called or dropped under it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, Weak};

use super::event::Event;
use super::inbox::{DISCARD, Inbox, Overflow, PAUSE, STOP};
use super::mail::{Call, Mail};
use super::status::{Outcome, Status, StatusChange};
use super::topics::Kept;
use super::waker::Waker;
use crate::lock::{Condition, Lock};
use crate::{EventLoop, ListenerId, Remote};

/// Tells workers apart, for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub(crate) u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.0)
    }
}

/// Which of the library's own events a worker wants.
#[derive(Clone, Copy)]
pub(crate) struct Interest(u8);

impl Interest {
    pub(crate) const CHILDREN: Interest = Interest(1);
    pub(crate) const FAILURES: Interest = Interest(2);
}

/// What a worker, its handles and its relatives share.
pub(crate) struct Node {
    pub(crate) id: WorkerId,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) daemon: bool,
    /// Whether it can be started again.
    is_restartable: bool,
    pub(crate) inbox: Inbox<Box<dyn Mail>, Waker>,
    interest: AtomicU8,
    /// Listeners that are not at work: those of the next run, and those that its loop has not seen yet.
    kept: Lock<Vec<Box<dyn Kept>>>,
    life: Lock<Life>,
    /// A child has left.
    pub(crate) left: Condition,
}

/// What changes in the life of a worker.
pub(crate) struct Life {
    pub(crate) status: Status,
    /// How often it was started.
    pub(crate) run: u64,
    pub(crate) parent: Option<Arc<Node>>,
    /// Those that have not ended, in the order of their making.
    pub(crate) children: BTreeMap<WorkerId, Arc<Node>>,
    /// Whether children are not welcome any more: new ones are stopped at once.
    pub(crate) ending: bool,
    watchers: Vec<Weak<Node>>,
    /// Whom to poke at its end.
    waiting: BTreeMap<WorkerId, Arc<Node>>,
}

impl Node {
    pub(crate) fn new(
        name: Option<Arc<str>>,
        daemon: bool,
        limit: Option<(usize, Overflow)>,
        is_restartable: bool,
    ) -> Node {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let life = Life {
            status: Status::New,
            run: 0,
            parent: None,
            children: BTreeMap::new(),
            ending: false,
            watchers: Vec::new(),
            waiting: BTreeMap::new(),
        };
        Node {
            id: WorkerId(COUNT.fetch_add(1, Ordering::Relaxed)),
            name,
            daemon,
            is_restartable,
            inbox: Inbox::new(limit),
            interest: AtomicU8::new(0),
            kept: Lock::default(),
            life: Lock::new(life),
            left: Condition::new(),
        }
    }

    pub(crate) fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock()
    }

    /// What to call it where people read.
    pub(crate) fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.id.to_string(), |name| name.to_string())
    }

    /// Begins a run, or says that there is one. Returns its number.
    pub(crate) fn start(self: &Arc<Node>) -> Option<u64> {
        let mut life = self.life();
        if life.status.is_alive() {
            return None;
        }
        life.run += 1;
        life.ending = false;
        self.interest.store(0, Ordering::Relaxed);
        self.inbox.open();
        let run = life.run;
        self.set_status(life, Status::Starting);
        Some(run)
    }

    /// Its task begins.
    pub(crate) fn begin(self: &Arc<Node>) {
        let life = self.life();
        if life.status == Status::Starting {
            self.set_status(life, Status::Running);
        }
    }

    /// It is asked to stop. `signals` is `STOP`, and perhaps `DISCARD`.
    pub(crate) fn stop(self: &Arc<Node>, signals: u8) {
        let life = self.life();
        debug_assert!(signals & !(STOP | DISCARD) == 0);
        if self.inbox.signal(signals, PAUSE) && life.status != Status::Stopping {
            self.set_status(life, Status::Stopping);
        }
    }

    pub(crate) fn pause(self: &Arc<Node>) {
        let life = self.life();
        if matches!(life.status, Status::Starting | Status::Running) && self.inbox.signal(PAUSE, 0) {
            self.set_status(life, Status::Paused);
        }
    }

    pub(crate) fn resume(self: &Arc<Node>) {
        let life = self.life();
        if life.status == Status::Paused && self.inbox.signal(0, PAUSE) {
            self.set_status(life, Status::Running);
        }
    }

    /// It has ended. Its inbox is closed already.
    pub(crate) fn end(self: &Arc<Node>, outcome: Outcome) {
        self.hand_children_on();
        let mut life = self.life();
        let parent = life.parent.take();
        let waiting = std::mem::take(&mut life.waiting);
        let seen = self.change_status(&mut life, Status::Ended(outcome));
        // In one with the change: who sees the one sees the other.
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

    /// Changes the status, and tells those who watch, in the order in which it changes. What is returned must be let go of
    /// after the lock: the last reference to a worker drops what it holds.
    #[must_use]
    fn change_status(self: &Arc<Node>, life: &mut Life, status: Status) -> Vec<Arc<Node>> {
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

    fn set_status(self: &Arc<Node>, mut life: MutexGuard<'_, Life>, status: Status) {
        let seen = self.change_status(&mut life, status);
        drop(life);
        drop(seen);
    }

    pub(crate) fn watch(&self, watcher: &Arc<Node>) {
        self.life().watchers.push(Arc::downgrade(watcher));
    }

    pub(crate) fn unwatch(&self, watcher: &Arc<Node>) {
        self.life().watchers.retain(|other| !std::ptr::eq(other.as_ptr(), &**watcher));
    }

    /// Whether a run has ended.
    pub(crate) fn is_over(&self, run: u64) -> bool {
        let life = self.life();
        life.run > run || !life.status.is_alive()
    }

    /// Pokes a loop when this worker ends, if it has not ended.
    pub(crate) fn tell_of_end(&self, waiting: &Arc<Node>) {
        let mut life = self.life();
        if life.status.is_alive() {
            life.waiting.insert(waiting.id, Arc::clone(waiting));
        }
    }

    /// Leaves one of the library's own events for it, which no limit holds up. Returns whether it was taken.
    pub(crate) fn inform<T: Send + 'static>(&self, data: T) -> bool {
        self.inbox.push(Box::new(Event::new(data)), true).is_ok()
    }

    pub(crate) fn show_interest(&self, interest: Interest) {
        self.interest.fetch_or(interest.0, Ordering::Relaxed);
    }

    pub(crate) fn has_interest(&self, interest: Interest) -> bool {
        self.interest.load(Ordering::Relaxed) & interest.0 != 0
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Box<dyn Kept>>> {
        self.kept.lock()
    }

    /// Adds a listener that outlives runs.
    pub(crate) fn keep_listener(&self, listener: Box<dyn Kept>) {
        self.kept().push(listener);
        let call = Call(|event_loop: &EventLoop| event_loop.node().employ_kept(event_loop));
        let does_run = self.inbox.push(Box::new(call), true).is_ok();
        // If it does not run, the next start takes it in.
        if !does_run && !self.is_restartable {
            self.store_kept(Vec::new());
        }
    }

    /// Puts the listeners to work that are not.
    pub(crate) fn employ_kept(&self, event_loop: &EventLoop) {
        let kept = std::mem::take(&mut *self.kept());
        for listener in kept {
            listener.attach(event_loop);
        }
    }

    /// Takes the listeners back at the end of a run, before those that were added too late for it. Without a next run
    /// they are dropped: they may hold the worker itself.
    pub(crate) fn store_kept(&self, listeners: Vec<Box<dyn Kept>>) {
        if self.is_restartable {
            self.kept().splice(0..0, listeners);
        } else {
            let late = std::mem::take(&mut *self.kept());
            drop((listeners, late));
        }
    }

    /// Removes a listener that is not at work. Returns whether it was there.
    pub(crate) fn remove_kept(&self, id: ListenerId) -> bool {
        let removed = {
            let mut kept = self.kept();
            let place = kept.iter().position(|listener| listener.id() == id);
            place.map(|place| kept.remove(place))
        };
        removed.is_some()
    }
}
