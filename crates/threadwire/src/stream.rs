//! What bytes go through. One type whatever lies underneath, so that nothing above it has to know.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use threadwire_proto::Role;

use crate::Trace;
use crate::trace::Traced;

/// A connected stream: plain TCP for now. TLS becomes another variant.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    /// Another one, whose bytes are shown to somebody.
    Traced(Box<Traced>),
}

impl Stream {
    /// A stream over a socket that is, or will be, connected. Small writes leave at once (TCP_NODELAY): they are
    /// gathered above, where it is known when more will follow.
    pub(crate) fn tcp(socket: TcpStream) -> Stream {
        Stream::tcp_with(socket, true)
    }

    /// The same, if small writes are to leave at once.
    pub(crate) fn tcp_with(socket: TcpStream, leaves_at_once: bool) -> Stream {
        if leaves_at_once && let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "can't set TCP_NODELAY");
        }
        Stream::Tcp(socket)
    }

    /// The same stream, traced if that is wanted.
    pub(crate) fn traced(self, trace: Option<&Trace>, role: Role) -> Stream {
        match trace {
            Some(trace) => Stream::Traced(Box::new(Traced::new(self, trace, role))),
            None => self,
        }
    }

    /// Reads into the first buffer, then into the second.
    pub(crate) fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => retry(|| socket.read_vectored(buffers)),
            Stream::Traced(traced) => traced.read_vectored(buffers),
        }
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => retry(|| socket.read(buffer)),
            Stream::Traced(traced) => traced.read(buffer),
        }
    }

    /// Tells the peer that nothing more will come. What it still sends can be read.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Stream::Traced(traced) => traced.stream.shutdown_write(),
        }
    }

    /// The error that a connection attempt ended with, if it did.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Stream::Tcp(socket) => socket.take_error(),
            Stream::Traced(traced) => traced.stream.take_error(),
        }
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Tcp(socket) => socket.peer_addr(),
            Stream::Traced(traced) => traced.stream.peer_addr(),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Tcp(socket) => socket.local_addr(),
            Stream::Traced(traced) => traced.stream.local_addr(),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => retry(|| socket.write(bytes)),
            Stream::Traced(traced) => traced.write(bytes),
        }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => retry(|| socket.write_vectored(buffers)),
            Stream::Traced(traced) => traced.write_vectored(buffers),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A signal that arrives during a system call is no reason to fail.
#[inline]
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.register(registry, token, interest),
            Stream::Traced(traced) => traced.stream.register(registry, token, interest),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.reregister(registry, token, interest),
            Stream::Traced(traced) => traced.stream.reregister(registry, token, interest),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.deregister(registry),
            Stream::Traced(traced) => traced.stream.deregister(registry),
        }
    }
}
