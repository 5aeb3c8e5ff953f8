//! Bad parts of a URL.

use std::fmt;

/// A URL that can't be connected to.
#[derive(Debug, thiserror::Error)]
#[error("can't connect to {url:?}: {part} {problem}")]
#[non_exhaustive]
pub struct UrlError {
    /// The URL, without user name and password.
    pub url: String,
    /// The part of it that is wrong.
    pub part: UrlPart,
    /// The problem, and what was expected.
    pub problem: String,
}

/// A part of a URL.
///
/// ```
/// use threadwire::client::Target;
/// use threadwire::error::UrlPart;
/// use threadwire::Error;
///
/// let Err(Error::Url(error)) = Target::parse("ws://example.com:99999/") else { panic!("a port too far") };
/// assert_eq!(error.part, UrlPart::Port);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlPart {
    /// Its form as a whole.
    Form,
    /// The scheme, in front of the first colon.
    Scheme,
    /// The host.
    Host,
    /// The port.
    Port,
    /// User name and password, in front of the host.
    UserInfo,
    /// The path.
    Path,
    /// The query, behind a `?`.
    Query,
    /// The fragment, behind a `#`.
    Fragment,
}

impl fmt::Display for UrlPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlPart::Form => "it",
            UrlPart::Scheme => "its scheme",
            UrlPart::Host => "its host",
            UrlPart::Port => "its port",
            UrlPart::UserInfo => "its user name or password",
            UrlPart::Path => "its path",
            UrlPart::Query => "its query",
            UrlPart::Fragment => "its fragment",
        })
    }
}
