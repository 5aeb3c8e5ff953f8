//! Writing: what was gathered leaves in one write, at the end of a read or at the loop's next turn.

use std::io;

use threadwire_worker::{EventLoop, Ready};

use super::Connection;
use super::flags::Flags;
use threadwire_core::session::Env;

/// With this many bytes gathered, they leave without waiting for the end of the read, or for the loop's next turn.
pub(crate) const FLUSH_AT: usize = 128 << 10;

impl Connection {
    /// What the session needs for most of what it does.
    #[inline]
    pub(super) fn env(&self) -> Env<'_> {
        Env { config: &self.0.site.config, buffers: &self.0.registry.buffers }
    }

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
        let written = self.0.session.borrow_mut().write(&self.0.registry.buffers);
        if let Err(error) = written {
            self.write_failed(error);
        }
    }

    /// Bytes that the peer sent before it went away can still be read, perhaps with the reason.
    #[cold]
    pub(super) fn write_failed(&self, error: io::Error) {
        self.note(error.into());
        let ready = Ready { readable: true, read_closed: true, writable: false };
        EventLoop::current().requeue(self.0.token, ready);
    }

    /// After anything has happened: writes, and goes on with the end if it has begun.
    #[inline]
    pub(super) fn settle(&self) {
        let mut left = self.0.session.borrow().buffered();
        if left > 0 {
            self.write();
            left = self.0.session.borrow().buffered();
        }
        if self.has(Flags::WATCHED) || self.0.session.borrow().is_watched(left) {
            self.regulate();
        }
        if !self.is_open() {
            self.wind_down();
        }
    }
}
