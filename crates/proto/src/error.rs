//! Protocol errors: rules that a peer broke, and sends that would break one.

use crate::close_code::CloseCode;
use crate::opcode::OpCode;
use crate::utf8::InvalidUtf8;

/// A rule of RFC 6455, or a limit of ours, that the peer broke. The connection is then failed: a close frame with
/// [`code`](Violation::code) is sent, and nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A reserved bit is set, and no extension that would give it a meaning was agreed on.
    #[error("reserved bits {0:#05b} are set, but no extension was negotiated that uses them")]
    ReservedBits(u8),
    /// RSV1 is set on a frame that is not the first one of a message.
    #[error("a {0} frame says that it is compressed: only the first frame of a message may")]
    CompressedOutOfPlace(OpCode),
    /// A compressed message is no deflate stream (RFC 1951), or refers further back than was agreed. What zlib says of it.
    #[error("a compressed message is corrupt: {0}")]
    CorruptDeflate(&'static str),
    /// A compressed message ends in the middle of a block.
    #[error("a compressed message is cut short")]
    DeflateCut,
    /// A compressed message, or frame, is longer than the limit when it is inflated.
    #[error("a compressed message is over the limit of {limit} bytes when it is inflated")]
    InflatedTooLong {
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// An opcode that the RFC reserves.
    #[error("opcode {0:#x} is reserved")]
    ReservedOpCode(u8),
    /// A control frame without FIN.
    #[error("a {0} frame is fragmented: control frames must not be")]
    FragmentedControl(OpCode),
    /// A control frame with more than 125 bytes.
    #[error("a {0} frame announces more than 125 bytes of payload")]
    ControlTooLong(OpCode),
    /// A length that a shorter form would have held.
    #[error("a payload length of {0} is not in its shortest form")]
    LengthNotMinimal(u64),
    /// A 64-bit length with its highest bit set.
    #[error("a payload length has its highest bit set")]
    LengthTooLarge,
    /// A client sent a frame without a mask.
    #[error("a client's frame is not masked")]
    Unmasked,
    /// A server sent a frame with a mask.
    #[error("a server's frame is masked")]
    Masked,
    /// A continuation frame where no message was begun.
    #[error("a continuation frame continues no message")]
    NothingToContinue,
    /// A new message inside another one's fragments.
    #[error("a {0} frame begins a message before the last one was finished")]
    MessageUnfinished(OpCode),
    /// A text message that is not UTF-8.
    #[error("text is not UTF-8")]
    InvalidUtf8(#[from] InvalidUtf8),
    /// A close frame with a payload of one byte.
    #[error("a close frame has a payload of one byte: a code takes two")]
    CloseCodeCut,
    /// A close code that must not be sent.
    #[error("close code {0} must not be sent")]
    CloseCodeInvalid(u16),
    /// A close reason that is not UTF-8.
    #[error("the reason of a close frame is not UTF-8")]
    CloseReasonNotUtf8,
    /// A frame longer than the limit.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    FrameTooLong {
        /// The length that the frame announced, in bytes.
        length: u64,
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// A message longer than the limit.
    #[error("a message of at least {length} bytes is over the limit of {limit}")]
    MessageTooLong {
        /// The length of the message as far as its fragments have announced it, in bytes.
        length: u64,
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// A message in more fragments than the limit.
    #[error("a message has more fragments than the limit of {limit}")]
    TooManyFragments {
        /// The limit in force.
        limit: u32,
    },
}

impl Violation {
    /// The close code that tells the peer (RFC 6455, section 7.4.1).
    ///
    /// ```
    /// use threadwire_proto::{CloseCode, Violation};
    /// assert_eq!(Violation::Unmasked.code(), CloseCode::PROTOCOL_ERROR);
    /// ```
    pub fn code(&self) -> CloseCode {
        match self {
            Violation::InvalidUtf8(_)
            | Violation::CloseReasonNotUtf8
            | Violation::CorruptDeflate(_)
            | Violation::DeflateCut => CloseCode::INVALID_DATA,
            Violation::FrameTooLong { .. }
            | Violation::MessageTooLong { .. }
            | Violation::InflatedTooLong { .. }
            | Violation::TooManyFragments { .. } => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// The RFC that has the rule: 6455, or 7692 for those about compression.
    ///
    /// ```
    /// assert_eq!(threadwire_proto::Violation::DeflateCut.rfc(), 7692);
    /// ```
    pub fn rfc(&self) -> u32 {
        match self {
            Violation::CompressedOutOfPlace(_) | Violation::CorruptDeflate(_) | Violation::DeflateCut => 7692,
            _ => 6455,
        }
    }

    /// The section of [that RFC](Violation::rfc) that has the rule.
    ///
    /// ```
    /// assert_eq!(threadwire_proto::Violation::Unmasked.section(), "5.1");
    /// ```
    pub fn section(&self) -> &'static str {
        match self {
            Violation::Unmasked | Violation::Masked => "5.1",
            Violation::ReservedBits(_)
            | Violation::ReservedOpCode(_)
            | Violation::LengthNotMinimal(_)
            | Violation::LengthTooLarge => "5.2",
            Violation::NothingToContinue | Violation::MessageUnfinished(_) => "5.4",
            Violation::FragmentedControl(_) | Violation::ControlTooLong(_) => "5.5",
            Violation::CloseCodeCut | Violation::CloseReasonNotUtf8 => "5.5.1",
            Violation::CloseCodeInvalid(_) => "7.4",
            Violation::InvalidUtf8(_) => "8.1",
            Violation::FrameTooLong { .. }
            | Violation::MessageTooLong { .. }
            | Violation::InflatedTooLong { .. }
            | Violation::TooManyFragments { .. } => "10.4",
            Violation::CompressedOutOfPlace(_) => "6",
            Violation::CorruptDeflate(_) | Violation::DeflateCut => "7.2.2",
        }
    }
}

/// Why something was not sent. Nothing was written then, and the connection goes on as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is closing or closed: nothing follows a close frame (RFC 6455, section 5.5.1).
    #[error("the connection is closed or closing")]
    NotOpen,
    /// A control frame's payload is longer than 125 bytes (RFC 6455, section 5.5).
    #[error("a {opcode} frame takes at most 125 bytes of payload, not {length}")]
    ControlTooLong {
        /// The kind of frame.
        opcode: OpCode,
        /// The length that was asked for, in bytes.
        length: usize,
    },
    /// A control frame was to be sent in fragments (RFC 6455, section 5.5).
    #[error("a {0} frame can't be fragmented")]
    FragmentedControl(OpCode),
    /// A close frame was to be sent like any other: closing is more than a frame.
    #[error("a close frame is sent by closing the connection")]
    CloseByFrame,
    /// A close code that must not be sent (RFC 6455, section 7.4).
    #[error("close code {0} must not be sent: use 1000-1003, 1007-1014 or 3000-4999")]
    CloseCodeInvalid(u16),
    /// A close reason without a code.
    #[error("a close reason needs a code")]
    ReasonWithoutCode,
    /// A continuation was to be sent where no message was begun (RFC 6455, section 5.4).
    #[error("there is no unfinished message to continue")]
    NothingToContinue,
    /// A message was to be sent before the fragments of the last one were finished (RFC 6455, section 5.4).
    #[error("a message sent in fragments is not finished yet")]
    MessageUnfinished,
}
