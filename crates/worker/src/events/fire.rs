//! Firing events at workers, and giving back those that are not delivered.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::event_loop::inbox::Refused;
use crate::event_loop::mail::Mail;
use crate::event_loop::worker_state::WorkerState;
use crate::{Event, EventLoop, Remote, Stopped};

/// An event that was not taken, with its value.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event was not delivered: {reason}")]
pub struct Undelivered<T> {
    /// The value that was to be sent.
    pub data: T,
    /// The reason why it was not.
    pub reason: Undeliverable,
}

impl<T> fmt::Debug for Undelivered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undelivered").field("data", &type_name::<T>()).field("reason", &self.reason).finish()
    }
}

/// The reason why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Undeliverable {
    /// The worker does not run.
    #[error("the worker does not run")]
    NotRunning,
    /// The worker's inbox is full.
    #[error("the worker's inbox is full")]
    Full,
    /// The worker's inbox is full, and the sender was stopped while it waited for room.
    #[error("the sender was stopped while it waited for room")]
    Stopped,
}

/// An event that comes back to its sender, see [`Remote::fire_or_reject`].
#[derive(Clone, Debug)]
pub struct Reject<T> {
    /// The value that was not delivered.
    pub data: T,
    /// The worker that the event was meant for.
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

impl Remote {
    /// Fires an event at the worker: its listeners and waits for `Event<T>` get it, at its loop's next turn. The current
    /// worker is its sender.
    ///
    /// Events of one sender arrive in the order in which they were fired; between senders there is no order.
    ///
    /// An event that nobody listens or waits for is dropped: it is [counted](Remote::unheard), and a debug line names its type. Mind the
    /// type: `fire(1)` is an `Event<i32>`, and no listener for `u64` gets it; `fire("text")` is an `Event<&str>`, and no listener for
    /// `String` does (`fire("text".to_owned())` is what that one wants).
    ///
    /// # Errors
    ///
    /// With the value, if the worker does not run, or if its inbox is full and such is its
    /// [policy](crate::Builder::inbox). An event that was taken is delivered, unless the worker is stopped with
    /// [`stop_now`](Remote::stop_now).
    ///
    /// ```
    /// use threadwire_worker::{Undeliverable, Worker};
    /// let worker = Worker::spawn(|| Ok(()));
    /// let remote = worker.remote();
    /// worker.join()?;
    /// let error = remote.fire("too late").unwrap_err();
    /// assert_eq!((error.data, error.reason), ("too late", Undeliverable::NotRunning));
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    #[inline]
    pub fn fire<T: Send + 'static>(&self, data: T) -> Result<(), Undelivered<T>> {
        self.fire_event(Event::new(data))
    }

    /// As [`fire`](Remote::fire), with a sender of your choice: to pass an event on.
    #[inline]
    pub fn fire_event<T: Send + 'static>(&self, event: Event<T>) -> Result<(), Undelivered<T>> {
        self.send(Box::new(event)).map_err(|(event, reason)| Undelivered { data: event.data, reason })
    }

    /// Fires an event, and if it is not delivered, now or because the worker ends before, a
    /// [`Reject<T>`](crate::Reject) comes back as an event to the current worker.
    pub fn fire_or_reject<T: Send + 'static>(&self, data: T) {
        let sender = EventLoop::current().remote();
        if let Err((returning, _)) = self.send(Box::new(Returning { event: Event::new(data), sender })) {
            returning.give_back(self.clone());
        }
    }

    /// Leaves mail in the inbox, and waits for room where that is the policy (backpressure).
    #[inline]
    fn send<M: Mail>(&self, mail: Box<M>) -> Result<(), (M, Undeliverable)> {
        // A worker that waited for room in its own inbox would wait for itself.
        let is_own = self.is_current();
        let mut mail: Box<dyn Mail> = mail;
        let (mail, reason) = loop {
            match self.0.inbox.push(mail, is_own) {
                Ok(None) => return Ok(()),
                Ok(Some(oldest)) => {
                    // Somebody else's: its drop must not break the send of this one.
                    threadwire_guard::contain("the drop of an event", || oldest.discard(self));
                    return Ok(());
                }
                Err(Refused::Closed(mail)) => break (mail, Undeliverable::NotRunning),
                Err(Refused::Full(mail)) => break (mail, Undeliverable::Full),
                Err(Refused::Later(later)) => {
                    if self.wait_for_room().is_err() {
                        break (later, Undeliverable::Stopped);
                    }
                    mail = later;
                }
            }
        };
        let mail: Box<dyn Any> = mail;
        Err((*mail.downcast().expect("it is what was pushed"), reason))
    }

    fn wait_for_room(&self) -> Result<(), Stopped> {
        let event_loop = EventLoop::current();
        let room = Arc::new(AtomicBool::new(false));
        let (tells, sender) = (Arc::clone(&room), event_loop.remote());
        self.0.inbox.notify_of_room(Box::new(move || {
            tells.store(true, Ordering::Release);
            sender.0.inbox.poke();
        }));
        event_loop.wait(None, || room.load(Ordering::Acquire)).map(drop)
    }

    /// Fires an event at the worker's parent, its parent, and so on, but not at the worker itself, which is the sender, whoever calls this.
    /// Returns how many took it.
    ///
    /// ```
    /// use threadwire_worker::{Worker, current, wait_event, wait_forever};
    /// let child = Worker::spawn(wait_forever);
    /// child.bubble("from below");
    /// assert_eq!(wait_event::<&str>()?.sender, Some(child.id()));
    /// # child.stop();
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    pub fn bubble<T: Clone + Send + 'static>(&self, data: T) -> usize {
        self.fire_at_all(self.0.ancestors(), &data)
    }

    /// Fires an event at the worker's children, their children, and so on, but not at the worker itself, which is the sender, whoever calls
    /// this. Returns how many took it.
    pub fn broadcast<T: Clone + Send + 'static>(&self, data: T) -> usize {
        self.fire_at_all(self.0.descendants(), &data)
    }

    /// Fires an event of this worker's at others.
    fn fire_at_all<T: Clone + Send + 'static>(&self, nodes: Vec<Arc<WorkerState>>, data: &T) -> usize {
        let takes = |worker| Remote(worker).fire_event(Event::from(data.clone(), self.id())).is_ok();
        nodes.into_iter().filter(|worker| takes(Arc::clone(worker))).count()
    }
}
