//! Receiving: one read of the stream, and the messages and frames that lie in it.

use std::io::{self, IoSliceMut};

use threadwire_proto::state::State;
use threadwire_proto::{Event, Frame, Message, Violation};

use super::buffers::Buffers;
use super::{Env, Session};
use crate::error::Error;
use crate::transport::Transport;

/// A peer that sends messages of this many bytes and more is read in another way: see [`Session::read`].
const LONG: usize = 64 << 10;

/// How much of a long message is read before its length is known.
const FIRST_OF_LONG: usize = 16 << 10;

/// The result of one read.
pub enum Received {
    /// Bytes: `in_input` of them in the receive buffer, others perhaps where a long payload is gathered. `is_full` if
    /// there may be more.
    Bytes { in_input: usize, is_full: bool },
    /// Nothing for now.
    Nothing,
    /// The peer has ended the stream, or it is broken. To be passed on to [`Session::input_ended`].
    End(Option<io::Error>),
}

impl Session {
    /// One read: into the long payload that is arriving, if there is one, and then into `input`.
    ///
    /// What comes before the length of a message is known lies in `input`, and the part of a long payload in it has to be
    /// copied. So where long messages are to be expected, only little is read to begin with, and the rest goes where it
    /// belongs.
    #[inline]
    pub fn read(&mut self, io: &mut impl Transport, input: &mut [u8]) -> Received {
        let (read, direct, room);
        if self.keeps_input {
            return self.read_kept(input);
        }
        if let Some(payload) = self.protocol.reader().room() {
            direct = payload.len();
            room = direct + input.len();
            read = io.read_vectored(&mut [IoSliceMut::new(payload), IoSliceMut::new(input)]);
            self.expects_long = direct >= LONG - FIRST_OF_LONG;
        } else {
            direct = 0;
            room = if self.expects_long && io.is_plain() { FIRST_OF_LONG } else { input.len() };
            read = io.read(&mut input[..room]);
        }
        if io.has_unsent() && !self.is_broken() {
            self.unflushed = true;
        }
        match read {
            Ok(0) => {
                self.may_have_more = false;
                Received::End(None)
            }
            Ok(total) => {
                if direct > 0 {
                    self.protocol.reader().commit(total.min(direct));
                } else {
                    self.expects_long &= total == room;
                }
                self.may_have_more = io.may_have_more(total, room);
                Received::Bytes { in_input: total.saturating_sub(direct), is_full: self.may_have_more }
            }
            Err(error) => {
                self.may_have_more = false;
                if error.kind() == io::ErrorKind::WouldBlock {
                    Received::Nothing
                } else {
                    Received::End(Some(error))
                }
            }
        }
    }

    /// Keeps what is left of a read for the next one: more would be too much work for one turn.
    #[cold]
    pub fn keep_input(&mut self, rest: &[u8]) {
        self.extras().kept_input = rest.to_vec();
        self.keeps_input = true;
        self.may_have_more = true;
    }

    #[cold]
    fn read_kept(&mut self, input: &mut [u8]) -> Received {
        let kept = std::mem::take(&mut self.extras().kept_input);
        self.keeps_input = false;
        let in_input = kept.len().min(input.len());
        input[..in_input].copy_from_slice(&kept[..in_input]);
        if in_input < kept.len() {
            self.keep_input(&kept[in_input..]);
        }
        self.may_have_more = true;
        Received::Bytes { in_input, is_full: true }
    }

    /// Whether the last read may have left something behind.
    #[inline]
    pub fn may_have_more(&self) -> bool {
        self.may_have_more
    }

    /// The state that the opening handshake hands over.
    pub fn set_may_have_more(&mut self, may_have_more: bool) {
        self.may_have_more = may_have_more;
    }

    /// Whether a long payload is arriving.
    pub fn is_mid_payload(&mut self) -> bool {
        self.protocol.reader().is_mid_payload()
    }

    /// The next message, if it lies in `input` as a whole. `None` says nothing: ask [`next_frame`](Session::next_frame).
    #[inline]
    pub fn next_message<'b>(&mut self, input: &mut &'b mut [u8]) -> Option<Message<'b>> {
        let message = self.protocol.receive_message(input);
        self.more_follows = !input.is_empty();
        message
    }

    /// The next frame that the peer has sent, or message in fragments; `None` if `input` is used up, or what was used of it enough for
    /// one turn. Pings and close frames are answered already. Where the peer breaks a rule, that is [noted](Session::note), and nothing more comes.
    pub fn next_frame<'b>(&mut self, input: &mut &'b mut [u8], buffers: &Buffers) -> Option<Frame<'b>> {
        let mut shared = buffers.shared.borrow_mut();
        let event = self.protocol.receive(input, &mut shared, self.outbox.end_unlent());
        self.more_follows = !input.is_empty();
        match event? {
            Event::Frame(frame) | Event::Close(frame) => Some(frame),
            Event::Failed(rule) => {
                drop(shared);
                self.note(Error::Protocol(rule));
                None
            }
        }
    }

    /// All that was read was dealt with.
    #[inline]
    pub fn end_of_input(&mut self) {
        self.more_follows = false;
    }

    /// Something of what was read is kept until it is asked for, or not.
    #[inline]
    pub fn set_more_follows(&mut self, follows: bool) {
        self.more_follows = follows;
    }

    /// From now on the peer's close frame, and a rule that it breaks, are only noted until what came before was dealt with.
    #[inline]
    pub fn defer_end(&mut self, defers: bool) {
        self.protocol.defer_end(defers);
    }

    /// Whether the peer's end waits.
    #[inline]
    pub fn has_deferred_end(&self) -> bool {
        self.protocol.has_deferred_end()
    }

    /// Deals with the peer's end, when the messages before it were received. Whether there was one.
    pub fn end_deferred(&mut self, env: Env<'_>) -> bool {
        let mut shared = env.buffers.shared.borrow_mut();
        let ended: Option<Result<(), Violation>> =
            self.protocol.end_deferred(&mut shared, self.outbox.end(env.buffers));
        drop(shared);
        if let Some(Err(rule)) = ended {
            self.note(Error::Protocol(rule));
        }
        ended.is_some()
    }

    /// The peer will send no more, or the stream is broken. If both sides have closed, or the peer broke a rule, it may still
    /// read: what waits for it, with our close frame behind it, leaves first; and so do the answers to what it sent before an end that
    /// [waits](Session::defer_end).
    pub fn input_ended(&mut self, error: Option<io::Error>, io: &mut impl Transport) {
        let state = self.state();
        match error {
            // After both close frames everything was said.
            Some(error) if state != State::Closed => drop(self.note(error.into())),
            None if self.has_deferred_end() => {
                self.input_is_over = true;
                return;
            }
            None if matches!(state, State::Closed | State::Failed) && !self.is_drained() => {
                self.input_is_over = true;
                return;
            }
            _ => {}
        }
        self.tcp_ended(io);
    }
}
