//! Future of the program's behind the guard: a panic is its result.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use threadwire_guard::Panicked;

/// Runs a future of the program's. A runtime catches panics too, but drops what they raise where another panic ends its thread.
pub(super) async fn guarded<F: Future>(future: F) -> Result<F::Output, Panicked> {
    let mut future = pin!(future);
    poll_fn(|cx| match threadwire_guard::run(|| future.as_mut().poll(cx)) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}
