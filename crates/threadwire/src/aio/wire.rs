//! A stream, the protocol on it, what waits to be written and what waits to be received: a connection under its lock.
//!
//! Nothing here blocks, and nothing here calls anybody: who is to be woken, and what is to be done without the lock, is
//! noted in `after`, and done by [`Locked`](super::core::Locked) when it lets the lock go.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use threadwire_proto::state::State;
use threadwire_proto::{
    CloseCode, CloseFrame, Connection as Protocol, Event as ProtocolEvent, Level, OpCode, Role, SendError,
};
use tokio::io::AsyncWrite;

use super::received::Event;
use super::rest::Rest;
use super::stream::{Stream, Writer};
use super::waiters::Waiters;
use crate::local::Local;
use crate::outbox::Outbox;
use crate::{Closed, Config, Error, WhenFull};

/// Payloads from this many bytes on are written from where they lie instead of being copied.
const DIRECT_WRITE: usize = 16 << 10;

/// How much may wait to be received, before a loop of sends reads no more.
const PUMPED: usize = 256 << 10;

/// The reads of one look at what has arrived, in a loop of sends.
const READS_PER_LOOK: u32 = 4;

/// How much further than other frames control frames may go, when too much waits to be written.
const CONTROL_ROOM: usize = 1 << 20;

/// What is to be done when the lock is let go.
#[derive(Default)]
pub(super) struct After {
    pub(super) woken: Vec<Waker>,
    /// Something waits to be written.
    pub(super) kick: bool,
    /// A task has to see the connection through to its end.
    pub(super) drive: bool,
    /// The stream, at the end: closing it may call others.
    pub(super) stream: Option<Stream>,
}

impl After {
    #[inline]
    pub(super) fn has_some(&self) -> bool {
        self.kick | self.drive | !self.woken.is_empty() | self.stream.is_some()
    }
}

pub(super) struct Wire {
    /// None once TCP has ended.
    stream: Option<Stream>,
    protocol: Protocol,
    outbox: Outbox,
    /// Where the last late pong lies in the output: until it has left, there is no other.
    late_pong_at: u64,
    /// Whether the stream itself may hold back what was written to it.
    unflushed: bool,
    /// Writing has failed: nothing leaves any more.
    broken: bool,
    /// More waits than the high watermark, and not less than the low one since.
    paused: bool,
    /// Whether the last read may have left something behind.
    may_have_more: bool,
    /// Whether pings and pongs are handed out.
    wants_control: bool,
    /// Whether the task is there that sees the connection through to its end, or discards what nobody receives.
    driven: bool,
    /// Whether that the connection has ended was said to its receiver.
    told: bool,
    /// How many owners the connection has: both halves, or one.
    halves: u8,
    sends: u8,
    rest: Rest,
    /// What was read while sending, and not received yet.
    inbox: VecDeque<Event>,
    inbox_cost: usize,
    dropped: u64,
    /// Who receives.
    reader: Option<Waker>,
    driver: Option<Waker>,
    /// Who waits for less to be waiting to be written.
    pub(super) senders: Waiters,
    /// Who waits for the end.
    pub(super) mourners: Waiters,
    /// What went wrong first.
    error: Option<Box<Error>>,
    outcome: Option<Arc<Closed>>,
    pub(super) after: After,
}

impl Wire {
    pub(super) fn new(stream: Stream, role: Role, config: &Config, output: Vec<u8>, rest: Rest) -> Wire {
        Wire {
            stream: Some(stream),
            protocol: Protocol::new(role, &config.protocol(Level::Messages)),
            outbox: Outbox::with(output),
            late_pong_at: 0,
            unflushed: false,
            broken: false,
            paused: false,
            may_have_more: true,
            wants_control: false,
            driven: false,
            told: false,
            halves: 2,
            sends: 0,
            rest,
            inbox: VecDeque::new(),
            inbox_cost: 0,
            dropped: 0,
            reader: None,
            driver: None,
            senders: Waiters::default(),
            mourners: Waiters::default(),
            error: None,
            outcome: None,
            after: After::default(),
        }
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.protocol.state() == State::Open
    }

