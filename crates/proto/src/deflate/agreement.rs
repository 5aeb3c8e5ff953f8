//! What is offered, what is agreed to, and what follows from that (RFC 7692, sections 5 and 7.1).
//!
//! How a server answers an offer, parameter by parameter; `ours` is what [`Deflate`] says:
//!
//! | offered | without | with |
//! |---|---|---|
//! | `server_no_context_takeover` | answered if it is ours | answered |
//! | `client_no_context_takeover` | answered if it is ours | answered: it binds the client to what it only hinted at |
//! | `server_max_window_bits=N` | ours is answered, if it is below 15 | the smaller of N and ours is answered; 8 declines the offer |
//! | `client_max_window_bits[=N]` | nothing can be asked for: it is 15 | the smaller of N and ours is answered, if it is below 15 |
//! | anything else, or twice, or no number from 8 to 15 | - | declines the offer |

use super::params::Params;
use super::{Deflate, NAME};
use crate::handshake::param_error::ParamError;
use crate::handshake::{Extension, HandshakeError};

/// The window bits that nobody has restricted.
const MOST: u8 = 15;

/// What a server asks for, if it is not told otherwise.
const SERVERS_CHOICE: u8 = 12;

/// What a connection's two sides have agreed on.
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
    /// How far back the server's messages may refer: 2<sup>bits</sup> bytes, 8 to 15.
    pub server_max_window_bits: u8,
    /// How far back the client's messages may refer: 2<sup>bits</sup> bytes, 8 to 15.
    pub client_max_window_bits: u8,
    /// Whether the client has said that it can be told how far.
    client_can_be_told: bool,
    /// Whether the client has asked for a window of the server's: then the answer must say which (RFC 7692, section 7.1.2.1),
    /// even if it is the largest.
    server_was_asked: bool,
}

impl Agreement {
    /// The answer that says it, for a server to send.
    pub fn to_extension(&self) -> Extension {
        let params = Params {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: Some(self.server_max_window_bits)
                .filter(|bits| self.server_was_asked || *bits < MOST),
            client_max_window_bits: Some(self.client_max_window_bits)
                .filter(|bits| self.client_can_be_told && *bits < MOST)
                .map(Some),
        };
        params.to_extension()
    }
}

/// Negotiation.
impl Deflate {
    /// What a client offers. It always says that the server may choose how far its messages refer back.
    pub fn offer(&self) -> Extension {
        self.offered().to_extension()
    }

    fn offered(&self) -> Params {
        let bits = |bits: Option<u8>| bits.filter(|bits| *bits < MOST);
        Params {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: bits(self.server_max_window_bits),
            client_max_window_bits: Some(bits(self.client_max_window_bits)),
        }
    }

    /// What a server agrees to: the first of the offers that can be met; `None` if none can. Other extensions among them are
    /// passed over.
    ///
    /// ```
    /// use threadwire_proto::Deflate;
    /// use threadwire_proto::handshake::Extension;
    ///
    /// let odd = Extension::new("permessage-deflate")?.with_param("bogus", Some("1"))?;
    /// let plain = Extension::new("permessage-deflate")?;
    /// assert_eq!(Deflate::new().answer(&[odd.clone()]), None);
    /// let agreement = Deflate::new().answer(&[odd, plain]).expect("the second can be met");
    /// assert_eq!(agreement.to_extension().to_string(), "permessage-deflate; server_max_window_bits=12");
    /// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
    /// ```
    pub fn answer(&self, offers: &[Extension]) -> Option<Agreement> {
        let offers = offers.iter().filter(|offer| offer.name() == NAME);
        offers.filter_map(|offer| Params::parse(offer).ok()).find_map(|offer| self.meet(&offer))
    }

    fn meet(&self, offer: &Params) -> Option<Agreement> {
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

    /// What a server's answer to our [`offer`](Deflate::offer) comes to; `None` if it did not take it.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Deflate`] for an answer that the offer does not allow: the connection must fail then (RFC 7692,
    /// section 5.1).
    pub fn accept(&self, answer: &[Extension]) -> Result<Option<Agreement>, HandshakeError> {
        let mut answers = answer.iter().filter(|extension| extension.name() == NAME);
        let Some(extension) = answers.next() else { return Ok(None) };
        let refuse = |problem| HandshakeError::Deflate { found: extension.to_string(), problem };
        if answers.next().is_some() {
            return Err(refuse(ParamError::AcceptedTwice));
        }
        let answer = Params::parse(extension).map_err(refuse)?;
        answer.check_answer_to(&self.offered()).map_err(refuse)?;
        let told = answer.client_max_window_bits.flatten();
        Ok(Some(Agreement {
            server_no_context_takeover: answer.server_no_context_takeover,
            // It may always forget.
            client_no_context_takeover: answer.client_no_context_takeover || self.client_no_context_takeover,
            server_max_window_bits: answer.server_max_window_bits.unwrap_or(MOST),
            client_max_window_bits: told.or(self.client_max_window_bits).unwrap_or(MOST),
            client_can_be_told: true,
            server_was_asked: self.offered().server_max_window_bits.is_some(),
        }))
    }
}
