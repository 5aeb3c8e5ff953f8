//! Refused redirects.

use std::fmt;

/// Why a redirect is not followed: see [`Error::Redirect`](super::Error::Redirect).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectProblem {
    /// It is one more than are followed.
    TooMany {
        /// As many as are: see `Client::redirects`.
        limit: u32,
    },
    /// It leads from an encrypted connection to one that is not.
    Insecure,
    /// The `Location` is no URL that can be connected to.
    BadLocation,
}

impl fmt::Display for RedirectProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RedirectProblem::TooMany { limit } => write!(f, "it is one more than the limit of {limit}"),
            RedirectProblem::Insecure => f.write_str("it leads from TLS to no encryption"),
            RedirectProblem::BadLocation => f.write_str("it is no URL that can be connected to"),
        }
    }
}