    #[inline]
    pub(super) fn buffered(&self) -> usize {
        self.outbox.len()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn outcome(&self) -> Option<&Arc<Closed>> {
        self.outcome.as_ref()
    }

    pub(super) fn stream(&self) -> io::Result<&Stream> {
        self.stream.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn note(&mut self, error: Error) {
        if self.outcome.is_none() {
            self.error.get_or_insert_with(|| Box::new(error));
        }
    }
}

/// Reading.
impl Wire {
    pub(super) fn hand_out_control(&mut self) {
        self.wants_control = true;
    }

    pub(super) fn note_reader(&mut self, waker: &Waker) {
        note(&mut self.reader, waker);
    }

    /// The next thing that has arrived. `None` if nothing more will be handed out.
    #[inline]
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>, local: &Local) -> Poll<Option<Event>> {
        if let Some(event) = self.inbox.pop_front() {
            self.inbox_cost -= event.cost();
            return Poll::Ready(Some(event));
        }
        loop {
            if let Some(event) = self.look_at_rest(local) {
                return Poll::Ready(Some(event));
            }
            if !self.is_open() {
                return Poll::Ready(None);
            }
            if let Some(event) = ready!(self.poll_read(cx, local)) {
                return Poll::Ready(Some(event));
            }
        }
    }

    #[inline]
    fn look_at_rest(&mut self, local: &Local) -> Option<Event> {
        if self.rest.is_empty() {
            return None;
        }
        let mut rest = std::mem::take(&mut self.rest);
        let mut input = rest.bytes();
        let event = self.parse(&mut input, local);
        let left = input.len();
        rest.keep_last(left, local);
        self.rest = rest;
        event
    }

    /// One read: into the long payload that is arriving, if there is one; otherwise into a buffer of the thread.
    #[inline]
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, local: &Local) -> Poll<Option<Event>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        if let Some(room) = self.protocol.reader().room() {
            let size = room.len();
            let read = ready!(stream.poll_read_into(cx, room));
            let Some(count) = self.count_read(read, size) else { return Poll::Ready(None) };
            self.protocol.reader().commit(count);
            return Poll::Ready(self.parse(&mut &mut [][..], local));
        }
        let mut input = local.lend_input();
        let read = match stream.poll_read_into(cx, &mut input) {
            Poll::Ready(read) => read,
            Poll::Pending => {
                local.return_input(input);
                return Poll::Pending;
            }
        };
        let count = self.count_read(read, input.len()).unwrap_or(0);
        let mut unread = &mut input[..count];
        let event = self.parse(&mut unread, local);
        let start = count - unread.len();
        self.rest.keep(input, start, count, local);
        Poll::Ready(event)
    }

    /// What a read has come to; `None` if the stream has ended.
    #[inline]
    fn count_read(&mut self, read: io::Result<usize>, size: usize) -> Option<usize> {
        match read {
            Ok(count) if count > 0 => {
                self.may_have_more = count == size;
                return Some(count);
            }
            Ok(_) => {}
            Err(error) => self.note(error.into()),
        }
        self.may_have_more = false;
        self.protocol.tcp_ended();
        None
    }

    /// The next thing in `input` that is handed out.
    #[inline]
    fn parse(&mut self, input: &mut &mut [u8], local: &Local) -> Option<Event> {
        loop {
            if let Some(message) = self.protocol.receive_message(input) {
                return Some(Event::Message(message.to_owned()));
            }
            let mut shared = local.shared.borrow_mut();
            let event = self.protocol.receive(input, &mut shared, self.outbox.end_unlent())?;
            match event {
                ProtocolEvent::Frame(frame) => match frame.opcode() {
                    OpCode::Ping if self.wants_control => return Some(Event::Ping(frame.into_vec())),
                    OpCode::Pong if self.wants_control => return Some(Event::Pong(frame.into_vec())),
                    OpCode::Ping | OpCode::Pong => frame.recycle(&mut shared.pool),
                    _ => {
                        if let Some(message) = frame.into_message() {
                            return Some(Event::Message(message));
                        }
                    }
                },
                ProtocolEvent::Close(frame) => frame.recycle(&mut shared.pool),
                ProtocolEvent::Failed(rule) => {
                    drop(shared);
                    self.note(Error::Protocol { rule });
                }
            }
        }
    }

    /// Reads, and drops the messages: nobody wants them any more. What the protocol does about the rest is done.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>, local: &Local) -> Poll<()> {
        while self.look_at_rest(local).is_some() {}
        let _ = ready!(self.poll_read(cx, local));
        while self.look_at_rest(local).is_some() {}
        Poll::Ready(())
    }

    /// Reads ahead, so that pings are answered and the end is noticed while its owner only sends; as long as what waits to be
    /// received is little.
    pub(super) fn read_ahead(&mut self, cx: &mut Context<'_>, local: &Local) {
        for _ in 0..READS_PER_LOOK {
            while let Some(event) = self.look_at_rest(local) {
                self.keep_for_later(event);
            }
            if !self.is_open() || self.inbox_cost > PUMPED || self.driven {
                break;
            }
            match self.poll_read(cx, local) {
                Poll::Ready(Some(event)) => self.keep_for_later(event),
                Poll::Ready(None) => {}
                Poll::Pending => break,
            }
        }
        if !self.is_open() {
            self.settle(local);
        }
        self.kick_if_needed();
    }

    fn keep_for_later(&mut self, event: Event) {
        self.inbox_cost += event.cost();
        self.inbox.push_back(event);
    }

    /// Whether the receiver knows that it has ended.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// How it ended, for the receiver: an error once, if it was not with a code that says that all is well.
    pub(super) fn end_of_stream(&mut self) -> Option<Result<(), Error>> {
        let outcome = self.outcome.as_ref()?;
        let is_normal =
            matches!(outcome.code, CloseCode::NORMAL | CloseCode::GOING_AWAY | CloseCode::NO_STATUS);
        if std::mem::replace(&mut self.told, true) || is_normal {
            return Some(Ok(()));
        }
        Some(Err(Error::Ended(Arc::clone(outcome))))
    }
}

