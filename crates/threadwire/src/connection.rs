//! A connection: a stream, the protocol, and what waits to be written, driven by the thread's event loop.
//!
//! The order of things on one wake-up: one read into a buffer that all connections of the thread share; every frame in
//! it is handed to the listener, whose sends are gathered; then one write. Two rules keep that right when callbacks wait
//! and the loop turns inside of them: no borrow of a cell spans a callback, and the listener is taken out of its cell
//! while it runs. Found missing, it is busy: readiness is remembered and dealt with when it is back. Taken for good, it
//! can't be called again: that is how `on_close` is the last call, and the only one.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use threadwire_proto::state::State;
use threadwire_proto::{
    CloseCode, CloseFrame, Closing, Connection as Protocol, Event, Frame, Initiator, Level, Message, OpCode,
    Role,
};
use threadwire_worker::{EventLoop, Ready, Source, TimerId, Token};

use crate::error::{LimitKind, TimeoutKind};
use crate::local::Local;
use crate::outbox::Outbox;
use crate::stream::Stream;
use crate::{Config, Error, Listener};

/// Payloads from this many bytes on are written from where they lie instead of being copied.
const DIRECT_WRITE: usize = 8 << 10;

/// With this many bytes gathered, they leave without waiting for the end of the read, or for the loop's next turn.
const FLUSH_AT: usize = 128 << 10;

/// An open connection: a cheap clone that stays on its thread. A [`Listener`] gets it with every call, and may keep it for
/// a timer or another callback; calls on a connection that is closed say so and do nothing else.
///
/// What is sent from callbacks while one read is worked through leaves in one write after it; what is sent otherwise leaves
/// when the thread's event loop turns next, that is with the next wait. Code that sends and then computes for long calls
/// [`flush`](Connection::flush).
#[derive(Clone)]
pub struct Connection(Rc<Inner>);

struct Inner {
    token: Token,
    local: Rc<Local>,
    config: Arc<Config>,
    /// None once TCP has ended.
    stream: RefCell<Option<Stream>>,
    protocol: RefCell<Protocol>,
    outbox: RefCell<Outbox>,
    level: Level,
    /// Missing while a callback runs, and after `on_close`.
    listener: RefCell<Option<Box<dyn Listener>>>,
    /// Readiness that came while a callback ran.
    unread: Cell<Ready>,
    /// Whether the last read may have left something behind.
    may_have_more: Cell<bool>,
    /// Whether another frame lies behind the one that is being worked on.
    more_follows: Cell<bool>,
    /// Whether a flush was asked for.
    dirty: Cell<bool>,
    phase: Cell<Phase>,
    /// Set while the connection closes.
    timer: Cell<Option<TimerId>>,
    /// What went wrong first.
    error: RefCell<Option<Box<Error>>>,
}

/// How far the end has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It has not begun.
    Running,
    /// Nothing more is written; `on_close` was called, or will be when the running callback returns. What the peer still
    /// sends is read and dropped: closing the socket under it would reset the connection, and the peer might never see
    /// our close frame.
    Lingering,
    /// The socket is closed.
    Over,
}

/// How a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed {
    /// The close code (RFC 6455, section 7.1.5): the peer's, 1005 if its close frame had none, 1006 if there was no close
    /// frame. If the peer broke the protocol, the code that it was told.
    pub code: CloseCode,
    /// The reason that came with the code.
    pub reason: String,
    /// Which side began to close.
    pub initiator: Initiator,
    /// Whether both sides sent a close frame, and neither broke a rule.
    pub clean: bool,
    /// What went wrong, if something did.
    pub error: Option<Error>,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.initiator {
            Initiator::Local => "us",
            Initiator::Peer => "the peer",
        };
        write!(f, "closed by {by} with {}", self.code)?;
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        match &self.error {
            Some(error) => write!(f, " ({error})"),
            None => Ok(()),
        }
    }
}

