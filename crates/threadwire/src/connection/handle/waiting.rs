//! Futures that wait for a connection, by its lane.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Handle;
use crate::Closed;

/// Waits until at most so many bytes wait to be written, or the connection has ended; with `None`, only for that.
pub(super) struct Below {
    handle: Handle,
    most: Option<usize>,
    /// Its place among those who wait, or 0.
    number: u64,
}

impl Below {
    pub(super) fn new(handle: &Handle, most: Option<usize>) -> Below {
        Below { handle: handle.clone(), most, number: 0 }
    }
}

impl Future for Below {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        match this.handle.lane().poll_below(this.most, &mut this.number, cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        if self.number != 0 {
            self.handle.lane().forget(self.number);
        }
    }
}

/// Waits for the end, and says how it was.
pub(super) struct Ended(pub(super) Below);

impl Future for Ended {
    type Output = Arc<Closed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Arc<Closed>> {
        let below = &mut self.get_mut().0;
        match Pin::new(&mut *below).poll(cx) {
            // Ready means that the connection has ended.
            Poll::Ready(()) => below.handle.closed().map_or(Poll::Pending, Poll::Ready),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Is polled once more, after others.
pub(super) async fn leave_others_their_turn() {
    let mut has_left = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_left, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
