//! State of a connection on tokio, under its lock: the session, its stream, what has arrived, and who waits for what.
//!
//! Nothing here blocks, and nothing here calls anybody: who is to be woken, and what is to be done without the lock, is
//! noted, and done by [`Core::with`](super::core::Core::with) when it has let the lock go. What is decided is decided by the session.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use threadwire_core::session::close::EndStep;
use threadwire_core::session::keepalive::Due;
use threadwire_core::session::linger::Linger;
use threadwire_core::session::outcome::EndOfReceiving;
use threadwire_core::session::overflow::{FrameKind, Overflow};
use threadwire_core::session::send::Framed;
use threadwire_core::session::unparsed::Unparsed;
use threadwire_core::session::{self, Session};
use threadwire_proto::{CloseCode, CloseFrame, Compress, Initiator, OpCode, SendError, SendOptions};
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until};

use super::received::Event;
use super::stream::{Polled, Stream};
use super::waiters::Waiters;
use super::watch;
use crate::{Closed, Error, WhenFull};

/// What a connection needs for most of what it does.
#[derive(Clone, Copy)]
pub(super) struct Env<'a> {
    pub(super) session: session::Env<'a>,
    /// Has the connection flushed.
    pub(super) waker: &'a Waker,
    /// Where its timers run, whoever polls it.
    pub(super) runtime: &'a Handle,
}

/// What is to be done when the lock is let go.
#[derive(Default)]
pub(super) struct After {
    pub(super) woken: Vec<Waker>,
    /// A task has to see the connection through to its end.
    pub(super) drive: bool,
    /// The stream, at the end: closing it may call others.
    pub(super) stream: Option<Stream>,
}

pub(super) struct State {
    /// None once TCP has ended.
    pub(super) stream: Option<Stream>,
    pub(super) session: Session,
    pub(super) unparsed: Unparsed,
    /// What was read while sending, and not received yet.
    pub(super) inbox: VecDeque<Event>,
    pub(super) inbox_cost: usize,
    /// How much had been sent when something was read last.
    pub(super) sent_at_read: u64,
    /// Whether pings and pongs are handed out.
    pub(super) wants_control: bool,
    /// Whether the program reads no more for now.
    pub(super) is_reading_paused: bool,
    /// Whether the task is there that sees the connection through to its end, or discards what nobody receives.
    pub(super) driven: bool,
    pub(super) end: EndOfReceiving,
    /// How many owners the connection has: both halves, or one.
    halves: u8,
    sends: u8,
    /// Who receives.
    pub(super) reader: Option<Waker>,
    driver: Option<Waker>,
    /// Who waits for less to be waiting to be written.
    pub(super) senders: Waiters,
    pub(super) close_waiters: Waiters,
    pub(super) measuring: Option<Box<super::round_trip::Measuring>>,
    /// Rings at keepalive's deadline, or before it: bytes that arrive only move the deadline.
    timer: Option<Pin<Box<Sleep>>>,
    outcome: Option<Arc<Closed>>,
    /// Whether something waits to be written, and nobody sees to it yet: to be done without the lock.
    pub(super) needs_flush: bool,
    /// What else is. In a box: it is rare, and locking often.
    pub(super) after: Option<Box<After>>,
}

impl State {
    pub(super) fn new(stream: Stream, session: Session, unparsed: Unparsed) -> State {
        State {
            stream: Some(stream),
            session,
            unparsed,
            inbox: VecDeque::new(),
            inbox_cost: 0,
            sent_at_read: u64::MAX,
            wants_control: false,
            is_reading_paused: false,
            driven: false,
            end: EndOfReceiving::default(),
            halves: 2,
            sends: 0,
            reader: None,
            driver: None,
            senders: Waiters::default(),
            close_waiters: Waiters::default(),
            measuring: None,
            timer: None,
            outcome: None,
            needs_flush: false,
            after: None,
        }
    }

    pub(super) fn outcome(&self) -> Option<&Arc<Closed>> {
        self.outcome.as_ref()
    }

    pub(super) fn stream(&self) -> io::Result<&Stream> {
        let stream = self.stream.as_ref().filter(|_| self.outcome.is_none());
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    pub(super) fn is_over(&self) -> bool {
        self.stream.is_none()
    }

    #[cold]
    fn after(&mut self) -> &mut After {
        self.after.get_or_insert_default()
    }

    /// Has somebody woken who waits.
    pub(super) fn wake(&mut self, waiting: Option<Waker>) {
        if let Some(waker) = waiting {
            self.after().woken.push(waker);
        }
    }

    /// Has `call` work with the session and its stream, unless TCP has ended. The waker is woken when the stream can go on.
    #[inline]
    fn on_stream<T>(
        &mut self,
        waker: &Waker,
        call: impl FnOnce(&mut Session, &mut Polled<'_, '_>) -> T,
    ) -> Option<T> {
        let stream = self.stream.as_mut()?;
        Some(call(&mut self.session, &mut Polled { stream, cx: &mut Context::from_waker(waker) }))
    }

    fn note(&mut self, error: Error) {
        if self.outcome.is_none() {
            drop(self.session.note(error));
        }
    }
}

/// Sending.
impl State {
    /// Whether a send has to wait.
    #[inline]
    fn is_paused(&self) -> bool {
        self.session.is_above_watermark() && self.session.is_open()
    }

