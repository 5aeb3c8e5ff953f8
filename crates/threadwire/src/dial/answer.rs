//! The answer to a request of HTTP, as it arrives: for every face, so without I/O.

use threadwire_proto::handshake::{Answer, HandshakeError, HeadReader};

use crate::Config;

/// As much of the body of a refusal as is kept for the error.
const MAX_BODY: usize = 4 << 10;

/// The most answers that announce another (100, 103) before the one that counts.
const MAX_INTERIM: u32 = 8;

/// Gathers what the other side says, until it is known what that comes to.
pub(crate) struct AnswerReader {
    head: HeadReader,
    /// An answer that is no consent, whose body is arriving.
    refusal: Option<Answer>,
    /// How many answers have come that only announce another.
    interim: u32,
}

/// An answer that has arrived.
pub(crate) enum Arrived {
    /// The answer that was hoped for, and the length of its head: what follows in the buffer does not belong to it.
    Consent(Answer, usize),
    /// Another one, with as much of its body as is kept.
    Refusal(Box<Answer>),
}

impl AnswerReader {
    pub(crate) fn new(config: &Config) -> AnswerReader {
        AnswerReader { head: HeadReader::new(config.head_limits()), refusal: None, interim: 0 }
    }

    /// Looks at what was `received`, which is to be appended to only. `None` if more has to arrive, which it won't if the stream
    /// has `ended`. The body of an answer that is no consent is only waited for if that `is_wanted`.
    pub(crate) fn look(
        &mut self,
        received: &mut Vec<u8>,
        ended: bool,
        is_consent: impl Fn(&Answer) -> bool,
        is_wanted: impl Fn(&Answer) -> bool,
    ) -> Result<Option<Arrived>, HandshakeError> {
        loop {
            if let Some(refusal) = self.refusal.take() {
                let whole = refusal.content_length().is_some_and(|length| received.len() as u64 >= length);
                if !whole && !ended && received.len() < MAX_BODY && is_wanted(&refusal) {
                    self.refusal = Some(refusal);
                    return Ok(None);
                }
                received.truncate(MAX_BODY);
                return Ok(Some(Arrived::Refusal(Box::new(refusal.with_body(std::mem::take(received))))));
            }
            let Some((answer, head)) = self.head.answer(received)? else { return Ok(None) };
            if is_consent(&answer) {
                return Ok(Some(Arrived::Consent(answer, head)));
            }
            received.drain(..head);
            self.interim += u32::from(answer.is_interim());
            if !answer.is_interim() || self.interim > MAX_INTERIM {
                self.refusal = Some(answer);
            }
        }
    }
}
