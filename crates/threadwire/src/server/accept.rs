//! Accepting connections, and handing them round.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::net::{TcpListener, TcpStream};
use threadwire_worker::{EventLoop, Ready, Source, Token};

use super::control::Pending;
use super::{BACKLOG, Post, Service, Station, upgrade};

/// The most connections accepted in one turn of the loop, so that a flood of them leaves room for those that are open.
const PER_TURN: usize = 64;

/// How long to wait when the system can't give another socket: until connections end, trying again is no use.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Acceptor {
    service: Service,
    token: Token,
    socket: RefCell<Option<TcpListener>>,
    /// Who else gets connections, and whose turn it is; the last turn is ours.
    others: Vec<Arc<Post>>,
    turn: Cell<usize>,
}

pub(super) fn start(
    service: Service,
    socket: std::net::TcpListener,
    others: Vec<Arc<Post>>,
) -> io::Result<Rc<Acceptor>> {
    let turn = Cell::new(others.len());
    let station = Station::of(&service.config);
    let mut made = None;
    EventLoop::current().attach(TcpListener::from_std(socket), Interest::READABLE, |socket, token| {
        let acceptor = Rc::new(Acceptor { service, token, socket: RefCell::new(Some(socket)), others, turn });
        if let Some(station) = station {
            station.set_acceptor(&acceptor);
        }
        made = Some(Rc::clone(&acceptor));
        acceptor
    })?;
    made.ok_or_else(|| io::ErrorKind::Other.into())
}

impl Acceptor {
    /// Takes one connection. False if there is none now.
    fn accept(&self) -> io::Result<bool> {
        let accepted = match &*self.socket.borrow() {
            Some(socket) => socket.accept(),
            None => return Ok(false),
        };
        match accepted {
            Ok((stream, peer)) => {
                tracing::debug!(%peer, "accepted");
                self.hand_on(stream, peer);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if belongs_to_the_peer(&error) => {
                tracing::debug!(%error, "a connection ended before it was accepted");
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives a connection to the worker whose turn it is.
    fn hand_on(&self, stream: TcpStream, peer: SocketAddr) {
        let since = Instant::now();
        let station = Station::of(&self.service.config);
        if station.as_ref().is_some_and(|station| station.is_shutting_down()) {
            // It is only to be refused, and nobody waits for that.
            return upgrade::start(&self.service, stream, peer, since, None);
        }
        let turn = self.turn.get();
        self.turn.set(if turn == self.others.len() { 0 } else { turn + 1 });
        let Some(other) = self.others.get(turn) else {
            let pending = station.map(|station| station.post().expect());
            return upgrade::start(&self.service, stream, peer, since, pending);
        };
        let (service, pending) = (self.service.clone(), other.expect());
        let start = move |_: &EventLoop| upgrade::start(&service, stream, peer, since, Some(pending));
        if other.remote.post(start).is_err() {
            tracing::debug!("dropped a connection: its worker has ended");
        }
    }

    /// The server shuts down: refuses those that wait to be accepted, and closes the socket.
    pub(super) fn shut_down(&self) {
        let Some(station) = Station::of(&self.service.config) else { return };
        for _ in 0..BACKLOG {
            let accepted = self.socket.borrow().as_ref().map(TcpListener::accept);
            match accepted {
                Some(Ok((stream, peer))) => {
                    let pending: Pending = station.post().expect();
                    upgrade::start(&self.service, stream, peer, Instant::now(), Some(pending));
                }
                Some(Err(error)) if belongs_to_the_peer(&error) => {}
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

/// Errors of `accept` that tell of the connection that was to be accepted, not of the socket that accepts.
pub(crate) fn belongs_to_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted | Kind::TimedOut
    )
}

impl Source for Acceptor {
    fn ready(self: Rc<Self>, _ready: Ready) {
        for _ in 0..PER_TURN {
            match self.accept() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "can't accept connections for now");
                    let token = self.token;
                    EventLoop::current()
                        .after(PAUSE, move || EventLoop::current().requeue(token, Ready::READABLE));
                    return;
                }
            }
        }
        EventLoop::current().requeue(self.token, Ready::READABLE);
    }

    fn stop(self: Rc<Self>) {
        self.close();
    }
}
