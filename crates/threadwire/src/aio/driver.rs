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
}

/// Reads and writes until the connection is over.
pub(super) fn drive(core: Arc<Core>) -> impl Future<Output = ()> + Send {
    // Before the first poll: a runtime that ends may never get to it.
    let mut driver = Driver { core: Abandoned(core), timer: None };
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
            let mut state = self.core.0.lock();
            let deadline = match state.session.is_open() {
                // Keepalive has a timer of its own.
                true => None,
                false => state.session.deadline(Instant::now()),
            };
            drop(state);
            let Some(deadline) = deadline else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
            ready!(timer.as_mut().poll(cx));
            let mut state = self.core.0.lock();
            state.session.tick(Instant::now());
            state.finish(self.core.0.env(&Buffers::current()));
            return Poll::Ready(());
        }
    }

    /// Goes on as far as it can. Ready if it may be able to go on further.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (core, buffers) = (&self.core.0, Buffers::current());
        let env = core.env(&buffers);
        let mut state = core.lock();
        state.write(env);
        state.settle(env);
        if state.is_over() {
            return Poll::Ready(());
        }
        state.note_driver(cx.waker());
        if state.session.lingers() {
            return state.poll_linger(cx, env);
        }
        let progress = state.poll_discard(cx, env);
        if progress.is_pending() {
            state.look_at_pulse(cx, false, env);
        }
        progress
    }
}
