//! Sockets that listen, on a runtime.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use tokio::net::{TcpListener, UnixListener};

use super::stream::Stream;
use crate::server::listening::{INHERITS_NODELAY, ListenSocket, SocketFile};
use crate::{ListenAddr, Listening};

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Socket {
    kind: Kind,
    addr: ListenAddr,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix {
        /// Before the socket, so that it is gone before others could find that nobody listens.
        _file: Option<SocketFile>,
        socket: UnixListener,
    },
}

impl Socket {
    pub(super) fn new(listening: Listening) -> io::Result<Socket> {
        let addr = listening.local_addr().clone();
        let kind = match listening.socket {
            ListenSocket::Tcp(socket) => Kind::Tcp(TcpListener::from_std(socket)?),
            ListenSocket::Unix { file, socket } => {
                Kind::Unix { _file: file, socket: UnixListener::from_std(socket)? }
            }
        };
        Ok(Socket { kind, addr })
    }

    pub(super) fn local_addr(&self) -> &ListenAddr {
        &self.addr
    }

    /// The next connection, and the other end's address, if it has one.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Option<SocketAddr>)>> {
        Poll::Ready(match &self.kind {
            Kind::Tcp(socket) => ready!(socket.poll_accept(cx)).map(|(stream, peer)| {
                let stream = if INHERITS_NODELAY { Stream::Tcp(stream) } else { Stream::tcp(stream) };
                (stream, Some(peer))
            }),
            Kind::Unix { socket, .. } => {
                ready!(socket.poll_accept(cx)).map(|(stream, _)| (Stream::of(stream), None))
            }
        })
    }
}
