//! A promise that any holder may settle.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::PromiseError;
use super::cell::{PromiseCell, Settled, Settlement};

/// A result that is not there yet. Clones are the same: any of them may settle it, from any thread, and the first one
/// wins; any number of them may wait for it, and each gets a clone of the value (put into an [`Arc`] what can't be
/// cloned).
///
/// A thread waits with [`get`](Defer::get), while its loop turns; a task of any executor, or
/// [`block_on`](crate::block_on), with `.await`.
///
/// Dropping handles settles nothing, as those who wait have handles too. To have waiters told that nobody is left to
/// bring the result, give a [`Resolver`] to the one who shall bring it.
///
/// ```
/// use threadwire_worker::{Defer, Worker};
///
/// let answer = Defer::new();
/// let worker = Worker::spawn({
///     let answer = answer.clone();
///     move || {
///         answer.resolve(42).expect("nobody else resolves it");
///         Ok(())
///     }
/// });
/// assert_eq!(answer.get()?, 42);
/// assert_eq!(answer.resolve(43), Err(43), "the first wins");
/// # worker.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Defer<T> {
    shared: Arc<DeferState<T>>,
    /// The registration of the task that awaits this handle.
    place: Option<usize>,
}

struct DeferState<T> {
    cell: PromiseCell<Arc<T>>,
    resolvers: AtomicUsize,
}

impl<T> Defer<T> {
    /// A result that nobody has brought yet.
    pub fn new() -> Defer<T> {
        Defer {
            shared: Arc::new(DeferState { cell: PromiseCell::new(), resolvers: AtomicUsize::new(0) }),
            place: None,
        }
    }

    /// Settles the result with a value. If it was settled before, `value` comes back.
    pub fn resolve(&self, value: T) -> Result<(), T> {
        self.shared.cell.settle(Ok(Arc::new(value))).map_err(|lost| {
            let value = lost.ok().and_then(Arc::into_inner);
            value.expect("what was not taken is still the only one")
        })
    }

    /// Settles the result with an error: [`PromiseError::Rejected`]. A text will do for an error. Returns whether it was the
    /// first to settle it.
    ///
    /// ```
    /// use threadwire_worker::{Defer, PromiseError};
    /// let page = Defer::<String>::new();
    /// assert!(page.reject("no such page"));
    /// assert_eq!(page.get().unwrap_err().to_string(), "rejected: no such page");
    /// ```
    pub fn reject(&self, error: impl Into<Box<dyn Error + Send + Sync>>) -> bool {
        self.settle(Err(PromiseError::Rejected(error.into().into())))
    }

    /// Cancels the result: [`PromiseError::Cancelled`] for all who wait. Returns whether it was the first to settle it.
    ///
    /// ```
    /// use threadwire_worker::{Defer, PromiseError};
    /// let answer = Defer::<u32>::new();
    /// assert!(answer.cancel());
    /// assert!(matches!(answer.get(), Err(PromiseError::Cancelled)));
    /// assert_eq!(answer.resolve(1), Err(1));
    /// ```
    pub fn cancel(&self) -> bool {
        self.settle(Err(PromiseError::Cancelled))
    }

    fn settle(&self, settled: Settled<Arc<T>>) -> bool {
        self.shared.cell.settle(settled).is_ok()
    }

    /// Whether the result is resolved, rejected, cancelled or abandoned.
    pub fn is_settled(&self) -> bool {
        self.shared.cell.is_settled()
    }

    /// A handle for the one who shall bring the result. When the last one is dropped and nothing is settled, waiters get
    /// [`PromiseError::Abandoned`].
    ///
    /// ```
    /// use threadwire_worker::{Defer, PromiseError, Worker};
    /// let answer = Defer::<u32>::new();
    /// let resolver = answer.resolver();
    /// let worker = Worker::<()>::spawn(move || {
    ///     let _resolver = resolver;
    ///     panic!("before it could resolve")
    /// });
    /// assert!(matches!(answer.get(), Err(PromiseError::Abandoned)));
    /// # worker.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolver(&self) -> Resolver<T> {
        self.shared.resolvers.fetch_add(1, Ordering::Relaxed);
        Resolver(self.clone())
    }
}

