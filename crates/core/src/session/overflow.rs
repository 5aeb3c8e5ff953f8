//! Overflow: what happens to a message for which there is no room, as the peer does not read.
//!
//! The same for what a connection's own thread sends, what other threads and tasks send, and what is sent to rooms.

use threadwire_proto::OpCode;

use crate::config::WhenFull;

/// How much further than messages control frames may go, in bytes, when too much waits to be written.
pub const CONTROL_ROOM: usize = 1 << 20;

/// The kind of a frame without room, as the overflow policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A message of its own.
    Message,
    /// A fragment. Without one of its fragments a message is none.
    Fragment,
    Control,
}

impl FrameKind {
    #[inline]
    pub fn of(opcode: OpCode, fin: bool) -> FrameKind {
        match opcode {
            _ if opcode.is_control() => FrameKind::Control,
            OpCode::Text | OpCode::Binary if fin => FrameKind::Message,
            _ => FrameKind::Fragment,
        }
    }
}

/// The decision of an overflow policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The frame is taken all the same.
    Take,
    /// The frame is dropped.
    DropNewest,
    /// The oldest messages are dropped that may be, and the frame is taken.
    DropOldest,
    /// The sender waits for room.
    Wait,
    /// The connection is closed, and the frame refused.
    Close,
    Refuse,
}

/// Whether a payload of this length may be added to what waits. Anything is taken when nothing waits.
#[inline]
pub fn has_room(waiting: usize, length: usize, limit: usize) -> bool {
    waiting == 0 || waiting + length <= limit
}

/// Decides about a frame for which there is no room.
pub fn overflow(kind: FrameKind, waiting: usize, limit: usize, when_full: WhenFull) -> Overflow {
    match (kind, when_full) {
        (FrameKind::Control, _) if waiting <= limit.saturating_add(CONTROL_ROOM) => Overflow::Take,
        (FrameKind::Control, _) | (_, WhenFull::Error) => Overflow::Refuse,
        (_, WhenFull::Wait) => Overflow::Wait,
        (_, WhenFull::Close) => Overflow::Close,
        (FrameKind::Message, WhenFull::DropNewest) => Overflow::DropNewest,
        (FrameKind::Message, WhenFull::DropOldest) => Overflow::DropOldest,
        (FrameKind::Fragment, WhenFull::DropNewest | WhenFull::DropOldest) => Overflow::Refuse,
    }
}
