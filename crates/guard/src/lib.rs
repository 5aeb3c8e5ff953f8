//! Guard behind which the program's code is called and its values are dropped: a panic ends there.
//!
//! A panic raises a value (`panic_any`), and that is the program's as well: its `drop` may panic in turn. So whoever catches a panic
//! and lets go of what was raised has caught nothing. Here what was raised is a [`Panicked`], which is let go of behind the guard too.
//!
//! # Pitfalls
//!
//! - A value that panics as it is dropped *while* another panic unwinds ends the process, and nothing can be done about it from outside.
//!   So values of different owners are dropped one by one ([`discard_all`]), and none of them lies on a stack that may unwind.
//! - A panic in a destructor of a thread-local ends the process too.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of the program's.
///
/// ```
/// let number = threadwire_guard::run(|| 7);
/// assert_eq!(number.unwrap(), 7);
///
/// let panicked = threadwire_guard::run(|| panic!("no luck")).unwrap_err();
/// assert_eq!(panicked.message(), "no luck");
/// ```
#[inline]
pub fn run<R>(code: impl FnOnce() -> R) -> Result<R, Panicked> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(result) => Ok(result),
        Err(payload) => Err(caught(payload)),
    }
}

#[cold]
fn caught(payload: Box<dyn Any + Send>) -> Panicked {
    Panicked(Some(payload))
}

/// Runs code of the program's whose panic concerns nobody: it is logged.
///
/// ```
/// assert_eq!(threadwire_guard::contain("the answer", || 7), Some(7));
/// assert_eq!(threadwire_guard::contain("the question", || -> u32 { panic!("no luck") }), None);
/// ```
#[inline]
pub fn contain<R>(what: &str, code: impl FnOnce() -> R) -> Option<R> {
    run(code).map_err(|panicked| report(what, &panicked)).ok()
}

#[cold]
fn report(what: &str, panicked: &Panicked) {
    tracing::error!(error = %panicked, "{what} panicked");
}

/// Drops a value of the program's.
///
/// ```
/// struct Bomb;
///
/// impl Drop for Bomb {
///     fn drop(&mut self) {
///         panic!("dropped");
///     }
/// }
///
/// threadwire_guard::discard(Bomb);
/// ```
#[inline]
pub fn discard<T>(value: T) {
    if std::mem::needs_drop::<T>() {
        contain("the drop of a value", || drop(value));
    }
}

/// Drops values of the program's one by one.
pub fn discard_all<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(discard);
}

/// A panic of the program's code that was caught. It is displayed as its message.
pub struct Panicked(Option<Box<dyn Any + Send>>);

impl Panicked {
    /// The text that the panic was raised with, or "(no message)" if that was something else.
    pub fn message(&self) -> &str {
        self.0.as_deref().map_or(NO_MESSAGE, message)
    }

    /// What was raised, for somebody who answers for its drop.
    pub fn into_payload(mut self) -> Box<dyn Any + Send> {
        self.0.take().unwrap_or_else(|| Box::new(()))
    }
}

/// Puts what a panic has raised behind the guard.
impl From<Box<dyn Any + Send>> for Panicked {
    fn from(payload: Box<dyn Any + Send>) -> Panicked {
        Panicked(Some(payload))
    }
}

impl Drop for Panicked {
    fn drop(&mut self) {
        let Some(payload) = self.0.take() else { return };
        if let Err(raised) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            // Its drop could raise another, and so on. It stays in memory instead.
            std::mem::forget(raised);
        }
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl fmt::Debug for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panicked").field(&self.message()).finish()
    }
}

/// The text that a panic was raised with, see [`Panicked::message`].
pub fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or(NO_MESSAGE)
}

const NO_MESSAGE: &str = "(no message)";

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::panic::panic_any;

    use super::*;

    /// Raises another one as it is dropped.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any(Bomb);
        }
    }

    #[test]
    fn a_payload_that_panics_without_end_is_let_go_of() {
        let panicked = run(|| panic_any(Bomb)).unwrap_err();
        assert_eq!(panicked.message(), "(no message)");
        drop(panicked);
        drop(run(|| panic_any(Bomb)));
    }

    #[test]
    fn values_are_dropped_whatever_becomes_of_those_before_them() {
        struct Counts<'a>(&'a Cell<u32>);
        impl Drop for Counts<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
                panic!("{}", self.0.get());
            }
        }
        let count = Cell::new(0);
        discard_all((0..3).map(|_| Counts(&count)));
        assert_eq!(count.get(), 3);
    }

    #[test]
    fn what_was_raised_can_be_had() {
        let payload = run(|| panic_any(7)).unwrap_err().into_payload();
        assert_eq!(payload.downcast_ref(), Some(&7));
        assert_eq!(run(|| panic!("text {}", 1)).unwrap_err().to_string(), "text 1");
    }
}
