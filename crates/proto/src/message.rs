//! Messages, and the rules by which frames make one (RFC 6455, section 5.4).

use std::fmt;

use crate::{Limits, OpCode, Violation, frame::Header, utf8::Validator};

/// A message, borrowed from wherever it lies.
///
/// ```
/// use threadwire_proto::Message;
///
/// let text = Message::from("café");
/// assert_eq!((text.len(), text.as_text()), (5, Some("café")));
/// let bytes = Message::from(&[1, 2, 3]);
/// assert_eq!((bytes.as_bytes(), bytes.as_text()), (&[1, 2, 3][..], None));
/// assert_eq!(format!("{text}, {bytes}"), "café, 3 bytes");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text: UTF-8, checked.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The opcode of a frame that carries it.
    #[inline]
    pub fn opcode(&self) -> OpCode {
        match self {
            Message::Text(_) => OpCode::Text,
            Message::Binary(_) => OpCode::Binary,
        }
    }

    /// The payload.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&'a str> {
        match self {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
        }
    }

    /// The length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }
}

/// Text as it is; of binary messages the length.
impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Text(text) => f.write_str(text),
            Message::Binary(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Message<'a> {
        Message::Text(text)
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(text: &'a String) -> Message<'a> {
        Message::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(bytes: &'a [u8]) -> Message<'a> {
        Message::Binary(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Message<'a> {
    fn from(bytes: &'a Vec<u8>) -> Message<'a> {
        Message::Binary(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Message<'a> {
    fn from(bytes: &'a [u8; N]) -> Message<'a> {
        Message::Binary(bytes)
    }
}

/// The message that is arriving: which frames may come next, how long it has become, whether it is UTF-8 so far.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// The opcode of the message whose fragments are arriving. None between messages.
    begun: Option<OpCode>,
    fragments: u32,
    /// What the frames so far announced, in bytes.
    length: u64,
    text: Validator,
    /// Whether it is compressed.
    is_compressed: bool,
}

impl Assembly {
    /// Whether the next data frame must be a continuation.
    #[inline]
    pub(crate) fn in_message(&self) -> bool {
        self.begun.is_some()
    }

    /// A data frame begins: checks its place among the others, and counts it. Returns the opcode of its message.
    #[inline]
    pub(crate) fn begin(&mut self, header: &Header, limits: Option<&Limits>) -> Result<OpCode, Violation> {
        let opcode = match (self.begun, header.opcode) {
            (None, OpCode::Continuation) => return Err(Violation::NothingToContinue),
            (Some(begun), OpCode::Continuation) => begun,
            (Some(_), opcode) => return Err(Violation::MessageUnfinished(opcode)),
            (None, opcode) => {
                self.length = 0;
                self.fragments = 0;
                self.is_compressed = header.rsv & Header::RSV1 != 0;
                opcode
            }
        };
        self.length = self.length.saturating_add(header.length);
        self.fragments = self.fragments.saturating_add(1);
        if let Some(limits) = limits {
            if self.length > self.most(limits) {
                return Err(Violation::MessageTooLong { length: self.length, limit: limits.max_message });
            }
            if self.fragments > limits.max_fragments {
                return Err(Violation::TooManyFragments { limit: limits.max_fragments });
            }
        }
        self.begun = (!header.fin).then_some(opcode);
        Ok(opcode)
    }

    /// How many bytes its frames may have. What is compressed is not kept, and has a limit of its own when it is inflated; this
    /// one is for what only costs time, as empty blocks do, and leaves room for what does not get smaller.
    #[inline]
    fn most(&self, limits: &Limits) -> u64 {
        let most = limits.max_message as u64;
        if self.is_compressed { most.saturating_add(most / 8).saturating_add(1024) } else { most }
    }

    /// Whether the message is compressed whose frames arrive.
    #[inline]
    pub(crate) fn is_compressed(&self) -> bool {
        self.is_compressed
    }

    /// Bytes of a text message have arrived; `ascii` if they are known to be.
    #[inline]
    pub(crate) fn check_text(&mut self, bytes: &[u8], ascii: bool) -> Result<(), Violation> {
        if ascii {
            self.text.feed_ascii(bytes)?
        } else {
            self.text.feed(bytes)?
        }
        Ok(())
    }

    /// The last byte of a text message has arrived.
    #[inline]
    pub(crate) fn finish_text(&mut self) -> Result<(), Violation> {
        Ok(self.text.finish()?)
    }
}
