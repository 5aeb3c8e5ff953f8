//! What leaves, and what happens where more is sent than the peer reads.

use std::io;
use std::task::Context;

use threadwire_proto::deflate::Agreement;
use threadwire_proto::{CloseCode, CloseFrame, Compress, OpCode, SendOptions};

use super::{Means, Wire};
use crate::aio::stream::Polled;
use crate::{Config, Error, WhenFull};
use threadwire_core::session::overflow::CONTROL_ROOM;
use threadwire_core::transport::Transport as _;

/// Payloads from this many bytes on are written from where they lie instead of being copied.
const DIRECT_WRITE: usize = 16 << 10;

impl Wire {
    /// Whether a send has to wait.
    #[inline]
    pub(in crate::aio) fn is_paused(&self) -> bool {
        self.paused && self.is_open()
    }

    /// Counts a send, and says whether it is time to look at what has arrived.
    #[inline]
    pub(in crate::aio) fn is_time_to_read(&mut self) -> bool {
        self.sends = self.sends.wrapping_add(1);
        self.sends.is_multiple_of(32)
    }

    /// Sends a frame, or puts it into the outbox. `waker` is called when the stream takes more again.
    #[inline]
    pub(in crate::aio) fn send_frame(
        &mut self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        options: SendOptions,
        means: Means<'_>,
    ) -> Result<(), Error> {
        let SendOptions { compress, droppable } = options;
        if self.broken {
            return Err(Error::Closed);
        }
        let is_lone = self.rest.is_empty() && self.inbox.is_empty();
        if payload.len() >= DIRECT_WRITE && is_lone && !self.outbox.is_blocked() {
            let header = self.protocol.send_header(opcode, fin, payload.len(), compress)?;
            if let (Some(header), Some(stream)) = (header, &mut self.stream) {
                let cx = &mut Context::from_waker(means.waker);
                let mut polled = Polled { stream, cx };
                self.unflushed = polled.is_buffered();
                let result = self.outbox.write_frame(&header, payload, droppable, &mut polled, means.local);
                self.wrote(result, means.config);
                self.kick_if_needed();
                return Ok(());
            }
        }
        self.outbox.before_frame(droppable);
        let mut shared = means.local.shared.borrow_mut();
        let out = self.outbox.end(means.local);
        self.protocol.send_frame_with(opcode, fin, payload, options, &mut shared, out)?;
        drop(shared);
        self.outbox.mark(droppable);
        if self.outbox.len() > means.config.high_watermark {
            self.write(means);
        }
        self.kick_if_needed();
        Ok(())
    }

    /// The same for whoever can't wait: with more than [`Config::max_buffered`], the policy decides.
    pub(in crate::aio) fn send_or(
        &mut self,
        opcode: OpCode,
        payload: &[u8],
        when_full: WhenFull,
        compress: Compress,
        means: Means<'_>,
    ) -> Result<(), Error> {
        if !self.is_open() {
            return Err(Error::Closed);
        }
        let limit = means.config.max_buffered;
        if !self.has_room(payload.len(), limit) {
            // It may be that nobody has tried to write it yet.
            self.write(means);
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
                    let reason = threadwire_core::config::TOO_SLOW;
                    self.close(CloseFrame { code: Some(CloseCode::POLICY), reason }, means.local)?;
                    return Err(Error::too_much_buffered(limit));
                }
                _ => return Err(Error::too_much_buffered(limit)),
            }
        }
        let droppable = when_full == WhenFull::DropOldest && !opcode.is_control();
        self.send_frame(opcode, true, payload, SendOptions { compress, droppable }, means)
    }

    /// Whether a payload of this length may be added to what waits. Anything is taken when nothing does.
    pub(in crate::aio) fn has_room(&self, length: usize, limit: usize) -> bool {
        self.buffered() == 0 || self.buffered() + length <= limit
    }

    /// What was agreed on about compression.
    pub(in crate::aio) fn deflate(&self) -> Option<Agreement> {
        self.protocol.deflate()
    }

    /// Whether all has left.
    #[inline]
    pub(in crate::aio) fn is_drained(&self) -> bool {
        self.stream.is_none() || (self.outbox.is_empty() && !self.unflushed)
    }

    /// Has what waits leave soon, if nobody has seen to that yet.
    #[inline]
    pub(in crate::aio) fn kick_if_needed(&mut self) {
        self.kick |= !self.is_drained() && !self.outbox.is_blocked();
    }

    /// The stream takes more again, or somebody has sent something.
    pub(in crate::aio) fn flush(&mut self, means: Means<'_>) {
        self.outbox.unblock();
        self.write(means);
        if !self.is_open() {
            self.settle(means.local);
        }
    }

    /// Writes what waits, as far as the stream takes it.
    #[inline]
    pub(in crate::aio) fn write(&mut self, means: Means<'_>) {
        let Some(stream) = &mut self.stream else { return };
        if self.outbox.is_empty() && !self.unflushed && !self.protocol.has_late_pong() {
            return;
        }
        let cx = &mut Context::from_waker(means.waker);
        let mut polled = Polled { stream, cx };
        self.unflushed |= polled.is_buffered() && !self.outbox.is_empty();
        let mut result = self.outbox.write(&mut polled, means.local);
        if result.is_ok() && self.protocol.has_late_pong() && self.outbox.written() >= self.late_pong_at {
            self.protocol.drained(&mut means.local.shared.borrow_mut(), self.outbox.end_unlent());
            self.late_pong_at = self.outbox.written() + self.outbox.len() as u64;
            result = self.outbox.write(&mut polled, means.local);
        }
        if result.is_ok() && self.unflushed && self.outbox.is_empty() {
            result = match polled.flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                flushed => {
                    self.unflushed = false;
                    flushed
                }
            };
        }
        self.wrote(result, means.config);
    }

    /// What a write has come to: who waits for that goes on.
    #[inline]
    fn wrote(&mut self, result: io::Result<()>, config: &Config) {
        if let Err(error) = result {
            // What the peer sent before it went away can still be read, perhaps with the reason.
            self.note(error.into());
            self.broken = true;
            self.unflushed = false;
            let (reader, driver) = (self.reader.take(), self.driver.take());
            self.wake(reader);
            self.wake(driver);
        }
        let left = self.outbox.len();
        self.paused = left > config.high_watermark || (self.paused && left > config.low_watermark);
        if left > 0 && self.paused {
            return;
        }
        self.wake_senders();
        if self.driven && self.is_drained() {
            let driver = self.driver.take();
            self.wake(driver);
        }
    }

    /// Those who wait to send look again.
    #[inline]
    pub(super) fn wake_senders(&mut self) {
        if !self.senders.is_empty() {
            self.senders.take_all(&mut self.after.get_or_insert_default().woken);
        }
    }
}
