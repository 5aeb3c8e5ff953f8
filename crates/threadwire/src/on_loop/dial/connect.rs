//! Connecting to one of several addresses, on a loop: each attempt is a source, and the first that connects is handed on.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use mio::Interest;
use mio::net::TcpStream;
use threadwire_worker::{EventLoop, Ready, Source, TimerId, Token};

use super::{Attempt, Held};
use crate::Error;
use crate::on_loop::stream::Stream;
use threadwire_core::client::race::{Move, Race};

/// A race that is under way.
struct Racing {
    attempt: Rc<Attempt>,
    race: RefCell<Option<Race>>,
    runners: RefCell<Vec<Rc<Runner>>>,
    timer: Cell<Option<TimerId>>,
}

/// A socket that is being connected.
struct Runner {
    racing: Rc<Racing>,
    token: Token,
    stream: RefCell<Option<Stream>>,
    address: SocketAddr,
}

pub(super) fn start(attempt: &Rc<Attempt>, race: Race) {
    let racing = Rc::new(Racing {
        attempt: Rc::clone(attempt),
        race: RefCell::new(Some(race)),
        runners: RefCell::default(),
        timer: Cell::default(),
    });
    let cancelled = Rc::clone(&racing);
    attempt.set_cancel(move || cancelled.end());
    racing.advance();
}

impl Racing {
    /// Does what is to be done now.
    fn advance(self: &Rc<Self>) {
        self.cancel_timer();
        loop {
            let next = match &mut *self.race.borrow_mut() {
                Some(race) => race.advance(Instant::now()),
                None => return,
            };
            match next {
                Move::Start(address) => {
                    if let Err(error) = self.run(address) {
                        self.failed(address, error);
                    }
                }
                Move::GiveUp(address) => self.drop_runner(address),
                Move::Wait(until) => {
                    let racing = Rc::downgrade(self);
                    let turn = move || {
                        if let Some(racing) = racing.upgrade() {
                            racing.timer.set(None);
                            racing.advance();
                        }
                    };
                    return self.timer.set(until.map(|until| EventLoop::current().at(until, turn)));
                }
                Move::Lost => {
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
            let (racing, stream) = (Rc::clone(self), RefCell::new(Some(stream)));
            let runner = Rc::new(Runner { racing, token, stream, address });
            self.runners.borrow_mut().push(Rc::clone(&runner));
            runner
        })?;
        Ok(())
    }

    fn failed(&self, address: SocketAddr, error: io::Error) {
        self.drop_runner(address);
        if let Some(race) = &mut *self.race.borrow_mut() {
            race.failed(address, error);
        }
    }

    fn drop_runner(&self, address: SocketAddr) {
        let runner = {
            let mut runners = self.runners.borrow_mut();
            let position = runners.iter().position(|runner| runner.address == address);
            position.map(|position| runners.swap_remove(position))
        };
        if let Some(runner) = runner {
            runner.leave();
        }
    }

    /// Drops all that are still under way.
    fn end(&self) {
        self.cancel_timer();
        self.race.borrow_mut().take();
        let runners = std::mem::take(&mut *self.runners.borrow_mut());
        runners.iter().for_each(|runner| runner.leave());
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

impl Runner {
    fn leave(&self) {
        let stream = self.stream.borrow_mut().take();
        if let Some(mut stream) = stream {
            EventLoop::current().detach(self.token, &mut stream);
        }
    }
}

impl Source for Runner {
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
                self.racing.end();
                if let Some(stream) = stream {
                    self.racing.attempt.go_on(Some(Held { stream, token: self.token, ready }));
                }
            }
            Ok(false) => {}
            Err(error) => {
                self.racing.failed(self.address, error);
                self.racing.advance();
            }
        }
    }

    fn stop(self: Rc<Self>) {
        self.racing.attempt.fail(Error::Stopped);
    }

    fn abandon(self: Rc<Self>) {
        self.racing.attempt.fail(Error::Stopped);
    }
}
