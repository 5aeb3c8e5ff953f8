//! Panics in the program's callbacks as errors.

use threadwire_guard::Panicked;

use crate::error::Error;

/// Runs code of the program's. A panic becomes [`Error::Panicked`].
#[inline]
pub fn catch<R>(call: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    match threadwire_guard::run(call) {
        Ok(result) => result,
        Err(panicked) => Err(told(panicked)),
    }
}

#[cold]
fn told(panicked: Panicked) -> Error {
    Error::panicked(panicked)
}
