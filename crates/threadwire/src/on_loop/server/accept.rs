//! Accepting connections, and handing them round.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry};
use threadwire_worker::{EventLoop, Ready, Source, Token};

use super::control::WorkerRemote;
use super::opening_handshake;
use super::worker::ServerWorker;
use crate::connection::stream::Stream;
use threadwire_core::server::accept_errors::{AfterError, Failures, Fault};
use threadwire_core::server::listen_socket::{
    BACKLOG, INHERITS_NODELAY, ListenSocket, RawSocket, SocketFile,
};

/// The most connections accepted in one turn of the loop, so that a flood of them leaves room for those that are open.
const PER_TURN: usize = 64;

pub(crate) struct Acceptor {
    worker: Rc<ServerWorker>,
    token: Token,
    socket: RefCell<Option<Socket>>,
    /// Who else gets connections, and whose turn it is; the last turn is ours.
    others: Vec<WorkerRemote>,
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

impl From<RawSocket> for Socket {
    fn from(socket: RawSocket) -> Socket {
        match socket {
            RawSocket::Tcp(socket) => Socket::Tcp(TcpListener::from_std(socket)),
            RawSocket::Unix { file, socket } => {
                Socket::Unix { _file: file, socket: UnixListener::from_std(socket) }
            }
        }
    }
}

/// Accepts connections on this thread, and hands them round: to this worker, and to each of the others.
pub(super) fn start(
    worker: &Rc<ServerWorker>,
    listening: ListenSocket,
    others: Vec<WorkerRemote>,
) -> io::Result<()> {
    let turn = Cell::new(others.len());
    EventLoop::current().attach(Socket::from(listening.socket), Interest::READABLE, |socket, token| {
        let socket = RefCell::new(Some(socket));
        let worker = Rc::clone(worker);
        let acceptor = Rc::new(Acceptor { worker, token, socket, others, turn, rests: Cell::new(false) });
        acceptor.worker.add_acceptor(&acceptor);
        acceptor
    })?;
    Ok(())
}

impl Acceptor {
    /// Takes one connection. False if there is none now, or none may be taken.
    fn accept(self: &Rc<Acceptor>) -> io::Result<bool> {
        let gate = &self.worker.settings.gate;
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
        if self.worker.is_shutting_down() {
            // The connection is only to be refused, and nothing waits for that.
            return opening_handshake::start(&self.worker, arrival, None);
        }
        let turn = self.turn.get();
        self.turn.set(if turn == self.others.len() { 0 } else { turn + 1 });
        let Some(other) = self.others.get(turn) else {
            return opening_handshake::start(&self.worker, arrival, Some(self.worker.tally().expect()));
        };
        let (tally, pending) = (other.tally.clone(), other.tally.expect());
        let start = move |_: &EventLoop| match ServerWorker::of_tally(&tally) {
            Some(worker) => opening_handshake::start(&worker, arrival, Some(pending)),
            None => drop((arrival, pending)),
        };
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
        for _ in 0..BACKLOG {
            let accepted = self.socket.borrow().as_ref().map(Socket::accept);
            match accepted {
                Some(Ok(arrival)) => {
                    opening_handshake::start(&self.worker, arrival, Some(self.worker.tally().expect()));
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

impl Source for Acceptor {
    fn ready(self: Rc<Self>, _ready: Ready) {
        if self.rests.get() {
            return;
        }
        let mut failures = Failures::default();
        for _ in 0..PER_TURN {
            let error = match self.accept() {
                Ok(true) => continue,
                Ok(false) => return,
                Err(error) => error,
            };
            match failures.after(&error) {
                AfterError::GoOn => {}
                AfterError::Rest(pause) => return self.rest(pause),
                AfterError::RestAndDropOldest(pause) => {
                    self.worker.drop_oldest_handshake();
                    return self.rest(pause);
                }
            }
        }
        EventLoop::current().requeue(self.token, Ready::READABLE);
    }

    fn stop(self: Rc<Self>) {
        self.close();
    }
}
