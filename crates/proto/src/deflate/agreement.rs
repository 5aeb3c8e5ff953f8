//! Negotiation of permessage-deflate: offers, answers, and the agreement that follows (RFC 7692, sections 5 and 7.1).
//!
//! The answer of a server to an offer, parameter by parameter; `ours` is what [`Deflate`] says:
//!
//! | offered | without | with |
//! |---|---|---|
//! | `server_no_context_takeover` | answered if it is ours | answered |
//! | `client_no_context_takeover` | answered if it is ours | answered: it binds the client to what it only hinted at |
//! | `server_max_window_bits=N` | ours is answered, if it is below 15 | the smaller of N and ours is answered; 8 declines the offer |
//! | `client_max_window_bits[=N]` | nothing can be asked for: it is 15 | the smaller of N and ours is answered, if it is below 15 |
//! | anything else, or twice, or no number from 8 to 15 | - | declines the offer |

use super::Deflate;
use super::params::{ParamError, Params};

/// The window bits that nobody has restricted.
const MOST: u8 = 15;

/// The window bits that a server asks for, if it is not told otherwise.
const SERVERS_CHOICE: u8 = 12;

/// The agreement of a connection's two sides on compression.
///
/// ```
/// use threadwire_proto::Deflate;
/// use threadwire_proto::handshake::Extension;
///
/// let answer = Extension::new("permessage-deflate")?.with_param("server_max_window_bits", Some("10"))?;
/// let agreement = Deflate::new().accept(&[answer])?.expect("it was accepted");
/// assert_eq!((agreement.server_max_window_bits, agreement.client_max_window_bits), (10, 15));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Agreement {
    /// Whether the server compresses each message for itself.
    pub server_no_context_takeover: bool,
    /// Whether the client compresses each message for itself.
    pub client_no_context_takeover: bool,
    /// The window of the server's messages, the distance that they may refer back: 2<sup>bits</sup> bytes, 8 to 15.
    pub server_max_window_bits: u8,
    /// The window of the client's messages, the distance that they may refer back: 2<sup>bits</sup> bytes, 8 to 15.
    pub client_max_window_bits: u8,
    /// Whether the client has said that its window may be restricted.
    client_can_be_told: bool,
    /// Whether the client has asked for a window of the server's: then the answer must say which (RFC 7692, section 7.1.2.1),
    /// even if it is the largest.
    server_was_asked: bool,
}

impl Agreement {
    /// The parameters of the answer that says it.
    pub(crate) fn params(&self) -> Params {
        Params {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: Some(self.server_max_window_bits)
                .filter(|bits| self.server_was_asked || *bits < MOST),
            client_max_window_bits: Some(self.client_max_window_bits)
                .filter(|bits| self.client_can_be_told && *bits < MOST)
                .map(Some),
        }
    }
}

/// Negotiation.
impl Deflate {
    /// The parameters that a client offers.
    pub(crate) fn offered(&self) -> Params {
        let bits = |bits: Option<u8>| bits.filter(|bits| *bits < MOST);
        Params {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: bits(self.server_max_window_bits),
            client_max_window_bits: Some(bits(self.client_max_window_bits)),
        }
    }

    /// The agreement of a server, if it can meet the offer.
    pub(crate) fn meet(&self, offer: &Params) -> Option<Agreement> {
        let ours = self.server_max_window_bits.unwrap_or(SERVERS_CHOICE);
        let server_max_window_bits = offer.server_max_window_bits.map_or(ours, |bits| bits.min(ours));
        if server_max_window_bits < 9 {
            return None;
        }
        let wanted = self.client_max_window_bits.unwrap_or(SERVERS_CHOICE);
        let client_max_window_bits = match offer.client_max_window_bits {
            None => MOST,
            Some(hint) => hint.map_or(wanted, |bits| bits.min(wanted)),
        };
        Some(Agreement {
            server_no_context_takeover: offer.server_no_context_takeover || self.server_no_context_takeover,
            client_no_context_takeover: offer.client_no_context_takeover || self.client_no_context_takeover,
            server_max_window_bits,
            client_max_window_bits,
            client_can_be_told: offer.client_max_window_bits.is_some(),
            server_was_asked: offer.server_max_window_bits.is_some(),
        })
    }

    /// The agreement that follows from a server's answer. An answer that the offer does not allow fails the connection (RFC 7692,
    /// section 5.1).
    pub(crate) fn agree(&self, answer: &Params) -> Result<Agreement, ParamError> {
        answer.check_answer_to(&self.offered())?;
        let told = answer.client_max_window_bits.flatten();
        Ok(Agreement {
            server_no_context_takeover: answer.server_no_context_takeover,
            // A client may always forget.
            client_no_context_takeover: answer.client_no_context_takeover || self.client_no_context_takeover,
            server_max_window_bits: answer.server_max_window_bits.unwrap_or(MOST),
            client_max_window_bits: told.or(self.client_max_window_bits).unwrap_or(MOST),
            client_can_be_told: true,
            server_was_asked: self.offered().server_max_window_bits.is_some(),
        })
    }
}
