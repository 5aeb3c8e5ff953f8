//! What bytes go through: TCP, or any other stream that tokio can read and write.

use std::any::Any;
#[cfg(feature = "tls")]
use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use threadwire_proto::Role;

#[cfg(feature = "tls")]
use super::tls::Secured;
use crate::Config;
use crate::outbox::Output;
#[cfg(feature = "tls")]
use threadwire_core::tls::session::Session;
use threadwire_core::trace::{Direction, tap::Tap};

/// Anything that a connection can run over.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A stream. TCP has a variant of its own: it needs neither a box nor to be flushed.
pub(super) enum Stream {
    Tcp(TcpStream),
    /// Another one, in TLS.
    #[cfg(feature = "tls")]
    Tls(Box<Secured>),
    /// Another one, whose bytes are shown to somebody.
    Traced(Box<Traced>),
    Other(Box<dyn Transport>),
}

impl Stream {
    /// A stream over a connected socket. Small writes leave at once (TCP_NODELAY): they are gathered above, where it is
    /// known when more will follow.
    pub(super) fn tcp(socket: TcpStream) -> Stream {
        Stream::tcp_with(socket, true)
    }

    /// The same, if small writes are to leave at once.
    pub(super) fn tcp_with(socket: TcpStream, leaves_at_once: bool) -> Stream {
        if leaves_at_once && let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "can't set TCP_NODELAY");
        }
        Stream::Tcp(socket)
    }

    pub(super) fn is_tcp(&self) -> bool {
        matches!(self, Stream::Tcp(_))
    }

    /// A stream over whatever this is.
    pub(super) fn of(stream: impl Transport + 'static) -> Stream {
        let mut stream = Some(stream);
        let socket = (&mut stream as &mut dyn Any).downcast_mut::<Option<TcpStream>>();
        match (socket.and_then(Option::take), stream) {
            (Some(socket), _) => Stream::tcp(socket),
            (None, Some(stream)) => Stream::Other(Box::new(stream)),
            (None, None) => unreachable!("it was no socket, and so was not taken"),
        }
    }

    /// The socket under it, if it is known.
    pub(super) fn socket(&self) -> io::Result<&TcpStream> {
        match self {
            Stream::Tcp(socket) => Ok(socket),
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.stream.socket(),
            Stream::Traced(traced) => traced.stream.socket(),
            Stream::Other(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The same stream in TLS, once the handshake is done; as it was, if that fails.
    #[cfg(feature = "tls")]
    pub(super) async fn secured(self, session: Session) -> Result<Stream, (Stream, io::Error)> {
        let mut secured = Box::new(Secured { session, stream: self });
        match poll_fn(|cx| secured.poll_handshake(cx)).await {
            Ok(()) => Ok(Stream::Tls(secured)),
            Err(error) => Err((secured.stream, error)),
        }
    }

    /// The stream below TLS, if there is some, untraced.
    pub(super) fn without_tls(self) -> Stream {
        match self {
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.stream,
            Stream::Traced(traced) => traced.stream.without_tls(),
            plain => plain,
        }
    }

    /// The peer has ended: TLS takes leave of it too, as far as that can leave at once.
    #[cfg(feature = "tls")]
    pub(super) fn say_goodbye(&mut self) {
        match self {
            // The peer has gone perhaps, and nobody needs to know.
            Stream::Tls(secured) => {
                drop(secured.poll_goodbye(&mut Context::from_waker(std::task::Waker::noop())))
            }
            Stream::Traced(traced) => traced.stream.say_goodbye(),
            _ => {}
        }
    }

    /// The TLS on it, if there is some.
    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> Option<&Session> {
        match self {
            Stream::Tls(secured) => Some(&secured.session),
            Stream::Traced(traced) => traced.stream.tls(),
            Stream::Tcp(_) | Stream::Other(_) => None,
        }
    }

    /// The same stream, traced if that is wanted.
    pub(super) fn traced(self, config: &Config, role: Role) -> Stream {
        match &config.trace {
            Some(trace) => Stream::Traced(Box::new(Traced { stream: self, tap: Tap::new(trace, role) })),
            None => self,
        }
    }

    /// The same, where the first bytes were read before.
    pub(super) fn traced_after(self, config: &Config, role: Role, early: &[u8]) -> Stream {
        let mut stream = self.traced(config, role);
        if let Stream::Traced(traced) = &mut stream {
            traced.tap.watch(Direction::Received, early);
        }
        stream
    }

    /// The same for a stream on which somebody else has done the handshake.
    #[cfg(feature = "hyper")]
    pub(super) fn traced_from_now_on(self, config: &Config, role: Role) -> Stream {
        match &config.trace {
            Some(trace) => {
                Stream::Traced(Box::new(Traced { stream: self, tap: Tap::new(trace, role).upgraded() }))
            }
            None => self,
        }
    }

    /// Whether the first byte of what is to be written next has left already.
    #[inline]
    fn owes(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Other(_) => false,
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.session.owes(),
            Stream::Traced(traced) => traced.stream.owes(),
        }
    }

    /// Whether reading has left something behind that has to be flushed: what TLS has to answer.
    #[inline]
    pub(super) fn has_answers(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Other(_) => false,
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.session.has_unsent() || secured.stream.has_answers(),
            Stream::Traced(traced) => traced.stream.has_answers(),
        }
    }

    #[inline]
    fn pinned(&mut self) -> Pin<&mut dyn Transport> {
        match self {
            Stream::Tcp(socket) => Pin::new(socket),
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => Pin::new(&mut **secured),
            Stream::Traced(traced) => Pin::new(&mut **traced),
            Stream::Other(stream) => Pin::new(&mut **stream),
        }
    }

    /// Reads into initialised memory, so that no reader has to clear it first. Nothing was read if it is pending.
    #[inline]
    pub(super) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(self).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_read(cx, buffer),
            other => other.pinned().poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            other => other.pinned().poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().pinned().poll_write_vectored(cx, buffers)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().pinned().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().pinned().poll_shutdown(cx)
    }
}

/// A stream whose bytes are shown to somebody.
pub(super) struct Traced {
    stream: Stream,
    tap: Tap,
}

impl AsyncRead for Traced {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Traced { stream, tap } = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(stream).poll_read(cx, buffer))?;
        tap.watch(Direction::Received, &buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Traced {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Traced { stream, tap } = self.get_mut();
        let count = ready!(Pin::new(stream).poll_write(cx, bytes))?;
        tap.watch(Direction::Sent, &bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Traced { stream, tap } = self.get_mut();
        let count = ready!(Pin::new(stream).poll_write_vectored(cx, buffers))?;
        tap.watch_sent(buffers, count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A stream as the outbox writes it: what is pending would block.
pub(super) struct Writer<'a, 'c> {
    pub(super) stream: &'a mut Stream,
    pub(super) cx: &'a mut Context<'c>,
}

fn now<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Write for Writer<'_, '_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.stream).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        now(Pin::new(&mut *self.stream).poll_write_vectored(self.cx, buffers))
    }

    fn flush(&mut self) -> io::Result<()> {
        now(Pin::new(&mut *self.stream).poll_flush(self.cx))
    }
}

impl Output for Writer<'_, '_> {
    #[inline]
    fn owes(&self) -> bool {
        self.stream.owes()
    }
}
