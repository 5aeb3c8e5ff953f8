//! What bytes go through. One type whatever lies underneath, so that nothing above it has to know.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// A connected stream: plain TCP for now. TLS becomes another variant.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
}

impl Stream {
    /// A stream over a socket that is, or will be, connected. Small writes leave at once (TCP_NODELAY): they are
    /// gathered above, where it is known when more will follow.
    pub(crate) fn tcp(socket: TcpStream) -> Stream {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "can't set TCP_NODELAY");
        }
        Stream::Tcp(socket)
    }

    /// Reads into the first buffer, then into the second.
    pub(crate) fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let Stream::Tcp(socket) = self;
        retry(|| socket.read_vectored(buffers))
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Stream::Tcp(socket) = self;
        retry(|| socket.read(buffer))
    }

    /// Tells the peer that nothing more will come. What it still sends can be read.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        let Stream::Tcp(socket) = self;
        socket.shutdown(Shutdown::Write)
    }

    /// The error that a connection attempt ended with, if it did.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let Stream::Tcp(socket) = self;
        socket.take_error()
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        let Stream::Tcp(socket) = self;
        socket.peer_addr()
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        let Stream::Tcp(socket) = self;
        socket.local_addr()
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Stream::Tcp(socket) = self;
        retry(|| socket.write(bytes))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let Stream::Tcp(socket) = self;
        retry(|| socket.write_vectored(buffers))
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
        let Stream::Tcp(socket) = self;
        socket.register(registry, token, interest)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        let Stream::Tcp(socket) = self;
        socket.reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let Stream::Tcp(socket) = self;
        socket.deregister(registry)
    }
}
