//! Stream of a connection on an event loop: a socket, TLS or a trace over one. One type whatever lies underneath, so that nothing
//! above it has to know.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use threadwire_proto::Role;

use crate::trace::Trace;
#[cfg(feature = "tls")]
use threadwire_core::tls::session::Session;
#[cfg(feature = "tls")]
use threadwire_core::tls::stream::TlsStream;
use threadwire_core::trace::Direction;
use threadwire_core::trace::tap::Traced;
use threadwire_core::transport::Transport;

/// A connected stream.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// Another one, in TLS.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<Stream>>),
    /// Another one, whose bytes are shown to somebody.
    Traced(Box<Traced<Stream>>),
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
    pub(crate) fn over_tls(stream: Stream, session: Session) -> Stream {
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
            traced.tap.watch(Direction::Received, early);
        }
        stream
    }

    /// The TLS on it, if there is some.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self) -> Option<&Session> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => None,
            Stream::Tls(tls) => Some(&tls.tls.session),
            Stream::Traced(traced) => traced.stream.tls(),
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
            // A Unix socket has no such address.
            Stream::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.stream.peer_addr(),
            Stream::Traced(traced) => traced.stream.peer_addr(),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Tcp(socket) => socket.local_addr(),
            // A Unix socket has no such address.
            Stream::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.stream.local_addr(),
            Stream::Traced(traced) => traced.stream.local_addr(),
        }
    }
}

impl Transport for Stream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => retry(|| socket.read(buffer)),
            Stream::Unix(socket) => retry(|| socket.read(buffer)),
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.tls.read(&mut secured.stream, &mut [IoSliceMut::new(buffer)]),
            Stream::Traced(traced) => traced.tap.read(&mut traced.stream, buffer),
        }
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => retry(|| socket.read_vectored(buffers)),
            Stream::Unix(socket) => retry(|| socket.read_vectored(buffers)),
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.tls.read(&mut secured.stream, buffers),
            Stream::Traced(traced) => traced.tap.read_vectored(&mut traced.stream, buffers),
        }
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => retry(|| socket.write(bytes)),
            Stream::Unix(socket) => retry(|| socket.write(bytes)),
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.tls.write(&mut secured.stream, &[IoSlice::new(bytes)]),
            Stream::Traced(traced) => traced.tap.write(&mut traced.stream, bytes),
        }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => retry(|| socket.write_vectored(buffers)),
            Stream::Unix(socket) => retry(|| socket.write_vectored(buffers)),
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.tls.write(&mut secured.stream, buffers),
            Stream::Traced(traced) => traced.tap.write_vectored(&mut traced.stream, buffers),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Stream::Unix(socket) => socket.shutdown(Shutdown::Write),
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.tls.shutdown_write(&mut secured.stream),
            Stream::Traced(traced) => traced.stream.shutdown_write(),
        }
    }

    /// Of sockets, a short read takes all; TLS may hold bytes that the system knows nothing of.
    #[inline]
    fn may_have_more(&self, count: usize, room: usize) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => count == room,
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.tls.may_have_more(),
            Stream::Traced(traced) => traced.stream.may_have_more(count, room),
        }
    }

    #[inline]
    fn is_plain(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => true,
            #[cfg(feature = "tls")]
            Stream::Tls(_) => false,
            Stream::Traced(traced) => traced.stream.is_plain(),
        }
    }

    #[inline]
    fn owes(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => false,
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.tls.session.owes(),
            Stream::Traced(traced) => traced.stream.owes(),
        }
    }

    #[inline]
    fn writable(&mut self) {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => {}
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.tls.writable(&mut secured.stream),
            Stream::Traced(traced) => traced.stream.writable(),
        }
    }

    fn say_goodbye(&mut self) {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => {}
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.tls.say_goodbye(&mut secured.stream),
            Stream::Traced(traced) => traced.stream.say_goodbye(),
        }
    }

    fn read_away(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.stream.read_away(buffer),
            Stream::Traced(traced) => traced.stream.read_away(buffer),
            plain => plain.read(buffer),
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
