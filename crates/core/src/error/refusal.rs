//! Refusal of a server or a proxy in words: status, reason phrase, and the logins that would do.

use std::fmt;

use threadwire_proto::handshake::Answer;

use super::shown::Shown;

/// An answer that is no consent.
pub(super) struct Refusal<'a> {
    pub(super) answer: &'a Answer,
    /// The status that asks for a login, and the header that says for which (RFC 9110, section 11.6).
    pub(super) challenge: (u16, &'static str),
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { answer, challenge: (status, name) } = self;
        write!(f, "status {}", answer.status())?;
        if !answer.reason().is_empty() {
            write!(f, " ({})", Shown(answer.reason()))?;
        }
        if answer.status() == *status {
            let mut lead = ", it asks for";
            for scheme in answer.headers().get_all(name) {
                write!(f, "{lead} {}", Shown(scheme))?;
                lead = " or";
            }
        }
        Ok(())
    }
}
