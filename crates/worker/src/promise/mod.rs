//! Results that come from another thread: [`Defer`] is settled by whoever has it, [`Async`] by a thread that runs a
//! closure. Both can be waited for by threads, whose loops turn meanwhile, and awaited by tasks of any executor.

mod asynchronous;
mod cell;
mod defer;

use std::error::Error;
use std::sync::Arc;

pub use asynchronous::Async;
pub(crate) use asynchronous::Settle;
pub use defer::{Defer, Resolver};

use crate::Stopped;

/// Why there is no result.
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
    /// It was rejected with this error.
    #[error("rejected: {0}")]
    Rejected(#[source] Arc<dyn Error + Send + Sync>),
    /// What was to bring it panicked, with this message.
    #[error("panicked: {0}")]
    Panicked(Arc<str>),
    /// It was cancelled, or the thread that was to bring it was stopped.
    #[error("cancelled")]
    Cancelled,
    /// Everything that could have brought it was dropped.
    #[error("abandoned by all who could have brought it")]
    Abandoned,
    /// It did not come in the given time. It may still come.
    #[error("timed out")]
    TimedOut,
    /// It was already given to somebody, and can't be had twice.
    #[error("already taken")]
    Taken,
    /// Not the result: the worker of the calling thread was asked to stop. The result may still come.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
