//! Transport: the byte stream under a connection, which never blocks.
//!
//! A socket, TLS over it, a stream that a trace watches, and a poll of a runtime's stream look the same from here. Where a call
//! can't go on, it fails with [`WouldBlock`](io::ErrorKind::WouldBlock), and the owner of the stream is told when it can.

use std::io::{self, IoSlice, IoSliceMut};

/// A stream of bytes in both directions.
pub trait Transport {
    /// Reads into a buffer. 0 is the end of the peer's half.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Reads into the first buffer, then into the next ones. By default in several reads, as long as they fill a buffer.
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut total = 0;
        for buffer in buffers {
            match self.read(buffer) {
                Ok(count) => {
                    total += count;
                    if count < buffer.len() {
                        break;
                    }
                }
                Err(error) if total == 0 => return Err(error),
                // The next read finds it again.
                Err(_) => break,
            }
        }
        Ok(total)
    }

    /// Writes, as much as is taken.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Writes the first buffer, then the next ones, as much as is taken. By default only the first that is not empty.
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let first = buffers.iter().find(|buffer| !buffer.is_empty());
        self.write(first.map_or(&[], |buffer| buffer))
    }

    /// Tells the peer that nothing more will come. What the peer still sends can be read. Called again after
    /// [`WouldBlock`](io::ErrorKind::WouldBlock), it goes on.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Whether there may be more to read, after a read of this many bytes into this much room. Where there is not, the stream
    /// says when there is again.
    fn may_have_more(&self, count: usize, room: usize) -> bool;

    /// Whether the bytes are those of the wire, and the stream ends without words of its own: a socket, also one that is traced.
    #[inline]
    fn is_plain(&self) -> bool {
        true
    }

    /// Whether the first byte of what is to be written next has left already, though it was not counted. It has to stay where
    /// it is, and so has the frame that it begins.
    #[inline]
    fn owes(&self) -> bool {
        false
    }

    /// Whether the stream has bytes of its own to write that leave only if it is [flushed](Transport::flush): answers of TLS to
    /// what was read.
    #[inline]
    fn has_unsent(&self) -> bool {
        false
    }

    /// Whether what was written may lie in the stream until it is [flushed](Transport::flush).
    #[inline]
    fn is_buffered(&self) -> bool {
        false
    }

    /// Has all leave that the stream itself holds back.
    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The system takes more again: what the stream itself has kept leaves first.
    #[inline]
    fn writable(&mut self) {}

    /// The stream is about to be dropped: TLS sends `close_notify`, if the stream takes it at once.
    #[inline]
    fn say_goodbye(&mut self) {}

    /// Reads bytes that nobody wants any more, whatever they mean.
    #[inline]
    fn read_away(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }
}
