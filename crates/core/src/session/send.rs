//! Sending: frames into the write buffer, and the write buffer into the stream.

use std::io;

use threadwire_proto::deflate::Sharing;
use threadwire_proto::{Compress, OpCode, Role, SendOptions};

use super::Session;
use super::buffers::Buffers;
use crate::error::Error;
use crate::transport::Transport;

/// Payloads from this many bytes on are written from where they lie instead of being copied. So much is copied in about the time
/// that a system call takes by itself (1 us): from there on, a message that leaves alone is cheaper than one that waits
/// for company.
const DIRECT_WRITE: usize = 16 << 10;

/// A message in one frame that several connections share.
#[derive(Clone, Copy)]
pub struct Framed<'a> {
    /// The whole frame, as a server sends it.
    pub frame: &'a [u8],
    pub is_compressed: bool,
    pub opcode: OpCode,
    pub payload: &'a [u8],
    pub compress: Compress,
}

impl Session {
    /// Sends a frame, or puts it into the outbox; a long one leaves at once, unless another may follow soon. Fails with
    /// [`Error::Io`] if the stream took it no more: the connection is broken, but that is for its reader to find out.
    #[inline]
    pub fn send_frame(
        &mut self,
        io: &mut impl Transport,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        options: SendOptions,
        buffers: &Buffers,
    ) -> Result<(), Error> {
        let SendOptions { compress, droppable } = options;
        debug_assert!(!droppable || (fin && matches!(opcode, OpCode::Text | OpCode::Binary)), "{opcode}");
        if payload.len() >= DIRECT_WRITE && !self.more_follows && !self.outbox.is_blocked() {
            let header = self.protocol.send_header(opcode, fin, payload.len(), compress)?;
            if let Some(header) = header {
                self.unflushed |= io.is_buffered();
                return Ok(self.outbox.write_frame(&header, payload, droppable, io, buffers)?);
            }
        }
        if droppable {
            self.outbox.before_frame(true);
        }
        let mut shared = buffers.shared.borrow_mut();
        let out = self.outbox.end(buffers);
        self.protocol.send_frame_with(opcode, fin, payload, options, &mut shared, out)?;
        if droppable {
            self.outbox.mark(true);
        }
        Ok(())
    }

    /// Writes whole frames that others share, from where they lie, if that is possible right away: they must not have to be
    /// masked, and nothing may wait. Returns how many bytes have left; the rest of a frame of which some have must
    /// [follow](Session::append_framed).
    #[inline]
    pub fn write_shared(
        &mut self,
        io: &mut impl Transport,
        bytes: &[u8],
        buffers: &Buffers,
    ) -> io::Result<usize> {
        if !self.is_open() || self.role() != Role::Server || self.is_mid_message() {
            return Ok(0);
        }
        self.unflushed |= io.is_buffered();
        self.outbox.write_shared(bytes, io, buffers)
    }

    /// What a message must be compressed like to be written here as it is: see
    /// [`sharing`](threadwire_proto::Connection::sharing).
    #[inline]
    pub fn sharing(&self) -> Option<Sharing> {
        self.protocol.sharing().filter(|_| self.role() == Role::Server)
    }

    /// Writes a message that was compressed for many.
    pub fn sent_shared(&mut self) {
        self.protocol.sent_shared();
    }

    /// Puts a frame, or the rest of one, into the outbox as it is.
    pub fn append_framed(&mut self, frame: &[u8], droppable: bool, buffers: &Buffers) {
        self.outbox.before_frame(droppable);
        self.outbox.end(buffers).extend_from_slice(frame);
        self.outbox.mark(droppable);
    }

    /// Takes a message that others share. False if it can't be sent.
    pub fn send_framed(&mut self, framed: Framed<'_>, droppable: bool, buffers: &Buffers) -> bool {
        if self.is_broken() || !self.is_open() || self.is_mid_message() {
            return false;
        }
        if self.role() == Role::Server {
            if framed.is_compressed {
                self.protocol.sent_shared();
            }
            self.append_framed(framed.frame, droppable, buffers);
            return true;
        }
        self.outbox.before_frame(droppable);
        let mut shared = buffers.shared.borrow_mut();
        let (opcode, payload) = (framed.opcode, framed.payload);
        let options = SendOptions { droppable, compress: framed.compress };
        let out = self.outbox.end(buffers);
        let sent = self.protocol.send_frame_with(opcode, true, payload, options, &mut shared, out);
        self.outbox.mark(droppable && sent.is_ok());
        sent.is_ok()
    }

    /// The same with the stream at hand: a long frame leaves at once from where it lies, as one that is [sent](Session::send_frame)
    /// does. Fails with [`Error::Io`] if the stream took it no more.
    pub fn send_shared(
        &mut self,
        io: &mut impl Transport,
        framed: Framed<'_>,
        droppable: bool,
        buffers: &Buffers,
    ) -> Result<bool, Error> {
        if framed.payload.len() >= DIRECT_WRITE && !self.more_follows {
            let written = self.write_shared(io, framed.frame, buffers)?;
            if written > 0 {
                if framed.is_compressed {
                    self.sent_shared();
                }
                if written < framed.frame.len() {
                    self.append_framed(&framed.frame[written..], false, buffers);
                }
                return Ok(true);
            }
        }
        Ok(self.send_framed(framed, droppable, buffers))
    }

    /// Whether the system takes no more for now.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.outbox.is_blocked()
    }

    /// Whether a message of ours was begun and not finished.
    pub fn is_mid_message(&self) -> bool {
        self.protocol.is_mid_message()
    }

    /// Whether all has left.
    #[inline]
    pub fn is_drained(&self) -> bool {
        self.outbox.is_empty() && !self.unflushed
    }

    /// Writes waiting bytes until the system takes no more.
    #[inline]
    pub fn write(&mut self, io: &mut impl Transport, buffers: &Buffers) -> io::Result<()> {
        self.unflushed |= io.is_buffered() && !self.outbox.is_empty();
        self.outbox.write(io, buffers)?;
        if self.protocol.has_late_pong() && self.outbox.written() >= self.late_pong_at {
            self.protocol.drained(&mut buffers.shared.borrow_mut(), self.outbox.end_unlent());
            self.late_pong_at = self.sent();
            self.outbox.write(io, buffers)?;
        }
        if self.unflushed && self.outbox.is_empty() {
            self.flush(io, buffers)?;
        }
        Ok(())
    }

    fn flush(&mut self, io: &mut impl Transport, buffers: &Buffers) -> io::Result<()> {
        match io.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            flushed => {
                self.unflushed = false;
                if flushed.is_err() {
                    self.outbox.break_off(buffers);
                }
                flushed
            }
        }
    }

    /// Whether a write has something to do, and may be able to.
    #[inline]
    pub fn wants_write(&self) -> bool {
        !self.outbox.is_blocked() && (!self.is_drained() || self.protocol.has_late_pong())
    }

    /// The system takes more again.
    #[inline]
    pub fn writable(&mut self, io: &mut impl Transport) {
        self.outbox.unblock();
        io.writable();
    }
}
