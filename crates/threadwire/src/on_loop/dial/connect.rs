//! TCP connect on a loop, with happy eyeballs: each address tried is a source, and the first that connects is handed on.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use mio::Interest;
use mio::net::TcpStream;
use threadwire_worker::{EventLoop, Ready, Source, TimerId, Token};

use super::{AttachedStream, Attempt};
use crate::Error;
use crate::connection::stream::Stream;
use threadwire_core::client::race::{Race, RaceStep};

/// A race under way, as sources of the loop.
struct ConnectRace {
    attempt: Rc<Attempt>,
    race: RefCell<Option<Race>>,
    connecting: RefCell<Vec<Rc<Connecting>>>,
    timer: Cell<Option<TimerId>>,
}

/// A socket that is being connected.
struct Connecting {
    race: Rc<ConnectRace>,
    token: Token,
    stream: RefCell<Option<Stream>>,
    address: SocketAddr,
}

pub(super) fn start(attempt: &Rc<Attempt>, race: Race) {
    let race = Rc::new(ConnectRace {
        attempt: Rc::clone(attempt),
        race: RefCell::new(Some(race)),
        connecting: RefCell::default(),
        timer: Cell::default(),
    });
    let cancelled = Rc::clone(&race);
    attempt.set_cancel(move || cancelled.end());
    race.advance();
}

impl ConnectRace {
    /// Does what is to be done now.
    fn advance(self: &Rc<Self>) {
        self.cancel_timer();
        loop {
            let next = match &mut *self.race.borrow_mut() {
                Some(race) => race.advance(Instant::now()),
                None => return,
            };
            match next {
                RaceStep::Start(address) => {
                    if let Err(error) = self.run(address) {
                        self.failed(address, error);
                    }
                }
                RaceStep::GiveUp(address) => self.drop_connecting(address),
                RaceStep::Wait(until) => {
                    let race = Rc::downgrade(self);
                    let turn = move || {
                        if let Some(race) = race.upgrade() {
                            race.timer.set(None);
                            race.advance();
                        }
                    };
                    return self.timer.set(until.map(|until| EventLoop::current().at(until, turn)));
                }
                RaceStep::Lost => {
                    let race = self.race.borrow_mut().take();
                    self.end();
                    if let Some(race) = race {
                        let error = self.attempt.route.borrow().lost(race);
                        self.attempt.fail(error);
                    }
                    return;
                }
            }
        }
    }

    /// Begins to connect.
    fn run(self: &Rc<Self>, address: SocketAddr) -> io::Result<()> {
        let (socket, leaves_at_once) = {
            let route = self.attempt.route.borrow();
            (route.sockets().make(address)?, route.sockets().leaves_at_once())
        };
        match socket.connect(&address.into()) {
            Err(error) if !is_under_way(&error) => return Err(error),
            _ => {}
        }
        let stream = Stream::tcp_with(TcpStream::from_std(socket.into()), leaves_at_once);
        EventLoop::current().attach(stream, Interest::READABLE | Interest::WRITABLE, |stream, token| {
            let (race, stream) = (Rc::clone(self), RefCell::new(Some(stream)));
            let connecting = Rc::new(Connecting { race, token, stream, address });
            self.connecting.borrow_mut().push(Rc::clone(&connecting));
            connecting
        })?;
        Ok(())
    }

    fn failed(&self, address: SocketAddr, error: io::Error) {
        self.drop_connecting(address);
        if let Some(race) = &mut *self.race.borrow_mut() {
            race.failed(address, error);
        }
    }

    fn drop_connecting(&self, address: SocketAddr) {
        let connecting = {
            let mut connecting = self.connecting.borrow_mut();
            let position = connecting.iter().position(|connecting| connecting.address == address);
            position.map(|position| connecting.swap_remove(position))
        };
        if let Some(connecting) = connecting {
            connecting.leave();
        }
    }

    /// Drops all that are still under way.
    fn end(&self) {
        self.cancel_timer();
        self.race.borrow_mut().take();
        let connecting = std::mem::take(&mut *self.connecting.borrow_mut());
        connecting.iter().for_each(|connecting| connecting.leave());
    }

    fn cancel_timer(&self) {
        if let Some(timer) = self.timer.take() {
            EventLoop::current().cancel(timer);
        }
    }
}

/// Whether a socket that does not block is being connected.
fn is_under_way(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
        || matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Connecting {
    fn leave(&self) {
        let stream = self.stream.borrow_mut().take();
        if let Some(mut stream) = stream {
            EventLoop::current().detach(self.token, &mut stream);
        }
    }
}

impl Source for Connecting {
    fn ready(self: Rc<Self>, ready: Ready) {
        let state = match &*self.stream.borrow() {
            None => return,
            Some(stream) => match stream.take_error() {
                Ok(Some(error)) | Err(error) => Err(error),
                // Connected if it has a peer; otherwise this was a false alarm.
                Ok(None) => match stream.peer_addr() {
                    Ok(_) => Ok(true),
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
                    Err(error) => Err(error),
                },
            },
        };
        match state {
            Ok(true) => {
                let stream = self.stream.borrow_mut().take();
                self.race.end();
                if let Some(stream) = stream {
                    self.race.attempt.go_on(Some(AttachedStream { stream, token: self.token, ready }));
                }
            }
            Ok(false) => {}
            Err(error) => {
                self.race.failed(self.address, error);
                self.race.advance();
            }
        }
    }

    fn stop(self: Rc<Self>) {
        self.race.attempt.fail(Error::Stopped);
    }

    fn abandon(self: Rc<Self>) {
        self.race.attempt.fail(Error::Stopped);
    }
}
