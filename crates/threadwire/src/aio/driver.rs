//! The task that sees a connection through to its end, and answers pings where nobody receives.
//!
//! It is there only while it is needed: once a close frame was sent, or a rule was broken, or the receiver was dropped before
//! the sender. So the end comes, in bounded time, whatever the program waits for or has let go of.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::timeout_at;

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

/// Reads and writes until the connection is over.
pub(super) fn drive(core: Arc<Core>) -> impl Future<Output = ()> + Send {
    // Before the first poll: a runtime that ends may never get to it.
    let core = Abandoned(core);
    async move {
        let core = &core.0;
        let is_over =
            poll_fn(|cx| core.with(|state, env| state.poll_until(cx, State::closing_deadline, env)));
        let Some(deadline) = is_over.await else { return };
        let is_over = poll_fn(|cx| core.with(|state, env| state.poll_until(cx, |_| None::<()>, env)));
        if timeout_at(deadline.into(), is_over).await.is_err() {
            core.with(|state, env| {
                state.session.tick(Instant::now());
                state.finish(env);
            });
        }
    }
}

impl State {
    /// When closing is to be given up. While the connection is open, there is only keepalive, which has a timer of its own.
    fn closing_deadline(&mut self) -> Option<Instant> {
        if self.session.is_open() { None } else { self.session.deadline(Instant::now()) }
    }

    /// Sees the connection on, until it is over, which is nothing, or there is what is waited for.
    fn poll_until<T>(
        &mut self,
        cx: &mut Context<'_>,
        awaited: impl FnOnce(&mut State) -> Option<T>,
        env: Env<'_>,
    ) -> Poll<Option<T>> {
        while self.advance(cx, env).is_ready() {
            if self.is_over() {
                return Poll::Ready(None);
            }
        }
        awaited(self).map_or(Poll::Pending, |found| Poll::Ready(Some(found)))
    }

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
