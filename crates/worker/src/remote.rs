//! How other threads reach a worker.

use std::fmt;
use std::sync::Arc;

use crate::EventLoop;
use crate::inbox::STOP;
use crate::mail::{Call, Mail};
use crate::node::{Node, WorkerId};

/// Reaches a worker, or the loop of any thread, from everywhere: cheap to clone, `Send` and `Sync`.
#[derive(Clone)]
pub struct Remote(pub(crate) Arc<Node>);

/// The worker does not run, and takes no calls. The call that was refused was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker has ended")]
pub struct Rejected;

impl Remote {
    /// Which worker it is.
    pub fn id(&self) -> WorkerId {
        self.0.id
    }

    /// The name that the worker was given, if any.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Has `call` run on the worker's thread, at its loop's next turn. What one thread posts and fires keeps its order.
    /// Fails if the worker does not run. Calls don't count for the limit of its inbox.
    pub fn post(&self, call: impl FnOnce(&EventLoop) + Send + 'static) -> Result<(), Rejected> {
        let call: Box<dyn Mail> = Box::new(Call(call));
        self.0.inbox.push(call, false).map(drop).map_err(|_| Rejected)
    }

    /// How many events and calls the worker has not begun to deal with.
    pub fn queued(&self) -> usize {
        self.0.inbox.len()
    }

    /// Asks the worker to stop: every wait on its thread, now and later, returns [`Stopped`](crate::Stopped). That goes ahead
    /// of what is queued, which is still delivered before the worker ends.
    pub fn stop(&self) {
        self.0.inbox.signal(STOP, 0);
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("id", &self.id().0).field("name", &self.name()).finish_non_exhaustive()
    }
}
