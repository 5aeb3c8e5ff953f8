//! The end, once it has begun.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use threadwire_proto::state::State;
use threadwire_proto::{CloseCode, CloseFrame, SendError};

use super::Wire;
use crate::aio::stream::{Polled, Stream};
use crate::{Closed, Error};
use threadwire_core::session::buffers::Buffers;
use threadwire_core::session::linger::Linger;
use threadwire_core::session::outbox::Outbox;
use threadwire_core::transport::Transport as _;

impl Wire {
    /// Closes: behind what was sent, and what has not been received yet is dropped.
    pub(in crate::aio) fn close(&mut self, frame: CloseFrame<'_>, local: &Buffers) -> Result<(), SendError> {
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
    pub(in crate::aio) fn abort(&mut self, error: Option<Error>, local: &Buffers) {
        if let Some(error) = error {
            self.note(error);
        }
        self.protocol.abort();
        self.finish(local);
    }

    /// Has a task see to the connection.
    fn drive(&mut self) {
        if !std::mem::replace(&mut self.driven, true) {
            self.after().drive = true;
        }
    }

    /// It is not open any more: a task sees it through, and whoever waits to send hears of it.
    fn begin_end(&mut self) {
        self.drive();
        self.wake_senders();
        let driver = self.driver.take();
        self.wake(driver);
    }

    /// Goes on with the end, if it has begun: at once, if nothing more has to be read or written for it.
    pub(in crate::aio) fn settle(&mut self, local: &Buffers) {
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
            && self.stream.as_ref().is_some_and(Stream::is_plain)
    }

    /// Whether it is for this side to end TCP, and all that was to be said has been.
    pub(in crate::aio) fn has_said_all(&self) -> bool {
        (self.input_is_over || self.protocol.should_end_tcp()) && self.is_drained()
    }

    pub(in crate::aio) fn is_over(&self) -> bool {
        self.stream.is_none()
    }

    pub(in crate::aio) fn note_driver(&mut self, waker: &Waker) {
        match &mut self.driver {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    pub(in crate::aio) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        self.protocol.deadline(now)
    }

    pub(in crate::aio) fn expire(&mut self, now: Instant) {
        self.protocol.expire(now);
    }

    /// The peer will send no more. If both sides have closed, or it broke a rule, it may still read: what waits for it, with
    /// our close frame behind it, leaves first.
    pub(in crate::aio) fn input_ended(&mut self, error: Option<io::Error>) {
        let state = self.protocol.state();
        if let Some(error) = error {
            // After both close frames everything was said.
            if state != State::Closed {
                self.note(error.into());
            }
        } else if matches!(state, State::Closed | State::Failed) && !self.is_drained() {
            self.input_is_over = true;
            return;
        }
        if let Some(stream) = &mut self.stream {
            // The peer has gone perhaps, and nobody needs to know what becomes of it.
            Polled { stream, cx: &mut Context::from_waker(Waker::noop()) }.say_goodbye();
        }
        self.protocol.tcp_ended();
    }

    /// Tells the peer that nothing more will come.
    pub(in crate::aio) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(()) };
        if Linger::begin(&mut Polled { stream, cx }) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reads what nobody wants any more. Whether the stream has ended.
    pub(in crate::aio) fn poll_read_away(&mut self, cx: &mut Context<'_>, local: &Buffers) -> Poll<bool> {
        self.rest.clear(local);
        let Some(stream) = self.stream.as_mut().filter(|_| !self.input_is_over) else {
            return Poll::Ready(true);
        };
        let mut input = local.lend_input();
        let lingering = Linger::read(&mut Polled { stream, cx }, &mut input);
        local.return_input(input);
        match lingering {
            Linger::More => Poll::Ready(false),
            Linger::Waits => Poll::Pending,
            Linger::Over => Poll::Ready(true),
        }
    }

    /// Says how the connection ended, once.
    pub(in crate::aio) fn report(&mut self) {
        if self.outcome.is_none() {
            let error = self.error.take().map(|error| *error);
            self.outcome = Some(Arc::new(Closed::new(self.protocol.closing(), error)));
        }
        self.wake_senders();
        let after = self.after.get_or_insert_default();
        self.mourners.take_all(&mut after.woken);
        after.woken.extend(self.reader.take());
        after.woken.extend(self.driver.take());
    }

    /// The end: lets go of the stream.
    pub(in crate::aio) fn finish(&mut self, local: &Buffers) {
        self.after().stream = self.stream.take();
        self.outbox = Outbox::default();
        self.unflushed = false;
        self.rest.clear(local);
        self.keeping = None;
        self.report();
    }

    /// An owner lets go. A receiver that goes first leaves a task behind that reads what nobody receives: pings are answered,
    /// and the end is noticed. With the last owner, the connection closes with 1001, or with 1011 if that is because of a panic.
    pub(in crate::aio) fn release(&mut self, is_receiver: bool, local: &Buffers) -> bool {
        self.halves -= 1;
        if self.stream.is_none() {
            return false;
        }
        if self.halves == 0 {
            let code = if thread::panicking() { CloseCode::INTERNAL_ERROR } else { CloseCode::GOING_AWAY };
            // Both may be sent.
            let _ = self.close(CloseFrame { code: Some(code), reason: "" }, local);
            return true;
        }
        if is_receiver {
            self.inbox.clear();
            self.inbox_cost = 0;
            self.drive();
        }
        false
    }
}