/// Writing.
impl Wire {
    /// Whether a send has to wait.
    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.paused && self.is_open()
    }

    /// Counts a send, and says whether it is time to look at what has arrived.
    #[inline]
    pub(super) fn is_time_to_read(&mut self) -> bool {
        self.sends = self.sends.wrapping_add(1);
        self.sends.is_multiple_of(32)
    }

    /// Sends a frame, or puts it into the outbox. `waker` is called when the stream takes more again.
    #[inline]
    pub(super) fn send_frame(
        &mut self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        droppable: bool,
        config: &Config,
        waker: &Waker,
        local: &Local,
    ) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Closed);
        }
        let is_lone = self.rest.is_empty() && self.inbox.is_empty();
        if payload.len() >= DIRECT_WRITE && is_lone && !self.outbox.is_blocked() {
            let header = self.protocol.send_header(opcode, fin, payload.len())?;
            if let (Some(header), Some(stream)) = (header, &mut self.stream) {
                let cx = &mut Context::from_waker(waker);
                self.unflushed = !stream.is_tcp();
                let result = self.outbox.write_frame(&header, payload, &mut Writer { stream, cx }, local);
                self.wrote(result, config);
                self.kick_if_needed();
                return Ok(());
            }
        }
        self.outbox.before_frame(droppable);
        let mut shared = local.shared.borrow_mut();
        self.protocol.send_frame(opcode, fin, payload, &mut shared, self.outbox.end(local))?;
        drop(shared);
        self.outbox.mark(droppable);
        if self.outbox.len() > config.high_watermark {
            self.write(config, waker, local);
        }
        self.kick_if_needed();
        Ok(())
    }

    /// The same for whoever can't wait: with more than [`Config::max_buffered`], the policy decides.
    pub(super) fn send_or(
        &mut self,
        opcode: OpCode,
        payload: &[u8],
        when_full: WhenFull,
        config: &Config,
        waker: &Waker,
        local: &Local,
    ) -> Result<(), Error> {
        if !self.is_open() {
            return Err(Error::Closed);
        }
        let limit = config.max_buffered;
        if !self.has_room(payload.len(), limit) {
            // It may be that nobody has tried to write it yet.
            self.write(config, waker, local);
        }
        if !self.has_room(payload.len(), limit) {
            match when_full {
                _ if opcode.is_control() && self.buffered() <= limit + CONTROL_ROOM => {}
                WhenFull::DropNewest => {
                    self.dropped += 1;
                    return Ok(());
                }
                WhenFull::DropOldest => {
                    while !self.has_room(payload.len(), limit) && self.outbox.drop_oldest() {
                        self.dropped += 1;
                    }
                }
                WhenFull::Close => {
                    let reason = crate::Connection::TOO_SLOW;
                    self.close(CloseFrame { code: Some(CloseCode::POLICY), reason }, local)?;
                    return Err(Error::too_much_buffered(limit));
                }
                _ => return Err(Error::too_much_buffered(limit)),
            }
        }
        let droppable = when_full == WhenFull::DropOldest && !opcode.is_control();
        self.send_frame(opcode, true, payload, droppable, config, waker, local)
    }

    /// Whether a payload of this length may be added to what waits. Anything is taken when nothing does.
    pub(super) fn has_room(&self, length: usize, limit: usize) -> bool {
        self.buffered() == 0 || self.buffered() + length <= limit
    }

    /// Whether all has left.
    #[inline]
    pub(super) fn is_drained(&self) -> bool {
        self.stream.is_none() || (self.outbox.is_empty() && !self.unflushed)
    }

    /// Has what waits leave soon, if nobody has seen to that yet.
    #[inline]
    pub(super) fn kick_if_needed(&mut self) {
        self.after.kick |= !self.is_drained() && !self.outbox.is_blocked();
    }

    /// The stream takes more again, or somebody has sent something.
    pub(super) fn flush(&mut self, config: &Config, waker: &Waker, local: &Local) {
        self.outbox.unblock();
        self.write(config, waker, local);
        if !self.is_open() {
            self.settle(local);
        }
    }

    /// Writes what waits, as far as the stream takes it.
    #[inline]
    pub(super) fn write(&mut self, config: &Config, waker: &Waker, local: &Local) {
        let Some(stream) = &mut self.stream else { return };
        if self.outbox.is_empty() && !self.unflushed && !self.protocol.has_late_pong() {
            return;
        }
        let cx = &mut Context::from_waker(waker);
        self.unflushed |= !stream.is_tcp() && !self.outbox.is_empty();
        let mut writer = Writer { stream, cx };
        let mut result = self.outbox.write(&mut writer, local);
        if result.is_ok() && self.protocol.has_late_pong() && self.outbox.written() >= self.late_pong_at {
            self.protocol.drained(&mut local.shared.borrow_mut(), self.outbox.end_unlent());
            self.late_pong_at = self.outbox.written() + self.outbox.len() as u64;
            result = self.outbox.write(&mut writer, local);
        }
        if result.is_ok() && self.unflushed && self.outbox.is_empty() {
            result = match Pin::new(&mut *writer.stream).poll_flush(writer.cx) {
                Poll::Ready(flushed) => {
                    self.unflushed = false;
                    flushed
                }
                Poll::Pending => Ok(()),
            };
        }
        self.wrote(result, config);
    }

    /// What a write has come to: who waits for that goes on.
    #[inline]
    fn wrote(&mut self, result: io::Result<()>, config: &Config) {
        if let Err(error) = result {
            // What the peer sent before it went away can still be read, perhaps with the reason.
            self.note(error.into());
            self.broken = true;
            self.unflushed = false;
            self.after.woken.extend(self.reader.take());
            self.after.woken.extend(self.driver.take());
        }
        let left = self.outbox.len();
        self.paused = left > config.high_watermark || (self.paused && left > config.low_watermark);
        if left > 0 && self.paused {
            return;
        }
        if !self.senders.is_empty() {
            self.senders.take_all(&mut self.after.woken);
        }
        if self.driven && self.is_drained() {
            self.after.woken.extend(self.driver.take());
        }
    }
}

