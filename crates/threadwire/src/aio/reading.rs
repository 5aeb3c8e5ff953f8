//! Reading on tokio: what has arrived, handed out as events and kept while nobody asks for it.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use threadwire_core::session::buffers::Buffers;
use threadwire_core::session::parts::Part;
use threadwire_core::session::receive::Received;
use threadwire_proto::keepalive::Hold;
use threadwire_proto::{OpCode, OwnedMessage};

use super::attendant::now;
use super::link::Awaited;
use super::received::Arrival;
use super::state::{Env, State};
use super::stream::Polled;
use crate::Error;

/// The most messages that are taken from one read at once.
const AHEAD: usize = 16;

/// How much may wait to be received, before nothing more is read ahead.
const ENOUGH: usize = 256 << 10;

/// The reads of one look at what has arrived, before other connections get their turn.
const READS_PER_LOOK: u32 = 4;

impl State {
    /// Receives: what has arrived, or the end. Where there is nothing, what was sent leaves, and the receiver is noted.
    #[inline]
    pub(super) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        ahead: &mut VecDeque<OwnedMessage>,
        env: Env<'_>,
    ) -> Poll<Result<Option<Arrival>, Error>> {
        self.has_polled = true;
        match self.poll_event(env, ahead) {
            Poll::Ready(Some(event)) => {
                self.flush_if_needed();
                match env.link.attendant.runs_in_turn {
                    true => self.needs_attendant = true,
                    false => self.watch_reader(env),
                }
                return Poll::Ready(Ok(Some(event)));
            }
            Poll::Ready(None) => {
                self.write(env);
                self.settle(env);
            }
            Poll::Pending => self.write(env),
        }
        if let Some(outcome) = self.outcome().cloned() {
            return Poll::Ready(self.end.tell(&outcome).map(|()| None));
        }
        env.link.note_reader(cx.waker());
        if self.session.is_open() {
            if !env.link.is_awaited() && !self.is_reading_held() {
                // Input has come, or may be read again, before the reader was noted.
                self.wake_reader(env);
            } else if self.session.is_drained() && !self.session.wants_write() && !self.wants_look {
                self.needs_attendant = false;
                env.link.dismiss();
            }
        }
        Poll::Pending
    }

    /// Has the timekeeper make sure that the reader comes.
    pub(super) fn watch_reader(&mut self, env: Env<'_>) {
        if !env.link.is_watched() {
            self.after().watch = true;
        }
    }

    /// Whether nothing may be read for now.
    pub(super) fn is_reading_held(&self) -> bool {
        self.is_reading_paused || self.session.is_throttled()
    }

    /// The next thing that has arrived. `None` if nothing more will be handed out.
    #[inline]
    fn poll_event(&mut self, env: Env<'_>, ahead: &mut VecDeque<OwnedMessage>) -> Poll<Option<Arrival>> {
        if !self.inbox.is_empty() {
            self.look_at_answers(env);
            if self.session.is_throttled() {
                return Poll::Pending;
            }
        }
        if let Some(event) = self.inbox.pop_front() {
            self.sent_at_read = self.session.sent();
            self.inbox_cost -= event.cost();
            self.session.hold_beside(self.inbox_cost);
            if self.inbox.is_empty() {
                // The inbox is only used where nobody receives for a while.
                self.inbox = VecDeque::new();
                self.session.set_more_follows(!self.unparsed.is_empty());
            }
            if self.is_full && self.inbox_cost <= ENOUGH / 2 {
                self.is_full = false;
                self.resume_keepalive(env);
            }
            return Poll::Ready(Some(event));
        }
        loop {
            let mut event = self.look_at_unparsed(env, Some(ahead));
            if event.is_none() {
                if !self.session.is_open() {
                    return Poll::Ready(None);
                }
                if self.unparsed.is_empty() {
                    event = ready!(self.poll_read(Awaited::ByReader, env, Some(ahead)));
                }
            }
            if event.is_none() && !self.unparsed.is_empty() {
                // What is left is for another turn: the reader is woken as nobody waits for input.
                return Poll::Pending;
            }
            if event.is_some() {
                self.session.leaves_unread(now);
                return Poll::Ready(event);
            }
        }
    }

    /// Reads no more for now, if the peer does not take what its messages are answered with.
    #[inline]
    fn look_at_answers(&mut self, env: Env<'_>) {
        if let Some(answers) = self.session.answers_too_much(self.sent_at_read, env.session) {
            // Bytes that can leave at once do not count.
            self.write(env);
            self.session.throttle(answers, env.session);
            self.sent_at_read = self.session.sent();
        }
    }

    #[inline]
    fn look_at_unparsed(
        &mut self,
        env: Env<'_>,
        ahead: Option<&mut VecDeque<OwnedMessage>>,
    ) -> Option<Arrival> {
        if self.unparsed.is_empty() {
            return None;
        }
        let mut unparsed = std::mem::take(&mut self.unparsed);
        let mut input = unparsed.bytes();
        let event = self.parse(&mut input, env.session.buffers, ahead);
        let left = input.len();
        unparsed.keep_last(left, env.session.buffers);
        self.unparsed = unparsed;
        self.look_at_rest(env);
        event
    }

    /// One read: into the long payload that is arriving, if there is one, and into a buffer of the thread. Where there is nothing,
    /// the one who reads hears of what comes.
    #[inline]
    fn poll_read(
        &mut self,
        reads: Awaited,
        env: Env<'_>,
        ahead: Option<&mut VecDeque<OwnedMessage>>,
    ) -> Poll<Option<Arrival>> {
        self.look_at_answers(env);
        if self.is_reading_held() {
            return Poll::Pending;
        }
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        self.session.reads_again(now);
        let buffers = env.session.buffers;
        let mut input = buffers.lend_input();
        env.link.await_input(reads);
        let mut io = Polled { stream, cx: &mut Context::from_waker(env.ear) };
        let received = self.session.read(&mut io, &mut input);
        if !matches!(received, Received::Nothing) {
            env.link.await_input(Awaited::ByNobody);
        }
        match received {
            Received::Bytes { in_input, .. } => {
                self.session.heard(now);
                self.sent_at_read = self.session.sent();
                let mut unread = &mut input[..in_input];
                let event = self.parse(&mut unread, buffers, ahead);
                let start = in_input - unread.len();
                self.look_at_rest(env);
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
    ) -> Option<Arrival> {
        loop {
            if let Some(message) = self.session.next_message(input) {
                let message = Arrival::Message(message.to_owned());
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
                OpCode::Ping if self.wants_control => return Some(Arrival::Ping(frame.into_vec())),
                OpCode::Pong => {
                    self.pong_arrived(frame.payload());
                    if self.wants_control {
                        return Some(Arrival::Pong(frame.into_vec()));
                    }
                    frame.recycle(&mut buffers.shared.borrow_mut().pool);
                }
                OpCode::Ping | OpCode::Close => frame.recycle(&mut buffers.shared.borrow_mut().pool),
                _ if self.in_parts => return Some(Arrival::Part(Part::of(frame))),
                _ => {
                    if let Some(message) = frame.into_owned(&mut buffers.shared.borrow_mut().pool) {
                        return Some(Arrival::Message(message));
                    }
                }
            }
        }
    }

    fn pong_arrived(&mut self, payload: &[u8]) {
        let now = now();
        if !self.session.pong_arrived(payload, now) {
            self.measure_pong(payload, now);
        }
    }

    /// Looks at what has arrived, where nobody receives for now or at all, so that pings are answered and the end is noticed:
    /// messages are kept for later, as long as they are not too much, or dropped where nobody wants them any more.
    pub(super) fn look(&mut self, env: Env<'_>) {
        for _ in 0..READS_PER_LOOK {
            let looked = if self.is_discarding() { self.poll_discard(env) } else { self.poll_ahead(env) };
            self.settle(env);
            if looked.is_pending() || self.is_over() {
                return self.flush_if_needed();
            }
            if !self.unparsed.is_empty() {
                // What is left is for another turn.
                break;
            }
        }
        self.call_attendant();
    }

    /// Reads, and drops the messages. What the session does about the rest is done.
    fn poll_discard(&mut self, env: Env<'_>) -> Poll<()> {
        self.write(env);
        self.settle(env);
        if self.session.lingers() {
            return self.poll_linger(env);
        }
        if self.session.input_is_over() {
            return Poll::Pending;
        }
        // Unparsed input may hold the peer's close frame, which has to be answered first.
        if self.unparsed.is_empty() {
            let _ = ready!(self.poll_read(Awaited::ByAttendant, env, None));
        }
        while self.look_at_unparsed(env, None).is_some() {}
        Poll::Ready(())
    }

    /// Reads, and keeps the messages.
    fn poll_ahead(&mut self, env: Env<'_>) -> Poll<()> {
        let kept_before = self.inbox.len();
        let looked = loop {
            if self.inbox_cost > ENOUGH {
                self.is_full = true;
                self.session.hold_keepalive(Hold::NotReading, now());
                break Poll::Pending;
            }
            if let Some(event) = self.look_at_unparsed(env, None) {
                self.keep_for_later(event);
                continue;
            }
            if !self.session.is_open() || !self.unparsed.is_empty() {
                break Poll::Ready(());
            }
            let read = self.poll_read(Awaited::ByAttendant, env, None);
            break read.map(|event| event.into_iter().for_each(|event| self.keep_for_later(event)));
        };
        if self.inbox.len() > kept_before {
            self.wake_reader(env);
            self.look_at_rest(env);
        }
        looked
    }

    fn keep_for_later(&mut self, event: Arrival) {
        self.inbox_cost += event.cost();
        self.inbox.push_back(event);
        self.session.hold_beside(self.inbox_cost);
        self.session.set_more_follows(true);
    }

    pub(super) fn clear_inbox(&mut self, env: Env<'_>) {
        self.inbox.clear();
        self.inbox_cost = 0;
        self.session.hold_beside(0);
        self.is_full = false;
        self.resume_keepalive(env);
    }

    /// Reads no more, or reads again.
    pub(super) fn pause_reading(&mut self, is_paused: bool, env: Env<'_>) {
        if is_paused && !self.session.is_open() {
            return;
        }
        self.is_reading_paused = is_paused;
        if is_paused {
            self.session.hold_keepalive(Hold::NotReading, now());
        } else {
            self.resume_keepalive(env);
            self.call_reader(env);
        }
    }

    /// Whatever has kept this side from reading is gone.
    fn resume_keepalive(&mut self, env: Env<'_>) {
        if !self.is_reading_paused && !self.is_full && self.session.release_keepalive(Hold::NotReading, now())
        {
            self.schedule(env);
        }
    }
}