    /// Whether whoever sends needn't wait. Otherwise it is noted as one who does. One that is the receiver as well reads before.
    #[inline]
    pub(super) fn has_turn(
        &mut self,
        cx: &mut Context<'_>,
        number: &mut Option<u64>,
        reads: bool,
        env: Env<'_>,
    ) -> bool {
        if self.is_paused() && reads {
            self.read_ahead(cx, env);
        }
        let is_paused = self.is_paused();
        if is_paused {
            self.senders.note(number, cx.waker());
        }
        !is_paused
    }

    /// Counts a send, and says whether it is time to look at what has arrived.
    #[inline]
    pub(super) fn is_time_to_read(&mut self) -> bool {
        self.sends = self.sends.wrapping_add(1);
        self.sends.is_multiple_of(32)
    }

    /// Sends a frame, or puts it into the write buffer.
    #[inline]
    pub(super) fn send_frame(
        &mut self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        options: SendOptions,
        env: Env<'_>,
    ) -> Result<(), Error> {
        self.send_by(env, |session, io| {
            session.send_frame(io, opcode, fin, payload, options, env.session.buffers)
        })
    }

    /// Sends something: much that waits is written now, and little soon.
    #[inline]
    fn send_by(
        &mut self,
        env: Env<'_>,
        send: impl FnOnce(&mut Session, &mut Polled<'_, '_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.session.is_broken() {
            return Err(Error::Closed);
        }
        match self.on_stream(env.waker, send) {
            Some(Ok(())) => {}
            Some(Err(Error::Io(error))) => self.wrote(Err(error), env),
            Some(Err(error)) => return Err(error),
            None => return Err(Error::Closed),
        }
        if self.session.buffered() > env.session.config.high_watermark {
            self.write(env);
            // Also where the stream takes nothing for now.
            self.session.update_watermark(env.session);
        }
        self.flush_if_needed();
        Ok(())
    }

    /// The same for whoever can't wait: where there is no room, the policy decides.
    pub(super) fn send_or(
        &mut self,
        opcode: OpCode,
        payload: &[u8],
        when_full: WhenFull,
        compress: Compress,
        env: Env<'_>,
    ) -> Result<(), Error> {
        let kind = FrameKind::of(opcode, true);
        if !self.make_room(kind, payload.len(), when_full, env)? {
            return Ok(());
        }
        let droppable = kind == FrameKind::Message && when_full == WhenFull::DropOldest;
        self.send_frame(opcode, true, payload, SendOptions { compress, droppable }, env)
    }

    /// Takes a message that others share, for whoever can't wait.
    pub(super) fn send_shared(
        &mut self,
        framed: Framed<'_>,
        when_full: WhenFull,
        env: Env<'_>,
    ) -> Result<(), Error> {
        if !self.make_room(FrameKind::Message, framed.payload.len(), when_full, env)? {
            return Ok(());
        }
        if self.session.is_mid_message() {
            return Err(SendError::MessageUnfinished.into());
        }
        let droppable = when_full == WhenFull::DropOldest;
        self.send_by(env, |session, io| {
            let is_taken = session.send_shared(io, framed, droppable, env.session.buffers)?;
            if is_taken { Ok(()) } else { Err(Error::Closed) }
        })
    }

    /// Makes room for a frame, as far as the policy allows. False if the frame is to be dropped.
    fn make_room(
        &mut self,
        kind: FrameKind,
        length: usize,
        when_full: WhenFull,
        env: Env<'_>,
    ) -> Result<bool, Error> {
        if !self.session.is_open() {
            return Err(Error::Closed);
        }
        let limit = env.session.config.max_buffered;
        if self.session.has_room(0, length, limit) {
            return Ok(true);
        }
        // The write buffer may not have been written yet.
        self.write(env);
        if self.session.has_room(0, length, limit) {
            return Ok(true);
        }
        match self.session.overflow((kind, length), when_full, 0, env.session) {
            Overflow::Take | Overflow::DropOldest => Ok(true),
            Overflow::DropNewest => Ok(false),
            Overflow::Close => {
                self.began_to_close();
                Err(Error::too_much_buffered(limit))
            }
            Overflow::Wait | Overflow::Refuse => Err(Error::too_much_buffered(limit)),
        }
    }

    /// Sends a ping, and has it leave at once.
    pub(super) fn send_ping(&mut self, payload: &[u8], env: Env<'_>) -> Result<(), Error> {
        self.send_or(OpCode::Ping, payload, WhenFull::Error, Compress::Never, env)?;
        self.write(env);
        Ok(())
    }

    /// Has what waits leave soon, if nobody has seen to that yet.
    #[inline]
    pub(super) fn flush_if_needed(&mut self) {
        self.needs_flush |= self.session.wants_write() && self.stream.is_some();
    }

    /// The stream takes more again, or somebody has sent something.
    pub(super) fn flush(&mut self, env: Env<'_>) {
        self.on_stream(env.waker, |session, io| session.writable(io));
        self.write(env);
        self.settle(env);
    }

    /// Writes what waits, as far as the stream takes it.
    #[inline]
    pub(super) fn write(&mut self, env: Env<'_>) {
        if self.session.wants_write()
            && let Some(result) =
                self.on_stream(env.waker, |session, io| session.write(io, env.session.buffers))
        {
            self.wrote(result, env);
        }
    }

    /// What a write has come to: who waits for that goes on.
    #[inline]
    fn wrote(&mut self, result: io::Result<()>, env: Env<'_>) {
        if let Err(error) = result {
            // Bytes that the peer sent before it went away can still be read, perhaps with the reason.
            self.note(error.into());
            let (reader, driver) = (self.reader.take(), self.driver.take());
            self.wake(reader);
            self.wake(driver);
        }
        let was_throttled = self.session.is_throttled();
        self.session.regulate(Instant::now, env.session);
        if was_throttled && !self.session.is_throttled() {
            let reader = self.reader.take();
            self.wake(reader);
        }
        if self.session.buffered() > 0 && self.session.is_above_watermark() {
            return;
        }
        self.wake_senders();
        if self.driven && self.session.is_drained() {
            let driver = self.driver.take();
            self.wake(driver);
        }
    }

    /// Those who wait to send look again.
    #[inline]
    fn wake_senders(&mut self) {
        if !self.senders.is_empty() {
            self.senders.take_all(&mut self.after.get_or_insert_default().woken);
        }
    }

    /// Has all of these woken.
    pub(super) fn wake_all(&mut self, waiters: &mut Waiters) {
        waiters.take_all(&mut self.after().woken);
    }
}

/// Keepalive.
impl State {
    /// Nothing has arrived: does what is due because of it, and has `cx` woken when the next thing is. With `is_known`, it is
    /// the one that the timer would wake already.
    #[inline]
    pub(super) fn look_at_pulse(&mut self, cx: &mut Context<'_>, is_known: bool, env: Env<'_>) {
        if self.session.is_timed() {
            self.look_at_pulse_now(cx, is_known, env);
        }
    }

