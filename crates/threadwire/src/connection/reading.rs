//! What arrives: read, and handed to the listener.

use std::io;
use std::rc::Rc;

use threadwire_proto::state::State;
use threadwire_proto::{Event, Frame, Level, OpCode};
use threadwire_worker::{EventLoop, Ready};

use super::{Connection, Phase};
use crate::link::Received;
use crate::{Error, Listener};
use threadwire_core::session::linger::Linger;

/// How often one connection may be read for a long message before it is the others' turn.
const READS_PER_TURN: u32 = 8;

impl Connection {
    pub(super) fn read(&self, ready: Ready) {
        if self.0.phase.get() != Phase::Running {
            return self.discard();
        }
        if !self.0.flow.get().reads() {
            return self.0.unread.set(self.0.unread.get() | ready);
        }
        let ran = self.call(|listener| {
            let registry = Rc::clone(self.0.link.borrow().registry());
            let mut input = registry.buffers.lend_input();
            self.read_with(listener, ready, &mut input);
            registry.buffers.return_input(input);
        });
        if !ran {
            self.0.unread.set(self.0.unread.get() | ready);
        }
    }

    /// Reads once, and hands out what came. Reads on for the rest of a long message, as far as one turn allows, and to see
    /// the end of the stream, where it was announced.
    pub(super) fn read_with(&self, listener: &mut dyn Listener, ready: Ready, input: &mut [u8]) {
        for reads in 1.. {
            let received = self.0.link.borrow_mut().read(input);
            let (count, is_full) = match received {
                Ok(Received::Bytes { in_input, is_full }) => (in_input, is_full),
                Ok(Received::End) => {
                    self.0.may_have_more.set(false);
                    self.flush_rooms();
                    return self.0.link.borrow_mut().input_ended();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.0.may_have_more.set(false);
                }
                Err(error) => {
                    // After both close frames everything was said.
                    if self.0.link.borrow().state() != State::Closed {
                        self.note(error.into());
                    }
                    return self.0.link.borrow_mut().tcp_ended();
                }
            };
            self.0.may_have_more.set(is_full);
            self.heard();
            self.deliver(listener, &mut input[..count]);
            if is_full && !(reads < READS_PER_TURN && self.0.link.borrow_mut().is_mid_payload()) {
                EventLoop::current().requeue(self.0.token, ready);
                break;
            }
            if !is_full && !ready.read_closed {
                break;
            }
            if !self.0.flow.get().reads() {
                self.0.unread.set(self.0.unread.get() | ready);
                break;
            }
        }
    }

    /// Hands out what `input` holds. A callback that fails closes the connection, but what came behind what it failed on
    /// still counts: the peer's own close frame, say.
    #[inline]
    pub(super) fn deliver(&self, listener: &mut dyn Listener, mut input: &mut [u8]) {
        let sent = self.0.link.borrow().sent();
        while !self.guard(|| self.deliver_until_failure(listener, &mut input)) {}
        self.throttle(sent);
    }

    #[inline]
    pub(super) fn deliver_until_failure(
        &self,
        listener: &mut dyn Listener,
        input: &mut &mut [u8],
    ) -> Result<(), Error> {
        loop {
            let message = self.0.link.borrow_mut().next_message(input);
            if let Some(message) = message {
                if !(self.0.flow.get().inspects && self.inspect(listener, message)) {
                    listener.on_message(self, message)?;
                }
                if input.is_empty() {
                    return Ok(());
                }
                continue;
            }
            // It may be the peer's close frame, which the protocol answers by itself.
            self.flush_rooms();
            let event = self.0.link.borrow_mut().next_event(input);
            let Some(event) = event else { return Ok(()) };
            if self.buffered() > 0 {
                // What the protocol has answered by itself leaves also if the callback waits.
                self.mark_dirty();
            }
            let result = match &event {
                Event::Frame(frame) | Event::Close(frame) => self.tell(listener, frame),
                Event::Failed(rule) => {
                    self.note(Error::Protocol { rule: *rule });
                    Ok(())
                }
            };
            self.0.link.borrow().recycle(event);
            result?;
        }
    }

    pub(super) fn tell(&self, listener: &mut dyn Listener, frame: &Frame<'_>) -> Result<(), Error> {
        if frame.opcode() == OpCode::Pong {
            self.pong_arrived(frame.payload());
        }
        let message = frame.message();
        if let Some(message) = message
            && self.0.flow.get().inspects
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
        let mut link = self.0.link.borrow_mut();
        let registry = Rc::clone(link.registry());
        let mut input = registry.buffers.lend_input();
        let lingering = link.linger(&mut input);
        registry.buffers.return_input(input);
        match lingering {
            Linger::More => EventLoop::current().requeue(self.0.token, Ready::READABLE),
            Linger::Waits => {}
            Linger::Over => link.tcp_ended(),
        }
    }
}
