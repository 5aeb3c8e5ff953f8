//! TLS on a stream of a runtime: the session of all faces, driven by polls.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;
use threadwire_core::tls::session::{Io, Session};

/// A stream in TLS.
pub(super) struct Secured {
    pub(super) session: Session,
    pub(super) stream: Stream,
}

/// A stream for the length of a poll: what is pending would block.
struct Polled<'a, 'c> {
    stream: &'a mut Stream,
    cx: &'a mut Context<'c>,
}

fn now<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// What would block is pending: the stream has noted who is to be woken.
fn later<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl Io for Polled<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        now(self.stream.poll_read_into(self.cx, buffer))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.stream).poll_write(self.cx, bytes))
    }

    /// Nobody is woken whose read was not pending.
    fn may_have_more(&self, _count: usize, _room: usize) -> bool {
        true
    }
}

/// The same for a read. It writes nothing, as another task may wait for the stream to take more, and there is one waker for that:
/// what has to be answered waits until the stream is written or flushed.
struct Read<'a, 'c>(Polled<'a, 'c>);

impl Io for Read<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn may_have_more(&self, count: usize, room: usize) -> bool {
        self.0.may_have_more(count, room)
    }
}

impl Secured {
    fn parts<'a, 'c>(&'a mut self, cx: &'a mut Context<'c>) -> (&'a mut Session, Polled<'a, 'c>) {
        (&mut self.session, Polled { stream: &mut self.stream, cx })
    }

    /// Goes on with the handshake.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (session, mut polled) = self.parts(cx);
        if !session.handshake(&mut polled)? {
            return Poll::Pending;
        }
        // The last of it may still have to leave.
        self.poll_push(cx)
    }

    /// Tells the peer that nothing more will come.
    pub(super) fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (session, mut polled) = self.parts(cx);
        match session.say_goodbye(&mut polled)? {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Has all leave that was encrypted.
    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (session, mut polled) = self.parts(cx);
        if !session.push(&mut polled)? {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (session, polled) = self.get_mut().parts(cx);
        let room = buffer.initialize_unfilled();
        let mut reading = Read(polled);
        let read = ready!(later(session.read(&mut reading, &mut [IoSliceMut::new(room)])));
        if read.is_err() {
            // Nothing more is written: the peer is told what was wrong, as far as that can leave at once.
            let _ = session.push(&mut reading.0);
        }
        buffer.advance(read?);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (session, mut polled) = self.get_mut().parts(cx);
        later(session.write(&mut polled, buffers))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_push(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let secured = self.get_mut();
        ready!(secured.poll_goodbye(cx))?;
        Pin::new(&mut secured.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
