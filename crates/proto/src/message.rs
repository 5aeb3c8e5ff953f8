//! Messages with a borrowed payload: text or bytes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::opcode::OpCode;

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

/// What can be sent as a message: text or bytes, borrowed or owned, and whatever of these a `Box`, an `Arc` or a `Cow` holds. It is only looked
/// at, and not copied for that.
///
/// ```
/// use threadwire_proto::{AsMessage, Message};
///
/// fn length(message: impl AsMessage) -> usize {
///     message.as_message().len()
/// }
/// assert_eq!(length("café"), 5);
/// assert_eq!(length(format!("{} bytes", 3)), 7);
/// assert_eq!(length(vec![1, 2, 3]), 3);
/// assert_eq!(length(Message::Binary(&[1, 2])), 2);
/// ```
pub trait AsMessage {
    /// The message.
    fn as_message(&self) -> Message<'_>;
}

impl AsMessage for Message<'_> {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        *self
    }
}

impl AsMessage for str {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        Message::Text(self)
    }
}

impl AsMessage for String {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        Message::Text(self)
    }
}

impl AsMessage for [u8] {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        Message::Binary(self)
    }
}

impl AsMessage for Vec<u8> {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        Message::Binary(self)
    }
}

impl<const N: usize> AsMessage for [u8; N] {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        Message::Binary(self)
    }
}

macro_rules! as_what_it_holds {
    ($($holder:ty)*) => {
        $(impl<T: AsMessage + ?Sized> AsMessage for $holder {
            #[inline]
            fn as_message(&self) -> Message<'_> {
                (**self).as_message()
            }
        })*
    };
}

as_what_it_holds! { &T &mut T Box<T> Arc<T> }

impl<T: AsMessage + ToOwned + ?Sized> AsMessage for Cow<'_, T> {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        (**self).as_message()
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
