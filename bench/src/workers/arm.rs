//! Arms of the `workers` command: ways to have workers, and to reach them.

use super::duty::{Duty, Event};
use crate::fail::Result;

/// A worker of one library, from its start to its end.
pub(crate) trait Arm: Sized + 'static {
    /// How it is called in tables.
    const NAME: &'static str;
    /// Whether each worker is a thread of its own. Others cannot be kept on a core.
    const THREADS: bool = true;

    /// Reaches a worker from any thread.
    type Remote: Clone + Send + Sync + 'static;

    /// Starts a worker that has this duty, and otherwise sleeps.
    fn spawn(duty: Duty<Self>) -> Result<Self>;

    /// Reaches this worker.
    fn remote(&self) -> Self::Remote;

    /// Has the worker's duty called with an event, on the worker's thread. Does not wait for that.
    fn fire(remote: &Self::Remote, event: Event) -> Result<()>;

    /// Asks the worker to end. Does not wait for that.
    fn stop(&self);

    /// Waits for the worker's end.
    fn join(self) -> Result<()>;
}
