//! Messages that are received or sent part by part, each a fragment as the peer has sent it (RFC 6455, section 5.4).

use threadwire_proto::{Frame, OpCode, OwnedMessage};

use crate::error::Error;

/// A part of a message.
#[derive(Debug)]
pub struct Part {
    pub is_text: bool,
    pub is_last: bool,
    pub bytes: Vec<u8>,
}

impl Part {
    /// The part that a data frame is.
    pub fn of(frame: Frame<'_>) -> Part {
        let (is_text, is_last) = (frame.opcode() == OpCode::Text, frame.fin());
        Part { is_text, is_last, bytes: frame.into_vec() }
    }

    /// The same where the frame is only lent.
    pub fn copied(frame: &Frame<'_>) -> Part {
        let (is_text, is_last) = (frame.opcode() == OpCode::Text, frame.fin());
        Part { is_text, is_last, bytes: frame.payload().to_vec() }
    }
}

/// The place of a program in the messages that it receives in parts. What it leaves of a message is skipped when it receives the
/// next one, and a message that the end of the connection breaks off is an error, also after a normal close.
#[derive(Debug, Default)]
pub struct InParts {
    /// The first part of a message, until it is taken.
    first: Option<Part>,
    /// Whether the last part that was received was not the last of its message.
    goes_on: bool,
}

impl InParts {
    /// Whether something of the message that was begun last was not taken. What lies here is dropped; the rest is to be received, and
    /// given to [`next`](InParts::next), until this is false.
    pub fn is_to_skip(&mut self) -> bool {
        self.first = None;
        self.goes_on
    }

    /// The beginning of the next message was received, or the end. Whether it is text.
    pub fn begin(&mut self, received: Result<Option<Part>, Error>) -> Result<Option<bool>, Error> {
        self.first = received?;
        self.goes_on = self.first.as_ref().is_some_and(|part| !part.is_last);
        Ok(self.first.as_ref().map(|part| part.is_text))
    }

    /// The first part of the message.
    pub fn take_first(&mut self) -> Option<Vec<u8>> {
        self.first.take().map(|part| part.bytes)
    }

    /// Whether more parts of the message are to be received.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// The next part of the message was received, or the end in the middle of it.
    pub fn next(&mut self, received: Result<Option<Part>, Error>) -> Result<Vec<u8>, Error> {
        self.goes_on = false;
        let part = received?.ok_or(Error::Lost)?;
        self.goes_on = !part.is_last;
        Ok(part.bytes)
    }
}

/// The kind of a message that is sent in parts: all of them are text, or all are binary.
#[derive(Debug, Default)]
pub struct Kind(Option<OpCode>);

impl Kind {
    /// The opcode of the next part's frame.
    pub fn next(&mut self, part: &OwnedMessage) -> Result<OpCode, Error> {
        match self.0.replace(part.opcode()) {
            None => Ok(part.opcode()),
            Some(kind) if kind == part.opcode() => Ok(OpCode::Continuation),
            Some(_) => Err(Error::other("the parts of a message are all text, or all binary")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_of_one_kind() {
        let mut kind = Kind::default();
        assert_eq!(kind.next(&"text".into()).unwrap(), OpCode::Text);
        assert_eq!(kind.next(&"more".into()).unwrap(), OpCode::Continuation);
        assert!(kind.next(&b"bytes"[..].into()).is_err());
    }

    fn part(bytes: &[u8], is_last: bool) -> Result<Option<Part>, Error> {
        Ok(Some(Part { is_text: true, is_last, bytes: bytes.to_vec() }))
    }

    #[test]
    fn what_is_left_of_a_message_is_to_be_skipped() {
        let mut parts = InParts::default();
        assert_eq!(parts.begin(part(b"1", false)).unwrap(), Some(true));
        assert_eq!(parts.take_first().unwrap(), b"1");
        assert!(parts.is_to_skip());
        assert_eq!(parts.next(part(b"2", true)).unwrap(), b"2");
        assert!(!parts.is_to_skip());
        assert_eq!(parts.begin(part(b"whole", true)).unwrap(), Some(true));
        assert!(!parts.is_to_skip(), "of a message in one part nothing is left to receive");
        assert!(parts.take_first().is_none());
    }

    #[test]
    fn a_message_that_breaks_off_is_an_error_once() {
        let mut parts = InParts::default();
        parts.begin(part(b"once upon a", false)).unwrap();
        assert!(matches!(parts.next(Ok(None)), Err(Error::Lost)));
        assert!(!parts.goes_on());
        assert_eq!(parts.begin(Ok(None)).unwrap(), None);
    }
}
