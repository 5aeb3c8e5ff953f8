//! Reading on tokio: what has arrived, handed out as events and kept while nobody asks for it.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use threadwire_core::session::buffers::Buffers;
use threadwire_core::session::receive::Received;
use threadwire_proto::keepalive::Hold;
use threadwire_proto::{OpCode, OwnedMessage};

use super::received::Event;
use super::state::{Env, State};
use super::stream::Polled;
use crate::Error;

/// The most messages that are taken from one read at once.
const AHEAD: usize = 16;

/// How much may wait to be received, before a loop of sends reads no more.
const PUMPED: usize = 256 << 10;

/// The reads of one look at what has arrived, in a loop of sends.
const READS_PER_LOOK: u32 = 4;

impl State {
    /// Receives: what has arrived, or the end. Where there is nothing, what was sent leaves, and the receiver is noted.
    #[inline]
    pub(super) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        ahead: &mut VecDeque<OwnedMessage>,
        env: Env<'_>,
    ) -> Poll<Result<Option<Event>, Error>> {
        match self.poll_event(cx, env, ahead) {
            Poll::Ready(Some(event)) => {
                self.flush_if_needed();
                return Poll::Ready(Ok(Some(event)));
            }
            Poll::Ready(None) => {
                self.write(env);
                self.settle(env);
            }
            Poll::Pending => self.write(env),
        }
        if self.outcome().is_none() {
            let is_known = !self.note_reader(cx.waker());
            self.look_at_pulse(cx, is_known, env);
        }
        match self.outcome().cloned() {
            Some(outcome) => Poll::Ready(self.end.tell(&outcome).map(|()| None)),
            None => Poll::Pending,
        }
    }

    /// Notes who receives. Whether that is somebody else than before.
    #[inline]
    fn note_reader(&mut self, waker: &Waker) -> bool {
        let is_new = !self.reader.as_ref().is_some_and(|known| known.will_wake(waker));
        if is_new {
            self.reader = Some(waker.clone());
        }
        is_new
    }

    /// The next thing that has arrived. `None` if nothing more will be handed out.
    #[inline]
    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        env: Env<'_>,
        ahead: &mut VecDeque<OwnedMessage>,
    ) -> Poll<Option<Event>> {
        if let Some(event) = self.inbox.pop_front() {
            self.inbox_cost -= event.cost();
            if self.inbox.is_empty() {
                // The inbox is only used by tasks that send and do not receive.
                self.inbox = VecDeque::new();
                self.session.set_more_follows(!self.unparsed.is_empty());
            }
            return Poll::Ready(Some(event));
        }
        loop {
            let mut event = self.look_at_unparsed(env.session.buffers, Some(ahead));
            if event.is_none() {
                if !self.session.is_open() {
                    return Poll::Ready(None);
                }
                event = ready!(self.poll_read(cx, env, Some(ahead)));
            }
            if event.is_some() {
                self.session.leaves_unread(Instant::now);
                return Poll::Ready(event);
            }
        }
    }

    #[inline]
    fn look_at_unparsed(
        &mut self,
        buffers: &Buffers,
        ahead: Option<&mut VecDeque<OwnedMessage>>,
    ) -> Option<Event> {
        if self.unparsed.is_empty() {
            return None;
        }
        let mut unparsed = std::mem::take(&mut self.unparsed);
        let mut input = unparsed.bytes();
        let event = self.parse(&mut input, buffers, ahead);
        let left = input.len();
        unparsed.keep_last(left, buffers);
        self.unparsed = unparsed;
        event
    }

    /// One read: into the long payload that is arriving, if there is one, and into a buffer of the thread.
    #[inline]
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        env: Env<'_>,
        ahead: Option<&mut VecDeque<OwnedMessage>>,
    ) -> Poll<Option<Event>> {
        if let Some(answers) = self.session.answers_too_much(self.sent_at_read, env.session) {
            // Bytes that can leave at once do not count.
            self.write(env);
            self.session.throttle(answers, env.session);
            self.sent_at_read = self.session.sent();
        }
        if self.is_reading_paused || self.session.is_throttled() {
            return Poll::Pending;
        }
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        self.session.reads_again(Instant::now);
        let buffers = env.session.buffers;
        let mut input = buffers.lend_input();
        match self.session.read(&mut Polled { stream, cx }, &mut input) {
            Received::Bytes { in_input, .. } => {
                self.session.heard(Instant::now);
                self.sent_at_read = self.session.sent();
                let mut unread = &mut input[..in_input];
                let event = self.parse(&mut unread, buffers, ahead);
                let start = in_input - unread.len();
                self.unparsed.keep(input, start, in_input, buffers);
                Poll::Ready(event)
            }
            Received::Nothing => {
                buffers.return_input(input);
                // Answers of the stream itself (TLS) leave.
                self.flush_if_needed();
                Poll::Pending
            }
            Received::End(error) => {
                buffers.return_input(input);
                self.input_ended(error);
                Poll::Ready(None)
            }
        }
    }

    /// The next thing in `input` that is handed out.
    #[inline]
    fn parse(
        &mut self,
        input: &mut &mut [u8],
        buffers: &Buffers,
        ahead: Option<&mut VecDeque<OwnedMessage>>,
    ) -> Option<Event> {
        loop {
            if let Some(message) = self.session.next_message(input) {
                let message = Event::Message(message.to_owned());
                if let Some(ahead) = ahead {
                    // Only whole messages: what is sent in answer to them must not come behind the peer's close frame.
                    while ahead.len() < AHEAD
                        && let Some(message) = self.session.next_message(input)
                    {
                        ahead.push_back(message.to_owned());
                    }
                }
                return Some(message);
            }
            let frame = self.session.next_frame(input, buffers)?;
            match frame.opcode() {
                OpCode::Ping if self.wants_control => return Some(Event::Ping(frame.into_vec())),
                OpCode::Pong => {
                    self.pong_arrived(frame.payload());
                    if self.wants_control {
                        return Some(Event::Pong(frame.into_vec()));
                    }
                    frame.recycle(&mut buffers.shared.borrow_mut().pool);
                }
                OpCode::Ping | OpCode::Close => frame.recycle(&mut buffers.shared.borrow_mut().pool),
                _ => {
                    if let Some(message) = frame.into_owned(&mut buffers.shared.borrow_mut().pool) {
                        return Some(Event::Message(message));
                    }
                }
            }
        }
    }

    fn pong_arrived(&mut self, payload: &[u8]) {
        let now = Instant::now();
        if !self.session.pong_arrived(payload, now) {
            self.measure_pong(payload, now);
        }
    }

    /// Reads, and drops the messages: nobody wants them any more. What the session does about the rest is done.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>, env: Env<'_>) -> Poll<()> {
        if self.session.input_is_over() {
            return Poll::Pending;
        }
        // Unparsed input may hold the peer's close frame, which has to be answered first.
        if self.unparsed.is_empty() {
            let _ = ready!(self.poll_read(cx, env, None));
        }
        while self.look_at_unparsed(env.session.buffers, None).is_some() {}
        Poll::Ready(())
    }

    /// Reads ahead, so that pings are answered and the end is noticed while its owner only sends; as long as what waits to be
    /// received is little.
    pub(super) fn read_ahead(&mut self, cx: &mut Context<'_>, env: Env<'_>) {
        for _ in 0..READS_PER_LOOK {
            while let Some(event) = self.look_at_unparsed(env.session.buffers, None) {
                self.keep_for_later(event);
            }
            if !self.session.is_open() || self.inbox_cost > PUMPED || self.driven {
                break;
            }
            match self.poll_read(cx, env, None) {
                Poll::Ready(Some(event)) => self.keep_for_later(event),
                Poll::Ready(None) => {}
                Poll::Pending => break,
            }
        }
        self.settle(env);
        self.flush_if_needed();
    }

    fn keep_for_later(&mut self, event: Event) {
        self.inbox_cost += event.cost();
        self.inbox.push_back(event);
        self.session.set_more_follows(true);
    }

    /// Reads no more, or reads again.
    pub(super) fn pause_reading(&mut self, is_paused: bool) {
        if is_paused && !self.session.is_open() {
            return;
        }
        self.is_reading_paused = is_paused;
        if is_paused {
            self.session.hold_keepalive(Hold::NotReading, Instant::now());
        } else {
            self.session.release_keepalive(Hold::NotReading, Instant::now());
            let reader = self.reader.take();
            self.wake(reader);
        }
    }
}