/// Ending.
impl Wire {
    /// Closes: behind what was sent, and what has not been received yet is dropped.
    pub(super) fn close(&mut self, frame: CloseFrame<'_>, local: &Local) -> Result<(), SendError> {
        let was_open = self.is_open();
        let mut shared = local.shared.borrow_mut();
        self.protocol.close(frame, &mut shared, self.outbox.end(local))?;
        drop(shared);
        if was_open {
            self.inbox.clear();
            self.inbox_cost = 0;
            self.begin_end();
            self.kick_if_needed();
        }
        Ok(())
    }

    /// Drops the connection without a word.
    pub(super) fn abort(&mut self, error: Option<Error>, local: &Local) {
        if let Some(error) = error {
            self.note(error);
        }
        self.protocol.abort();
        self.finish(local);
    }

    /// It is not open any more: a task sees it through, and whoever waits to send hears of it.
    fn begin_end(&mut self) {
        self.after.drive |= !std::mem::replace(&mut self.driven, true);
        self.senders.take_all(&mut self.after.woken);
        self.after.woken.extend(self.driver.take());
    }

    /// Goes on with the end, if it has begun: at once, if nothing more has to be read or written for it.
    pub(super) fn settle(&mut self, local: &Local) {
        if self.stream.is_none() || self.is_open() {
            return;
        }
        if self.protocol.state() == State::Ended || self.can_hang_up() {
            return self.finish(local);
        }
        if !self.driven {
            self.begin_end();
        }
    }

