//! Listening sockets on tokio: accepting, and what waits there when they are closed.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::stream::Stream;
use crate::server::ListenSocket;
use threadwire_core::server::accept_errors::Fault;
use threadwire_core::server::listen_socket::{BACKLOG, INHERITS_NODELAY, RawSocket, SocketFile};

/// A connection, and the other end's address, if it has one.
pub(super) type Accepted = (Stream, Option<SocketAddr>);

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix {
        /// Before the socket, so that it is gone before others could find that nobody listens.
        file: Option<SocketFile>,
        socket: UnixListener,
    },
}

impl Socket {
    pub(super) fn new(listening: ListenSocket) -> io::Result<Socket> {
        Ok(match listening.socket {
            RawSocket::Tcp(socket) => Socket::Tcp(TcpListener::from_std(socket)?),
            RawSocket::Unix { file, socket } => {
                Socket::Unix { file, socket: UnixListener::from_std(socket)? }
            }
        })
    }

    /// The next connection.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Option<SocketAddr>)>> {
        Poll::Ready(match self {
            Socket::Tcp(socket) => ready!(socket.poll_accept(cx)).map(|(stream, peer)| {
                let stream = if INHERITS_NODELAY { Stream::Tcp(stream) } else { Stream::tcp(stream) };
                (stream, Some(peer))
            }),
            Socket::Unix { socket, .. } => {
                ready!(socket.poll_accept(cx)).map(|(stream, _)| (Stream::of(stream), None))
            }
        })
    }

    /// Closes it, and returns the connections that wait to be accepted. The system is asked itself: the runtime may not know yet.
    pub(super) fn close(self) -> Vec<Accepted> {
        let mut waiting = Vec::new();
        let ended = match self {
            Socket::Tcp(socket) => socket.into_std().and_then(|socket| {
                accept_all(&mut waiting, || {
                    let (stream, peer) = socket.accept()?;
                    stream.set_nonblocking(true)?;
                    Ok((Stream::tcp(TcpStream::from_std(stream)?), Some(peer)))
                })
            }),
            Socket::Unix { socket, file } => {
                // No client can connect any more, and those that have are refused.
                drop(file);
                socket.into_std().and_then(|socket| {
                    accept_all(&mut waiting, || {
                        let (stream, _) = socket.accept()?;
                        stream.set_nonblocking(true)?;
                        Ok((Stream::of(UnixStream::from_std(stream)?), None))
                    })
                })
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "can't refuse those who wait to be accepted");
        }
        waiting
    }
}

fn accept_all(
    waiting: &mut Vec<Accepted>,
    mut accept: impl FnMut() -> io::Result<Accepted>,
) -> io::Result<()> {
    for _ in 0..BACKLOG {
        match accept() {
            Ok(accepted) => waiting.push(accepted),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if Fault::of(&error) == Fault::Peer => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
