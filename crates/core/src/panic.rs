//! Panics in the program's callbacks, caught where these are called.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::Error;

/// Runs code of the program's. A panic becomes [`Error::Panicked`].
pub fn catch<R>(call: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| Err(Error::panicked(payload)))
}

/// Runs code of the program's that nobody waits for. A panic is logged.
pub fn contain<R>(what: &str, call: impl FnOnce() -> R) -> Option<R> {
    let result = catch_unwind(AssertUnwindSafe(call));
    result.map_err(|payload| tracing::error!(error = %Error::panicked(payload), "{what} failed")).ok()
}
