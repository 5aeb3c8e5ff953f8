//! How a connection ended.

use std::fmt;

use threadwire_proto::{CloseCode, Closing, Initiator};

use crate::Error;
use crate::error::TimeoutKind;

/// How a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed {
    /// The close code (RFC 6455, section 7.1.5): the peer's, 1005 if its close frame had none, 1006 if there was no close
    /// frame. If the peer broke the protocol, the code for that.
    pub code: CloseCode,
    /// The reason that came with the code.
    pub reason: String,
    /// Which side began to close.
    pub initiator: Initiator,
    /// Whether both sides sent a close frame, and neither broke a rule.
    pub clean: bool,
    /// What went wrong, if something did.
    pub error: Option<Error>,
}

impl Closed {
    /// From what the protocol knows, and what went wrong besides.
    pub(crate) fn new(closing: Option<&Closing>, error: Option<Error>) -> Closed {
        let Some(closing) = closing else {
            let (code, reason) = (CloseCode::ABNORMAL, String::new());
            return Closed { code, reason, initiator: Initiator::Local, clean: false, error };
        };
        let implied = || match closing {
            Closing { timed_out: true, .. } => Some(Error::Timeout(TimeoutKind::Close)),
            Closing { lost: true, .. } => Some(Error::Lost),
            _ => None,
        };
        Closed {
            code: closing.code(),
            reason: closing.reason().to_owned(),
            initiator: closing.initiator,
            clean: closing.is_clean(),
            error: error.or_else(implied),
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.initiator {
            Initiator::Local => "us",
            Initiator::Peer => "the peer",
        };
        write!(f, "closed by {by} with {}", self.code)?;
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        match &self.error {
            Some(error) => write!(f, " ({error})"),
            None => Ok(()),
        }
    }
}
