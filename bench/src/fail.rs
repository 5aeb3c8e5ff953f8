//! Errors of the benchmarks, as sentences for a person.

use std::error::Error;

/// A result whose error is only ever printed.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// An error with a formatted message.
#[macro_export]
macro_rules! fail {
    ($($part:tt)*) => { Box::<dyn std::error::Error + Send + Sync>::from(format!($($part)*)) };
}
