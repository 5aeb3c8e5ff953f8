//! A stream, the protocol on it, and what waits to be written: a connection without its listener.
//!
//! Nothing here calls back into the program, so a link can be borrowed for the length of a call.

use std::io::{self, IoSliceMut};
use std::rc::Rc;
use std::time::Instant;

use threadwire_proto::deflate::{Agreement, Sharing};
use threadwire_proto::state::State;
use threadwire_proto::{
    CloseFrame, Closing, Config as ProtocolConfig, Connection as Protocol, Event, Message, OpCode, Role,
    SendOptions, Violation,
};

use crate::Error;
use crate::connection::registry::Registry;
use crate::connection::rooms::Given;
use crate::on_loop::stream::Stream;
use crate::room::branch::Framed;
use threadwire_core::session::linger::Linger;
use threadwire_core::session::outbox::Outbox;
use threadwire_core::session::transport::Transport as _;

/// Payloads from this many bytes on are written from where they lie instead of being copied.
const DIRECT_WRITE: usize = 32 << 10;

/// A peer that sends messages of this many bytes and more is read in another way: see [`Link::read`].
const LONG: usize = 64 << 10;

/// How much of a long message is read before its length is known.
const FIRST_OF_LONG: usize = 16 << 10;

/// What one read has come to.
pub(crate) enum Received {
    /// The peer has ended the stream.
    End,
    /// Bytes: `in_input` of them in the receive buffer, others perhaps where a long payload is gathered. `is_full` if
    /// there may be more.
    Bytes { in_input: usize, is_full: bool },
}

impl Received {
    #[inline]
    fn new(total: usize, in_input: usize, is_full: bool) -> Received {
        if total == 0 { Received::End } else { Received::Bytes { in_input, is_full } }
    }
}

pub(crate) struct Link {
    /// None once TCP has ended.
    stream: Option<Stream>,
    protocol: Protocol,
    outbox: Outbox,
    registry: Rc<Registry>,
    /// Where the last late pong lies in the output: until it has left, there is no other.
    late_pong_at: u64,
    /// Whether the last message was a long one.
    expects_long: bool,
    /// Whether something lies in the input behind the message that is being worked on.
    more_follows: bool,
    /// Whether the peer has ended its half of the stream, and something is still to be written.
    input_is_over: bool,
}

impl Link {
    /// A link over an open stream. `output` is what still has to leave.
    pub(crate) fn new(stream: Stream, protocol: Protocol, output: Vec<u8>) -> Link {
        Link {
            stream: Some(stream),
            protocol,
            outbox: Outbox::with(output),
            registry: Registry::current(),
            late_pong_at: 0,
            expects_long: false,
            more_follows: false,
            input_is_over: false,
        }
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        self.protocol.state()
    }

    pub(crate) fn closing(&self) -> Option<&Closing> {
        self.protocol.closing()
    }

    pub(crate) fn role(&self) -> Role {
        self.protocol.role()
    }

    #[inline]
    pub(crate) fn registry(&self) -> &Rc<Registry> {
        &self.registry
    }

    /// The stream, or the error that says that it has ended.
    pub(crate) fn stream(&self) -> io::Result<&Stream> {
        self.stream.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The end: lets go of everything, and of the stream.
    pub(crate) fn take_stream(&mut self) -> Option<Stream> {
        self.outbox = Outbox::default();
        self.stream.take()
    }

    /// How many bytes have ever left.
    pub(crate) fn written(&self) -> u64 {
        self.outbox.written()
    }

    /// How many bytes were ever sent, with those that wait.
    #[inline]
    pub(crate) fn sent(&self) -> u64 {
        self.outbox.written() + self.outbox.len() as u64
    }

    /// How many bytes wait to be written.
    #[inline]
    pub(crate) fn buffered(&self) -> usize {
        self.outbox.len()
    }
}

/// A link without its thread and its stream.
pub(crate) struct LooseLink {
    protocol: Protocol,
    outbox: Outbox,
    late_pong_at: u64,
    expects_long: bool,
}

/// Moving from thread to thread.
impl Link {
    /// Takes out all that can leave the thread. What is left has ended.
    pub(crate) fn loosen(&mut self) -> Option<(LooseLink, Stream)> {
        let stream = self.stream.take()?;
        let mut ended = Protocol::new(self.role(), &ProtocolConfig::default());
        ended.abort();
        let loose = LooseLink {
            protocol: std::mem::replace(&mut self.protocol, ended),
            outbox: std::mem::take(&mut self.outbox),
            late_pong_at: self.late_pong_at,
            expects_long: self.expects_long,
        };
        Some((loose, stream))
    }

    /// A link that has ended.
    pub(crate) fn ended(role: Role, config: &ProtocolConfig) -> Link {
        let mut protocol = Protocol::new(role, config);
        protocol.abort();
        Link {
            stream: None,
            protocol,
            outbox: Outbox::default(),
            registry: Registry::current(),
            late_pong_at: 0,
            expects_long: false,
            more_follows: false,
            input_is_over: false,
        }
    }

