//! The server's answer to a request, as it arrives (RFC 6455, section 4.1): for every face, so without I/O.

use threadwire_proto::Deflate;
use threadwire_proto::deflate::Agreement;
use threadwire_proto::handshake::{Answer, ClientRequest, HandshakeError, HeadReader};

use crate::connection::Agreed;
use crate::{Config, Error};

/// As much of the body of a refusal as is kept for the error.
const MAX_BODY: usize = 4 << 10;

/// The most answers that announce another (100, 103) before the one that counts.
const MAX_INTERIM: u32 = 8;

/// Gathers what the server says, until it is known what that comes to.
pub(crate) struct AnswerReader {
    /// What was received: to be appended to.
    pub(crate) received: Vec<u8>,
    head: HeadReader,
    /// An answer other than 101, whose body is arriving.
    refusal: Option<Answer>,
    /// How many answers have come that only announce another.
    interim: u32,
    /// What was offered.
    deflate: Option<Deflate>,
}

/// An answer that agrees.
pub(crate) struct Accepted {
    /// How much of what was received it is.
    pub(crate) head: usize,
    pub(crate) agreed: Box<Agreed>,
    /// If messages may be compressed.
    pub(crate) deflate: Option<Agreement>,
}

impl AnswerReader {
    pub(crate) fn new(config: &Config) -> AnswerReader {
        let head = HeadReader::new(config.head_limits());
        AnswerReader {
            received: Vec::new(),
            head,
            refusal: None,
            interim: 0,
            deflate: config.deflate.clone(),
        }
    }

    /// Looks at what was received: what was agreed on, if the answer is a 101 and as it must be. `None` if more has to
    /// arrive, which it won't if the stream has `ended`.
    pub(crate) fn look(&mut self, request: &ClientRequest, ended: bool) -> Result<Option<Accepted>, Error> {
        loop {
            if let Some(refusal) = self.refusal.take() {
                let whole =
                    refusal.content_length().is_some_and(|length| self.received.len() as u64 >= length);
                if !whole && !ended && self.received.len() < MAX_BODY {
                    self.refusal = Some(refusal);
                    return Ok(None);
                }
                self.received.truncate(MAX_BODY);
                let refusal = refusal.with_body(std::mem::take(&mut self.received));
                return Err(HandshakeError::Status(Box::new(refusal)).into());
            }
            let Some((answer, head)) = self.head.answer(&self.received)? else { return Ok(None) };
            if answer.status() == 101 {
                let accepted = request.verify(answer)?;
                let deflate = match &self.deflate {
                    Some(deflate) => deflate.accept(&accepted.extensions)?,
                    None => None,
                };
                let agreed =
                    Agreed { subprotocol: accepted.subprotocol, headers: accepted.headers, guest: None };
                return Ok(Some(Accepted { head, agreed: Box::new(agreed), deflate }));
            }
            self.received.drain(..head);
            self.interim += u32::from(answer.is_interim());
            if !answer.is_interim() || self.interim > MAX_INTERIM {
                self.refusal = Some(answer);
            }
        }
    }
}
