//! Panics of the program's closures, caught and logged.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::Error;

/// Calls the program, and logs it if that panics.
pub fn contain<R>(what: &str, call: impl FnOnce() -> R) -> Option<R> {
    let result = catch_unwind(AssertUnwindSafe(call));
    result.map_err(|payload| tracing::error!(error = %Error::panicked(payload), "{what} failed")).ok()
}
