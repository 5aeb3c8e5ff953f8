//! The task that sees a connection through to its end, and answers pings where nobody receives.
//!
//! It is there only while it is needed: once a close frame was sent, or a rule was broken, or the receiver was dropped before
//! the sender. So the end comes, in bounded time, whatever the program waits for or has let go of.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

use super::core::Core;
use crate::Error;
use threadwire_core::session::buffers::Buffers;

/// Where the runtime ends first, so does the connection.
struct Abandoned(Arc<Core>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.abort(Some(Error::other("the runtime of the connection has ended")));
    }
}

struct Driver {
    core: Abandoned,
    timer: Option<Pin<Box<Sleep>>>,
    /// We have said all, and told how it ended: what the peer still sends is read and dropped. Closing the socket under it
    /// would reset the connection, and the peer might never see our close frame.
    lingers: bool,
}

/// Reads and writes until the connection is over.
pub(super) fn drive(core: Arc<Core>) -> impl Future<Output = ()> + Send {
    // Before the first poll: a runtime that ends may never get to it.
    let mut driver = Driver { core: Abandoned(core), timer: None, lingers: false };
    poll_fn(move |cx| driver.poll(cx))
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.advance(cx).is_ready() {
                if self.core.0.lock().is_over() {
                    return Poll::Ready(());
                }
                continue;
            }
            let deadline = self.core.0.lock().deadline(Instant::now());
            let Some(deadline) = deadline else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let mut wire = self.core.0.lock();
            wire.expire(Instant::now());
            wire.finish(&Buffers::current());
            return Poll::Ready(());
        }
    }

    /// Goes on as far as it can. Ready if it may be able to go on further.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let core = &self.core.0;
        let local = Buffers::current();
        let mut wire = core.lock();
        wire.write(core.means(&local));
        if !wire.is_open() {
            wire.settle(&local);
            if wire.is_over() {
                return Poll::Ready(());
            }
            if !self.lingers && wire.has_said_all() && wire.poll_shutdown(cx).is_ready() {
                self.lingers = true;
                wire.report();
            }
        }
        wire.note_driver(cx.waker());
        if self.lingers {
            if ready!(wire.poll_read_away(cx, &local)) {
                wire.finish(&local);
            }
            return Poll::Ready(());
        }
        let progress = wire.poll_discard(cx, &local);
        if progress.is_pending() {
            wire.look_at_pulse(cx, false, core.means(&local));
        }
        progress
    }
}
