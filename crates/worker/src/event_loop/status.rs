//! The status of a worker: new, running, paused, stopping, ended.

use crate::Remote;

/// The status of a worker, see [`Remote::status`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The worker has not been started yet.
    New,
    /// The worker was started, and its task has not begun.
    Starting,
    /// The task runs.
    Running,
    /// The task is held at its next wait; the loop goes on.
    Paused,
    /// The worker was asked to stop, or its task has ended. Its sockets and its children are being closed.
    Stopping,
    /// The worker has ended, and so have its children.
    Ended(Outcome),
}

impl Status {
    /// Whether the worker takes events: it was started, and has not ended.
    pub fn is_alive(&self) -> bool {
        !matches!(self, Status::New | Status::Ended(_))
    }
}

/// The way in which a worker ended. [`Ended`](crate::Ended) has the result too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The task came to its end.
    Done,
    /// The task was stopped.
    Stopped,
    /// The task returned this error.
    Failed(String),
    /// The task panicked, with this message.
    Panicked(String),
}

/// The status of a worker has changed: an event for those who [`watch`](Remote::watch) it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatusChange {
    /// The worker.
    pub worker: Remote,
    /// The new status.
    pub status: Status,
}
