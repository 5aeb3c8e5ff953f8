//! Requests of an app: their ids, and why one is refused.

use std::fmt;

/// What tells the answers to requests apart: a text or a number, whatever the protocol has. A number is the same as its
/// digits.
///
/// ```
/// use threadwire::app::RequestId;
/// assert_eq!(RequestId::from(7), RequestId::from("7"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for RequestId {
    fn from(id: &str) -> RequestId {
        RequestId(id.to_owned())
    }
}

impl From<String> for RequestId {
    fn from(id: String) -> RequestId {
        RequestId(id)
    }
}

macro_rules! from_numbers {
    ($($number:ty)*) => {
        $(impl From<$number> for RequestId {
            fn from(id: $number) -> RequestId {
                RequestId(id.to_string())
            }
        })*
    };
}

from_numbers!(u16 i32 u32 i64 u64 usize u128);

/// Why a request of an app was not sent, or its answer can't be waited for: see [`Error::Request`](super::Error::Request).
///
/// ```
/// use threadwire::Error;
/// use threadwire::error::RequestRefused;
///
/// fn is_duplicate(error: &Error) -> bool {
///     matches!(error, Error::Request(error) if matches!(**error, RequestRefused::Duplicate { .. }))
/// }
/// # let _ = is_duplicate;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestRefused {
    /// A request of this id waits for its answer.
    Duplicate {
        /// The id.
        id: RequestId,
    },
    /// The app can't tell answers: `App::id` is not set.
    NoIds,
    /// It would be waited for in a callback of the app itself, and no answer is read before that returns.
    InCallback,
}

impl fmt::Display for RequestRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestRefused::Duplicate { id } => {
                write!(f, "a request with the id {:?} waits for its answer", id.0)
            }
            RequestRefused::NoIds => f.write_str("the app can't tell answers: App::id is not set"),
            RequestRefused::InCallback => f.write_str(
                "a callback of the app can't wait for an answer, which is only read when it has returned",
            ),
        }
    }
}

impl std::error::Error for RequestRefused {}
