//! The tree of workers: parents, children, daemons.
//!
//! A worker that ends stops its children, and waits for those that are not daemons.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inbox::STOP;
use super::worker_state::{Lifecycle, Wanted, WorkerId, WorkerState};
use crate::{EventLoop, Remote};

/// Something has happened to a child: an event at its parent. It is sent to parents that listen or wait for such events
/// (or did once), in the order of the [`ChildChange`]s.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChildEvent {
    /// The child.
    pub worker: Remote,
    /// The event in the child's life.
    pub change: ChildChange,
}

/// An event in a child's life: it starts, its task is done, has failed or was stopped, and it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildChange {
    /// The child's task begins.
    Started,
    /// The task came to its end.
    Done,
    /// The task failed with this error, or panicked, with this message.
    Failed(String),
    /// The task was stopped.
    Stopped,
    /// The child has ended, after its own children.
    Ended,
}

/// These workers have not ended in time, see [`Remote::stop_within`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stuck {
    /// The names of the workers, or numbers where they have none; parents before their children.
    pub workers: Vec<String>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "still at work: {}", self.workers.join(", "))
    }
}

impl std::error::Error for Stuck {}

impl WorkerState {
    /// Becomes a child of `parent`. Returns whether the parent is alive.
    pub(crate) fn join_family(self: &Arc<WorkerState>, parent: &Arc<WorkerState>) -> bool {
        let is_late = {
            let mut life = parent.life();
            if !life.status.is_alive() {
                return false;
            }
            life.children.insert(self.id, Arc::clone(self));
            life.ending
        };
        let is_over = {
            let mut life = self.life();
            if life.status.is_alive() {
                life.parent = Some(Arc::clone(parent));
            }
            !life.status.is_alive()
        };
        if is_over {
            // The daemon has ended while it was handed on.
            self.leave_family(parent);
        } else if is_late {
            self.stop(STOP);
        }
        true
    }

    /// Leaves the children of `parent`.
    pub(crate) fn leave_family(self: &Arc<WorkerState>, parent: &Arc<WorkerState>) {
        tell(parent, self, ChildChange::Ended);
        let is_awaited = {
            let mut life = parent.life();
            life.children.remove(&self.id);
            life.ending
        };
        parent.left.notify_all();
        if is_awaited {
            parent.inbox.poke();
        }
    }

    /// Tells the parent of an event in this worker's life.
    pub(crate) fn tell_parent(self: &Arc<WorkerState>, change: ChildChange) {
        let parent = self.life().parent.clone();
        if let Some(parent) = parent {
            tell(&parent, self, change);
        }
    }

    /// Stops all children, also those that are yet to come.
    pub(crate) fn stop_children(&self) {
        let children: Vec<_> = {
            let mut life = self.life();
            life.ending = true;
            life.children.values().cloned().collect()
        };
        for child in children {
            child.stop(STOP);
        }
    }

    /// Whether there are children that are not daemons.
    pub(crate) fn must_wait_for_children(&self) -> bool {
        self.life().children.values().any(|child| !child.daemon)
    }

    /// Waits for the children that are not daemons, without a loop.
    pub(crate) fn await_children_that_count(&self) {
        let counts = |life: &mut Lifecycle| life.children.values().any(|child| !child.daemon);
        drop(self.left.wait_while(self.life(), counts));
    }

    /// Waits for all children, daemons too, without a loop, for at most `grace`. Returns those that are left.
    pub(crate) fn await_children(&self, grace: Duration) -> Vec<Arc<WorkerState>> {
        let mut life = self.left.wait_timeout_while(self.life(), grace, |life| !life.children.is_empty());
        std::mem::take(&mut life.children).into_values().collect()
    }

    /// The parent, grandparent, and so on.
    pub(crate) fn ancestors(&self) -> Vec<Arc<WorkerState>> {
        let mut ancestors = Vec::new();
        let mut next = self.life().parent.clone();
        while let Some(worker) = next {
            next = worker.life().parent.clone();
            ancestors.push(worker);
        }
        ancestors
    }

    /// The children, grandchildren, and so on, that have not ended.
    pub(crate) fn descendants(&self) -> Vec<Arc<WorkerState>> {
        let mut found: Vec<Arc<WorkerState>> = self.life().children.values().cloned().collect();
        let mut next = 0;
        while let Some(worker) = found.get(next) {
            let children: Vec<_> = worker.life().children.values().cloned().collect();
            found.extend(children);
            next += 1;
        }
        found
    }
}

fn tell(parent: &Arc<WorkerState>, child: &Arc<WorkerState>, change: ChildChange) {
    if parent.wants(Wanted::CHILDREN) {
        parent.inform(ChildEvent { worker: Remote(Arc::clone(child)), change });
    }
}

/// Stops a worker, and waits for it and for all below it, on the loop of the calling thread.
pub(crate) fn stop_within(worker: &Arc<WorkerState>, timeout: Duration) -> Result<(), Stuck> {
    // Daemons leave the tree when their parent ends: all that were seen are remembered here.
    let mut known: BTreeMap<WorkerId, Arc<WorkerState>> = BTreeMap::from([(worker.id, Arc::clone(worker))]);
    let look = |known: &mut BTreeMap<WorkerId, Arc<WorkerState>>| {
        let found: Vec<_> = known.values().flat_map(|worker| worker.descendants()).collect();
        known.extend(found.into_iter().map(|worker| (worker.id, worker)));
        known.retain(|_, worker| worker.life().status.is_alive());
    };
    look(&mut known);
    worker.stop(STOP);
    let event_loop = EventLoop::current();
    let deadline = super::timer::after(Instant::now(), timeout);
    loop {
        look(&mut known);
        let Some(first) = known.values().next() else { return Ok(()) };
        first.tell_of_end(event_loop.worker());
        let waited = event_loop.wait(Some(deadline), || !first.life().status.is_alive());
        if waited != Ok(true) {
            look(&mut known);
            if known.is_empty() {
                return Ok(());
            }
            return Err(Stuck { workers: known.values().map(|worker| worker.label()).collect() });
        }
    }
}
