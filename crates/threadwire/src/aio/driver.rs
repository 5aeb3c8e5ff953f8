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
use super::state::{Env, State};
use crate::Error;

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
        let core = &self.core.0;
        while core.with(|state, env| state.advance(cx, env)).is_ready() {
            if core.with(|state, _| state.is_over()) {
                return Poll::Ready(());
            }
        }
        // While it is open: keepalive has a timer of its own.
        let deadline = core.with(|state, _| match state.session.is_open() {
            true => None,
            false => state.session.deadline(Instant::now()),
        });
        let Some(deadline) = deadline else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
        ready!(timer.as_mut().poll(cx));
        core.with(|state, env| {
            state.session.tick(Instant::now());
            state.finish(env);
        });
        Poll::Ready(())
    }
}

impl State {
    /// Goes on towards the end, as far as it can. Ready if it may be able to go on further.
    fn advance(&mut self, cx: &mut Context<'_>, env: Env<'_>) -> Poll<()> {
        self.write(env);
        self.settle(env);
        if self.is_over() {
            return Poll::Ready(());
        }
        self.note_driver(cx.waker());
        if self.session.lingers() {
            return self.poll_linger(cx, env);
        }
        let progress = self.poll_discard(cx, env);
        if progress.is_pending() {
            self.look_at_pulse(cx, false, env);
        }
        progress
    }
}
