//! Accepting connections, and handing them round.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry};
use rustix::io::Errno;
use threadwire_worker::{EventLoop, Ready, Source, Token};

use super::control::Pending;
use super::{Post, Service, Station, handshakes, upgrade};
use crate::on_loop::stream::Stream;
use threadwire_core::server::listen_socket::{
    BACKLOG, INHERITS_NODELAY, ListenSocket, Listening, SocketFile,
};

/// The most connections accepted in one turn of the loop, so that a flood of them leaves room for those that are open.
const PER_TURN: usize = 64;

/// The most connections of a turn that may fail to be accepted: whoever is at fault, they come no faster than that.
pub(crate) const FAILURES_PER_TURN: usize = 16;

/// How long to wait when the system can't give another socket: until connections end, trying again is no use.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Acceptor {
    service: Service,
    token: Token,
    socket: RefCell<Option<Socket>>,
    /// Who else gets connections, and whose turn it is; the last turn is ours.
    others: Vec<Arc<Post>>,
    turn: Cell<usize>,
    /// Whether a timer will have it accept on.
    rests: Cell<bool>,
}

/// A connection that was accepted.
pub(super) struct Arrival {
    pub(super) stream: Stream,
    /// The other end's address, if it has one.
    pub(super) peer: Option<SocketAddr>,
    pub(super) since: Instant,
}

/// A socket that listens, as a loop watches it.
enum Socket {
    Tcp(TcpListener),
    Unix {
        /// Before the socket, so that it is gone before others could find that nobody listens.
        _file: Option<SocketFile>,
        socket: UnixListener,
    },
}

impl Socket {
    fn accept(&self) -> io::Result<Arrival> {
        let (stream, peer) = match self {
            Socket::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                let stream = if INHERITS_NODELAY { Stream::Tcp(stream) } else { Stream::tcp(stream) };
                (stream, Some(peer))
            }
            Socket::Unix { socket, .. } => (Stream::Unix(socket.accept()?.0), None),
        };
        Ok(Arrival { stream, peer, since: Instant::now() })
    }
}

impl mio::event::Source for Socket {
    fn register(&mut self, registry: &Registry, token: mio::Token, interest: Interest) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.register(registry, token, interest),
            Socket::Unix { socket, .. } => socket.register(registry, token, interest),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: mio::Token, interest: Interest) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.reregister(registry, token, interest),
            Socket::Unix { socket, .. } => socket.reregister(registry, token, interest),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.deregister(registry),
            Socket::Unix { socket, .. } => socket.deregister(registry),
        }
    }
}

impl From<ListenSocket> for Socket {
    fn from(socket: ListenSocket) -> Socket {
        match socket {
            ListenSocket::Tcp(socket) => Socket::Tcp(TcpListener::from_std(socket)),
            ListenSocket::Unix { file, socket } => {
                Socket::Unix { _file: file, socket: UnixListener::from_std(socket) }
            }
        }
    }
}

pub(super) fn start(
    service: Service,
    listening: Listening,
    others: Vec<Arc<Post>>,
) -> io::Result<Rc<Acceptor>> {
    let turn = Cell::new(others.len());
    let station = Station::of(&service.config);
    let mut made = None;
    EventLoop::current().attach(Socket::from(listening.socket), Interest::READABLE, |socket, token| {
        let socket = RefCell::new(Some(socket));
        let acceptor = Rc::new(Acceptor { service, token, socket, others, turn, rests: Cell::new(false) });
        if let Some(station) = station {
            station.add_acceptor(&acceptor);
        }
        made = Some(Rc::clone(&acceptor));
        acceptor
    })?;
    made.ok_or_else(|| io::ErrorKind::Other.into())
}

impl Acceptor {
    /// Takes one connection. False if there is none now, or none may be taken.
    fn accept(self: &Rc<Acceptor>) -> io::Result<bool> {
        let gate = &self.service.gate;
        if let Err(wait) = gate.take_turn(Instant::now()) {
            self.rest(wait);
            return Ok(false);
        }
        let accepted = match &*self.socket.borrow() {
            Some(socket) => socket.accept(),
            None => return Ok(false),
        };
        let error = match accepted {
            Ok(arrival) => {
                self.hand_on(arrival);
                return Ok(true);
            }
            Err(error) => error,
        };
        gate.give_back();
        if error.kind() == io::ErrorKind::WouldBlock { Ok(false) } else { Err(error) }
    }

