//! TLS over a stream on tokio: which of its calls may write.
//!
//! A stream has one waker for the task that waits to write. So a read writes nothing, as another task may wait for the stream to
//! take more: what has to be answered is left until the stream is written or flushed.

use std::io::{self, IoSliceMut};
use std::task::Context;

use super::stream::{Polled, Stream};
use threadwire_core::tls::stream::TlsStream;
use threadwire_core::transport::Transport;

/// The stream under a session that reads.
struct Below<'a, 'c> {
    polled: Polled<'a, 'c>,
    writes: bool,
}

impl Transport for Below<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.polled.read(buffer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.writes { self.polled.write(bytes) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.polled.shutdown_write()
    }

    /// A task is only woken whose read was pending.
    fn may_have_more(&self, _count: usize, _room: usize) -> bool {
        true
    }
}

type Secured = TlsStream<Stream>;

/// Reads what has arrived.
pub(super) fn read(
    secured: &mut Secured,
    cx: &mut Context<'_>,
    buffers: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    let mut io = Below { polled: Polled { stream: &mut secured.stream, cx }, writes: false };
    let read = secured.tls.read(&mut io, buffers);
    if matches!(&read, Err(error) if error.kind() != io::ErrorKind::WouldBlock) {
        // Nothing more is written: the peer is told what was wrong, as far as that can leave at once.
        let _ = secured.tls.push(&mut io.polled);
    }
    read
}

/// Goes on with the handshake, until it is done and all of it has left.
pub(super) fn handshake(secured: &mut Secured, cx: &mut Context<'_>) -> io::Result<()> {
    let mut io = Below { polled: Polled { stream: &mut secured.stream, cx }, writes: true };
    if !secured.tls.handshake(&mut io)? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    push(secured, cx)
}

/// Has all leave that was encrypted.
pub(super) fn push(secured: &mut Secured, cx: &mut Context<'_>) -> io::Result<()> {
    let mut io = Polled { stream: &mut secured.stream, cx };
    if !secured.tls.push(&mut io)? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    io.flush()
}

#[cfg(test)]
mod tests;