/// What a listener uses.
impl Connection {
    /// Sends a message: text or bytes.
    ///
    /// Fails if the connection is not open, or if more than [`Config::max_buffered`] bytes wait for a peer that does not
    /// read.
    #[inline]
    pub fn send<'a>(&self, message: impl Into<Message<'a>>) -> Result<(), Error> {
        let message = message.into();
        self.send_frame(message.opcode(), true, message.as_bytes())
    }

    /// Sends one frame: a message, a fragment of one (`fin` false on all but the last, the opcode
    /// [`Continuation`](OpCode::Continuation) on all but the first), a ping or a pong. Fragments of a text message need
    /// not end at a character; that they make UTF-8 together is up to the caller.
    pub fn send_frame(&self, opcode: OpCode, fin: bool, payload: &[u8]) -> Result<(), Error> {
        let inner = &*self.0;
        let mut outbox = inner.outbox.borrow_mut();
        let limit = inner.config.max_buffered;
        if !opcode.is_control() && !outbox.is_empty() && outbox.len() + payload.len() > limit {
            return Err(Error::Limit { kind: LimitKind::Buffered, limit });
        }
        if payload.len() >= DIRECT_WRITE && !inner.more_follows.get() && !outbox.is_blocked() {
            let header = inner.protocol.borrow_mut().send_header(opcode, fin, payload.len())?;
            if let (Some(header), Some(stream)) = (header, &mut *inner.stream.borrow_mut()) {
                let written = outbox.write_frame(&header, payload, stream, &inner.local);
                drop(outbox);
                if let Err(error) = written {
                    self.write_failed(error);
                }
                return Ok(());
            }
        }
        inner.protocol.borrow_mut().send_frame(
            opcode,
            fin,
            payload,
            &mut inner.local.shared.borrow_mut(),
            outbox.end(&inner.local),
        )?;
        let gathered = outbox.len();
        drop(outbox);
        self.flush_soon(gathered);
        Ok(())
    }

    /// Sends a ping. The peer answers with a pong of the same payload, of at most 125 bytes.
    pub fn ping(&self, payload: &[u8]) -> Result<(), Error> {
        self.send_frame(OpCode::Ping, true, payload)
    }

    /// Sends a pong, as an answer to a ping or unasked. At most 125 bytes.
    pub fn pong(&self, payload: &[u8]) -> Result<(), Error> {
        self.send_frame(OpCode::Pong, true, payload)
    }

    /// Closes with 1000. See [`close_with`](Connection::close_with).
    pub fn close(&self) -> Result<(), Error> {
        self.close_with(CloseCode::NORMAL, "")
    }

    /// Closes: sends a close frame behind all that was sent before. Messages that still arrive are dropped; when the peer
    /// has answered, or [`Config::close_timeout`] has passed, [`Listener::on_close`] is called. Does nothing if the
    /// connection is closing already.
    ///
    /// Fails, and does nothing, if the code must not be sent (1000-1003, 1007-1014 and 3000-4999 may) or the reason is
    /// longer than 123 bytes.
    pub fn close_with(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        let inner = &*self.0;
        let mut outbox = inner.outbox.borrow_mut();
        inner.protocol.borrow_mut().close(
            CloseFrame { code: Some(code), reason },
            &mut inner.local.shared.borrow_mut(),
            outbox.end(&inner.local),
        )?;
        let gathered = outbox.len();
        drop(outbox);
        self.flush_soon(gathered);
        Ok(())
    }

    /// Drops TCP without a closing handshake. The peer sees that the connection broke.
    pub fn abort(&self) {
        self.0.protocol.borrow_mut().abort();
        self.mark_dirty();
    }

    /// Writes what was gathered, now instead of at the loop's next turn.
    pub fn flush(&self) {
        self.write();
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        self.0.protocol.borrow().state() == State::Open
    }

    /// How many bytes wait to be written.
    pub fn buffered(&self) -> usize {
        self.0.outbox.borrow().len()
    }

    /// The peer's address. Fails once TCP has ended.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.stream.borrow().as_ref().ok_or(io::ErrorKind::NotConnected)?.peer_addr()
    }

    /// This end's address. Fails once TCP has ended.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.stream.borrow().as_ref().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }
}

/// What a connection begins with, when its opening handshake is done.
pub(crate) struct Opening<'a> {
    pub(crate) role: Role,
    pub(crate) stream: Stream,
    /// The place that the handshake had on the loop.
    pub(crate) token: Token,
    pub(crate) listener: Box<dyn Listener>,
    pub(crate) config: Arc<Config>,
    /// What is still to be written: it leaves together with what `on_open` sends.
    pub(crate) output: Vec<u8>,
    /// What was received behind the handshake.
    pub(crate) early: &'a mut [u8],
    /// Whether the socket may hold still more.
    pub(crate) may_have_more: bool,
}

