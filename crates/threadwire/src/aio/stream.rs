//! Stream of a connection on tokio: a socket, TLS or a trace over one, or any other stream that tokio can read and write.

use std::any::Any;
#[cfg(feature = "tls")]
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use threadwire_proto::Role;

#[cfg(feature = "tls")]
use super::tls;
use crate::Config;
#[cfg(feature = "tls")]
use threadwire_core::tls::{session::Session, stream::TlsStream};
use threadwire_core::trace::Direction;
use threadwire_core::trace::tap::Traced;
use threadwire_core::transport::Transport;

/// Anything that a connection can run over.
pub(super) trait AnyStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> AnyStream for T {}

/// A stream. Sockets have variants of their own: they need neither a box nor to be flushed.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Another one, in TLS.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<Stream>>),
    /// Another one, whose bytes are shown to somebody.
    Traced(Box<Traced<Stream>>),
    Other(Box<dyn AnyStream>),
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

    /// A stream over whatever this is.
    pub(super) fn of(stream: impl AnyStream + 'static) -> Stream {
        fn take<T: 'static>(stream: &mut dyn Any) -> Option<T> {
            stream.downcast_mut::<Option<T>>().and_then(Option::take)
        }

        let mut stream = Some(stream);
        if let Some(socket) = take(&mut stream) {
            return Stream::tcp(socket);
        }
        if let Some(socket) = take(&mut stream) {
            return Stream::Unix(socket);
        }
        stream.map(|stream| Stream::Other(Box::new(stream))).expect("it was no socket, and so was not taken")
    }

    /// The socket under it, if it is known.
    pub(super) fn socket(&self) -> io::Result<&TcpStream> {
        match self {
            Stream::Tcp(socket) => Ok(socket),
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.stream.socket(),
            Stream::Traced(traced) => traced.stream.socket(),
            Stream::Unix(_) | Stream::Other(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The same stream in TLS, once the handshake is done; as it was, if that fails.
    #[cfg(feature = "tls")]
    pub(super) async fn secured(self, session: Session) -> Result<Stream, (Stream, io::Error)> {
        let mut secured = Box::new(TlsStream::of(session, self));
        match poll_fn(|cx| later(tls::handshake(&mut secured, cx))).await {
            Ok(()) => Ok(Stream::Tls(secured)),
            Err(error) => Err((secured.stream, error)),
        }
    }

    /// The TLS on it, if there is some.
    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> Option<&Session> {
        match self.untraced() {
            Stream::Tls(secured) => Some(&secured.tls.session),
            _ => None,
        }
    }

    /// The same stream, traced if that is wanted.
    pub(super) fn traced(self, config: &Config, role: Role) -> Stream {
        match &config.trace_in_force() {
            Some(trace) => Stream::Traced(Box::new(Traced::new(self, trace, role))),
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

    /// The stream below TLS, if there is some, untraced.
    pub(super) fn without_tls(self) -> Stream {
        match self {
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.stream,
            Stream::Traced(traced) => traced.stream.without_tls(),
            plain => plain,
        }
    }

    /// The same for a stream on which somebody else has done the handshake.
    #[cfg(feature = "hyper")]
    pub(super) fn traced_from_now_on(self, config: &Config, role: Role) -> Stream {
        match &config.trace_in_force() {
            Some(trace) => Stream::Traced(Box::new(Traced::upgraded(self, trace, role))),
            None => self,
        }
    }
}

/// A stream for the length of a poll: what is pending would block, and the poll's waker is woken when that is over.
pub(super) struct Polled<'a, 'c> {
    pub(super) stream: &'a mut Stream,
    pub(super) cx: &'a mut Context<'c>,
}

/// What is pending would block.
#[inline]
fn now<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// What would block is pending.
pub(super) fn later<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

#[inline]
fn read_now<S>(stream: &mut S, cx: &mut Context<'_>, buffer: &mut [u8]) -> io::Result<usize>
where
    S: AsyncRead + Unpin + ?Sized,
{
    let mut buffer = ReadBuf::new(buffer);
    now(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Ok(buffer.filled().len())
}

impl Transport for Polled<'_, '_> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let cx = &mut *self.cx;
        match self.stream {
            Stream::Tcp(socket) => read_now(socket, cx, buffer),
            Stream::Unix(socket) => read_now(socket, cx, buffer),
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => tls::read(secured, cx, &mut [io::IoSliceMut::new(buffer)]),
            Stream::Traced(traced) => traced.tap.read(&mut Polled { stream: &mut traced.stream, cx }, buffer),
            Stream::Other(stream) => read_now(&mut **stream, cx, buffer),
        }
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let cx = &mut *self.cx;
        match self.stream {
            Stream::Tcp(socket) => now(Pin::new(socket).poll_write(cx, bytes)),
            Stream::Unix(socket) => now(Pin::new(socket).poll_write(cx, bytes)),
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => {
                secured.tls.write(&mut Polled { stream: &mut secured.stream, cx }, &[IoSlice::new(bytes)])
            }
            Stream::Traced(traced) => traced.tap.write(&mut Polled { stream: &mut traced.stream, cx }, bytes),
            Stream::Other(stream) => now(Pin::new(&mut **stream).poll_write(cx, bytes)),
        }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let cx = &mut *self.cx;
        match self.stream {
            Stream::Tcp(socket) => now(Pin::new(socket).poll_write_vectored(cx, buffers)),
            Stream::Unix(socket) => now(Pin::new(socket).poll_write_vectored(cx, buffers)),
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => {
                secured.tls.write(&mut Polled { stream: &mut secured.stream, cx }, buffers)
            }
            Stream::Traced(traced) => {
                traced.tap.write_vectored(&mut Polled { stream: &mut traced.stream, cx }, buffers)
            }
            Stream::Other(stream) => now(Pin::new(&mut **stream).poll_write_vectored(cx, buffers)),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let cx = &mut *self.cx;
        match self.stream {
            Stream::Tcp(socket) => now(Pin::new(socket).poll_shutdown(cx)),
            Stream::Unix(socket) => now(Pin::new(socket).poll_shutdown(cx)),
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => {
                secured.tls.shutdown_write(&mut Polled { stream: &mut secured.stream, cx })
            }
            Stream::Traced(traced) => Polled { stream: &mut traced.stream, cx }.shutdown_write(),
            Stream::Other(stream) => now(Pin::new(&mut **stream).poll_shutdown(cx)),
        }
    }

    #[inline]
    fn may_have_more(&self, count: usize, room: usize) -> bool {
        match &*self.stream {
            stream if stream.is_plain() => count == room,
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.tls.may_have_more(),
            _ => true,
        }
    }

    #[inline]
    fn is_plain(&self) -> bool {
        self.stream.is_plain()
    }

    #[inline]
    fn owes(&self) -> bool {
        match self.stream.untraced() {
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.tls.session.owes(),
            _ => false,
        }
    }

    #[inline]
    fn has_unsent(&self) -> bool {
        self.stream.has_unsent()
    }

    #[inline]
    fn is_buffered(&self) -> bool {
        !self.stream.is_plain()
    }

    fn flush(&mut self) -> io::Result<()> {
        let cx = &mut *self.cx;
        match self.stream {
            Stream::Tcp(_) | Stream::Unix(_) => Ok(()),
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => tls::push(secured, cx),
            Stream::Traced(traced) => Polled { stream: &mut traced.stream, cx }.flush(),
            Stream::Other(stream) => now(Pin::new(&mut **stream).poll_flush(cx)),
        }
    }

    fn writable(&mut self) {
        #[cfg(feature = "tls")]
        if let Stream::Tls(secured) = self.stream.untraced_mut() {
            secured.tls.writable(&mut Polled { stream: &mut secured.stream, cx: self.cx });
        }
    }

    fn say_goodbye(&mut self) {
        #[cfg(feature = "tls")]
        if let Stream::Tls(secured) = self.stream.untraced_mut() {
            secured.tls.say_goodbye(&mut Polled { stream: &mut secured.stream, cx: self.cx });
        }
    }

    fn read_away(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.untraced_mut() {
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => Polled { stream: &mut secured.stream, cx: self.cx }.read_away(buffer),
            stream => Polled { stream, cx: self.cx }.read(buffer),
        }
    }
}

/// What can be said of a stream without polling it: see [`Transport`].
impl Stream {
    /// The stream that is traced, or this one.
    #[inline]
    fn untraced(&self) -> &Stream {
        match self {
            Stream::Traced(traced) => traced.stream.untraced(),
            untraced => untraced,
        }
    }

    fn untraced_mut(&mut self) -> &mut Stream {
        match self {
            Stream::Traced(traced) => traced.stream.untraced_mut(),
            untraced => untraced,
        }
    }

    #[inline]
    fn is_plain(&self) -> bool {
        matches!(self.untraced(), Stream::Tcp(_) | Stream::Unix(_))
    }

    #[inline]
    fn has_unsent(&self) -> bool {
        match self.untraced() {
            #[cfg(feature = "tls")]
            Stream::Tls(secured) => secured.tls.session.has_unsent() || secured.stream.has_unsent(),
            _ => false,
        }
    }
}

/// Handshakes read and write a stream like any other.
impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Polled { stream: self.get_mut(), cx }.read(buffer.initialize_unfilled());
        later(read.map(|count| buffer.advance(count)))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        later(Polled { stream: self.get_mut(), cx }.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        later(Polled { stream: self.get_mut(), cx }.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        later(Polled { stream: self.get_mut(), cx }.shutdown_write())
    }
}
