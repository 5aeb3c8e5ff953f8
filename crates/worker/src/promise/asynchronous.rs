//! A promise that a closure on another thread settles.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::PromiseError;
use super::cell::{PromiseCell, Settled, Settlement};
use crate::worker::failure::{self, Failure};
use crate::{Ended, EventLoop, Remote, StopToken, Stopped, Worker};

/// The result of a closure that runs on another thread: a worker of its own ([`Async::run`]) or one of a
/// [`Pool`](crate::Pool).
///
/// The result has one consumer: the value is given away once, a second `get` fails with [`PromiseError::Taken`]. A thread waits
/// with [`get`](Async::get), while its loop turns; a task of any executor, or [`block_on`](crate::block_on), with
/// `.await`.
///
/// Dropping it lets the closure run on, and its result is dropped. [`cancel`](Async::cancel) stops it.
///
/// ```
/// use threadwire_worker::Async;
///
/// let sum = Async::run(|| Ok((1..=100).sum::<u32>())); // whatever blocks or computes
/// assert_eq!(sum.get()?, 5050);
/// # Ok::<(), threadwire_worker::PromiseError>(())
/// ```
pub struct Async<T> {
    cell: Arc<PromiseCell<T>>,
    stop: StopToken,
    /// The worker that was started for it.
    worker: Option<Remote>,
    /// The registration of the task that awaits this handle.
    place: Option<usize>,
}

impl<T: Send + 'static> Async<T> {
    /// Runs `task` as a worker on a new thread. Its end is waited for only by getting the result: when the process
    /// ends, the thread ends with it.
    ///
    /// A panic becomes [`PromiseError::Panicked`]; `Err(Stopped)` becomes [`PromiseError::Cancelled`].
    ///
    /// # Panics
    ///
    /// If the system refuses another thread; [`Async::try_run`] returns an error instead.
    pub fn run(task: impl FnOnce() -> Result<T, Stopped> + Send + 'static) -> Async<T> {
        Async::try_run(task).expect("the system refuses to start a thread")
    }

    /// As [`run`](Async::run), for a task that may return any error, which becomes [`PromiseError::Rejected`]: see
    /// [`Worker::spawn_fallible`].
    ///
    /// ```
    /// use threadwire_worker::Async;
    /// let number = Async::run_fallible(|| Ok("twelve".parse::<u32>()?));
    /// assert_eq!(number.get().unwrap_err().to_string(), "rejected: invalid digit found in string");
    /// ```
    pub fn run_fallible(
        task: impl FnOnce() -> Result<T, Box<dyn Error + Send + Sync>> + Send + 'static,
    ) -> Async<T> {
        Async::launch(task).expect("the system refuses to start a thread")
    }

    /// As [`run`](Async::run), but fails if the system refuses another thread.
    ///
    /// ```
    /// use threadwire_worker::Async;
    /// let number = Async::try_run(|| Ok(1))?;
    /// assert_eq!(number.get()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_run(task: impl FnOnce() -> Result<T, Stopped> + Send + 'static) -> io::Result<Async<T>> {
        Async::launch(task)
    }

    fn launch<E: Into<Failure>>(
        task: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> io::Result<Async<T>> {
        let (mut promise, settle) = Async::new(PromiseError::Abandoned);
        let work = move || match settle.run(task) {
            Ended::Done(()) => Ok(()),
            Ended::Stopped => Err(Stopped.into()),
            Ended::Failed(error) => Err(error),
            // The getter has its message; that the worker has panicked is for those who watch it.
            Ended::Panicked(payload) => resume_unwind(payload),
        };
        let worker = Worker::builder().name("async").no_parent().spawn_fallible(work)?;
        promise.worker = Some(worker.remote());
        Ok(promise)
    }

    /// `unsettled` is what the end of a [`Settle`] that was not used says.
    pub(crate) fn new(unsettled: PromiseError) -> (Async<T>, Settle<T>) {
        let cell = Arc::new(PromiseCell::new());
        let stop = StopToken::new();
        let settle = Settle { cell: Arc::clone(&cell), stop: stop.clone(), unsettled };
        (Async { cell, stop, worker: None, place: None }, settle)
    }
}

