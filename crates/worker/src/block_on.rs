//! Futures on a thread whose event loop turns while they wait.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake};

use crate::{EventLoop, Remote, Stopped};

/// Runs `future` to its end on this thread, whose loop turns while the future has to wait.
///
/// Any number of wake-ups between two polls cost one call to the loop. A future that wakes itself gives the loop a
/// turn each time. A stop of this thread's worker ends the wait with [`Stopped`]; the future is dropped then.
///
/// The sources of the future's wake-ups must be driven by somebody: a [`Defer`](crate::Defer) by any thread, tokio's sockets by a
/// tokio runtime (enter it first).
///
/// ```
/// use threadwire_worker::{Async, Defer, block_on};
///
/// let name = Defer::new();
/// let greeting = Async::run({
///     let name = name.clone();
///     move || block_on(async { format!("Hello, {}!", name.await.unwrap()) })
/// });
/// name.resolve("world").unwrap();
/// assert_eq!(greeting.get()?, "Hello, world!");
/// # Ok::<(), threadwire_worker::PromiseError>(())
/// ```
pub fn block_on<F: Future>(future: F) -> Result<F::Output, Stopped> {
    let event_loop = EventLoop::current();
    let mut future = pin!(future);
    let loop_waker = Arc::new(LoopWaker { woken: AtomicBool::new(true), remote: event_loop.remote() });
    let waker = Arc::clone(&loop_waker).into();
    let mut context = Context::from_waker(&waker);
    loop {
        if event_loop.is_stopping() {
            return Err(Stopped);
        }
        // The flag is cleared before the poll: a wake-up during the poll asks for another one.
        loop_waker.woken.store(false, Ordering::SeqCst);
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        if loop_waker.woken.load(Ordering::Acquire) {
            event_loop.update()?;
        } else {
            event_loop.wait(None, || loop_waker.woken.load(Ordering::Acquire))?;
        }
    }
}

struct LoopWaker {
    /// Whether a wake-up has come since the last poll; later ones have nothing to do.
    woken: AtomicBool,
    remote: Remote,
}

impl Wake for LoopWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.remote.wake();
        }
    }
}
