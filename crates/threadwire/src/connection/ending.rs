//! What leaves, and the end, once it has begun.

use std::io;
use std::time::Instant;

use threadwire_proto::Role;
use threadwire_proto::state::State;
use threadwire_worker::{EventLoop, Ready};

use super::{Connection, Phase};
use crate::Error;
use crate::flow::Flow;

/// With this many bytes gathered, they leave without waiting for the end of the read, or for the loop's next turn.
const FLUSH_AT: usize = 128 << 10;

impl Connection {
    /// Something was gathered: it leaves at once if it is much, otherwise at the end of the read, or at the next turn.
    #[inline]
    pub(super) fn flush_soon(&self, gathered: usize) {
        if gathered >= FLUSH_AT {
            self.write();
        }
        self.mark_dirty();
    }

    #[inline]
    pub(super) fn mark_dirty(&self) {
        if !self.0.dirty.replace(true) {
            EventLoop::current().flush_later(self.0.token);
        }
    }

    /// Writes what was gathered, as far as the system takes it.
    #[inline]
    pub(super) fn write(&self) {
        let written = self.0.link.borrow_mut().write();
        if let Err(error) = written {
            self.write_failed(error);
        }
    }

    /// What the peer sent before it went away can still be read, perhaps with the reason.
    #[cold]
    pub(super) fn write_failed(&self, error: io::Error) {
        self.note(error.into());
        let ready = Ready { readable: true, read_closed: true, writable: false };
        EventLoop::current().requeue(self.0.token, ready);
    }

    /// After anything has happened: writes, and goes on with the end if it has begun.
    #[inline]
    pub(super) fn settle(&self) {
        let mut left = self.0.link.borrow().buffered();
        if left > 0 {
            self.write();
            left = self.0.link.borrow().buffered();
        }
        if self.0.flow.get().is_watched() || left > self.0.site.config.high_watermark {
            self.regulate(left);
        }
        if !self.is_open() {
            self.wind_down();
        }
    }

    #[cold]
    pub(super) fn wind_down(&self) {
        if !self.0.flow.get().reads() {
            // What the peer says to the end is not waited for in vain.
            self.0.flow.set(Flow {
                read_paused: false,
                throttled: false,
                behind: false,
                ..self.0.flow.get()
            });
            self.read_on();
        }
        let (state, should_end, is_silent) = {
            let link = self.0.link.borrow();
            (link.state(), link.should_end_tcp(), link.ends_silently())
        };
        match self.0.phase.get() {
            Phase::Over => return,
            _ if state == State::Ended => return self.hang_up(),
            // Nothing of the peer's is left unread, and nothing more will come: closing TCP can't reset it.
            Phase::Running
                if should_end && is_silent && state == State::Closed && !self.0.may_have_more.get() =>
            {
                return self.hang_up();
            }
            Phase::Running if should_end => {
                self.0.link.borrow_mut().shutdown_write();
                self.0.phase.set(Phase::Lingering);
                self.report();
                EventLoop::current().requeue(self.0.token, Ready::READABLE);
            }
            _ => {}
        }
        if self.is_shutting_down() {
            return;
        }
        let deadline = self.0.link.borrow_mut().deadline(Instant::now());
        if let (None, Some(deadline)) = (self.with_extras(|extras| extras.timer), deadline) {
            let connection = self.clone();
            let timer = EventLoop::current().at(deadline, move || connection.expire());
            self.0.extras.borrow_mut().get_or_insert_default().timer = Some(timer);
        }
    }

    /// For a face that queues messages: as long as some are, what the peer breaks behind them is only noted, so that they can
    /// still be answered.
    #[inline]
    pub(crate) fn defer_failures(&self, defers: bool) {
        self.0.link.borrow_mut().defer_failures(defers);
    }

    /// Whether the peer has broken a rule behind what is queued.
    #[inline]
    pub(crate) fn has_failed(&self) -> bool {
        self.0.link.borrow().has_failed()
    }

    /// What is queued was dealt with.
    pub(crate) fn fail_deferred(&self) {
        let failed = self.0.link.borrow_mut().fail_deferred();
        if let Some(rule) = failed {
            self.note(Error::Protocol { rule });
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
        self.0.link.borrow_mut().expire(Instant::now());
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
        let stream = self.0.link.borrow_mut().take_stream();
        match stream {
            // Nobody else has a descriptor of what was accepted.
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
