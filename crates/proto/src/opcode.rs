//! Opcodes (RFC 6455, section 5.2).

use std::fmt;

/// The kind of a frame (RFC 6455, section 5.2). The reserved opcodes have no value here: a frame that carries one is
/// a [`Violation`](crate::Violation).
///
/// ```
/// use threadwire_proto::OpCode;
/// assert!(OpCode::Ping.is_control() && !OpCode::Continuation.is_control());
/// assert_eq!((OpCode::Text as u8, OpCode::Text.to_string()), (1, "text".to_owned()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// 0: goes on with the message that an earlier frame began.
    Continuation = 0,
    /// 1: begins a text message.
    Text = 1,
    /// 2: begins a binary message.
    Binary = 2,
    /// 8: closes the connection.
    Close = 8,
    /// 9: asks for a pong.
    Ping = 9,
    /// 10: answers a ping, or just says that we live.
    Pong = 10,
}

impl OpCode {
    /// Whether the opcode is close, ping or pong.
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    /// The opcode with this number; none for those that the RFC reserves.
    pub(crate) const fn parse(bits: u8) -> Option<OpCode> {
        Some(match bits {
            0 => OpCode::Continuation,
            1 => OpCode::Text,
            2 => OpCode::Binary,
            8 => OpCode::Close,
            9 => OpCode::Ping,
            10 => OpCode::Pong,
            _ => return None,
        })
    }
}

impl fmt::Display for OpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OpCode::Continuation => "continuation",
            OpCode::Text => "text",
            OpCode::Binary => "binary",
            OpCode::Close => "close",
            OpCode::Ping => "ping",
            OpCode::Pong => "pong",
        })
    }
}