impl<T> Async<T> {
    /// The worker that was started for the closure by [`run`](Async::run), to fire events at, to pause, to stop or to wait for as any
    /// other. `None` for a job of a [`Pool`](crate::Pool), whose threads are others' too. A closure whose worker is stopped gives
    /// [`PromiseError::Cancelled`] if it passes [`Stopped`] on.
    ///
    /// ```
    /// use threadwire_worker::{Async, Event, listen, wait_event, wait_worker};
    ///
    /// let doubled = Async::run(|| Ok(2 * wait_event::<u32>()?.data));
    /// let worker = doubled.worker().unwrap();
    /// worker.pause();
    /// worker.fire(21u32)?;
    /// worker.resume();
    /// wait_worker(worker)?; // joins it
    /// assert_eq!(doubled.get()?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn worker(&self) -> Option<&Remote> {
        self.worker.as_ref()
    }

    /// Waits for the result, while the loop of this thread turns. Fails with [`PromiseError::Stopped`] if the worker of
    /// this thread is asked to stop; the closure runs on then. In the closure itself it fails at once, with [`PromiseError::Itself`].
    pub fn get(&self) -> Result<T, PromiseError> {
        self.check()?;
        self.cell.wait(None, Settlement::take)
    }

    /// As [`get`](Async::get), for at most `timeout`: then it fails with [`PromiseError::TimedOut`], and the result may still come.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire_worker::{Async, PromiseError, wait_forever};
    /// let endless = Async::run(wait_forever);
    /// assert!(matches!(endless.get_timeout(Duration::from_millis(1)), Err(PromiseError::TimedOut)));
    /// endless.cancel();
    /// ```
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, PromiseError> {
        self.check()?;
        self.cell.wait(Instant::now().checked_add(timeout), Settlement::take)
    }

    /// Fails on the worker that runs the closure, before the result is there: nobody else brings it.
    fn check(&self) -> Result<(), PromiseError> {
        match &self.worker {
            Some(worker) if worker.is_current() && !self.is_settled() => Err(PromiseError::Itself),
            _ => Ok(()),
        }
    }

    /// The result, if it is there. Never turns the loop.
    pub fn try_get(&self) -> Option<Result<T, PromiseError>> {
        self.cell.look(Settlement::take)
    }

    /// Whether there is a result: a value, a panic, or that it was cancelled.
    pub fn is_settled(&self) -> bool {
        self.cell.is_settled()
    }

    /// Cancels the closure: waiters for the result get [`PromiseError::Cancelled`] at once; the closure is not begun, or
    /// each of its waits returns [`Stopped`]. A closure that computes and never waits runs to its end; so that it
    /// does not, let it call [`update`](crate::update) now and then. Returns false if there was a result already, which
    /// stays.
    ///
    /// ```
    /// use threadwire_worker::{Async, PromiseError, wait_forever};
    /// let endless = Async::run(wait_forever);
    /// assert!(endless.cancel());
    /// assert!(matches!(endless.get(), Err(PromiseError::Cancelled)));
    /// ```
    pub fn cancel(&self) -> bool {
        let was_first = self.cell.settle(Err(PromiseError::Cancelled)).is_ok();
        if was_first {
            self.stop.stop();
        }
        was_first
    }
}

/// Ready when there is a result. Polled again after that it fails with [`PromiseError::Taken`].
impl<T> Future for Async<T> {
    type Output = Result<T, PromiseError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Err(error) = this.check() {
            return Poll::Ready(Err(error));
        }
        this.cell.poll(&mut this.place, context, Settlement::take)
    }
}

impl<T> Drop for Async<T> {
    fn drop(&mut self) {
        self.cell.leave(self.place);
    }
}

impl<T> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Async").field("settled", &self.is_settled()).finish_non_exhaustive()
    }
}

/// The other end of an [`Async`]: runs the closure. Its drop settles the promise, if that is still pending.
pub(crate) struct Settle<T> {
    cell: Arc<PromiseCell<T>>,
    stop: StopToken,
    unsettled: PromiseError,
}

impl<T> Settle<T> {
    pub(crate) fn stop_token(&self) -> &StopToken {
        &self.stop
    }

    /// Runs `task` on this thread, whose waits end when the [`Async`] is cancelled meanwhile. A task that is cancelled already
    /// is not run.
    /// Returns how it ended.
    pub(crate) fn run<E: Into<Failure>>(self, task: impl FnOnce() -> Result<T, E>) -> Ended<()> {
        if self.stop.is_stopped() {
            self.settle(Err(PromiseError::Cancelled));
            return Ended::Stopped;
        }
        let stoppable = self.stop.bind(EventLoop::current().remote());
        let result = threadwire_guard::run(|| task().map_err(E::into));
        drop(stoppable);
        let (settled, ended) = match result {
            Ok(Ok(value)) => (Ok(value), Ended::Done(())),
            Ok(Err(Failure::Stopped)) => (Err(PromiseError::Cancelled), Ended::Stopped),
            Ok(Err(Failure::Error(error))) => {
                let message = failure::printed(&*error);
                (Err(PromiseError::Rejected(error.into())), Ended::Failed(message.into()))
            }
            Err(panicked) => {
                let error = PromiseError::Panicked(panicked.message().into());
                (Err(error), Ended::Panicked(panicked.into_payload()))
            }
        };
        self.settle(settled);
        ended
    }

    fn settle(&self, settled: Settled<T>) {
        // A value that comes too late is dropped here.
        threadwire_guard::discard(self.cell.settle(settled));
    }
}

impl<T> Drop for Settle<T> {
    fn drop(&mut self) {
        self.settle(Err(self.unsettled.clone()));
    }
}
