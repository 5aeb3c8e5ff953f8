//! Parents and children. A worker that ends stops its children, and waits for those that are not daemons.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inbox::STOP;
use super::worker_state::{Interest, Life, Node, WorkerId};
use crate::{EventLoop, Remote};

/// Something has happened to a child: an event at its parent. It is sent to parents that listen or wait for such events
/// (or did once), in the order of the [`Change`]s.
#[derive(Clone, Debug)]
pub struct ChildEvent {
    /// The child.
    pub worker: Remote,
    /// What has happened.
    pub change: Change,
}

/// What happens to a child: it starts, its task is done, has failed or was stopped, and it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its task begins.
    Started,
    /// Its task came to its end.
    Done,
    /// Its task panicked, with this message.
    Failed(String),
    /// Its task was stopped.
    Stopped,
    /// It has ended, after its own children.
    Ended,
}

/// These workers have not ended in time, see [`Remote::stop_within`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Their names, or numbers where they have none; parents before their children.
    pub workers: Vec<String>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "still at work: {}", self.workers.join(", "))
    }
}

impl std::error::Error for Stuck {}

impl Node {
    /// Becomes a child. Returns whether the parent is alive.
    pub(crate) fn join_family(self: &Arc<Node>, parent: &Arc<Node>) -> bool {
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
            // A daemon that has ended while it was handed on.
            self.leave_family(parent);
        } else if is_late {
            self.stop(STOP);
        }
        true
    }

    /// Is a child no more.
    pub(crate) fn leave_family(self: &Arc<Node>, parent: &Arc<Node>) {
        tell(parent, self, Change::Ended);
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

    /// Tells the parent something.
    pub(crate) fn tell_parent(self: &Arc<Node>, change: Change) {
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

    /// Whether there are children that have to be waited for.
    pub(crate) fn must_wait_for_children(&self) -> bool {
        self.life().children.values().any(|child| !child.daemon)
    }

    /// Waits for the children that have to be waited for, without a loop.
    pub(crate) fn await_children_that_count(&self) {
        let counts = |life: &mut Life| life.children.values().any(|child| !child.daemon);
        drop(self.left.wait_while(self.life(), counts));
    }

    /// Waits for all children, daemons too, without a loop. Returns those that are left.
    pub(crate) fn await_children(&self, grace: Duration) -> Vec<Arc<Node>> {
        let mut life = self.left.wait_timeout_while(self.life(), grace, |life| !life.children.is_empty());
        std::mem::take(&mut life.children).into_values().collect()
    }

    /// Its parent, grandparent, and so on.
    pub(crate) fn ancestors(&self) -> Vec<Arc<Node>> {
        let mut ancestors = Vec::new();
        let mut next = self.life().parent.clone();
        while let Some(node) = next {
            next = node.life().parent.clone();
            ancestors.push(node);
        }
        ancestors
    }

    /// Its children, grandchildren, and so on, that have not ended.
    pub(crate) fn descendants(&self) -> Vec<Arc<Node>> {
        let mut found: Vec<Arc<Node>> = self.life().children.values().cloned().collect();
        let mut next = 0;
        while let Some(node) = found.get(next) {
            let children: Vec<_> = node.life().children.values().cloned().collect();
            found.extend(children);
            next += 1;
        }
        found
    }
}

fn tell(parent: &Arc<Node>, child: &Arc<Node>, change: Change) {
    if parent.has_interest(Interest::CHILDREN) {
        parent.inform(ChildEvent { worker: Remote(Arc::clone(child)), change });
    }
}

/// Stops a worker, and waits for it and for all below it, on the loop of the calling thread.
pub(crate) fn stop_within(node: &Arc<Node>, timeout: Duration) -> Result<(), Stuck> {
    // What leaves the tree, since its parent has ended and it is a daemon, is remembered here.
    let mut known: BTreeMap<WorkerId, Arc<Node>> = BTreeMap::from([(node.id, Arc::clone(node))]);
    let look = |known: &mut BTreeMap<WorkerId, Arc<Node>>| {
        let found: Vec<_> = known.values().flat_map(|node| node.descendants()).collect();
        known.extend(found.into_iter().map(|node| (node.id, node)));
        known.retain(|_, node| node.life().status.is_alive());
    };
    look(&mut known);
    node.stop(STOP);
    let event_loop = EventLoop::current();
    let deadline = super::timer::after(Instant::now(), timeout);
    loop {
        look(&mut known);
        let Some(first) = known.values().next() else { return Ok(()) };
        first.tell_of_end(event_loop.node());
        let waited = event_loop.wait(Some(deadline), || !first.life().status.is_alive());
        if waited != Ok(true) {
            look(&mut known);
            if known.is_empty() {
                return Ok(());
            }
            return Err(Stuck { workers: known.values().map(|node| node.label()).collect() });
        }
    }
}