impl<T: Clone> Defer<T> {
    /// Waits for the result, while the loop of this thread turns. Fails with the error it was settled with, or with
    /// [`PromiseError::Stopped`] if the worker of this thread is asked to stop.
    pub fn get(&self) -> Result<T, PromiseError> {
        self.shared.cell.wait(None, Settlement::share).map(Arc::unwrap_or_clone)
    }

    /// As [`get`](Defer::get), for at most `timeout`: then it fails with [`PromiseError::TimedOut`], and the result may still come.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire_worker::{Defer, PromiseError};
    /// let never = Defer::<()>::new();
    /// assert!(matches!(never.get_timeout(Duration::from_millis(1)), Err(PromiseError::TimedOut)));
    /// ```
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, PromiseError> {
        self.shared
            .cell
            .wait(Instant::now().checked_add(timeout), Settlement::share)
            .map(Arc::unwrap_or_clone)
    }

    /// The result, if it is there. Never turns the loop.
    ///
    /// ```
    /// use threadwire_worker::Defer;
    /// let answer = Defer::new();
    /// assert!(answer.try_get().is_none());
    /// answer.resolve(1).unwrap();
    /// assert_eq!(answer.try_get().unwrap()?, 1);
    /// # Ok::<(), threadwire_worker::PromiseError>(())
    /// ```
    pub fn try_get(&self) -> Option<Result<T, PromiseError>> {
        Some(self.shared.cell.look(Settlement::share)?.map(Arc::unwrap_or_clone))
    }
}

impl<T> Default for Defer<T> {
    fn default() -> Defer<T> {
        Defer::new()
    }
}

impl<T> Clone for Defer<T> {
    fn clone(&self) -> Defer<T> {
        Defer { shared: Arc::clone(&self.shared), place: None }
    }
}

/// Ready when the result is settled, also again if it is polled after that.
impl<T: Clone> Future for Defer<T> {
    type Output = Result<T, PromiseError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let settled = this.shared.cell.poll(&mut this.place, context, Settlement::share);
        settled.map(|settled| settled.map(Arc::unwrap_or_clone))
    }
}

impl<T> Drop for Defer<T> {
    fn drop(&mut self) {
        self.shared.cell.leave(self.place);
    }
}

impl<T> fmt::Debug for Defer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Defer").field("settled", &self.is_settled()).finish_non_exhaustive()
    }
}

/// Brings the result of a [`Defer`], or says by its drop that there will be none. See [`Defer::resolver`].
///
/// ```
/// use threadwire_worker::{Defer, Worker};
/// let answer = Defer::new();
/// let resolver = answer.resolver();
/// let worker = Worker::spawn(move || {
///     if !resolver.is_settled() {
///         let _ = resolver.resolve(42); // unless it was cancelled meanwhile
///     }
///     Ok(())
/// });
/// assert_eq!(answer.get()?, 42);
/// # worker.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Resolver<T>(Defer<T>);

impl<T> Resolver<T> {
    /// See [`Defer::resolve`].
    pub fn resolve(self, value: T) -> Result<(), T> {
        self.0.resolve(value)
    }

    /// See [`Defer::reject`].
    pub fn reject(self, error: impl Into<Box<dyn Error + Send + Sync>>) -> bool {
        self.0.reject(error)
    }

    /// Whether the result is settled already, perhaps cancelled, so that nobody waits for it any more.
    pub fn is_settled(&self) -> bool {
        self.0.is_settled()
    }
}

impl<T> Clone for Resolver<T> {
    fn clone(&self) -> Resolver<T> {
        self.0.resolver()
    }
}

impl<T> Drop for Resolver<T> {
    fn drop(&mut self) {
        if self.0.shared.resolvers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.settle(Err(PromiseError::Abandoned));
        }
    }
}
