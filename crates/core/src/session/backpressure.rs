//! Backpressure: room for what is sent, the watermarks, and the throttle, by which nothing is read from a peer that does not read
//! either.

use std::time::Instant;

use threadwire_proto::{CloseCode, CloseFrame, Role};

use super::overflow::{self, FrameKind, Overflow};
use super::watermark::Flow;
use super::{Env, Session};
use crate::config::{TOO_SLOW, WhenFull};

/// Room for what is sent.
impl Session {
    /// Whether a payload of this length may be sent. `beside` is how many bytes wait elsewhere for the connection.
    #[inline]
    pub fn has_room(&self, beside: usize, length: usize, max_buffered: usize) -> bool {
        overflow::has_room(self.outbox.len() + beside, length, max_buffered)
    }

    /// Does what the policy says about a frame for which there is no room, and says what is left to be done: older messages are
    /// dropped, the new one is counted as dropped, or a close frame is sent.
    #[cold]
    pub fn overflow(
        &mut self,
        (kind, length): (FrameKind, usize),
        when_full: WhenFull,
        beside: usize,
        env: Env<'_>,
    ) -> Overflow {
        let limit = env.config.max_buffered;
        let overflow = overflow::overflow(kind, self.outbox.len() + beside, limit, when_full);
        match overflow {
            Overflow::DropNewest => self.count_dropped(),
            // A frame that is partly written can't be dropped, and is never more than one message.
            Overflow::DropOldest => {
                while !self.has_room(beside, length, limit) && self.outbox.drop_oldest() {
                    self.count_dropped();
                }
            }
            Overflow::Close => {
                let frame = CloseFrame { code: Some(CloseCode::POLICY), reason: TOO_SLOW };
                let closed = self.close(frame, env.buffers);
                debug_assert!(closed.is_ok(), "the code and the reason are fixed");
            }
            Overflow::Take | Overflow::Wait | Overflow::Refuse => {}
        }
        overflow
    }
}

/// Changes of the watermark and the throttle after a write.
impl Session {
    /// Whether [`regulate`](Session::regulate) has to be called after a write that has left this much, and whether something
    /// [is left over](Session::leaves_something) to be asked.
    #[inline]
    pub fn is_watched(&self, left: usize) -> bool {
        self.is_throttled | self.watermark.is_high() | self.holds || left > 0
    }

    /// Looks at how much is left after a write. The result tells the sender of a change of the watermarks.
    pub fn regulate(&mut self, now: impl FnOnce() -> Instant, env: Env<'_>) -> Flow {
        let (left, config) = (self.outbox.len(), env.config);
        if self.is_throttled {
            if self.is_timed {
                // Nothing is read from the peer now: taking bytes is its sign of life.
                self.heard_by_taking(now());
            }
            self.is_throttled =
                left > 0 && (left > config.max_buffered / 4 || !self.has_room_for_answers(left, env));
        }
        self.update_watermark(env)
    }

    /// Looks at how much waits now.
    pub fn update_watermark(&mut self, env: Env<'_>) -> Flow {
        self.watermark.update(self.outbox.len(), env.config.low_watermark, env.config.high_watermark)
    }

    /// Whether more waits than the high watermark, and not less than the low one since.
    #[inline]
    pub fn is_above_watermark(&self) -> bool {
        self.watermark.is_high()
    }

    /// Whether nothing is to be read, as the peer does not read the answers.
    #[inline]
    pub fn is_throttled(&self) -> bool {
        self.is_throttled | self.is_held_back
    }

    /// The rest of the peer's input is to be read again, for the close handshake.
    pub fn end_throttle(&mut self) {
        (self.is_throttled, self.is_held_back) = (false, false);
    }

    /// Whether the peer may have to be throttled: `before` is how much had been [sent](Session::sent) when its messages were read
    /// that are answered now. If so, [`write`](Session::write), and then [`throttle`](Session::throttle).
    #[inline]
    pub fn answers_too_much(&self, before: u64, env: Env<'_>) -> Option<u64> {
        let (left, answers) = (self.outbox.len(), self.sent().saturating_sub(before));
        let max = env.config.max_buffered;
        let is_much = answers > 0 && (left > max / 2 || left as u64 + answers > max as u64);
        (is_much && self.may_throttle(env)).then_some(answers)
    }

    /// Only on a server: two sides that wait for each other to read would wait forever. And not where messages are dropped.
    #[cold]
    fn may_throttle(&self, env: Env<'_>) -> bool {
        let drops = matches!(env.config.when_full, WhenFull::DropOldest | WhenFull::DropNewest);
        env.config.throttle && !drops && self.role() == Role::Server && self.is_open()
    }

    /// Only on a server, for the same reason. And not one that holds nothing but a message which is arriving: its end is what would
    /// free the memory.
    pub(super) fn may_hold_back(&self) -> bool {
        let holds_else = !self.outbox.is_empty() || self.beside > 0;
        holds_else && self.role() == Role::Server && self.is_open()
    }

    /// Reads no more for now, if the peer does not take what its own messages are answered with. What could leave at once has
    /// left.
    #[cold]
    pub fn throttle(&mut self, answers: u64, env: Env<'_>) {
        self.extras().answers = answers;
        let left = self.outbox.len();
        self.is_throttled |=
            left > 0 && (left > env.config.max_buffered / 2 || !self.has_room_for_answers(left, env));
    }

    /// Whether as much as the last time may be added to what is left.
    fn has_room_for_answers(&self, left: usize, env: Env<'_>) -> bool {
        let answers = self.extras.as_ref().map_or(0, |extras| extras.answers);
        left as u64 + answers <= env.config.max_buffered as u64
    }
}
