//! What travels through an inbox.

use std::any::{Any, type_name};

use super::inbox::Item;
use crate::{EventLoop, Remote};

/// Something that is to be done on a worker's thread. It is `Any`, so that a sender can get back what was refused.
pub(crate) trait Mail: Any + Send {
    /// Does it.
    fn deliver(self: Box<Self>, event_loop: &EventLoop);

    /// Whether it is an event: those are what a limit counts, and what [`stop_now`](crate::Remote::stop_now) discards. Calls are
    /// not, since sockets depend on them.
    fn is_event(&self) -> bool {
        false
    }

    /// What to call it where people read: the type of the event, or of the closure.
    fn name(&self) -> &'static str;

    /// The worker took it, and ends without having delivered it.
    fn discard(self: Box<Self>, _by: &Remote) {}
}

impl Item for Box<dyn Mail> {
    fn counts(&self) -> bool {
        self.is_event()
    }
}

/// A closure from another thread.
pub(crate) struct Call<F>(pub(crate) F);

impl<F: FnOnce(&EventLoop) + Send + 'static> Mail for Call<F> {
    fn deliver(self: Box<Self>, event_loop: &EventLoop) {
        (self.0)(event_loop);
    }

    fn name(&self) -> &'static str {
        type_name::<F>()
    }
}
