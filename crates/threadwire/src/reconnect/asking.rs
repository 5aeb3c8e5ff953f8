//! What the program is asked, and what its answers come to: the same wherever a driver runs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::machine::Verdict;
use super::{Attempt, Cause};
use crate::Error;
use crate::local::Local;

/// Asks whether an attempt may begin. One that panics forbids it.
pub(crate) fn ask_before<H>(hook: &mut H, attempt: &mut Attempt) -> Result<(), Error>
where
    H: FnMut(&mut Attempt) -> Result<(), Error> + ?Sized,
{
    let allowed = catch_unwind(AssertUnwindSafe(|| hook(attempt)));
    allowed.unwrap_or_else(|payload| Err(Error::panicked(payload)))
}

/// Asks whether an end is worth another attempt; without a hook, the cause itself knows. One that panics says no.
pub(crate) fn ask_whether_to_retry<H>(hook: Option<&mut H>, cause: &Cause) -> Verdict
where
    H: FnMut(&Cause) -> bool + ?Sized,
{
    let retry = match hook {
        None => cause.is_transient(),
        Some(hook) => contain("retry_if", || hook(cause)).unwrap_or(false),
    };
    if retry { Verdict::Retry } else { Verdict::GiveUp }
}

/// Calls the program, and logs it if that panics.
pub(crate) fn contain<R>(what: &str, call: impl FnOnce() -> R) -> Option<R> {
    let result = catch_unwind(AssertUnwindSafe(call));
    result.map_err(|payload| tracing::error!(error = %Error::panicked(payload), "{what} failed")).ok()
}

/// A random number from 0 to 1.
pub(crate) fn random() -> f64 {
    // They are as random as masking keys must be.
    let key = Local::current().shared.borrow_mut().keys.next();
    f64::from(u32::from_ne_bytes(key)) / f64::from(u32::MAX)
}
