//! Events: typed values on their way to a worker.

use std::ops::Deref;

use crate::{EventLoop, WorkerId};

/// A value on its way to a worker, and its sender. An event is known by its type: listeners of `T` get every `Event<T>`.
///
/// ```
/// use threadwire_worker::Event;
///
/// struct Print(String);
/// let event = Event::new(Print("hello".to_owned()));
/// assert_eq!(event.0, "hello");
/// assert_eq!(event.sender, None, "this thread is no worker, and has no loop either");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<T> {
    /// The value.
    pub data: T,
    /// The worker that sent it, or `None` if it came from a thread without a loop.
    pub sender: Option<WorkerId>,
}

impl<T> Event<T> {
    /// An event of which the current worker is the sender.
    pub fn new(data: T) -> Event<T> {
        Event { data, sender: EventLoop::current_id() }
    }

    /// An event of which another worker is the sender, to pass one on.
    pub fn from(data: T, sender: WorkerId) -> Event<T> {
        Event { data, sender: Some(sender) }
    }
}

impl<T> Deref for Event<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}
