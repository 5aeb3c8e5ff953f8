//! What bytes go through. One type whatever lies underneath, so that nothing above it has to know.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use threadwire_proto::Role;

use crate::Trace;
use crate::outbox::Output;
#[cfg(feature = "tls")]
use crate::tls::stream::TlsStream;
use crate::traced::Traced;
#[cfg(feature = "tls")]
use threadwire_core::tls::session::Session;

/// A connected stream.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// Another one, in TLS.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
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

    /// TLS on another stream. The handshake goes on by itself, as the stream is read.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(stream: Stream, session: Session) -> Stream {
        Stream::Tls(Box::new(TlsStream::of(session, stream)))
    }

    /// The same stream, traced if that is wanted.
    pub(crate) fn traced(self, trace: Option<&Trace>, role: Role) -> Stream {
        match trace {
            Some(trace) => Stream::Traced(Box::new(Traced::new(self, trace, role))),
            None => self,
        }
    }

    /// The same, where the first bytes were read before.
    pub(crate) fn traced_after(self, trace: Option<&Trace>, role: Role, early: &[u8]) -> Stream {
        let mut stream = self.traced(trace, role);
        if let Stream::Traced(traced) = &mut stream {
            traced.show(early);
        }
        stream
    }

    /// Reads into the first buffer, then into the second.
    pub(crate) fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => retry(|| socket.read_vectored(buffers)),
            Stream::Unix(socket) => retry(|| socket.read_vectored(buffers)),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.read(buffers),
            Stream::Traced(traced) => traced.read_vectored(buffers),
        }
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => retry(|| socket.read(buffer)),
            Stream::Unix(socket) => retry(|| socket.read(buffer)),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.read(&mut [IoSliceMut::new(buffer)]),
            Stream::Traced(traced) => traced.read(buffer),
        }
    }

    /// Whether there may be more to read, after a read of this many bytes into this much room. Where there is not, the system
    /// says when there is again. Of sockets, a short read takes all; TLS may hold bytes that the system knows nothing of.
    #[inline]
    pub(crate) fn may_have_more(&self, count: usize, room: usize) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => count == room,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.may_have_more(),
            Stream::Traced(traced) => traced.stream.may_have_more(count, room),
        }
    }

    /// Whether bytes come as they are, so that it saves a copy to have them read to where they belong.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => true,
            #[cfg(feature = "tls")]
            Stream::Tls(_) => false,
            Stream::Traced(traced) => traced.stream.is_plain(),
        }
    }

    /// The system takes more again: what the stream itself has kept leaves first.
    #[inline]
    pub(crate) fn writable(&mut self) {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => {}
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.writable(),
            Stream::Traced(traced) => traced.stream.writable(),
        }
    }

    /// The stream is about to be dropped: TLS says so, as far as that can leave at once.
    pub(crate) fn say_goodbye(&mut self) {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => {}
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.say_goodbye(),
            Stream::Traced(traced) => traced.stream.say_goodbye(),
        }
    }

    /// The TLS on it, if there is some.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_stream(&self) -> Option<&TlsStream> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => None,
            Stream::Tls(tls) => Some(tls),
            Stream::Traced(traced) => traced.stream.tls_stream(),
        }
    }

    /// Reads bytes that nobody wants any more, whatever they mean.
    pub(crate) fn read_away(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.stream.read_away(buffer),
            Stream::Traced(traced) => traced.stream.read_away(buffer),
            plain => plain.read(buffer),
        }
    }

    /// Tells the peer that nothing more will come. What it still sends can be read.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Stream::Unix(socket) => socket.shutdown(Shutdown::Write),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.shutdown_write(),
            Stream::Traced(traced) => traced.stream.shutdown_write(),
        }
    }

    /// The error that a connection attempt ended with, if it did.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Stream::Tcp(socket) => socket.take_error(),
            Stream::Unix(socket) => socket.take_error(),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.stream.take_error(),
            Stream::Traced(traced) => traced.stream.take_error(),
        }
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Tcp(socket) => socket.peer_addr(),
            // It has no such address.
            Stream::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.stream.peer_addr(),
            Stream::Traced(traced) => traced.stream.peer_addr(),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Tcp(socket) => socket.local_addr(),
            // It has no such address.
            Stream::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.stream.local_addr(),
            Stream::Traced(traced) => traced.stream.local_addr(),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => retry(|| socket.write(bytes)),
            Stream::Unix(socket) => retry(|| socket.write(bytes)),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.write(&[IoSlice::new(bytes)]),
            Stream::Traced(traced) => traced.write(bytes),
        }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => retry(|| socket.write_vectored(buffers)),
            Stream::Unix(socket) => retry(|| socket.write_vectored(buffers)),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.write(buffers),
            Stream::Traced(traced) => traced.write_vectored(buffers),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Stream {
    #[inline]
    fn owes(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => false,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.session().owes(),
            Stream::Traced(traced) => traced.stream.owes(),
        }
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
            Stream::Unix(socket) => socket.register(registry, token, interest),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.stream.register(registry, token, interest),
            Stream::Traced(traced) => traced.stream.register(registry, token, interest),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.reregister(registry, token, interest),
            Stream::Unix(socket) => socket.reregister(registry, token, interest),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.stream.reregister(registry, token, interest),
            Stream::Traced(traced) => traced.stream.reregister(registry, token, interest),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.deregister(registry),
            Stream::Unix(socket) => socket.deregister(registry),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.stream.deregister(registry),
            Stream::Traced(traced) => traced.stream.deregister(registry),
        }
    }
}