    /// Whether nothing of the peer's is left unread, and nothing more will come: closing TCP can't reset it. Another stream
    /// has a farewell of its own, which the task sees to.
    fn can_hang_up(&self) -> bool {
        self.protocol.state() == State::Closed
            && self.has_said_all()
            && !self.may_have_more
            && self.rest.is_empty()
            && self.stream.as_ref().is_some_and(Stream::is_tcp)
    }

    /// Whether it is for this side to end TCP, and all that was to be said has been.
    pub(super) fn has_said_all(&self) -> bool {
        self.protocol.should_end_tcp() && self.is_drained()
    }

    pub(super) fn is_over(&self) -> bool {
        self.stream.is_none()
    }

    pub(super) fn note_driver(&mut self, waker: &Waker) {
        note(&mut self.driver, waker);
    }

    pub(super) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        self.protocol.deadline(now)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.protocol.expire(now);
    }

    /// Tells the peer that nothing more will come.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(()) };
        // Where that fails, so will reading.
        let _ = ready!(Pin::new(stream).poll_shutdown(cx));
        Poll::Ready(())
    }

    /// Reads what nobody wants any more. Whether the stream has ended.
    pub(super) fn poll_read_away(&mut self, cx: &mut Context<'_>, local: &Local) -> Poll<bool> {
        self.rest.clear(local);
        let Some(stream) = &mut self.stream else { return Poll::Ready(true) };
        let mut input = local.lend_input();
        let read = stream.poll_read_into(cx, &mut input);
        local.return_input(input);
        Poll::Ready(!matches!(ready!(read), Ok(1..)))
    }

    /// Says how the connection ended, once.
    pub(super) fn report(&mut self) {
        if self.outcome.is_none() {
            let error = self.error.take().map(|error| *error);
            self.outcome = Some(Arc::new(Closed::new(self.protocol.closing(), error)));
        }
        self.senders.take_all(&mut self.after.woken);
        self.mourners.take_all(&mut self.after.woken);
        self.after.woken.extend(self.reader.take());
        self.after.woken.extend(self.driver.take());
    }

    /// The end: lets go of the stream.
    pub(super) fn finish(&mut self, local: &Local) {
        self.after.stream = self.stream.take();
        self.outbox = Outbox::default();
        self.unflushed = false;
        self.rest.clear(local);
        self.report();
    }

    /// An owner lets go. A receiver that goes first leaves a task behind that reads what nobody receives: pings are answered,
    /// and the end is noticed. With the last owner, the connection closes with 1001.
    pub(super) fn release(&mut self, is_receiver: bool, local: &Local) -> bool {
        self.halves -= 1;
        if self.stream.is_none() {
            return false;
        }
        if self.halves == 0 {
            // The code may be sent.
            let _ = self.close(CloseFrame { code: Some(CloseCode::GOING_AWAY), reason: "" }, local);
            return true;
        }
        if is_receiver {
            self.inbox.clear();
            self.inbox_cost = 0;
            self.after.drive |= !std::mem::replace(&mut self.driven, true);
        }
        false
    }
}

/// Notes a waker, without touching counters if it is there already.
#[inline]
fn note(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(known) => known.clone_from(waker),
        None => *place = Some(waker.clone()),
    }
}
