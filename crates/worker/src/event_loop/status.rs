//! How a worker is.

use crate::Remote;

/// How a worker is, see [`Remote::status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has not been started yet.
    New,
    /// It was started, and its task has not begun.
    Starting,
    /// Its task runs.
    Running,
    /// Its task is held at its next wait; its loop goes on.
    Paused,
    /// It was asked to stop, or its task has ended. Its sockets and its children are being closed.
    Stopping,
    /// It has ended, and so have its children.
    Ended(Outcome),
}

impl Status {
    /// Whether it takes events: it was started, and has not ended.
    pub fn is_alive(&self) -> bool {
        !matches!(self, Status::New | Status::Ended(_))
    }
}

/// How a worker ended. [`Ended`](crate::Ended) has the result too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its task came to its end.
    Done,
    /// It was stopped.
    Stopped,
    /// Its task panicked, with this message.
    Panicked(String),
}

/// The status of a worker has changed: an event for those who [`watch`](Remote::watch) it.
#[derive(Clone, Debug)]
pub struct StatusChange {
    /// The worker.
    pub worker: Remote,
    /// How it is now.
    pub status: Status,
}
