//! Stop tokens: cancellation of any number of workers at once.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};

use slab::Slab;

use crate::lock::Lock;
use crate::{EventLoop, Remote, Stopped};

/// Asks any number of workers to stop, those too that come later. Clones are the same token.
///
/// A worker obeys it from when it is [bound](StopToken::bind) to it: a stop of the token is then a stop of the worker,
/// so that every wait on its thread returns [`Stopped`]. Code that computes asks the token itself.
///
/// ```
/// use threadwire_worker::{StopToken, Worker, wait_forever};
///
/// let stop = StopToken::new();
/// let workers: Vec<Worker<()>> = (0..3)
///     .map(|_| {
///         let stop = stop.clone();
///         Worker::spawn(move || {
///             let _bound = stop.bind_current();
///             wait_forever()
///         })
///     })
///     .collect();
/// stop.stop();
/// for worker in workers {
///     assert!(worker.join()?.was_stopped());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct StopToken(Arc<TokenState>);

#[derive(Default)]
struct TokenState {
    stopped: AtomicBool,
    bound: Lock<Slab<Remote>>,
}

impl TokenState {
    fn bound(&self) -> MutexGuard<'_, Slab<Remote>> {
        self.bound.lock()
    }
}

impl StopToken {
    /// A token that has not been stopped, and that nobody obeys yet.
    pub fn new() -> StopToken {
        StopToken::default()
    }

    /// Stops all workers that are bound to it, and those that will be. It can't be undone. Returns whether it was the first
    /// to stop it.
    pub fn stop(&self) -> bool {
        // Workers are stopped under the lock, so that one that is not bound any more is not stopped any more.
        let bound = self.0.bound();
        if self.0.stopped.swap(true, Ordering::AcqRel) {
            return false;
        }
        bound.iter().for_each(|(_, remote)| remote.stop());
        true
    }

    /// Whether the token was stopped.
    #[inline]
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }

    /// For loops that compute: `Err(Stopped)` once it was stopped. It costs one atomic load, and does not turn the loop.
    ///
    /// ```
    /// use threadwire_worker::{StopToken, Stopped};
    /// fn count(stop: &StopToken) -> Result<u64, Stopped> {
    ///     let mut count = 0;
    ///     loop {
    ///         stop.checkpoint()?;
    ///         count += 1;
    /// #       if count == 3 { stop.stop(); }
    ///     }
    /// }
    /// assert_eq!(count(&StopToken::new()), Err(Stopped));
    /// ```
    #[inline]
    pub fn checkpoint(&self) -> Result<(), Stopped> {
        if self.is_stopped() { Err(Stopped) } else { Ok(()) }
    }

    /// Has the worker of `remote` obey this token, until the guard is dropped: a stop of the token then stops it, as
    /// [`Remote::stop`] does, for good. It is stopped at once if the token is stopped already.
    ///
    /// ```
    /// use threadwire_worker::{StopToken, Worker, wait_forever};
    /// let worker = Worker::spawn(wait_forever);
    /// let stop = StopToken::new();
    /// let _bound = stop.bind(worker.remote());
    /// stop.stop();
    /// assert!(worker.join()?.was_stopped());
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    pub fn bind(&self, remote: Remote) -> StopBinding {
        let mut bound = self.0.bound();
        if self.is_stopped() {
            remote.stop();
        }
        let place = bound.insert(remote);
        drop(bound);
        StopBinding { token: self.clone(), place }
    }

    /// As [`bind`](StopToken::bind), for the worker of this thread.
    pub fn bind_current(&self) -> StopBinding {
        self.bind(EventLoop::current().remote())
    }
}

impl fmt::Debug for StopToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopToken").field("stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}

/// A worker obeys a [`StopToken`] while this is alive. See [`StopToken::bind`].
///
/// ```
/// use threadwire_worker::{StopToken, update};
/// let stop = StopToken::new();
/// let binding = stop.bind_current();
/// drop(binding);
/// stop.stop();
/// assert!(update().is_ok(), "it obeys no more");
/// ```
#[derive(Debug)]
#[must_use = "a worker obeys a token only while the binding is alive"]
pub struct StopBinding {
    token: StopToken,
    place: usize,
}

impl Drop for StopBinding {
    fn drop(&mut self) {
        let remote = self.token.0.bound().try_remove(self.place);
        drop(remote);
    }
}
