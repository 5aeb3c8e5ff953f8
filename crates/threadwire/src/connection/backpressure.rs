//! Backpressure on a loop: a frame without room waits, is dropped or is refused, the listener is told of the watermarks, and reading pauses.

use threadwire_proto::keepalive::Hold;
use threadwire_proto::{CloseCode, OpCode};
use threadwire_worker::EventLoop;

use super::flags::Flags;
use super::patience::{self, Patience};
use super::{Connection, Phase};
use crate::{Error, WhenFull};
use threadwire_core::config::TOO_SLOW;
use threadwire_core::session::overflow::{FrameKind, Overflow};

impl Connection {
    /// How many bytes wait for the connection that are not in its write buffer.
    #[inline]
    pub(super) fn beside(&self) -> usize {
        if self.has(Flags::SHARED) { self.held_bytes() } else { 0 }
    }

    /// So many bytes wait to be received on the connection's face.
    pub(crate) fn hold_beside(&self, bytes: usize) {
        if self.0.phase.get() == Phase::Running {
            self.0.session.borrow_mut().hold_beside(bytes);
            self.mark_dirty();
        }
    }

    /// Whether a payload of this length may be sent.
    #[inline]
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.0.session.borrow().has_room(self.beside(), length, self.0.site.config.max_buffered)
    }

    /// The same, after a try to write what waits: it may be that nobody has yet.
    #[cold]
    pub(super) fn finds_room(&self, length: usize) -> bool {
        if !self.0.session.borrow().is_blocked() {
            self.write();
        }
        self.has_room(length)
    }

    /// Does what the policy says about a frame for which there is no room. What is left to be done: to take or refuse it, or
    /// to wait.
    #[cold]
    pub(super) fn overflow(&self, kind: FrameKind, length: usize, when_full: WhenFull) -> Overflow {
        let beside = self.beside();
        let overflow = self.0.session.borrow_mut().overflow((kind, length), when_full, beside, self.env());
        if overflow == Overflow::DropOldest && beside > 0 {
            self.drop_oldest_held(length);
        }
        overflow
    }

    /// Makes room for a frame, as far as the policy allows. False if the frame is to be dropped.
    #[cold]
    pub(super) fn make_room(
        &self,
        opcode: OpCode,
        fin: bool,
        length: usize,
        when_full: WhenFull,
    ) -> Result<bool, Error> {
        if !self.is_open() {
            return Err(Error::Closed);
        }
        if self.finds_room(length) {
            return Ok(true);
        }
        let limit = self.0.site.config.max_buffered;
        match self.overflow(FrameKind::of(opcode, fin), length, when_full) {
            Overflow::Take | Overflow::DropOldest => return Ok(true),
            Overflow::DropNewest => return Ok(false),
            Overflow::Wait => {
                // More than the limit is taken when nothing waits: then that is waited for.
                let most = limit.saturating_sub(length);
                return match self.wait_for_room(|| self.buffered() <= most)? {
                    true => Ok(true),
                    false => Err(Error::too_much_buffered(limit)),
                };
            }
            Overflow::Close => self.sent_close(),
            Overflow::Refuse => {}
        }
        Err(Error::too_much_buffered(limit))
    }

    /// Waits until `done` says so; as it is for what the peer takes, within the bounds of [patience](super::patience). False if too many
    /// wait already. Fails if the connection is not open any more, or is closed as the peer takes nothing.
    #[cold]
    pub(crate) fn wait_for_room(&self, done: impl Fn() -> bool) -> Result<bool, Error> {
        let config = &self.0.site.config;
        let written = || self.0.session.borrow().written();
        let waited = patience::wait_for_room(config.wait_timeout, written, || done() || !self.is_open())?;
        match waited {
            Patience::Rewarded if self.is_open() => Ok(true),
            Patience::Rewarded => Err(Error::Closed),
            Patience::Refused => Ok(false),
            Patience::Exhausted => {
                self.close_with(CloseCode::POLICY, TOO_SLOW)?;
                Err(Error::too_much_buffered(config.max_buffered))
            }
        }
    }

    /// Looks at how much is left after a write: what stops and starts with it, and who waits for it.
    #[cold]
    pub(super) fn regulate(&self) {
        let mut session = self.0.session.borrow_mut();
        let was_throttled = session.is_throttled();
        session.regulate(|| EventLoop::current().turned_at(), self.env());
        let (is_throttled, left) = (session.is_throttled(), session.buffered());
        drop(session);
        if was_throttled && !is_throttled {
            self.read_on();
        }
        if self.has(Flags::SHARED) {
            self.publish(left);
        }
        if self.0.session.borrow().leaves_something() {
            self.watch();
        }
        self.tell_of_flow();
    }

    /// Whether more waits than the high watermark, and not less than the low one since.
    pub(crate) fn is_above_watermark(&self) -> bool {
        let mut session = self.0.session.borrow_mut();
        session.update_watermark(self.env());
        session.is_above_watermark()
    }

    /// Tells the listener that what waits has become much, or little again; if it is busy, when it has returned.
    fn tell_of_flow(&self) {
        loop {
            let is_paused = self.0.session.borrow().is_above_watermark();
            let is_too_deep = EventLoop::current().is_too_deep();
            if is_paused == self.has(Flags::TOLD_PAUSED) || !self.is_open() || is_too_deep {
                return;
            }
            let told = self.call(|listener| {
                self.set(Flags::TOLD_PAUSED, is_paused);
                self.guard(|| match is_paused {
                    true => listener.on_pause_writing(self),
                    false => listener.on_resume_writing(self),
                });
            });
            // The callback may have waited until the write buffer was below the low watermark again.
            if !told {
                return;
            }
        }
    }

    /// Reads no more for now, if the peer does not read what its own messages are answered with. `before`: how much had been sent
    /// when it was read.
    #[inline]
    pub(super) fn throttle(&self, before: u64) {
        let answers = self.0.session.borrow().answers_too_much(before, self.env());
        if let Some(answers) = answers {
            // Bytes that can leave at once do not count.
            self.write();
            self.0.session.borrow_mut().throttle(answers, self.env());
        }
    }

    /// Takes up again what arrived meanwhile.
    pub(super) fn read_on(&self) {
        let is_busy = self.0.listener.borrow().is_none();
        if self.reads() && !is_busy {
            // Also what was never seen because of the pause.
            EventLoop::current().requeue(self.0.token, self.0.unread.take());
            self.release_pulse(Hold::NotReading);
        }
    }
}
