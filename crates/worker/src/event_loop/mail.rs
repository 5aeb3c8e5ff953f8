//! Mail for an event loop: calls and events that travel through its inbox.

use std::any::{Any, type_name};

use super::inbox::Item;
use crate::{EventLoop, Remote};

/// Work for a worker's thread. Mail is `Any`, so that a sender can get back a refused value.
pub(crate) trait Mail: Any + Send {
    /// Does the work.
    fn deliver(self: Box<Self>, event_loop: &EventLoop);

    /// Whether this mail is an event: events count for the limit of an inbox, and [`stop_now`](crate::Remote::stop_now) discards
    /// them. Calls do neither, since sockets depend on them.
    fn is_event(&self) -> bool {
        false
    }

    /// The name in reports: the type of the event, or of the closure.
    fn name(&self) -> &'static str;

    /// The worker has taken the mail, and ends without having delivered it.
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