/// Coming to life.
impl Connection {
    pub(crate) fn open(opening: Opening<'_>) -> Connection {
        let Opening { role, stream, token, listener, config, output, early, may_have_more } = opening;
        let level = listener.level();
        let connection = Connection(Rc::new(Inner {
            token,
            local: Local::current(),
            stream: RefCell::new(Some(stream)),
            protocol: RefCell::new(Protocol::new(role, &config.protocol(level))),
            outbox: RefCell::new(Outbox::with(output)),
            level,
            listener: RefCell::new(Some(listener)),
            unread: Cell::default(),
            may_have_more: Cell::new(may_have_more),
            more_follows: Cell::new(false),
            dirty: Cell::new(false),
            phase: Cell::new(Phase::Running),
            timer: Cell::new(None),
            error: RefCell::default(),
            config,
        }));
        let event_loop = EventLoop::current();
        event_loop.replace(token, Rc::clone(&connection.0) as Rc<dyn Source>);
        connection.call(|listener| {
            listener.on_open(&connection)?;
            connection.deliver(listener, early)
        });
        connection.settle();
        if may_have_more {
            event_loop.requeue(token, Ready::READABLE);
        }
        connection
    }
}

/// What one read has come to.
enum Received {
    /// The peer has ended the stream.
    End,
    /// Bytes: `in_input` of them in the receive buffer, others perhaps where a long payload is gathered. `is_full` if
    /// there was no room for more.
    Bytes { in_input: usize, is_full: bool },
}

/// Reading.
impl Connection {
    fn read(&self, ready: Ready) {
        if self.0.phase.get() != Phase::Running {
            return self.discard();
        }
        let ran = self.call(|listener| {
            let mut input = self.0.local.lend_input();
            let result = self.read_with(listener, ready, &mut input);
            self.0.local.return_input(input);
            result
        });
        if !ran {
            self.0.unread.set(self.0.unread.get() | ready);
        }
    }

    /// Reads once, and hands out what came. Reads on only to see the end of the stream, where it was announced.
    fn read_with(&self, listener: &mut dyn Listener, ready: Ready, input: &mut [u8]) -> Result<(), Error> {
        loop {
            let (count, is_full) = match self.receive(input) {
                Ok(Received::Bytes { in_input, is_full }) => (in_input, is_full),
                Ok(Received::End) => {
                    self.0.protocol.borrow_mut().tcp_ended();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.0.may_have_more.set(false);
                    return Ok(());
                }
                Err(error) => {
                    self.note(error.into());
                    self.0.protocol.borrow_mut().tcp_ended();
                    return Ok(());
                }
            };
            self.0.may_have_more.set(is_full);
            self.deliver(listener, &mut input[..count])?;
            if is_full {
                EventLoop::current().requeue(self.0.token, ready);
                return Ok(());
            }
            if !ready.read_closed {
                return Ok(());
            }
        }
    }

    /// One read: into the long payload that is arriving, if there is one, and then into `input`.
    fn receive(&self, input: &mut [u8]) -> io::Result<Received> {
        let mut stream = self.0.stream.borrow_mut();
        let Some(stream) = &mut *stream else { return Err(io::ErrorKind::WouldBlock.into()) };
        let mut protocol = self.0.protocol.borrow_mut();
        let reader = protocol.reader();
        let (direct, total) = match reader.room() {
            None => (0, stream.read(input)?),
            Some(room) => {
                let direct = room.len();
                let buffers = &mut [IoSliceMut::new(room), IoSliceMut::new(input)];
                (direct, stream.read_vectored(buffers)?)
            }
        };
        if total == 0 {
            return Ok(Received::End);
        }
        if direct > 0 {
            reader.commit(total.min(direct));
        }
        let is_full = total == direct + input.len();
        Ok(Received::Bytes { in_input: total.saturating_sub(direct), is_full })
    }

    /// Hands out what `input` holds.
    fn deliver(&self, listener: &mut dyn Listener, mut input: &mut [u8]) -> Result<(), Error> {
        let inner = &*self.0;
        loop {
            let message = inner.protocol.borrow_mut().receive_message(&mut input);
            if let Some(message) = message {
                inner.more_follows.set(!input.is_empty());
                listener.on_message(self, message)?;
                continue;
            }
            inner.more_follows.set(false);
            let event = {
                let mut outbox = inner.outbox.borrow_mut();
                let mut shared = inner.local.shared.borrow_mut();
                inner.protocol.borrow_mut().receive(&mut input, &mut shared, outbox.end_unlent())
            };
            let Some(event) = event else { return Ok(()) };
            let frame = match &event {
                Event::Frame(frame) | Event::Close(frame) => frame,
                Event::Failed(rule) => {
                    self.note(Error::Protocol { rule: *rule });
                    return Ok(());
                }
            };
            inner.more_follows.set(!input.is_empty());
            let result = self.tell(listener, frame);
            event.recycle(&mut inner.local.shared.borrow_mut().pool);
            result?;
        }
    }

