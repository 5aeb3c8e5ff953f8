//! TLS layer between a connection and its stream.

use std::io::{self, IoSlice, IoSliceMut};

use super::session::Session;
use crate::transport::Transport;

/// A stream in TLS.
#[derive(Debug)]
pub struct TlsStream<S> {
    pub tls: Tls,
    pub stream: S,
}

impl<S> TlsStream<S> {
    pub fn of(session: Session, stream: S) -> TlsStream<S> {
        TlsStream { tls: Tls { session, ends: false }, stream }
    }
}

/// One side of TLS, over the transport that each call is given. The handshake goes on by itself in whatever is called.
#[derive(Debug)]
pub struct Tls {
    pub session: Session,
    /// Whether the stream below ends as soon as all has left.
    ends: bool,
}

impl Tls {
    /// Goes on with the handshake. Whether it is done.
    pub fn handshake(&mut self, io: &mut impl Transport) -> io::Result<bool> {
        self.session.handshake(io)
    }

    #[inline]
    pub fn read(&mut self, io: &mut impl Transport, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.session.read(io, buffers)
    }

    #[inline]
    pub fn write(&mut self, io: &mut impl Transport, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.session.write(io, parts)
    }

    #[inline]
    pub fn may_have_more(&self) -> bool {
        self.session.may_have_more()
    }

    /// The stream below takes more again.
    #[inline]
    pub fn writable(&mut self, io: &mut impl Transport) {
        io.writable();
        // A stream that fails here fails in reading, too.
        let _ = self.push(io);
    }

    /// Has all leave that was encrypted, and the end behind it. Whether it has.
    pub fn push(&mut self, io: &mut impl Transport) -> io::Result<bool> {
        if !self.session.push(io)? {
            return Ok(false);
        }
        if self.ends {
            let ended = io.shutdown_write();
            self.ends = matches!(&ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            ended?;
        }
        Ok(true)
    }

    /// Says that nothing more will come, and has the stream below end when that has left.
    pub fn shutdown_write(&mut self, io: &mut impl Transport) -> io::Result<()> {
        self.ends = true;
        self.session.say_goodbye(io)?;
        self.push(io).map(drop)
    }

    /// Sends `close_notify`, if the stream takes it at once.
    pub fn say_goodbye(&mut self, io: &mut impl Transport) {
        // The peer has gone perhaps, and nobody needs to know.
        let _ = self.session.say_goodbye(io);
        io.say_goodbye();
    }
}
