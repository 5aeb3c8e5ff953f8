//! Error for extension parameters of permessage-deflate (RFC 7692, section 7.1).

/// What is wrong with the parameters of `permessage-deflate` (RFC 7692, section 7.1). An offer with such parameters is
/// declined; an answer with them fails the handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamError {
    /// A name that the RFC does not have.
    #[error("the parameter {0:?} is unknown")]
    Unknown(String),
    /// A name that stands there twice.
    #[error("the parameter {0} is repeated")]
    Repeated(&'static str),
    /// A value where none belongs.
    #[error("{0} takes no value")]
    HasValue(&'static str),
    /// A window size that is none, or is missing.
    #[error("{name} is {found}, expected a number from 8 to 15")]
    WindowBits {
        /// The parameter.
        name: &'static str,
        /// Its value in quotes, or "missing".
        found: String,
    },
    /// An answer grants less than was asked for.
    #[error("{name} was offered as {offered}, but the answer has {found}")]
    NotGranted {
        /// The parameter.
        name: &'static str,
        /// What was offered.
        offered: String,
        /// What the answer has instead.
        found: String,
    },
    /// An answer has a parameter that only the client may bring up.
    #[error("{0} was not offered")]
    NotOffered(&'static str),
    /// The extension is answered more than once.
    #[error("the extension is accepted twice")]
    AcceptedTwice,
}