    fn tell(&self, listener: &mut dyn Listener, frame: &Frame<'_>) -> Result<(), Error> {
        if self.0.level == Level::Frames {
            return listener.on_frame(self, frame);
        }
        match (frame.message(), frame.opcode()) {
            (Some(message), _) => listener.on_message(self, message),
            (None, OpCode::Ping) => listener.on_ping(self, frame.payload()),
            (None, OpCode::Pong) => listener.on_pong(self, frame.payload()),
            (None, _) => Ok(()),
        }
    }

    /// Reads and drops what the peer still sends, until it ends.
    fn discard(&self) {
        let mut input = self.0.local.lend_input();
        let read = self.0.stream.borrow_mut().as_mut().map(|stream| stream.read(&mut input));
        self.0.local.return_input(input);
        match read {
            Some(Ok(1..)) => EventLoop::current().requeue(self.0.token, Ready::READABLE),
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Some(_) => self.0.protocol.borrow_mut().tcp_ended(),
            None => {}
        }
    }
}

/// Calling the listener.
impl Connection {
    /// Runs `call` with the listener, unless it is busy or gone. An error or a panic of it closes the connection.
    fn call(&self, call: impl FnOnce(&mut dyn Listener) -> Result<(), Error>) -> bool {
        let taken = self.0.listener.borrow_mut().take();
        let Some(mut listener) = taken else { return false };
        let result = catch_unwind(AssertUnwindSafe(|| call(&mut *listener)));
        *self.0.listener.borrow_mut() = Some(listener);
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.callback_failed(error),
            Err(payload) => self.callback_failed(Error::panicked(payload)),
        }
        self.0.more_follows.set(false);
        let unread = self.0.unread.take();
        if !unread.is_empty() {
            EventLoop::current().requeue(self.0.token, unread);
        }
        if self.0.phase.get() != Phase::Running {
            self.report();
        }
        true
    }

    #[cold]
    fn callback_failed(&self, error: Error) {
        let code = match error {
            // The connection was closed under the callback: nothing is wrong with it.
            Error::Closed => return,
            Error::Stopped => CloseCode::GOING_AWAY,
            _ => CloseCode::INTERNAL_ERROR,
        };
        tracing::debug!(%error, "a callback failed");
        // Only a code that must not be sent, or a long reason, could make this fail.
        let _ = self.close_with(code, "");
        self.note(error);
    }

    /// Calls `on_close`, once, as the last call of all. If a callback is still running, it is called when that returns.
    fn report(&self) {
        let taken = self.0.listener.borrow_mut().take();
        let Some(mut listener) = taken else { return };
        let closed = self.closed();
        tracing::debug!(%closed, "connection closed");
        let result = catch_unwind(AssertUnwindSafe(|| {
            listener.on_close(self, &closed);
            drop(listener);
        }));
        if let Err(payload) = result {
            tracing::error!(error = %Error::panicked(payload), "on_close failed");
        }
    }

    fn closed(&self) -> Closed {
        let error = self.0.error.borrow_mut().take().map(|error| *error);
        let protocol = self.0.protocol.borrow();
        let Some(closing) = protocol.closing() else {
            let (code, reason) = (CloseCode::ABNORMAL, String::new());
            return Closed { code, reason, initiator: Initiator::Local, clean: false, error };
        };
        Closed {
            code: closing.code(),
            reason: closing.reason().to_owned(),
            initiator: closing.initiator,
            clean: closing.is_clean(),
            error: error.or_else(|| implied_error(closing)),
        }
    }

    /// Remembers what went wrong, unless something did before.
    fn note(&self, error: Error) {
        self.0.error.borrow_mut().get_or_insert_with(|| Box::new(error));
    }
}

/// What went wrong, where nothing else was noted.
fn implied_error(closing: &Closing) -> Option<Error> {
    if closing.timed_out {
        return Some(Error::Timeout(TimeoutKind::Close));
    }
    closing.lost.then_some(Error::Lost)
}

/// Writing, and ending.
impl Connection {
    /// Something was gathered: it leaves at once if it is much, otherwise at the end of the read, or at the next turn.
    #[inline]
    fn flush_soon(&self, gathered: usize) {
        if gathered >= FLUSH_AT {
            self.write();
        }
        self.mark_dirty();
    }

