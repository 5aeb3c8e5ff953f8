//! Owned messages, to be kept or sent to another thread.

use std::fmt;

use crate::opcode::OpCode;
use crate::{AsMessage, Message};

/// A message that owns its payload, and so can be kept, or handed to another thread.
///
/// ```
/// use threadwire_proto::{Message, OwnedMessage};
///
/// let kept: OwnedMessage = Message::from("hello").to_owned();
/// assert_eq!(kept, "hello");
/// assert_eq!(kept.as_message(), Message::Text("hello"));
/// match kept {
///     OwnedMessage::Text(text) => assert_eq!(text.len(), 5), // a String
///     OwnedMessage::Binary(bytes) => panic!("{} bytes", bytes.len()), // a Vec<u8>
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OwnedMessage {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl OwnedMessage {
    /// The message, borrowed.
    #[inline]
    pub fn as_message(&self) -> Message<'_> {
        match self {
            OwnedMessage::Text(text) => Message::Text(text),
            OwnedMessage::Binary(bytes) => Message::Binary(bytes),
        }
    }

    /// The payload.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.as_message().as_bytes()
    }

    /// The text, if it is one.
    #[inline]
    pub fn as_text(&self) -> Option<&str> {
        self.as_message().as_text()
    }

    /// The opcode of a frame that carries it.
    #[inline]
    pub fn opcode(&self) -> OpCode {
        self.as_message().opcode()
    }

    /// The length of the payload in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The payload, without a copy.
    ///
    /// ```
    /// use threadwire_proto::OwnedMessage;
    /// assert_eq!(OwnedMessage::from("hi".to_owned()).into_bytes(), b"hi");
    /// ```
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            OwnedMessage::Text(text) => text.into_bytes(),
            OwnedMessage::Binary(bytes) => bytes,
        }
    }
}

impl Message<'_> {
    /// A copy that owns its payload.
    #[allow(clippy::should_implement_trait, reason = "`ToOwned` can't be had: it is taken by `Clone`")]
    #[inline]
    pub fn to_owned(&self) -> OwnedMessage {
        match self {
            Message::Text(text) => OwnedMessage::Text((*text).to_owned()),
            Message::Binary(bytes) => OwnedMessage::Binary((*bytes).to_owned()),
        }
    }
}

impl AsMessage for OwnedMessage {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        OwnedMessage::as_message(self)
    }
}

impl<'a> From<&'a OwnedMessage> for Message<'a> {
    #[inline]
    fn from(message: &'a OwnedMessage) -> Message<'a> {
        message.as_message()
    }
}

impl From<Message<'_>> for OwnedMessage {
    fn from(message: Message<'_>) -> OwnedMessage {
        message.to_owned()
    }
}

impl From<String> for OwnedMessage {
    fn from(text: String) -> OwnedMessage {
        OwnedMessage::Text(text)
    }
}

impl From<&str> for OwnedMessage {
    fn from(text: &str) -> OwnedMessage {
        OwnedMessage::Text(text.to_owned())
    }
}

impl From<Vec<u8>> for OwnedMessage {
    fn from(bytes: Vec<u8>) -> OwnedMessage {
        OwnedMessage::Binary(bytes)
    }
}

impl From<&[u8]> for OwnedMessage {
    fn from(bytes: &[u8]) -> OwnedMessage {
        OwnedMessage::Binary(bytes.to_owned())
    }
}

impl PartialEq<str> for OwnedMessage {
    fn eq(&self, text: &str) -> bool {
        self.as_text() == Some(text)
    }
}

impl PartialEq<&str> for OwnedMessage {
    fn eq(&self, text: &&str) -> bool {
        self.as_text() == Some(*text)
    }
}

impl PartialEq<[u8]> for OwnedMessage {
    fn eq(&self, bytes: &[u8]) -> bool {
        matches!(self, OwnedMessage::Binary(own) if own == bytes)
    }
}

/// Text as it is; of binary messages the length.
impl fmt::Display for OwnedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_message().fmt(f)
    }
}
