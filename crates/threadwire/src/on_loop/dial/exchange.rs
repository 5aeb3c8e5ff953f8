//! Proxy tunnel and upgrade on a loop: moves the bytes of an exchange as the socket takes and gives them.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use threadwire_core::client::exchange::{Exchange, Outcome, Upgraded};
use threadwire_core::client::route::Next;
use threadwire_proto::Role;
use threadwire_worker::{EventLoop, Ready, Source, Token};

use super::{AttachedStream, Attempt, drop_attached};
use crate::connection::Opening;
use crate::connection::membership::Site;
use crate::connection::stream::Stream;
use crate::{Connection, Error};
use threadwire_core::agreed::Agreed;
use threadwire_core::transport::Transport as _;

/// How much is read at once.
const PIECE: usize = 4 << 10;

/// An exchange under way.
pub(super) struct LoopExchange {
    attempt: Rc<Attempt>,
    token: Token,
    state: RefCell<Option<OpenExchange>>,
    /// Whether the end of the stream was announced.
    ends: Cell<bool>,
}

struct OpenExchange {
    stream: Stream,
    exchange: Exchange,
    /// Why no more can be written.
    broken: Option<io::Error>,
}

/// Talks over a connected stream, in the place that the stream has on the loop.
pub(super) fn start(attempt: &Rc<Attempt>, exchange: Exchange, attached: AttachedStream) {
    let AttachedStream { stream, token, ready } = attached;
    let exchange = Rc::new(LoopExchange {
        attempt: Rc::clone(attempt),
        token,
        state: RefCell::new(Some(OpenExchange { stream, exchange, broken: None })),
        ends: Cell::new(false),
    });
    EventLoop::current().replace(token, Rc::clone(&exchange) as Rc<dyn Source>);
    let cancelled = Rc::clone(&exchange);
    *attempt.exchange.borrow_mut() = Rc::downgrade(&exchange);
    attempt.set_cancel(move || drop_attached(cancelled.take(Ready::default()).map(|(attached, _)| attached)));
    exchange.ready(ready);
}

/// How far the exchange has come.
enum Progress {
    /// More has to arrive.
    Waiting,
    /// The socket may hold more.
    Again,
    /// The exchange is over. The flag says whether the last read may have left something behind.
    Over { outcome: Outcome, may_have_more: bool },
}

impl OpenExchange {
    fn step(&mut self) -> Result<Progress, Error> {
        self.write();
        let received = &mut self.exchange.received;
        let start = received.len();
        received.resize(start + PIECE, 0);
        let read = self.stream.read(&mut received[start..]);
        received.truncate(start + read.as_ref().copied().unwrap_or(0));
        let count = match read {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return match self.broken.take() {
                    Some(error) => Err(self.exchange.failed(error)),
                    None => Ok(Progress::Waiting),
                };
            }
            Err(error) => return Err(self.exchange.failed(error)),
        };
        match self.exchange.advance(count, &mut self.broken)? {
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

    /// Writes what can be written.
    fn write(&mut self) {
        while !self.exchange.output.is_empty() {
            match self.stream.write(&self.exchange.output) {
                Ok(count) => drop(self.exchange.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.exchange.output.clear();
                    self.broken = Some(error);
                }
            }
        }
    }
}

impl LoopExchange {
    /// The refusal that has begun to arrive.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.state.try_borrow_mut().ok()?.as_mut()?.exchange.refusal()
    }

    /// Takes the stream out, and what was received over it.
    fn take(&self, ready: Ready) -> Option<(AttachedStream, Vec<u8>)> {
        let OpenExchange { stream, exchange, .. } = self.state.borrow_mut().take()?;
        Some((AttachedStream { stream, token: self.token, ready }, exchange.received))
    }

    fn over(&self, outcome: Outcome, may_have_more: bool) {
        let unread = Ready {
            readable: may_have_more || self.ends.get(),
            writable: false,
            read_closed: self.ends.get(),
        };
        let Some((attached, mut received)) = self.take(unread) else { return };
        let said = self.attempt.route.borrow_mut().said(outcome);
        match said {
            Ok(Next::GoOn) => self.attempt.go_on(Some(attached)),
            Ok(Next::Elsewhere) => {
                drop_attached(Some(attached));
                self.attempt.go_on(None);
            }
            Ok(Next::Open(Upgraded { subprotocol, headers, deflate, head })) => {
                let agreed = Box::new(Agreed { subprotocol, headers, guest: None });
                self.attempt.end_step();
                let Some((listener, done)) = self.attempt.finish() else {
                    return drop_attached(Some(attached));
                };
                done(Ok(Connection::open(Opening {
                    role: Role::Client,
                    stream: attached.stream,
                    token: self.token,
                    listener,
                    site: Site::alone(Arc::clone(&self.attempt.config)),
                    agreed: Some(agreed),
                    deflate,
                    output: Vec::new(),
                    early: &mut received[head..],
                    unread: attached.ready,
                })));
            }
            Err(error) => {
                drop_attached(Some(attached));
                self.attempt.fail(error);
            }
        }
    }
}

impl Source for LoopExchange {
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
