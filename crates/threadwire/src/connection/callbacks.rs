//! Callbacks: the listener is called for one thing at a time, and what becomes of calls that fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use threadwire_core::panic::catch;
use threadwire_proto::{CloseCode, Initiator, Level};
use threadwire_worker::EventLoop;

use super::{Connection, Phase};
use crate::{Error, Listener};

/// What frames a listener wants, and how it is called in reports.
pub(super) fn introduce(listener: &dyn Listener) -> (Level, &'static str) {
    let told = threadwire_guard::contain("a listener that is asked for its level and name", || {
        (listener.level(), listener.name())
    });
    told.unwrap_or((Level::Messages, "a listener"))
}

impl Connection {
    /// Runs `call` with the listener, unless it is busy or gone.
    pub(super) fn call(&self, call: impl FnOnce(&mut dyn Listener)) -> bool {
        let taken = self.0.listener.borrow_mut().take();
        let Some(mut listener) = taken else { return false };
        let begun = self.begin_call();
        call(&mut *listener);
        *self.0.listener.borrow_mut() = Some(listener);
        self.0.session.borrow_mut().end_of_input();
        if let Some(begun) = begun {
            self.end_call(begun);
        }
        let unread = self.0.unread.take();
        if !unread.is_empty() {
            EventLoop::current().requeue(self.0.token, unread);
        }
        if self.0.phase.get() != Phase::Running {
            self.report();
        }
        true
    }

    /// Runs code of the listener's. False if it failed: then the connection is closing now, unless it is to go on.
    #[inline]
    pub(super) fn guard(&self, callback: impl FnOnce() -> Result<(), Error>) -> bool {
        catch(callback).map_err(|error| self.callback_failed(error)).is_ok()
    }

    /// Whether the connection goes on after a callback has failed with this.
    #[cold]
    pub(crate) fn outlives(&self, error: &Error) -> bool {
        !self.0.site.config.close_on_error && self.is_open() && !matches!(error, Error::Stopped)
    }

    /// A callback has failed, and the connection goes on if that is wanted, or else closes.
    #[cold]
    pub(crate) fn callback_failed(&self, error: Error) {
        if self.outlives(&error) {
            tracing::error!(error = format!("{error:#}"), "a callback failed, and its connection goes on");
            return threadwire_guard::discard(error);
        }
        let code = match error {
            // The connection was closed under the callback: nothing is wrong with it.
            Error::Closed if !self.is_open() => return,
            Error::Stopped => CloseCode::GOING_AWAY,
            // The peer does not read.
            Error::Limit(_) => CloseCode::POLICY,
            _ => CloseCode::INTERNAL_ERROR,
        };
        tracing::debug!(error = format!("{error:#}"), "a callback failed");
        // Only a code that must not be sent, or a long reason, could make this fail.
        let _ = self.close_with(code, "");
        self.note(error);
    }

    /// Calls `on_close`, once, as the last call of all. If a callback is still running, it is called when that returns.
    pub(super) fn report(&self) {
        if EventLoop::current().is_too_deep() {
            let connection = self.clone();
            EventLoop::current().after(Duration::ZERO, move || connection.report());
            return;
        }
        let taken = self.0.listener.borrow_mut().take();
        let Some(mut listener) = taken else { return };
        self.0.reported.set(true);
        self.leave_rooms();
        let mut closed = self.0.session.borrow_mut().outcome();
        if closed.initiator == Initiator::Peer {
            let stall = EventLoop::current().last_stall();
            closed.unread_for = self.0.session.borrow().unread_for(stall, Instant::now());
        }
        let closed = Arc::new(closed);
        self.0.extras.borrow_mut().get_or_insert_default().closed = Some(Arc::clone(&closed));
        self.end_keeping();
        tracing::debug!(%closed, "connection closed");
        threadwire_guard::contain("on_close", || listener.on_close(self, &closed));
        threadwire_guard::discard(listener);
        self.end_sharing(closed);
        self.end_measuring(|| Error::Closed);
        // The waits of this thread may be for that.
        EventLoop::current().remote().wake();
    }

    /// Remembers what went wrong, unless something did before.
    pub(super) fn note(&self, error: Error) {
        let late = self.0.session.borrow_mut().note(error);
        // Not under the borrow: it may be the program's, with a drop of its own.
        threadwire_guard::discard(late);
    }
}
