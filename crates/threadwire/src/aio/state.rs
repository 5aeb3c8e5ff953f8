//! State of a connection on tokio, under its lock: the session, its stream, what has arrived, and who waits for what.
//!
//! Nothing here blocks, and nothing here calls anybody: who is to be woken, and what is to be done without the lock, is
//! noted, and done by [`Core::with`](super::core::Core::with) when it has let the lock go. What is decided is decided by the session.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use threadwire_core::session::close::EndStep;
use threadwire_core::session::keepalive::Due;
use threadwire_core::session::linger::Linger;
use threadwire_core::session::outcome::EndOfReceiving;
use threadwire_core::session::overflow::{FrameKind, Overflow};
use threadwire_core::session::progress::Stall;
use threadwire_core::session::send::Framed;
use threadwire_core::session::unparsed::Unparsed;
use threadwire_core::session::{self, Session};
use threadwire_proto::{CloseCode, CloseFrame, Compress, Initiator, Level, OpCode, SendError, SendOptions};

use super::attendant::{RuntimeEnded, now};
use super::link::{Awaited, Link};
use super::received::Arrival;
use super::stream::{Polled, Stream};
use super::waiters::Waiters;
use crate::tasks::last_stall;
use crate::{Closed, Error, WhenFull};

/// What a connection needs for most of what it does.
#[derive(Clone, Copy)]
pub(super) struct Env<'a> {
    pub(super) session: session::Env<'a>,
    pub(super) link: &'a Arc<Link>,
    /// The stream's wakers: the link itself, and its ear.
    pub(super) waker: &'a Waker,
    pub(super) ear: &'a Waker,
}

/// What is to be done when the lock is let go.
#[derive(Default)]
pub(super) struct After {
    pub(super) woken: Vec<Waker>,
    /// The reader has a message, and is to come again.
    pub(super) watch: bool,
    /// The stream, at the end: closing it may call others.
    pub(super) stream: Option<Stream>,
}

pub(super) struct State {
    /// None once TCP has ended.
    pub(super) stream: Option<Stream>,
    pub(super) session: Session,
    pub(super) unparsed: Unparsed,
    /// What was read while nobody received, and not received yet.
    pub(super) inbox: VecDeque<Arrival>,
    pub(super) inbox_cost: usize,
    /// Whether that is so much that nothing more is read.
    pub(super) is_full: bool,
    /// How much had been sent when something was read last.
    pub(super) sent_at_read: u64,
    /// Whether pings and pongs are handed out.
    pub(super) wants_control: bool,
    /// Whether messages are handed out in parts.
    pub(super) in_parts: bool,
    /// Whether a message is being sent in parts, for whose end others wait.
    pub(super) is_sending_parts: bool,
    /// Whether the program reads no more for now.
    pub(super) is_reading_paused: bool,
    /// Whether the reader has come since that was looked at last.
    pub(super) has_polled: bool,
    /// Whether the receiver was dropped before the sender: what arrives is dropped too.
    has_no_receiver: bool,
    /// Whether the attendant is to read, whoever receives.
    pub(super) wants_look: bool,
    has_begun_to_end: bool,
    pub(super) end: EndOfReceiving,
    /// How many owners the connection has: both halves, or one.
    halves: u8,
    /// Who waits for less to be waiting to be written.
    pub(super) senders: Waiters,
    pub(super) close_waiters: Waiters,
    pub(super) measuring: Option<Box<super::round_trip::Measuring>>,
    /// Its place on the attendant's agenda: the session's deadline, or before it, as bytes that arrive only move the deadline.
    pub(super) timer: Option<Instant>,
    outcome: Option<Arc<Closed>>,
    /// Whether there is something for the attendant: to be told without the lock.
    pub(super) needs_attendant: bool,
    /// What else is. In a box: it is rare, and locking often.
    pub(super) after: Option<Box<After>>,
}

