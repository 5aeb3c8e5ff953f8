//! Futures on threads with a loop.

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
/// What the future needs must be driven by somebody: a [`Defer`](crate::Defer) by any thread, tokio's sockets by a
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
    let alarm = Arc::new(Alarm { woken: AtomicBool::new(true), remote: event_loop.remote() });
    let waker = Arc::clone(&alarm).into();
    let mut context = Context::from_waker(&waker);
    loop {
        if event_loop.is_stopping() {
            return Err(Stopped);
        }
        // Before the poll: a wake-up during the poll asks for another one.
        alarm.woken.store(false, Ordering::SeqCst);
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        if alarm.woken.load(Ordering::Acquire) {
            event_loop.update()?;
        } else {
            event_loop.wait(None, || alarm.woken.load(Ordering::Acquire))?;
        }
    }
}

struct Alarm {
    /// Set by the first wake-up after a poll; the others have nothing to do.
    woken: AtomicBool,
    remote: Remote,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.remote.wake();
        }
    }
}
