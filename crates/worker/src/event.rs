//! What workers fire at each other.

use std::any::{Any, type_name};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::mail::Mail;
use crate::{EventLoop, ListenerId, Remote, WorkerId};

/// A value on its way to a worker, and who sent it. It is known by its type: listeners of `T` get every `Event<T>`.
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

impl<T: Send + 'static> Mail for Event<T> {
    fn deliver(self: Box<Self>, event_loop: &EventLoop) {
        event_loop.dispatch(*self);
    }

    fn is_event(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        type_name::<T>()
    }
}

/// An event that was not taken, with its value.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event was not delivered: {reason}")]
pub struct Undelivered<T> {
    /// The value that was to be sent.
    pub data: T,
    /// Why it was not.
    pub reason: Undeliverable,
}

impl<T> fmt::Debug for Undelivered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undelivered").field("data", &type_name::<T>()).field("reason", &self.reason).finish()
    }
}

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undeliverable {
    /// The worker does not run.
    #[error("the worker does not run")]
    NotRunning,
    /// Its inbox is full.
    #[error("the worker's inbox is full")]
    Full,
    /// Its inbox is full, and the sender was stopped while it waited for room.
    #[error("the sender was stopped while it waited for room")]
    Stopped,
}

/// An event that comes back to its sender, see [`Remote::fire_or_reject`].
#[derive(Clone, Debug)]
pub struct Reject<T> {
    /// What was not delivered.
    pub data: T,
    /// The worker that it was meant for.
    pub worker: Remote,
}

/// An event that goes back to its sender if it is not delivered.
pub(crate) struct Returning<T> {
    pub(crate) event: Event<T>,
    pub(crate) sender: Remote,
}

impl<T: Send + 'static> Returning<T> {
    pub(crate) fn give_back(self, worker: Remote) {
        // A sender that has ended has no use for it.
        let _ = self.sender.fire(Reject { data: self.event.data, worker });
    }
}

impl<T: Send + 'static> Mail for Returning<T> {
    fn deliver(self: Box<Self>, event_loop: &EventLoop) {
        event_loop.dispatch(self.event);
    }

    fn is_event(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        type_name::<T>()
    }

    fn discard(self: Box<Self>, by: &Remote) {
        self.give_back(by.clone());
    }
}

/// A listener returned an error, or panicked. This is fired at the worker itself, and at its parents; the worker goes on.
/// Where nobody listens for it, it is logged.
#[derive(Clone, Debug)]
pub struct ListenerFailed {
    /// The worker whose listener it is.
    pub worker: Remote,
    /// The listener.
    pub listener: ListenerId,
    /// The type of the event's value.
    pub event: &'static str,
    /// The error, or the message of the panic.
    pub error: String,
}

/// An event with a name that is chosen at run time, as programs in other languages want it.
///
/// ```
/// use threadwire_worker::{Named, listen_named, wait_until};
/// use std::{cell::Cell, rc::Rc};
/// use threadwire_worker::EventLoop;
///
/// let got = Rc::new(Cell::new(0));
/// let sets = Rc::clone(&got);
/// listen_named("SET", move |event| sets.set(*event.data::<i32>().unwrap()));
/// EventLoop::current().remote().fire(Named::new("SET", 7))?;
/// wait_until(None, || got.get() == 7)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Named {
    name: Arc<str>,
    data: Arc<dyn Any + Send + Sync>,
}

impl Named {
    /// An event with this name, and any data.
    pub fn new(name: impl Into<Arc<str>>, data: impl Any + Send + Sync) -> Named {
        Named { name: name.into(), data: Arc::new(data) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its data, if that is of type `D`.
    pub fn data<D: 'static>(&self) -> Option<&D> {
        self.data.downcast_ref()
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named").field("name", &self.name).finish_non_exhaustive()
    }
}
