//! Closing: the close handshake in the loop's turns, the time that it may take, and the end of TCP.

use std::time::Instant;

use threadwire_proto::Role;
use threadwire_worker::{EventLoop, Ready};

use super::flags::Flags;
use super::{Connection, Phase};
use threadwire_core::session::close::EndStep;

impl Connection {
    /// Goes on with the end.
    #[cold]
    pub(super) fn wind_down(&self) {
        if !self.reads() {
            // The rest of the peer's input is read again, for the close handshake.
            self.set(Flags::NOT_READING, false);
            self.0.session.borrow_mut().end_throttle();
            self.read_on();
        }
        if self.0.phase.get() == Phase::Over {
            return;
        }
        let step = self.0.session.borrow_mut().end_step();
        match step {
            EndStep::Wait => {}
            EndStep::HangUp => return self.hang_up(),
            EndStep::Linger => {
                self.0.phase.set(Phase::Lingering);
                self.report();
                EventLoop::current().requeue(self.0.token, Ready::READABLE);
            }
        }
        if self.is_shutting_down() {
            return;
        }
        let deadline = self.0.session.borrow_mut().deadline(Instant::now());
        if let (None, Some(deadline)) = (self.with_extras(|extras| extras.timer), deadline) {
            let connection = self.clone();
            let timer = EventLoop::current().at(deadline, move || connection.expire());
            self.0.extras.borrow_mut().get_or_insert_default().timer = Some(timer);
        }
    }

    /// For a face that queues messages: as long as some are, the peer's close frame behind them, or what it breaks, is only noted, so that
    /// they can still be answered.
    #[inline]
    pub(crate) fn defer_end(&self, defers: bool) {
        self.0.session.borrow_mut().defer_end(defers);
    }

    /// Whether the peer has closed, or broken a rule, behind what is queued.
    #[inline]
    pub(crate) fn has_deferred_end(&self) -> bool {
        self.0.session.borrow().has_deferred_end()
    }

    /// What is queued was dealt with.
    pub(crate) fn end_deferred(&self) {
        let ended = self.0.session.borrow_mut().end_deferred(self.env());
        if ended {
            self.settle();
        }
    }

    /// Closing takes too long. While a callback keeps us from reading, the peer can't be blamed for that.
    pub(super) fn expire(&self) {
        let is_busy = self.0.listener.borrow().is_none() && self.0.phase.get() == Phase::Running;
        if is_busy {
            self.0.overdue.set(Some(0));
            self.0.unread.set(self.0.unread.get() | Ready::READABLE);
            return;
        }
        self.0.session.borrow_mut().expire(Instant::now());
        self.settle();
    }

    /// Ends TCP.
    pub(super) fn hang_up(&self) {
        self.0.phase.set(Phase::Over);
        let event_loop = EventLoop::current();
        if let Some(timer) = self.with_extras(|extras| extras.timer.take()) {
            event_loop.cancel(timer);
        }
        self.0.overdue.set(None);
        self.leave();
        let stream = self.0.session.borrow_mut().take_stream();
        match stream {
            // No other descriptor of an accepted socket exists.
            Some(stream) if self.role() == Role::Server => event_loop.detach_and_close(self.0.token, stream),
            Some(mut stream) => event_loop.detach(self.0.token, &mut stream),
            None => {}
        }
        if let Some(agreed) = &self.0.agreed {
            agreed.give_permit_back();
        }
        self.report();
    }
}
