//! TLS on a stream of an event loop.

use std::io::{self, IoSlice, IoSliceMut, Write};

use crate::stream::Stream;
use threadwire_core::tls::session::{Io, Session};

/// A stream in TLS. The handshake goes on by itself in whatever is called.
#[derive(Debug)]
pub(crate) struct TlsStream {
    session: Session,
    pub(crate) stream: Stream,
    /// Whether the stream below ends as soon as all has left.
    ends: bool,
}

impl Io for Stream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Stream::read(self, buffer)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    #[inline]
    fn may_have_more(&self, count: usize, room: usize) -> bool {
        Stream::may_have_more(self, count, room)
    }
}

impl TlsStream {
    pub(crate) fn of(session: Session, stream: Stream) -> TlsStream {
        TlsStream { session, stream, ends: false }
    }

    /// Goes on with the handshake. Whether it is done.
    pub(crate) fn handshake(&mut self) -> io::Result<bool> {
        self.session.handshake(&mut self.stream)
    }

    #[inline]
    pub(crate) fn read(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.session.read(&mut self.stream, buffers)
    }

    #[inline]
    pub(crate) fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.session.write(&mut self.stream, parts)
    }

    #[inline]
    pub(crate) fn may_have_more(&self) -> bool {
        self.session.may_have_more()
    }

    /// The stream below takes more again.
    #[inline]
    pub(crate) fn writable(&mut self) {
        self.stream.writable();
        // Where that fails, so will reading.
        let _ = self.push();
    }

    fn push(&mut self) -> io::Result<()> {
        if self.session.push(&mut self.stream)? && std::mem::take(&mut self.ends) {
            self.stream.shutdown_write()?;
        }
        Ok(())
    }

    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        self.ends = true;
        self.session.say_goodbye(&mut self.stream)?;
        self.push()
    }

    /// Says that nothing more will come, as far as that can leave at once.
    pub(crate) fn say_goodbye(&mut self) {
        // The peer has gone perhaps, and nobody needs to know.
        let _ = self.session.say_goodbye(&mut self.stream);
        self.stream.say_goodbye();
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }
}
