//! Panics in the program's callbacks as errors.

use crate::error::Error;

/// Runs code of the program's. A panic becomes [`Error::Panicked`].
pub fn catch<R>(call: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    threadwire_guard::run(call).unwrap_or_else(|panicked| Err(Error::panicked(panicked)))
}
