//! Offers and answers of permessage-deflate in `Sec-WebSocket-Extensions` (RFC 7692, section 5).

use super::{Extension, HandshakeError};
use crate::deflate::{Agreement, Deflate, NAME, ParamError, Params};

impl Agreement {
    /// The answer with this agreement, for a server to send.
    pub fn to_extension(&self) -> Extension {
        Extension::of(NAME, self.params().written())
    }
}

/// Negotiation.
impl Deflate {
    /// The offer of a client. It always says that the server may choose the window of the client's messages.
    pub fn offer(&self) -> Extension {
        Extension::of(NAME, self.offered().written())
    }

    /// The agreement of a server: to the first of the offers that can be met; `None` if none can. Other extensions among them are
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
        offers.filter_map(|offer| Params::parse(offer.params()).ok()).find_map(|offer| self.meet(&offer))
    }

    /// The agreement that follows from a server's answer to our [`offer`](Deflate::offer); `None` if it did not take the offer.
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
        let answer = Params::parse(extension.params()).map_err(refuse)?;
        self.agree(&answer).map(Some).map_err(refuse)
    }
}