    /// Gives a connection to the worker whose turn it is.
    fn hand_on(&self, arrival: Arrival) {
        tracing::debug!(peer = arrival.peer.map(tracing::field::display), "accepted");
        let station = Station::of(&self.service.config);
        if station.as_ref().is_some_and(|station| station.is_shutting_down()) {
            // It is only to be refused, and nobody waits for that.
            return upgrade::start(&self.service, arrival, None);
        }
        let turn = self.turn.get();
        self.turn.set(if turn == self.others.len() { 0 } else { turn + 1 });
        let Some(other) = self.others.get(turn) else {
            let pending = station.map(|station| station.post().expect());
            return upgrade::start(&self.service, arrival, pending);
        };
        let (service, pending) = (self.service.clone(), other.expect());
        let start = move |_: &EventLoop| upgrade::start(&service, arrival, Some(pending));
        if other.remote.post(start).is_err() {
            tracing::debug!("dropped a connection: its worker has ended");
        }
    }

    /// Accepts on after a while.
    fn rest(self: &Rc<Acceptor>, wait: Duration) {
        self.rests.set(true);
        let acceptor = Rc::downgrade(self);
        EventLoop::current().after(wait, move || {
            if let Some(acceptor) = acceptor.upgrade() {
                acceptor.rests.set(false);
                EventLoop::current().requeue(acceptor.token, Ready::READABLE);
            }
        });
    }

    /// The server shuts down: refuses those that wait to be accepted, and closes the socket.
    pub(super) fn shut_down(&self) {
        let Some(station) = Station::of(&self.service.config) else { return };
        for _ in 0..BACKLOG {
            let accepted = self.socket.borrow().as_ref().map(Socket::accept);
            match accepted {
                Some(Ok(arrival)) => {
                    let pending: Pending = station.post().expect();
                    upgrade::start(&self.service, arrival, Some(pending));
                }
                Some(Err(error)) if Fault::of(&error) == Fault::Peer => {}
                _ => break,
            }
        }
        self.close();
    }

    /// Accepts no more.
    pub(crate) fn close(&self) {
        let socket = self.socket.borrow_mut().take();
        if let Some(mut socket) = socket {
            EventLoop::current().detach(self.token, &mut socket);
        }
    }
}

/// What an error of `accept` tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection that was to be accepted: others may be well.
    Peer,
    /// The system can't give another socket: one that is given up makes room.
    Shortage,
    /// The socket that accepts, or something unheard of.
    Other,
}

/// Errors that the network had for a connection before it was accepted; Linux passes them on.
const OF_PEERS: &[Errno] = &[
    Errno::CONNABORTED,
    Errno::CONNRESET,
    Errno::INTR,
    Errno::TIMEDOUT,
    Errno::NETDOWN,
    Errno::PROTO,
    Errno::NOPROTOOPT,
    Errno::HOSTDOWN,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Errno::NONET,
    Errno::HOSTUNREACH,
    Errno::OPNOTSUPP,
    Errno::NETUNREACH,
    Errno::PERM,
];

const OF_SHORTAGE: &[Errno] = &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];

impl Fault {
    pub(crate) fn of(error: &io::Error) -> Fault {
        match Errno::from_io_error(error) {
            Some(errno) if OF_PEERS.contains(&errno) => Fault::Peer,
            Some(errno) if OF_SHORTAGE.contains(&errno) => Fault::Shortage,
            _ => Fault::Other,
        }
    }
}

impl Source for Acceptor {
    fn ready(self: Rc<Self>, _ready: Ready) {
        if self.rests.get() {
            return;
        }
        let mut failures = 0;
        for _ in 0..PER_TURN {
            let error = match self.accept() {
                Ok(true) => continue,
                Ok(false) => return,
                Err(error) => error,
            };
            failures += 1;
            let fault = Fault::of(&error);
            if fault == Fault::Peer && failures < FAILURES_PER_TURN {
                tracing::debug!(%error, "a connection ended before it was accepted");
                continue;
            }
            tracing::warn!(%error, "can't accept connections for now");
            if fault == Fault::Shortage {
                // Who holds a socket and says nothing makes room.
                handshakes::drop_oldest(&self.service.gate);
            }
            return self.rest(PAUSE);
        }
        EventLoop::current().requeue(self.token, Ready::READABLE);
    }

    fn stop(self: Rc<Self>) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_short_makes_others_make_room() {
        for (fault, errors) in [
            (Fault::Shortage, &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM][..]),
            (
                Fault::Peer,
                &[
                    Errno::CONNABORTED,
                    Errno::CONNRESET,
                    Errno::INTR,
                    Errno::NETDOWN,
                    Errno::PROTO,
                    Errno::HOSTUNREACH,
                    Errno::OPNOTSUPP,
                    Errno::NETUNREACH,
                    Errno::PERM,
                ],
            ),
            (Fault::Other, &[Errno::BADF, Errno::INVAL, Errno::NOTSOCK]),
        ] {
            for &errno in errors {
                assert_eq!(Fault::of(&errno.into()), fault, "{errno:?}");
            }
        }
        assert_eq!(Fault::of(&io::ErrorKind::Other.into()), Fault::Other);
    }
}
