//! Reading: what arrives is handed to the listener.

use threadwire_proto::{Frame, Level, OpCode};
use threadwire_worker::{EventLoop, Ready};

use super::flags::Flags;
use super::{Connection, Phase};
use crate::{Error, Listener};
use threadwire_core::session::linger::Linger;
use threadwire_core::session::receive::Received;

/// How often one connection may be read for a long message before it is the others' turn.
const READS_PER_TURN: u32 = 8;

impl Connection {
    pub(super) fn read(&self, ready: Ready) {
        if self.0.phase.get() != Phase::Running {
            return self.discard();
        }
        if !self.reads() {
            return self.0.unread.set(self.0.unread.get() | ready);
        }
        let ran = self.call(|listener| {
            let mut input = self.0.registry.buffers.lend_input();
            self.read_with(listener, ready, &mut input);
            self.0.registry.buffers.return_input(input);
        });
        if !ran {
            self.0.unread.set(self.0.unread.get() | ready);
        }
    }

    /// Reads once, and hands out what came. Reads on for the rest of a long message, as far as one turn allows, and to see
    /// the end of the stream, where it was announced.
    pub(super) fn read_with(&self, listener: &mut dyn Listener, ready: Ready, input: &mut [u8]) {
        for reads in 1.. {
            let received = self.0.session.borrow_mut().read(input);
            let (count, is_full) = match received {
                Received::Bytes { in_input, is_full } => (in_input, is_full),
                Received::Nothing => return,
                Received::End(error) => {
                    self.flush_rooms();
                    if error.is_some() {
                        // Nothing that the program could answer would arrive.
                        self.0.session.borrow_mut().end_deferred(self.env());
                    }
                    return self.0.session.borrow_mut().input_ended(error);
                }
            };
            self.0.session.borrow_mut().heard(|| EventLoop::current().turned_at());
            let is_full = !self.deliver(listener, &mut input[..count]) || is_full;
            if is_full && !(reads < READS_PER_TURN && self.0.session.borrow_mut().is_mid_payload()) {
                EventLoop::current().requeue(self.0.token, ready);
                break;
            }
            if !is_full && !ready.read_closed {
                break;
            }
            if !self.reads() {
                self.0.unread.set(self.0.unread.get() | ready);
                break;
            }
        }
    }

    /// Hands out what `input` holds. A callback that fails closes the connection (or does not), but what came behind what it
    /// failed on still counts: the peer's own close frame, say. False if something is left for another turn.
    #[inline]
    pub(super) fn deliver(&self, listener: &mut dyn Listener, mut input: &mut [u8]) -> bool {
        let sent = self.0.session.borrow().sent();
        while !self.guard(|| self.deliver_until_failure(listener, &mut input)) {}
        if !input.is_empty() {
            self.0.session.borrow_mut().keep_input(input);
        }
        self.throttle(sent);
        input.is_empty()
    }

    #[inline]
    pub(super) fn deliver_until_failure(
        &self,
        listener: &mut dyn Listener,
        input: &mut &mut [u8],
    ) -> Result<(), Error> {
        loop {
            let message = self.0.session.borrow_mut().next_message(input);
            if let Some(message) = message {
                if !(self.has(Flags::INSPECTS) && self.inspect(listener, message)) {
                    listener.on_message(self, message)?;
                }
                if input.is_empty() {
                    return Ok(());
                }
                continue;
            }
            // The next frame may be the peer's close frame, which the protocol answers by itself.
            self.flush_rooms();
            let frame = self.0.session.borrow_mut().next_frame(input, &self.0.registry.buffers);
            let Some(frame) = frame else {
                // Whole messages that use up the input don't come here.
                if self.0.session.borrow().leaves_input() {
                    self.watch();
                }
                if self.has_deferred_end() {
                    listener.on_deferred_end(self);
                }
                return Ok(());
            };
            if self.buffered() > 0 {
                // Automatic answers leave even if the callback waits.
                self.mark_dirty();
            }
            let result = self.tell(listener, &frame);
            frame.recycle(&mut self.0.registry.buffers.shared.borrow_mut().pool);
            result?;
        }
    }

    pub(super) fn tell(&self, listener: &mut dyn Listener, frame: &Frame<'_>) -> Result<(), Error> {
        if frame.opcode() == OpCode::Pong {
            self.pong_arrived(frame.payload());
        }
        let message = frame.message();
        if let Some(message) = message
            && self.has(Flags::INSPECTS)
            && self.inspect(listener, message)
        {
            return Ok(());
        }
        if self.0.level == Level::Frames {
            return listener.on_frame(self, frame);
        }
        match (message, frame.opcode()) {
            (Some(message), _) => listener.on_message(self, message),
            (None, OpCode::Ping) => listener.on_ping(self, frame.payload()),
            (None, OpCode::Pong) => listener.on_pong(self, frame.payload()),
            (None, _) => Ok(()),
        }
    }

    /// Reads and drops what the peer still sends, until it ends.
    pub(super) fn discard(&self) {
        let mut input = self.0.registry.buffers.lend_input();
        let lingering = self.0.session.borrow_mut().linger(&mut input);
        self.0.registry.buffers.return_input(input);
        if lingering == Linger::More {
            EventLoop::current().requeue(self.0.token, Ready::READABLE);
        }
    }
}
