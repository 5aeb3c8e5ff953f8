//! Promises: results that come from another thread, for threads and for futures.
//!
//! A [`Defer`] is settled by any holder, an [`Async`] by a thread that runs a closure. Both can be waited for by threads,
//! whose loops turn meanwhile, and awaited by tasks of any executor.

mod asynchronous;
mod cell;
mod defer;

use std::error::Error;
use std::sync::Arc;

pub use asynchronous::Async;
pub(crate) use asynchronous::Settle;
pub use defer::{Defer, Resolver};

use crate::Stopped;

/// The reason why there is no result.
///
/// ```
/// use threadwire_worker::{Async, PromiseError};
/// let result = Async::run(|| -> Result<u32, _> { panic!("no luck") });
/// match result.get() {
///     Ok(number) => println!("{number}"),
///     Err(PromiseError::Cancelled) => println!("not wanted any more"),
///     Err(PromiseError::Stopped(_)) => println!("this thread is to stop, and waits no more"),
///     Err(error) => assert_eq!(error.to_string(), "panicked: no luck"),
/// }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromiseError {
    /// The result was rejected with this error.
    #[error("rejected: {0}")]
    Rejected(#[source] Arc<dyn Error + Send + Sync>),
    /// The closure that was to bring the result panicked, with this message.
    #[error("panicked: {0}")]
    Panicked(Arc<str>),
    /// The result was cancelled, or the thread that was to bring it was stopped.
    #[error("cancelled")]
    Cancelled,
    /// Everything that could have brought the result was dropped.
    #[error("abandoned by all who could have brought it")]
    Abandoned,
    /// The result did not come in the given time. It may still come.
    #[error("timed out")]
    TimedOut,
    /// A task would wait for itself: see [`Pool::submit`](crate::Pool::submit).
    #[error("all threads of the pool wait for room in it")]
    Deadlock,
    /// The closure that is to bring the result would wait for it.
    #[error("the closure that is to bring the result waits for it")]
    Itself,
    /// The result was taken before, and can't be had twice.
    #[error("already taken")]
    Taken,
    /// The worker of the calling thread was asked to stop while it waited. The result may still come.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