impl State {
    pub(super) fn new(stream: Stream, session: Session, unparsed: Unparsed, level: Level) -> State {
        State {
            stream: Some(stream),
            session,
            unparsed,
            inbox: VecDeque::new(),
            inbox_cost: 0,
            is_full: false,
            sent_at_read: u64::MAX,
            wants_control: false,
            in_parts: level == Level::Frames,
            is_sending_parts: false,
            is_reading_paused: false,
            has_polled: false,
            has_no_receiver: false,
            wants_look: false,
            has_begun_to_end: false,
            end: EndOfReceiving::default(),
            halves: 2,
            senders: Waiters::default(),
            close_waiters: Waiters::default(),
            measuring: None,
            timer: None,
            outcome: None,
            needs_attendant: false,
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
    pub(super) fn after(&mut self) -> &mut After {
        self.after.get_or_insert_default()
    }

    /// Has somebody woken who waits.
    pub(super) fn wake(&mut self, waiting: Option<Waker>) {
        if let Some(waker) = waiting {
            self.after().woken.push(waker);
        }
    }

    /// Has the one who receives woken. Whether there is one.
    pub(super) fn wake_reader(&mut self, env: Env<'_>) -> bool {
        let reader = env.link.take_reader();
        let is_there = reader.is_some();
        self.wake(reader);
        is_there
    }

    /// Has somebody read again: the one who receives, or the attendant.
    pub(super) fn call_reader(&mut self, env: Env<'_>) {
        match self.wake_reader(env) {
            true => self.after().watch = true,
            false => self.call_attendant(),
        }
    }

    /// Has the attendant come and read, unless a reader does.
    pub(super) fn call_attendant(&mut self) {
        (self.wants_look, self.needs_attendant) = (true, self.stream.is_some());
    }

    /// Has `call` work with the session and its stream, unless TCP has ended. The waker is woken when the stream can go on.
    #[inline]
    pub(super) fn on_stream<T>(
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

    /// Whether whoever sends needn't wait. Otherwise it is noted as one who does.
    #[inline]
    pub(super) fn has_turn(&mut self, cx: &mut Context<'_>, number: &mut Option<u64>) -> bool {
        let is_paused = self.is_paused() || (self.is_sending_parts && self.session.is_open());
        if is_paused {
            self.senders.note(number, cx.waker());
        }
        !is_paused
    }

    /// The same for the next part of a message.
    pub(super) fn has_turn_in_message(&mut self, cx: &mut Context<'_>, number: &mut Option<u64>) -> bool {
        let is_paused = self.is_paused();
        if is_paused {
            self.senders.note(number, cx.waker());
        }
        !is_paused
    }

    /// No message is being sent in parts any more: those who have waited for that go on.
    pub(super) fn end_parts(&mut self) {
        self.is_sending_parts = false;
        self.wake_senders();
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
            // What the peer has said before it went away tells how the connection ends.
            self.look(env);
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
        if self.session.is_blocked() {
            self.look_at_rest(env);
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
                self.began_to_close(env);
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
        self.needs_attendant |= self.session.wants_write() && self.stream.is_some();
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
            self.call_reader(env);
        }
        let was_throttled = self.session.is_throttled();
        self.session.regulate(now, env.session);
        self.look_at_rest(env);
        if was_throttled && !self.session.is_throttled() {
            self.call_reader(env);
        }
        if self.session.buffered() > 0 && self.session.is_above_watermark() {
            return;
        }
        self.wake_senders();
        // The next step to the end may have waited for this.
        self.needs_attendant |= self.has_begun_to_end && self.session.is_drained() && self.stream.is_some();
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

/// What the attendant does.
impl State {
    /// The stream takes more, or something was sent, or there is input for nobody.
    pub(super) fn attend(&mut self, env: Env<'_>) {
        self.on_stream(env.waker, |session, io| session.writable(io));
        self.write(env);
        let wants_look = mem::take(&mut self.wants_look) || env.link.has_arrived();
        if self.is_discarding() || (wants_look && !env.link.is_awaited()) {
            self.look(env);
        }
        self.settle(env);
        if self.has_begun_to_end {
            self.schedule(env);
        } else if !env.link.is_awaited() && !self.is_reading_held() && !self.is_full {
            self.watch_reader(env);
        }
    }

    /// Whether the reader is missing that was woken. Where it is late, and has not come at all since the last time, this reads for it.
    pub(super) fn look_after_reader(&mut self, is_late: bool, env: Env<'_>) -> bool {
        if self.is_discarding() || self.is_reading_held() || env.link.is_awaited() {
            return false;
        }
        if !is_late || mem::take(&mut self.has_polled) {
            return true;
        }
        self.look(env);
        false
    }

    /// A time on the agenda has come: does what is due. What has arrived until now is read before.
    pub(super) fn ring(&mut self, env: Env<'_>) {
        self.timer = None;
        if self.is_over() {
            return;
        }
        if !env.link.is_awaited() {
            self.look(env);
        }
        let (now, was_throttled) = (now(), self.session.is_throttled());
        match self.session.tick(now, !self.is_reading_held() && !self.is_full, env.session) {
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
                self.finish(env);
            }
            Due::Stalled(stall) => self.give_up_stalled(stall, env),
            Due::Expired => self.finish(env),
            Due::Nothing => {}
        }
        self.read_on(was_throttled, env);
        self.schedule(env);
    }

    /// Has what is left over looked at from time to time, whether it goes on.
    #[inline]
    pub(super) fn look_at_rest(&mut self, env: Env<'_>) {
        if self.session.leaves_something() {
            self.watch(env);
        }
    }

    #[cold]
    fn watch(&mut self, env: Env<'_>) {
        if !self.session.is_open() || self.is_over() {
            return;
        }
        let was_throttled = self.session.is_throttled();
        match self.session.watch(now(), env.session) {
            Some(stall) => self.give_up_stalled(stall, env),
            None => self.read_on(was_throttled, env),
        }
        self.schedule(env);
    }

    /// Has somebody read again, if the budget allows that from now on.
    fn read_on(&mut self, was_throttled: bool, env: Env<'_>) {
        if was_throttled && !self.session.is_throttled() && self.session.is_open() {
            self.call_reader(env);
        }
    }

    #[cold]
    fn give_up_stalled(&mut self, stall: Stall, env: Env<'_>) {
        self.on_stream(env.waker, |session, io| session.give_up_stalled(stall, io, env.session));
        self.settle(env);
    }

    /// Puts the connection on the agenda, for what is due next.
    pub(super) fn schedule(&mut self, env: Env<'_>) {
        if self.is_over() {
            return;
        }
        let at = self.session.deadline(now()).unwrap_or(env.link.attendant.never);
        if self.timer == Some(at) {
            return;
        }
        // Somebody holds it who calls this.
        let Some(core) = env.link.core.upgrade() else { return };
        match env.link.attendant.schedule(core, self.timer.replace(at), at) {
            Ok(waker) => self.wake(waker),
            Err(RuntimeEnded) => self.end_with_runtime(env),
        }
    }

    /// The runtime has ended, and the connection with it. What still leaves at once does.
    pub(super) fn end_with_runtime(&mut self, env: Env<'_>) {
        self.timer = None;
        self.note(Error::other("the runtime of the connection has ended"));
        self.close_now(env);
    }
}

/// Closing.
impl State {
    /// Closes: behind what was sent, and what has not been received yet is dropped.
    pub(super) fn close(&mut self, frame: CloseFrame<'_>, env: Env<'_>) -> Result<(), SendError> {
        let was_open = self.session.is_open();
        self.session.close(frame, env.session.buffers)?;
        if was_open {
            self.began_to_close(env);
        }
        Ok(())
    }

    fn began_to_close(&mut self, env: Env<'_>) {
        self.clear_inbox(env);
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

    /// It is not open any more: the attendant sees it through, and whoever waits to send hears of it.
    fn begin_end(&mut self) {
        // The rest of the peer's input is to be read, for the close handshake.
        self.session.end_throttle();
        self.is_reading_paused = false;
        self.has_begun_to_end = true;
        self.call_attendant();
        self.wake_senders();
    }

    /// Whether what arrives is dropped: nobody receives it, or it is only awaited until the end.
    pub(super) fn is_discarding(&self) -> bool {
        self.has_no_receiver || !self.session.is_open()
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
            Some(EndStep::Linger) => self.report(env),
            Some(EndStep::Wait) => {}
        }
        if !self.has_begun_to_end {
            self.begin_end();
        }
    }

    /// The peer will send no more.
    pub(super) fn input_ended(&mut self, error: Option<io::Error>) {
        // The stream's last bytes (`close_notify`) leave at once, or not at all.
        self.on_stream(Waker::noop(), |session, io| session.input_ended(error, io));
    }

    /// Reads away what nobody wants any more.
    pub(super) fn poll_linger(&mut self, env: Env<'_>) -> Poll<()> {
        self.unparsed.clear(env.session.buffers);
        let mut input = env.session.buffers.lend_input();
        env.link.await_input(Awaited::ByAttendant);
        let lingering = self.on_stream(env.ear, |session, io| session.linger(io, &mut input));
        env.session.buffers.return_input(input);
        match lingering {
            Some(Linger::More) | None => {}
            Some(Linger::Waits) => return Poll::Pending,
            Some(Linger::Over) => self.finish(env),
        }
        Poll::Ready(())
    }

    /// Says how the connection ended, once.
    fn report(&mut self, env: Env<'_>) {
        if self.outcome.is_none() {
            let mut closed = self.session.outcome();
            if closed.initiator == Initiator::Peer {
                closed.unread_for = self.session.unread_for(last_stall(), now());
            }
            self.outcome = Some(Arc::new(closed));
        }
        self.wake_senders();
        let after = self.after.get_or_insert_default();
        self.close_waiters.take_all(&mut after.woken);
        after.woken.extend(env.link.take_reader());
        if let Some(measuring) = &mut self.measuring {
            after.woken.extend(measuring.waker.take());
        }
    }

    /// The end: lets go of the stream.
    pub(super) fn finish(&mut self, env: Env<'_>) {
        self.after().stream = self.stream.take();
        self.unparsed.clear(env.session.buffers);
        if let Some(timer) = self.timer.take()
            && let Some(core) = env.link.core.upgrade()
        {
            env.link.attendant.forget(&core, timer);
        }
        self.report(env);
        self.session.end_keepalive();
        self.session.let_go();
    }

    /// An owner lets go. Where the receiver goes first, what arrives is read and dropped: pings are answered, and the end is
    /// noticed. With the last owner, the connection closes with 1001, or with 1011 if that is because of a panic.
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
            self.clear_inbox(env);
            self.has_no_receiver = true;
            self.call_attendant();
        }
    }
}