    fn look_at_pulse_now(&mut self, cx: &mut Context<'_>, mut is_known: bool, env: Env<'_>) {
        while self.session.is_open() {
            let Some(deadline) = self.session.deadline(Instant::now()) else { return };
            let timer = match &mut self.timer {
                Some(timer) => timer,
                none => {
                    is_known = false;
                    let _runtime = env.runtime.enter();
                    none.insert(Box::pin(sleep_until(deadline.into())))
                }
            };
            if !timer.is_elapsed() && (is_known || timer.as_mut().poll(cx).is_pending()) {
                return;
            }
            is_known = false;
            let now = Instant::now();
            let due = self.session.tick(now);
            if let (Some(deadline), Some(timer)) = (self.session.deadline(now), &mut self.timer) {
                timer.as_mut().reset(deadline.into());
            }
            match due {
                Due::Ping => {
                    self.session.begin_probe(now);
                    let payload = self.session.take_probe(now);
                    let payload = payload.as_ref().map_or(&[][..], |payload| &payload[..]);
                    // The connection is open, and the payload is short: only a broken stream can make this fail.
                    let _ = self.send_frame(OpCode::Ping, true, payload, SendOptions::default(), env);
                    self.write(env);
                }
                Due::Silent { for_ } => {
                    self.on_stream(env.waker, |session, io| {
                        session.give_up_silent(for_, io, env.session.buffers);
                    });
                    return self.finish(env);
                }
                Due::Nothing | Due::Expired => {}
            }
        }
    }
}

/// Closing.
impl State {
    /// Closes: behind what was sent, and what has not been received yet is dropped.
    pub(super) fn close(&mut self, frame: CloseFrame<'_>, env: Env<'_>) -> Result<(), SendError> {
        let was_open = self.session.is_open();
        self.session.close(frame, env.session.buffers)?;
        if was_open {
            self.began_to_close();
        }
        Ok(())
    }