    #[inline]
    fn mark_dirty(&self) {
        if !self.0.dirty.replace(true) {
            EventLoop::current().flush_later(self.0.token);
        }
    }

    /// Writes what was gathered, as far as the system takes it.
    fn write(&self) {
        let inner = &*self.0;
        let mut outbox = inner.outbox.borrow_mut();
        let Some(stream) = &mut *inner.stream.borrow_mut() else { return };
        let written = outbox.write(stream, &inner.local);
        drop(outbox);
        if let Err(error) = written {
            self.write_failed(error);
        }
    }

    /// What the peer sent before it went away can still be read, perhaps with the reason.
    #[cold]
    fn write_failed(&self, error: io::Error) {
        self.note(error.into());
        let ready = Ready { readable: true, read_closed: true, writable: false };
        EventLoop::current().requeue(self.0.token, ready);
    }

    /// After anything has happened: writes, and goes on with the end if it has begun.
    #[inline]
    fn settle(&self) {
        let inner = &*self.0;
        if !inner.outbox.borrow().is_empty() {
            self.write();
            if inner.outbox.borrow().is_empty() {
                self.drained();
            }
        }
        if inner.protocol.borrow().state() != State::Open {
            self.wind_down();
        }
    }

    fn drained(&self) {
        let inner = &*self.0;
        let mut outbox = inner.outbox.borrow_mut();
        let mut shared = inner.local.shared.borrow_mut();
        inner.protocol.borrow_mut().drained(&mut shared, outbox.end_unlent());
        drop(shared);
        let left = !outbox.is_empty();
        drop(outbox);
        if left {
            self.write();
        }
    }

    #[cold]
    fn wind_down(&self) {
        let state = self.0.protocol.borrow().state();
        let should_end = self.0.protocol.borrow().should_end_tcp() && self.0.outbox.borrow().is_empty();
        let phase = self.0.phase.get();
        match phase {
            Phase::Over => return,
            _ if state == State::Ended => return self.hang_up(),
            // Nothing of the peer's is left unread, and nothing more will come: closing TCP can't reset it.
            Phase::Running if should_end && state == State::Closed && !self.0.may_have_more.get() => {
                return self.hang_up();
            }
            Phase::Running if should_end => {
                if let Some(stream) = &mut *self.0.stream.borrow_mut() {
                    // Where that fails, so will reading.
                    let _ = stream.shutdown_write();
                }
                self.0.phase.set(Phase::Lingering);
                self.report();
                EventLoop::current().requeue(self.0.token, Ready::READABLE);
            }
            _ => {}
        }
        if self.0.timer.get().is_none()
            && let Some(deadline) = self.0.protocol.borrow_mut().deadline(Instant::now())
        {
            let connection = self.clone();
            let timer = EventLoop::current().at(deadline, move || connection.expire());
            self.0.timer.set(Some(timer));
        }
    }

    /// Closing takes too long.
    fn expire(&self) {
        self.0.timer.set(None);
        self.0.protocol.borrow_mut().expire(Instant::now());
        self.settle();
    }

    /// Ends TCP.
    fn hang_up(&self) {
        self.0.phase.set(Phase::Over);
        let event_loop = EventLoop::current();
        if let Some(timer) = self.0.timer.take() {
            event_loop.cancel(timer);
        }
        let stream = self.0.stream.borrow_mut().take();
        if let Some(mut stream) = stream {
            event_loop.detach(self.0.token, &mut stream);
        }
        self.report();
    }
}

impl Source for Inner {
    fn ready(self: Rc<Self>, ready: Ready) {
        let connection = Connection(self);
        if ready.writable && connection.0.outbox.borrow().is_blocked() {
            connection.0.outbox.borrow_mut().unblock();
        }
        if ready.readable || ready.read_closed {
            connection.read(ready);
        }
        connection.settle();
    }

    fn flush(self: Rc<Self>) {
        self.dirty.set(false);
        Connection(self).settle();
    }

    fn stop(self: Rc<Self>) {
        let connection = Connection(self);
        if connection.0.phase.get() == Phase::Lingering {
            return connection.hang_up();
        }
        // Only a code that must not be sent, or a long reason, could make this fail.
        let _ = connection.close_with(CloseCode::GOING_AWAY, "");
        connection.settle();
    }

    fn abandon(self: Rc<Self>) {
        let connection = Connection(self);
        connection.0.protocol.borrow_mut().abort();
        connection.hang_up();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("state", &self.0.protocol.borrow().state()).finish_non_exhaustive()
    }
}
