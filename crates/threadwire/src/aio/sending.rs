//! Send, flush and close futures: they hold no lock, and queue nothing before it is their turn.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use threadwire_proto::OpCode;

use super::core::Core;
use crate::{Closed, Error, SendOptions};

/// Sends a frame. Dropped before it is ready, it has sent nothing; ready, it has sent all of it.
#[must_use = "nothing is sent before it is awaited"]
pub(super) struct Sending<'a> {
    core: &'a Core,
    frame: (OpCode, bool, &'a [u8]),
    options: SendOptions,
    reads: bool,
    number: Option<u64>,
}

impl<'a> Sending<'a> {
    #[inline]
    pub(super) fn new(core: &'a Core, frame: (OpCode, bool, &'a [u8]), reads: bool) -> Sending<'a> {
        Sending { core, frame, options: SendOptions::default(), reads, number: None }
    }
}

impl<'a> Sending<'a> {
    /// The same, with what is chosen for its message.
    pub(super) fn with(mut self, options: SendOptions) -> Sending<'a> {
        self.options = options;
        self
    }
}

impl Future for Sending<'_> {
    type Output = Result<(), Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        this.core.poll_send(cx, this.frame, this.options, &mut this.number, this.reads)
    }
}

impl Drop for Sending<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.number.is_some() {
            forget_sender(self.core, &mut self.number);
        }
    }
}

/// Somebody who has waited to send does not any more.
#[cold]
pub(super) fn forget_sender(core: &Core, number: &mut Option<u64>) {
    // Dropped when the lock is not held any more.
    let _forgotten = core.with(|state, _| state.senders.forget(number));
}

/// Waits until all that was sent has left.
pub(super) struct Flushing<'a> {
    core: &'a Core,
    number: Option<u64>,
}

impl<'a> Flushing<'a> {
    pub(super) fn new(core: &'a Core) -> Flushing<'a> {
        Flushing { core, number: None }
    }
}

impl Future for Flushing<'_> {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        this.core.poll_flush(cx, &mut this.number)
    }
}

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        if self.number.is_some() {
            forget_sender(self.core, &mut self.number);
        }
    }
}

/// Waits until the connection has ended.
pub(super) struct Ending {
    core: Arc<Core>,
    number: Option<u64>,
}

impl Ending {
    pub(super) fn new(core: &Arc<Core>) -> Ending {
        Ending { core: Arc::clone(core), number: None }
    }
}

impl Future for Ending {
    type Output = Arc<Closed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Arc<Closed>> {
        let this = self.get_mut();
        this.core.poll_closed(cx, &mut this.number)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _forgotten;
        if self.number.is_some() {
            _forgotten = self.core.with(|state, _| state.close_waiters.forget(&mut self.number));
        }
    }
}
