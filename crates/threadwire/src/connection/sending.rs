//! What happens where more is sent than the peer reads.

use threadwire_core::config::TOO_SLOW;
use threadwire_proto::keepalive::Hold;
use threadwire_proto::{CloseCode, OpCode, Role};
use threadwire_worker::EventLoop;

use super::Connection;
use crate::flow::Flow;
use crate::handle::lane::CONTROL_ROOM;
use crate::{Error, WhenFull};

impl Connection {
    /// Whether a payload of this length may be added to what waits. Anything is taken when nothing does.
    #[inline]
    pub(super) fn has_room(&self, length: usize) -> bool {
        let mut buffered = self.0.link.borrow().buffered();
        if self.0.flow.get().shared {
            buffered += self.held_bytes();
        }
        buffered == 0 || buffered + length <= self.0.site.config.max_buffered
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
        // It may be that nobody has tried to write it yet.
        if !self.0.link.borrow().is_blocked() {
            self.write();
        }
        let limit = self.0.site.config.max_buffered;
        if self.has_room(length) || (opcode.is_control() && self.buffered() <= limit + CONTROL_ROOM) {
            return Ok(true);
        }
        let is_whole = fin && opcode != OpCode::Continuation && !opcode.is_control();
        match when_full {
            WhenFull::DropNewest if is_whole => {
                self.count_dropped();
                return Ok(false);
            }
            WhenFull::DropOldest if is_whole => {
                // What has begun to leave can't be dropped, but that is never more than one message.
                self.drop_oldest_for(length);
                return Ok(true);
            }
            WhenFull::Wait if !opcode.is_control() => {
                // More than the limit is taken when nothing waits: then that is waited for.
                let most = limit.saturating_sub(length);
                EventLoop::current().wait(None, || self.buffered() <= most || !self.is_open())?;
                return if self.is_open() { Ok(true) } else { Err(Error::Closed) };
            }
            WhenFull::Close if !opcode.is_control() => self.close_with(CloseCode::POLICY, TOO_SLOW)?,
            _ => {}
        }
        Err(Error::too_much_buffered(limit))
    }

    /// Looks at how much is left after a write: what stops and starts with it, and who waits for it.
    #[cold]
    pub(super) fn regulate(&self, left: usize) {
        let config = &self.0.site.config;
        let before = self.0.flow.get();
        let is_high = left > config.high_watermark;
        let is_low = left <= config.low_watermark;
        if before.throttled && before.timed {
            // What the peer says is not read: that it takes what it is sent shows that it lives.
            self.heard_by_taking();
        }
        let mut flow = before;
        flow.write_paused = is_high || (flow.write_paused && !is_low);
        flow.throttled &= left > 0 && (left > config.max_buffered / 4 || !self.has_room_for_answers(left));
        self.0.flow.set(flow);
        if before.throttled && !flow.throttled {
            self.read_on();
        }
        if flow.shared {
            self.publish(left);
        }
        self.tell_of_flow();
    }

    /// Tells the listener that what waits has become much, or little again; if it is busy, when it has returned.
    fn tell_of_flow(&self) {
        loop {
            let flow = self.0.flow.get();
            let is_too_deep = EventLoop::current().is_too_deep();
            if flow.write_paused == flow.told_paused || !self.is_open() || is_too_deep {
                return;
            }
            let told = self.call(|listener| {
                self.0.flow.set(Flow { told_paused: flow.write_paused, ..self.0.flow.get() });
                self.guard(|| match flow.write_paused {
                    true => listener.on_pause_writing(self),
                    false => listener.on_resume_writing(self),
                });
            });
            // It may have waited, until it was little again.
            if !told {
                return;
            }
        }
    }

    /// Reads no more for now, if the peer does not read what its own messages are answered with. `before`: how much had been sent
    /// when it was read.
    #[inline]
    pub(super) fn throttle(&self, before: u64) {
        let link = self.0.link.borrow();
        let (left, answers) = (link.buffered(), link.sent().saturating_sub(before));
        let max = self.0.site.config.max_buffered;
        if answers > 0 && (left > max / 2 || left as u64 + answers > max as u64) {
            drop(link);
            self.throttle_if_allowed(answers);
        }
    }

    #[cold]
    fn throttle_if_allowed(&self, answers: u64) {
        let drops = matches!(self.0.site.config.when_full, WhenFull::DropOldest | WhenFull::DropNewest);
        if !self.0.site.config.throttle || drops || self.role() != Role::Server || !self.is_open() {
            return;
        }
        self.0.extras.borrow_mut().get_or_insert_default().answers = answers;
        // What can leave at once does not count.
        self.write();
        let left = self.0.link.borrow().buffered();
        if left > 0 && (left > self.0.site.config.max_buffered / 2 || !self.has_room_for_answers(left)) {
            self.0.flow.set(Flow { throttled: true, ..self.0.flow.get() });
        }
    }

    /// Whether as much as the last time may be added to what is left.
    fn has_room_for_answers(&self, left: usize) -> bool {
        let answers = self.with_extras(|extras| Some(extras.answers)).unwrap_or(0);
        left as u64 + answers <= self.0.site.config.max_buffered as u64
    }

    /// Takes up again what arrived meanwhile.
    pub(super) fn read_on(&self) {
        let is_busy = self.0.listener.borrow().is_none();
        if self.0.flow.get().reads() && !is_busy {
            // Also what was never seen because of the pause.
            EventLoop::current().requeue(self.0.token, self.0.unread.take());
            self.release_pulse(Hold::NotReading);
        }
    }
}
