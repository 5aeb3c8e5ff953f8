//! Receive window (backpressure for the peer): how much may wait to be received before reading is paused.

use std::cell::Cell;

use crate::{Connection, Error, WhenFull};

/// How many bytes may wait to be received before nothing more is read.
const ENOUGH: usize = 1 << 20;

/// From how many bytes on they count in the memory budget.
const MUCH: usize = 64 << 10;

/// The cost of a message besides its payload, so that many empty ones are not free.
const OVERHEAD: usize = 64;

/// Counts what waits to be received, and pauses reading while that is much.
#[derive(Default)]
pub(super) struct ReceiveWindow {
    /// In bytes, with the overhead.
    size: Cell<usize>,
    /// Whether reading was paused because of that.
    is_full: Cell<bool>,
    /// Whether the connection knows how much waits.
    is_told: Cell<bool>,
    /// Whether somebody waits for room to send: then reading goes on, so that two sides that both send can't block each
    /// other for a while.
    is_sending: Cell<bool>,
}

impl ReceiveWindow {
    /// Of a connection on which payloads of these lengths wait already.
    pub(super) fn with(lengths: impl Iterator<Item = usize>) -> ReceiveWindow {
        let size = lengths.map(|length| length + OVERHEAD).sum();
        ReceiveWindow {
            size: Cell::new(size),
            is_full: Cell::new(size >= ENOUGH),
            is_told: Cell::new(size > 0),
            ..ReceiveWindow::default()
        }
    }

    /// Whether nothing more is read.
    pub(super) fn is_full(&self) -> bool {
        self.is_full.get()
    }

    /// A payload has arrived.
    #[inline]
    pub(super) fn add(&self, ws: &Connection, length: usize) {
        let size = self.size.get() + length + OVERHEAD;
        self.size.set(size);
        if size >= MUCH {
            self.pause(ws, size);
        }
    }

    #[cold]
    fn pause(&self, ws: &Connection, size: usize) {
        ws.hold_beside(size);
        self.is_told.set(true);
        if size >= self.limit(ws) && !self.is_full.replace(true) {
            ws.pause_reading();
        }
    }

    /// A payload was received: reading goes on if there is room again.
    #[inline]
    pub(super) fn remove(&self, ws: &Connection, length: usize) {
        let size = self.size.get() - length - OVERHEAD;
        self.size.set(size);
        if self.is_told.get() {
            self.is_told.set(size > 0);
            ws.hold_beside(size);
        }
        if self.is_full.get() && size < ENOUGH / 2 {
            self.is_full.set(false);
            ws.resume_reading();
        }
    }

    /// All of it was taken.
    pub(super) fn clear(&self) {
        self.size.set(0);
    }

    fn limit(&self, ws: &Connection) -> usize {
        if self.is_sending.get() { ENOUGH.max(ws.config().max_buffered) } else { ENOUGH }
    }

    /// Sends by `send`, with what is to happen if there is no room. If that is to wait, this then waits itself while more than
    /// the high watermark is left, until that is less than the low one; meanwhile more is read than otherwise.
    #[inline]
    pub(super) fn while_sending(
        &self,
        ws: &Connection,
        chosen: Option<WhenFull>,
        send: impl FnOnce(WhenFull) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let when_full = ws.config().policy_of_waiting(chosen);
        let waits = when_full == WhenFull::Wait;
        let _sending = waits.then(|| Sending::begin(self, ws));
        send(when_full)?;
        if waits && ws.is_above_watermark() {
            // It was taken: where too many wait already, there is nothing to be refused.
            ws.wait_for_room(|| !ws.is_above_watermark())?;
        }
        Ok(())
    }
}

/// A send under way, until this is dropped.
struct Sending<'a>(&'a ReceiveWindow);

impl Sending<'_> {
    #[inline]
    fn begin<'a>(window: &'a ReceiveWindow, ws: &Connection) -> Sending<'a> {
        window.is_sending.set(true);
        if window.is_full.get() && window.size.get() < window.limit(ws) {
            window.is_full.set(false);
            ws.resume_reading();
        }
        Sending(window)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.is_sending.set(false);
    }
}