    fn began_to_close(&mut self) {
        self.inbox.clear();
        self.inbox_cost = 0;
        self.begin_end();
        self.flush_if_needed();
    }

    /// Closes without waiting for the peer's answer.
    pub(super) fn close_now(&mut self, env: Env<'_>) {
        let buffers = env.session.buffers;
        let close = |session: &mut Session, io: &mut Polled<'_, '_>| {
            session.close_now(io, CloseCode::GOING_AWAY, "", buffers);
        };
        if self.on_stream(env.waker, close).is_some() {
            self.finish(env);
        }
    }

    /// Drops the connection without a word.
    pub(super) fn abort(&mut self, error: Option<Error>, env: Env<'_>) {
        if self.is_over() {
            return;
        }
        if let Some(error) = error {
            self.note(error);
        }
        self.session.abort();
        self.finish(env);
    }

    /// Has a task see to the connection.
    fn drive(&mut self) {
        if !std::mem::replace(&mut self.driven, true) {
            self.after().drive = true;
        }
    }

    /// It is not open any more: a task sees it through, and whoever waits to send hears of it.
    fn begin_end(&mut self) {
        // The rest of the peer's input is to be read, for the close handshake.
        self.session.end_throttle();
        self.is_reading_paused = false;
        self.drive();
        self.wake_senders();
        let driver = self.driver.take();
        self.wake(driver);
    }

    /// Goes on with the end, if it has begun.
    pub(super) fn settle(&mut self, env: Env<'_>) {
        if self.session.is_open() {
            return;
        }
        let is_unread = !self.unparsed.is_empty();
        match self.on_stream(env.waker, |session, io| session.end_step(io, is_unread)) {
            None => return,
            Some(EndStep::HangUp) => return self.finish(env),
            Some(EndStep::Linger) => self.report(),
            Some(EndStep::Wait) => {}
        }
        if !self.driven {
            self.begin_end();
        }
    }

    pub(super) fn note_driver(&mut self, waker: &Waker) {
        match &mut self.driver {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// The peer will send no more.
    pub(super) fn input_ended(&mut self, error: Option<io::Error>) {
        // The stream's last bytes (`close_notify`) leave at once, or not at all.
        self.on_stream(Waker::noop(), |session, io| session.input_ended(error, io));
    }

    /// Reads away what nobody wants any more.
    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>, env: Env<'_>) -> Poll<()> {
        self.unparsed.clear(env.session.buffers);
        let mut input = env.session.buffers.lend_input();
        let lingering = self.on_stream(cx.waker(), |session, io| session.linger(io, &mut input));
        env.session.buffers.return_input(input);
        match lingering {
            Some(Linger::More) | None => {}
            Some(Linger::Waits) => return Poll::Pending,
            Some(Linger::Over) => self.finish(env),
        }
        Poll::Ready(())
    }

    /// Says how the connection ended, once.
    fn report(&mut self) {
        if self.outcome.is_none() {
            let mut closed = self.session.outcome();
            if closed.initiator == Initiator::Peer {
                closed.unread_for = self.session.unread_for(watch::last_stall(), Instant::now());
            }
            self.outcome = Some(Arc::new(closed));
        }
        self.wake_senders();
        let after = self.after.get_or_insert_default();
        self.close_waiters.take_all(&mut after.woken);
        after.woken.extend(self.reader.take());
        after.woken.extend(self.driver.take());
        if let Some(measuring) = &mut self.measuring {
            after.woken.extend(measuring.waker.take());
        }
    }

    /// The end: lets go of the stream.
    pub(super) fn finish(&mut self, env: Env<'_>) {
        self.after().stream = self.stream.take();
        self.unparsed.clear(env.session.buffers);
        self.timer = None;
        self.report();
        self.session.end_keepalive();
        self.session.let_go();
    }

    /// An owner lets go. A receiver that goes first leaves a task behind that reads what nobody receives: pings are answered,
    /// and the end is noticed. With the last owner, the connection closes with 1001, or with 1011 if that is because of a panic.
    pub(super) fn release(&mut self, is_receiver: bool, env: Env<'_>) {
        self.halves -= 1;
        if self.stream.is_none() {
            return;
        }
        if self.halves == 0 {
            let code = if thread::panicking() { CloseCode::INTERNAL_ERROR } else { CloseCode::GOING_AWAY };
            let closed = self.close(CloseFrame { code: Some(code), reason: "" }, env);
            debug_assert!(closed.is_ok(), "both codes may be sent");
            self.write(env);
        } else if is_receiver {
            self.inbox.clear();
            self.inbox_cost = 0;
            self.drive();
        }
    }
}