    /// The same link on this thread.
    pub(crate) fn fasten(loose: LooseLink, stream: Stream) -> Link {
        let LooseLink { protocol, outbox, late_pong_at, expects_long } = loose;
        Link {
            stream: Some(stream),
            protocol,
            outbox,
            registry: Registry::current(),
            late_pong_at,
            expects_long,
            more_follows: false,
            input_is_over: false,
        }
    }
}

/// Reading.
impl Link {
    /// One read: into the long payload that is arriving, if there is one, and then into `input`.
    ///
    /// What comes before the length of a message is known lies in `input`, and the part of a long payload in it has to be
    /// copied. So where long messages are to be expected, only little is read to begin with, and the rest goes where it
    /// belongs.
    #[inline]
    pub(crate) fn read(&mut self, input: &mut [u8]) -> io::Result<Received> {
        let Some(stream) = &mut self.stream else { return Err(io::ErrorKind::WouldBlock.into()) };
        let reader = self.protocol.reader();
        if let Some(room) = reader.room() {
            let direct = room.len();
            self.expects_long = direct >= LONG - FIRST_OF_LONG;
            let total = stream.read_vectored(&mut [IoSliceMut::new(room), IoSliceMut::new(input)])?;
            reader.commit(total.min(direct));
            let is_full = stream.may_have_more(total, direct + input.len());
            return Ok(Received::new(total, total.saturating_sub(direct), is_full));
        }
        let first = if self.expects_long && stream.is_plain() { FIRST_OF_LONG } else { input.len() };
        let total = stream.read(&mut input[..first])?;
        self.expects_long &= total == first;
        Ok(Received::new(total, total, stream.may_have_more(total, first)))
    }

    /// Whether a long payload is arriving.
    pub(crate) fn is_mid_payload(&mut self) -> bool {
        self.protocol.reader().is_mid_payload()
    }

    /// Reads what nobody wants any more.
    pub(crate) fn linger(&mut self, input: &mut [u8]) -> Linger {
        self.stream.as_mut().map_or(Linger::Waits, |stream| Linger::read(stream, input))
    }

    /// The next message, if it lies in `input` as a whole: see [`Protocol::receive_message`].
    #[inline]
    pub(crate) fn next_message<'b>(&mut self, input: &mut &'b mut [u8]) -> Option<Message<'b>> {
        let message = self.protocol.receive_message(input);
        self.more_follows = !input.is_empty();
        message
    }

    /// The next thing that the peer has done; `None` if `input` is used up.
    pub(crate) fn next_event<'b>(&mut self, input: &mut &'b mut [u8]) -> Option<Event<'b>> {
        let mut shared = self.registry.buffers.shared.borrow_mut();
        let event = self.protocol.receive(input, &mut shared, self.outbox.end_unlent());
        self.more_follows = !input.is_empty();
        event
    }

    /// Whether broken rules wait until what came before them was dealt with.
    #[inline]
    pub(crate) fn defer_failures(&mut self, defers: bool) {
        self.protocol.defer_failures(defers);
    }

    /// Whether a broken rule waits.
    #[inline]
    pub(crate) fn has_failed(&self) -> bool {
        self.protocol.has_failed()
    }

    /// What came before it was dealt with.
    pub(crate) fn fail_deferred(&mut self) -> Option<Violation> {
        let mut shared = self.registry.buffers.shared.borrow_mut();
        self.protocol.fail_deferred(&mut shared, self.outbox.end(&self.registry.buffers))
    }

    /// The event was dealt with.
    pub(crate) fn recycle(&self, event: Event<'_>) {
        event.recycle(&mut self.registry.buffers.shared.borrow_mut().pool);
    }

    /// All that was read was dealt with.
    #[inline]
    pub(crate) fn end_of_input(&mut self) {
        self.more_follows = false;
    }
}

/// Sending.
impl Link {
    /// Sends a frame, or puts it into the outbox; a long one leaves at once, unless another may follow soon. Fails with
    /// [`Error::Io`] if the stream took it no more: the connection is broken, but that is for its reader to find out.
    #[inline]
    pub(crate) fn send_frame(
        &mut self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        options: SendOptions,
    ) -> Result<(), Error> {
        let SendOptions { compress, droppable } = options;
        debug_assert!(!droppable || (fin && matches!(opcode, OpCode::Text | OpCode::Binary)), "{opcode}");
        if payload.len() >= DIRECT_WRITE && !self.more_follows && !self.outbox.is_blocked() {
            let header = self.protocol.send_header(opcode, fin, payload.len(), compress)?;
            if let (Some(header), Some(stream)) = (header, &mut self.stream) {
                return Ok(self.outbox.write_frame(
                    &header,
                    payload,
                    droppable,
                    stream,
                    &self.registry.buffers,
                )?);
            }
        }
        if droppable {
            self.outbox.before_frame(true);
        }
        let mut shared = self.registry.buffers.shared.borrow_mut();
        let out = self.outbox.end(&self.registry.buffers);
        self.protocol.send_frame_with(opcode, fin, payload, options, &mut shared, out)?;
        if droppable {
            self.outbox.mark(true);
        }
        Ok(())
    }

