//! A talk with a proxy or with the server, on a loop: its bytes are moved as the socket takes and gives them.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use threadwire_core::client::exchange::{Consent, Outcome, Talk};
use threadwire_core::client::route::Next;
use threadwire_proto::Role;
use threadwire_worker::{EventLoop, Ready, Source, Token};

use super::{Attempt, Held, drop_held};
use crate::connection::Opening;
use crate::connection::membership::Site;
use crate::on_loop::stream::Stream;
use crate::{Connection, Error};
use threadwire_core::agreed::Agreed;
use threadwire_core::transport::Transport as _;

/// How much is read at once.
const PIECE: usize = 4 << 10;

/// A talk under way.
pub(super) struct Talking {
    attempt: Rc<Attempt>,
    token: Token,
    state: RefCell<Option<State>>,
    /// Whether the end of the stream was announced.
    ends: Cell<bool>,
}

struct State {
    stream: Stream,
    talk: Talk,
    /// Why no more can be written.
    broken: Option<io::Error>,
}

/// Talks over a connected stream, in the place that the stream has on the loop.
pub(super) fn start(attempt: &Rc<Attempt>, talk: Talk, held: Held) {
    let Held { stream, token, ready } = held;
    let talking = Rc::new(Talking {
        attempt: Rc::clone(attempt),
        token,
        state: RefCell::new(Some(State { stream, talk, broken: None })),
        ends: Cell::new(false),
    });
    EventLoop::current().replace(token, Rc::clone(&talking) as Rc<dyn Source>);
    let cancelled = Rc::clone(&talking);
    *attempt.talking.borrow_mut() = Rc::downgrade(&talking);
    attempt.set_cancel(move || drop_held(cancelled.take(Ready::default()).map(|(held, _)| held)));
    talking.ready(ready);
}

/// How far the talk has come.
enum Progress {
    /// More has to arrive.
    Waiting,
    /// The socket may hold more.
    Again,
    /// It is over. The flag says whether the last read may have left something behind.
    Over { outcome: Outcome, may_have_more: bool },
}

impl State {
    fn step(&mut self) -> Result<Progress, Error> {
        self.write();
        let received = &mut self.talk.received;
        let start = received.len();
        received.resize(start + PIECE, 0);
        let read = self.stream.read(&mut received[start..]);
        received.truncate(start + read.as_ref().copied().unwrap_or(0));
        let count = match read {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return match self.broken.take() {
                    Some(error) => Err(self.failed(error)),
                    None => Ok(Progress::Waiting),
                };
            }
            Err(error) => return Err(self.failed(error)),
        };
        let looked = match (self.talk.look(count == 0), self.broken.take()) {
            // It ended without a word: then what writing failed with says more.
            (Err(Error::Lost), Some(broken)) => Err(self.talk.broken(broken)),
            (looked, broken) => {
                self.broken = broken;
                looked
            }
        };
        match looked? {
            Some(outcome) => {
                Ok(Progress::Over { outcome, may_have_more: self.stream.may_have_more(count, PIECE) })
            }
            // Read on to the end, a piece each turn: the other side must not be able to hold the loop.
            None => {
                self.write();
                Ok(Progress::Again)
            }
        }
    }

    /// What it means that the stream does not go on. One that takes no more may still have said why.
    fn failed(&mut self, error: io::Error) -> Error {
        self.talk.refusal().unwrap_or_else(|| self.talk.broken(error))
    }

    /// Writes what can be written.
    fn write(&mut self) {
        while !self.talk.output.is_empty() {
            match self.stream.write(&self.talk.output) {
                Ok(count) => drop(self.talk.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.talk.output.clear();
                    self.broken = Some(error);
                }
            }
        }
    }
}

impl Talking {
    /// The refusal that has begun to arrive.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.state.try_borrow_mut().ok()?.as_mut()?.talk.refusal()
    }

    /// Takes the stream out, and what was received over it.
    fn take(&self, ready: Ready) -> Option<(Held, Vec<u8>)> {
        let State { stream, talk, .. } = self.state.borrow_mut().take()?;
        Some((Held { stream, token: self.token, ready }, talk.received))
    }

    fn over(&self, outcome: Outcome, may_have_more: bool) {
        let unread = Ready {
            readable: may_have_more || self.ends.get(),
            writable: false,
            read_closed: self.ends.get(),
        };
        let Some((held, mut received)) = self.take(unread) else { return };
        let said = self.attempt.route.borrow_mut().said(outcome);
        match said {
            Ok(Next::GoOn) => self.attempt.go_on(Some(held)),
            Ok(Next::Elsewhere) => {
                drop_held(Some(held));
                self.attempt.go_on(None);
            }
            Ok(Next::Open(Consent { subprotocol, headers, deflate, head })) => {
                let agreed = Box::new(Agreed { subprotocol, headers, guest: None });
                self.attempt.end_step();
                let Some((listener, done)) = self.attempt.finish() else { return drop_held(Some(held)) };
                done(Ok(Connection::open(Opening {
                    role: Role::Client,
                    stream: held.stream,
                    token: self.token,
                    listener,
                    site: Site::alone(Arc::clone(&self.attempt.config)),
                    agreed: Some(agreed),
                    deflate,
                    output: Vec::new(),
                    early: &mut received[head..],
                    unread: held.ready,
                })));
            }
            Err(error) => {
                drop_held(Some(held));
                self.attempt.fail(error);
            }
        }
    }
}

impl Source for Talking {
    fn ready(self: Rc<Self>, ready: Ready) {
        self.ends.set(self.ends.get() | ready.read_closed);
        let progress = match &mut *self.state.borrow_mut() {
            Some(state) => {
                if ready.writable {
                    state.stream.writable();
                }
                state.step()
            }
            None => return,
        };
        match progress {
            Ok(Progress::Waiting) => {}
            Ok(Progress::Again) => EventLoop::current().requeue(self.token, Ready::READABLE),
            Ok(Progress::Over { outcome, may_have_more }) => self.over(outcome, may_have_more),
            Err(error) => self.attempt.fail(error),
        }
    }

    fn stop(self: Rc<Self>) {
        self.attempt.fail(Error::Stopped);
    }

    fn abandon(self: Rc<Self>) {
        self.attempt.fail(Error::Stopped);
    }
}
