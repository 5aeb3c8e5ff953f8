//! Send, flush and close futures: they hold no lock, and queue nothing before it is their turn.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use threadwire_proto::{AsMessage, OpCode};

use super::core::Core;
use crate::{Closed, Error, SendOptions};

/// Sends a message: as [`send_frame`].
#[inline]
pub(super) fn send_message<'a>(
    core: &'a Core,
    message: impl AsMessage + Send + Unpin + 'a,
    options: SendOptions,
) -> impl Future<Output = Result<(), Error>> + Send + 'a {
    Waiting::new(core, move |core, cx, number| {
        let message = message.as_message();
        core.poll_send(cx, (message.opcode(), true, message.as_bytes()), options, number)
    })
}

/// Sends a frame. Dropped before it is ready, it has sent nothing; ready, it has sent all of it.
#[inline]
pub(super) fn send_frame<'a>(
    core: &'a Core,
    frame: (OpCode, bool, &'a [u8]),
    options: SendOptions,
) -> impl Future<Output = Result<(), Error>> + Send + 'a {
    Waiting::new(core, move |core, cx, number| core.poll_send(cx, frame, options, number))
}

/// Waits among the senders of a connection, if need be. Dropped, it waits no more.
#[must_use = "nothing is done before it is awaited"]
pub(super) struct Waiting<'a, F> {
    core: &'a Core,
    poll: F,
    number: Option<u64>,
}

impl<'a, T, F> Waiting<'a, F>
where
    F: FnMut(&Core, &mut Context<'_>, &mut Option<u64>) -> Poll<T>,
{
    #[inline]
    pub(super) fn new(core: &'a Core, poll: F) -> Waiting<'a, F> {
        Waiting { core, poll, number: None }
    }
}

impl<T, F> Future for Waiting<'_, F>
where
    F: FnMut(&Core, &mut Context<'_>, &mut Option<u64>) -> Poll<T> + Unpin,
{
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        (this.poll)(this.core, cx, &mut this.number)
    }
}

impl<F> Drop for Waiting<'_, F> {
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