    /// Writes whole frames that others share, from where they lie, if that is possible right away: they must not have to be
    /// masked, and nothing may wait. Returns how many bytes have left; the rest of a frame of which some have must
    /// [follow](Link::append_framed).
    #[inline]
    pub(crate) fn write_shared(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let can_take = self.protocol.state() == State::Open
            && self.protocol.role() == Role::Server
            && !self.protocol.is_mid_message();
        match &mut self.stream {
            Some(stream) if can_take => self.outbox.write_shared(bytes, stream, &self.registry.buffers),
            _ => Ok(0),
        }
    }

    /// What a message must be compressed like to be written here as it is: see [`Protocol::sharing`].
    #[inline]
    pub(crate) fn sharing(&self) -> Option<Sharing> {
        self.protocol.sharing().filter(|_| self.protocol.role() == Role::Server)
    }

    /// What was compressed for many is written here.
    pub(crate) fn sent_shared(&mut self) {
        self.protocol.sent_shared();
    }

    /// What was agreed on about compression.
    pub(crate) fn deflate(&self) -> Option<Agreement> {
        self.protocol.deflate()
    }

    /// Puts a frame, or the rest of one, into the outbox as it is.
    pub(crate) fn append_framed(&mut self, frame: &[u8], droppable: bool) {
        self.outbox.before_frame(droppable);
        self.outbox.end(&self.registry.buffers).extend_from_slice(frame);
        self.outbox.mark(droppable);
    }

    /// Takes a message that others share.
    pub(crate) fn give(&mut self, framed: Framed<'_>, droppable: bool) -> Given {
        if self.outbox.is_broken() || self.stream.is_none() {
            return Given::Skipped;
        }
        if self.role() == Role::Server {
            if framed.is_compressed {
                self.protocol.sent_shared();
            }
            self.append_framed(framed.frame, droppable);
            return Given::Delivered;
        }
        self.outbox.before_frame(droppable);
        let mut shared = self.registry.buffers.shared.borrow_mut();
        let (opcode, payload) = (framed.opcode, framed.payload);
        let options = SendOptions { droppable, compress: framed.compress };
        let out = self.outbox.end(&self.registry.buffers);
        match self.protocol.send_frame_with(opcode, true, payload, options, &mut shared, out) {
            Ok(()) => {
                self.outbox.mark(droppable);
                Given::Delivered
            }
            Err(_) => Given::Skipped,
        }
    }

    /// Drops the oldest message that may be dropped. False if there is none.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        self.outbox.drop_oldest()
    }

    /// Whether the system takes no more for now.
    pub(crate) fn is_blocked(&self) -> bool {
        self.outbox.is_blocked()
    }

    /// Whether a message of ours was begun and not finished.
    pub(crate) fn is_mid_message(&self) -> bool {
        self.protocol.is_mid_message()
    }

    /// Writes what waits, as far as the system takes it.
    #[inline]
    pub(crate) fn write(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        self.outbox.write(stream, &self.registry.buffers)?;
        if self.protocol.has_late_pong() && self.outbox.written() >= self.late_pong_at {
            self.protocol.drained(&mut self.registry.buffers.shared.borrow_mut(), self.outbox.end_unlent());
            self.late_pong_at = self.outbox.written() + self.outbox.len() as u64;
            self.outbox.write(stream, &self.registry.buffers)?;
        }
        Ok(())
    }

    /// The system takes more again.
    #[inline]
    pub(crate) fn writable(&mut self) {
        self.outbox.unblock();
        if let Some(stream) = &mut self.stream {
            stream.writable();
        }
    }
}

/// Ending.
impl Link {
    pub(crate) fn close(&mut self, frame: CloseFrame<'_>) -> Result<(), Error> {
        let mut shared = self.registry.buffers.shared.borrow_mut();
        Ok(self.protocol.close(frame, &mut shared, self.outbox.end(&self.registry.buffers))?)
    }

    /// Tells the peer that nothing more will come.
    pub(crate) fn shutdown_write(&mut self) {
        if let Some(stream) = &mut self.stream {
            Linger::begin(stream);
        }
    }

    /// The peer will send no more. If both sides have closed, or it broke a rule, it may still read: what waits for it, with
    /// our close frame behind it, leaves first.
    pub(crate) fn input_ended(&mut self) {
        if matches!(self.state(), State::Closed | State::Failed) && !self.outbox.is_empty() {
            self.input_is_over = true;
        } else {
            self.tcp_ended();
        }
    }

    pub(crate) fn tcp_ended(&mut self) {
        self.protocol.tcp_ended();
        if let Some(stream) = &mut self.stream {
            stream.say_goodbye();
        }
    }

    pub(crate) fn abort(&mut self) {
        self.protocol.abort();
    }

    /// Whether the stream can end without a word: TLS has one to say, and the peer may have as well.
    pub(crate) fn ends_silently(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.is_plain())
    }

    /// Whether it is for this side to end TCP, and all that was to be said has been.
    pub(crate) fn should_end_tcp(&self) -> bool {
        (self.input_is_over || self.protocol.should_end_tcp()) && self.outbox.is_empty()
    }

    pub(crate) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        self.protocol.deadline(now)
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        self.protocol.expire(now);
    }
}
