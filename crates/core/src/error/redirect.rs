//! Refused redirects.

use std::fmt;

/// The server answered with a redirect that must not be followed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{from} redirects to {to}, which is not followed: {problem}")]
#[non_exhaustive]
pub struct RedirectError {
    /// The URL that answered, without user name, password and query.
    pub from: String,
    /// Where it sends to, likewise.
    pub to: String,
    /// Why not.
    pub problem: RedirectProblem,
}

/// Why a redirect is not followed: see [`Error::Redirect`](super::Error::Redirect).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectProblem {
    /// One redirect more than are followed.
    TooMany {
        /// As many as are: see `Client::redirects`.
        limit: u32,
    },
    /// A redirect from an encrypted connection to one that is not.
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
