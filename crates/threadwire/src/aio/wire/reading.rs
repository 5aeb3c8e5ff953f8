//! What arrives.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use threadwire_proto::{Event as ProtocolEvent, OpCode, OwnedMessage};

use super::Wire;
use crate::Error;
use crate::aio::received::Event;
use crate::aio::stream::{Polled, later};
use threadwire_core::session::buffers::Buffers;
use threadwire_core::transport::Transport as _;

/// The most messages that are taken from one read at once.
const AHEAD: usize = 16;

/// How much may wait to be received, before a loop of sends reads no more.
const PUMPED: usize = 256 << 10;

/// The reads of one look at what has arrived, in a loop of sends.
const READS_PER_LOOK: u32 = 4;

impl Wire {
    pub(in crate::aio) fn hand_out_control(&mut self) {
        self.wants_control = true;
    }

    /// Notes who receives. Whether that is somebody else than before.
    #[inline]
    pub(in crate::aio) fn note_reader(&mut self, waker: &Waker) -> bool {
        let is_new = !self.reader.as_ref().is_some_and(|known| known.will_wake(waker));
        if is_new {
            self.reader = Some(waker.clone());
        }
        is_new
    }

    /// The next thing that has arrived. `None` if nothing more will be handed out.
    #[inline]
    pub(in crate::aio) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        local: &Buffers,
        ahead: &mut VecDeque<OwnedMessage>,
    ) -> Poll<Option<Event>> {
        if let Some(event) = self.inbox.pop_front() {
            self.inbox_cost -= event.cost();
            if self.inbox.is_empty() {
                // It is only used by those who send and do not receive.
                self.inbox = VecDeque::new();
            }
            return Poll::Ready(Some(event));
        }
        loop {
            if let Some(event) = self.look_at_rest(local, Some(ahead)) {
                return Poll::Ready(Some(event));
            }
            if !self.is_open() {
                return Poll::Ready(None);
            }
            if let Some(event) = ready!(self.poll_read(cx, local, Some(ahead))) {
                return Poll::Ready(Some(event));
            }
        }
    }

    #[inline]
    fn look_at_rest(&mut self, local: &Buffers, ahead: Option<&mut VecDeque<OwnedMessage>>) -> Option<Event> {
        if self.rest.is_empty() {
            return None;
        }
        let mut rest = std::mem::take(&mut self.rest);
        let mut input = rest.bytes();
        let event = self.parse(&mut input, local, ahead);
        let left = input.len();
        rest.keep_last(left, local);
        self.rest = rest;
        event
    }

    /// One read: into the long payload that is arriving, if there is one; otherwise into a buffer of the thread.
    #[inline]
    pub(in crate::aio) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        local: &Buffers,
        ahead: Option<&mut VecDeque<OwnedMessage>>,
    ) -> Poll<Option<Event>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        if let Some(room) = self.protocol.reader().room() {
            let size = room.len();
            let mut polled = Polled { stream, cx };
            let (read, answers) = (later(polled.read(room)), polled.has_unsent());
            self.see_to_answers(answers);
            let Some(count) = self.count_read(ready!(read), size) else { return Poll::Ready(None) };
            self.protocol.reader().commit(count);
            return Poll::Ready(self.parse(&mut &mut [][..], local, None));
        }
        let mut input = local.lend_input();
        let mut polled = Polled { stream, cx };
        let (read, answers) = (later(polled.read(&mut input)), polled.has_unsent());
        self.see_to_answers(answers);
        let read = match read {
            Poll::Ready(read) => read,
            Poll::Pending => {
                local.return_input(input);
                return Poll::Pending;
            }
        };
        let count = self.count_read(read, input.len()).unwrap_or(0);
        let mut unread = &mut input[..count];
        let event = self.parse(&mut unread, local, ahead);
        let start = count - unread.len();
        self.rest.keep(input, start, count, local);
        Poll::Ready(event)
    }

    /// Has that leave which the stream itself has to answer.
    #[inline]
    fn see_to_answers(&mut self, has_some: bool) {
        if has_some && !self.broken {
            self.unflushed = true;
            self.kick_if_needed();
        }
    }

    /// What a read has come to; `None` if the stream has ended.
    #[inline]
    fn count_read(&mut self, read: io::Result<usize>, size: usize) -> Option<usize> {
        if let Ok(count @ 1..) = read {
            self.may_have_more = count == size;
            self.heard();
            return Some(count);
        }
        self.may_have_more = false;
        self.input_ended(read.err());
        None
    }

    /// The next thing in `input` that is handed out.
    #[inline]
    fn parse(
        &mut self,
        input: &mut &mut [u8],
        local: &Buffers,
        ahead: Option<&mut VecDeque<OwnedMessage>>,
    ) -> Option<Event> {
        loop {
            if let Some(message) = self.protocol.receive_message(input) {
                let message = Event::Message(message.to_owned());
                if let Some(ahead) = ahead {
                    // Only whole messages: what is sent in answer to them must not come behind the peer's close frame.
                    while ahead.len() < AHEAD
                        && let Some(message) = self.protocol.receive_message(input)
                    {
                        ahead.push_back(message.to_owned());
                    }
                }
                return Some(message);
            }
            let mut shared = local.shared.borrow_mut();
            let event = self.protocol.receive(input, &mut shared, self.outbox.end_unlent())?;
            match event {
                ProtocolEvent::Frame(frame) => match frame.opcode() {
                    OpCode::Ping if self.wants_control => return Some(Event::Ping(frame.into_vec())),
                    OpCode::Pong => {
                        drop(shared);
                        self.pong_arrived(frame.payload());
                        if self.wants_control {
                            return Some(Event::Pong(frame.into_vec()));
                        }
                        frame.recycle(&mut local.shared.borrow_mut().pool);
                    }
                    OpCode::Ping => frame.recycle(&mut shared.pool),
                    _ => {
                        if let Some(message) = frame.into_owned(&mut shared.pool) {
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
    pub(in crate::aio) fn poll_discard(&mut self, cx: &mut Context<'_>, local: &Buffers) -> Poll<()> {
        if self.input_is_over {
            return Poll::Pending;
        }
        // What was read before may be the peer's end, which has to be answered first.
        if self.rest.is_empty() {
            let _ = ready!(self.poll_read(cx, local, None));
        }
        while self.look_at_rest(local, None).is_some() {}
        Poll::Ready(())
    }

    /// Reads ahead, so that pings are answered and the end is noticed while its owner only sends; as long as what waits to be
    /// received is little.
    pub(in crate::aio) fn read_ahead(&mut self, cx: &mut Context<'_>, local: &Buffers) {
        for _ in 0..READS_PER_LOOK {
            while let Some(event) = self.look_at_rest(local, None) {
                self.keep_for_later(event);
            }
            if !self.is_open() || self.inbox_cost > PUMPED || self.driven {
                break;
            }
            match self.poll_read(cx, local, None) {
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
    pub(in crate::aio) fn is_told(&self) -> bool {
        self.told
    }

    /// How it ended, for the receiver: an error once, if it was not with a code that says that all is well.
    pub(in crate::aio) fn end_of_stream(&mut self) -> Option<Result<(), Error>> {
        let outcome = self.outcome.as_ref()?;
        if std::mem::replace(&mut self.told, true) || outcome.is_normal() {
            return Some(Ok(()));
        }
        Some(Err(Error::Ended(Arc::clone(outcome))))
    }
}
