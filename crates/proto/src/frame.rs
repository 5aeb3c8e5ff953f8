//! Received frames, and the header and opcode of any frame (RFC 6455, section 5.2).

use std::fmt;

pub use crate::header::{EncodedHeader, Header, MAX_CONTROL};
pub use crate::opcode::OpCode;
use crate::{Buffer, CloseFrame, Message, OwnedMessage, Pool, utf8};

/// A received frame, unmasked and checked. At [`Level::Messages`](crate::Level::Messages) a data frame is a whole
/// message, however many frames it came in.
///
/// Its payload lies in the buffer that it was read into, where it fits: keeping it longer than the buffer does not
/// compile, and [`to_vec`](slice::to_vec) on the payload copies it.
///
/// ```
/// use threadwire_proto::{Config, Level, OpCode, Pool, Reader, Role};
///
/// let mut reader = Reader::new(Role::Client, &Config::default().level(Level::Frames));
/// let mut pool = Pool::new();
/// let mut wire = *b"\x01\x03in \x80\x03two";
/// let mut input = &mut wire[..];
/// let first = reader.next(&mut input, &mut pool)?.expect("it is whole");
/// assert_eq!((first.opcode(), first.fin(), first.payload()), (OpCode::Text, false, &b"in "[..]));
/// assert!(first.message().is_none() && !first.is_last_in_input());
/// let second = reader.next(&mut input, &mut pool)?.expect("it is whole");
/// assert!(second.fin() && second.is_last_in_input());
/// # Ok::<(), threadwire_proto::Violation>(())
/// ```
pub struct Frame<'b> {
    pub(crate) fin: bool,
    pub(crate) rsv: u8,
    pub(crate) opcode: OpCode,
    pub(crate) payload: Payload<'b>,
    /// Whether the payload is a whole text message, and so UTF-8 as a whole.
    pub(crate) is_text: bool,
    pub(crate) is_last_in_input: bool,
}

/// The place of a payload.
pub(crate) enum Payload<'b> {
    /// In the input.
    Lent(&'b [u8]),
    /// In a buffer of its own, as it came in more than one piece.
    Own(Buffer),
}

impl Frame<'_> {
    /// Whether this is the last frame of its message.
    pub fn fin(&self) -> bool {
        self.fin
    }

    /// The reserved bits as they came: RSV1 is 4, RSV2 is 2, RSV3 is 1. RSV1 is set on the first frame of a message that was
    /// compressed, the others never are.
    pub fn rsv(&self) -> u8 {
        self.rsv
    }

    /// The opcode of the frame.
    #[inline]
    pub fn opcode(&self) -> OpCode {
        self.opcode
    }

    /// The payload, unmasked.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        match &self.payload {
            Payload::Lent(bytes) => bytes,
            Payload::Own(buffer) => buffer,
        }
    }

    /// The frame as a message: `None` for control frames and for fragments.
    #[inline]
    pub fn message(&self) -> Option<Message<'_>> {
        if self.is_text {
            return Some(Message::Text(utf8::trusted(self.payload())));
        }
        (self.fin && self.opcode == OpCode::Binary).then(|| Message::Binary(self.payload()))
    }

    /// The code and reason of a close frame: `None` for the other frames, and for one that breaks a rule.
    ///
    /// ```
    /// use threadwire_proto::{CloseCode, Config, Pool, Reader, Role};
    ///
    /// let mut reader = Reader::new(Role::Client, &Config::default());
    /// let mut wire = *b"\x88\x05\x03\xe8bye";
    /// let frame = reader.next(&mut &mut wire[..], &mut Pool::new())?.expect("it is whole");
    /// let close = frame.close().expect("it is a close frame");
    /// assert_eq!((close.code, close.reason), (Some(CloseCode::NORMAL), "bye"));
    /// # Ok::<(), threadwire_proto::Violation>(())
    /// ```
    pub fn close(&self) -> Option<CloseFrame<'_>> {
        if self.opcode == OpCode::Close { CloseFrame::parse(self.payload()).ok() } else { None }
    }

    /// Whether no other whole frame lies behind this one in what was received with it: a good moment to do what
    /// should be done once for many frames.
    #[inline]
    pub fn is_last_in_input(&self) -> bool {
        self.is_last_in_input
    }

    /// The payload as a vector of its own, to be kept: copied, unless the frame has memory of its own.
    ///
    /// ```
    /// use threadwire_proto::{Config, Pool, Reader, Role};
    ///
    /// let mut reader = Reader::new(Role::Client, &Config::default());
    /// let mut wire = *b"\x82\x02ab";
    /// let frame = reader.next(&mut &mut wire[..], &mut Pool::new())?.unwrap();
    /// assert_eq!(frame.into_vec(), b"ab");
    /// # Ok::<(), threadwire_proto::Violation>(())
    /// ```
    pub fn into_vec(self) -> Vec<u8> {
        match self.payload {
            Payload::Lent(bytes) => bytes.to_vec(),
            Payload::Own(buffer) => buffer.into_vec(),
        }
    }

    /// The message that this is, with memory of its own; without a copy, if the frame has some. `None` unless
    /// [`message`](Frame::message) has it.
    ///
    /// ```
    /// use threadwire_proto::{Config, Pool, Reader, Role};
    ///
    /// let mut reader = Reader::new(Role::Client, &Config::default());
    /// let mut wire = *b"\x01\x02in\x80\x04 two";
    /// let frame = reader.next(&mut &mut wire[..], &mut Pool::new())?.unwrap();
    /// assert_eq!(frame.into_message().unwrap(), "in two");
    /// # Ok::<(), threadwire_proto::Violation>(())
    /// ```
    pub fn into_message(self) -> Option<OwnedMessage> {
        if self.is_text {
            return Some(OwnedMessage::Text(match self.payload {
                Payload::Lent(bytes) => utf8::trusted(bytes).to_owned(),
                Payload::Own(buffer) => utf8::trusted_string(buffer.into_vec()),
            }));
        }
        (self.fin && self.opcode == OpCode::Binary).then(|| OwnedMessage::Binary(self.into_vec()))
    }

    /// As [`into_message`](Frame::into_message), for a message that may be kept for long: memory that is much larger than the
    /// message, as it is where that was inflated, goes back to the pool.
    ///
    /// ```
    /// use threadwire_proto::{Config, Pool, Reader, Role};
    ///
    /// let (mut reader, mut pool) = (Reader::new(Role::Client, &Config::default()), Pool::new());
    /// let mut wire = *b"\x01\x02in\x80\x04 two";
    /// let frame = reader.next(&mut &mut wire[..], &mut pool)?.unwrap();
    /// assert_eq!(frame.into_owned(&mut pool).unwrap(), "in two");
    /// # Ok::<(), threadwire_proto::Violation>(())
    /// ```
    pub fn into_owned(self, pool: &mut Pool) -> Option<OwnedMessage> {
        match &self.payload {
            Payload::Own(buffer) if buffer.is_mostly_room() => {
                let message = self.message().map(|message| message.to_owned());
                self.recycle(pool);
                message
            }
            _ => self.into_message(),
        }
    }

    /// Gives the frame's memory back, if it has any, to be used for another.
    pub fn recycle(self, pool: &mut Pool) {
        if let Payload::Own(buffer) = self.payload {
            pool.give(buffer);
        }
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("fin", &self.fin)
            .field("rsv", &self.rsv)
            .field("opcode", &self.opcode)
            .field("length", &self.payload().len())
            .finish()
    }
}
