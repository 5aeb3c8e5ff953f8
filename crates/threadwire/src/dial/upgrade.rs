//! The last step: the opening handshake (RFC 6455, section 4.1).

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::Arc;

use threadwire_proto::Role;
use threadwire_worker::{EventLoop, Ready, Source, Token};

use super::Attempt;
use super::answer::{Accepted, AnswerReader};
use crate::connection::Opening;
use crate::stream::Stream;
use crate::{Connection, Error};

/// How much is read at once.
const PIECE: usize = 4 << 10;

/// A handshake under way.
struct Upgrading {
    attempt: Rc<Attempt>,
    token: Token,
    state: RefCell<Option<State>>,
    /// Whether the end of the stream was announced.
    ends: Cell<bool>,
}

struct State {
    stream: Stream,
    /// The request, as far as it has not left.
    request: Vec<u8>,
    answer: AnswerReader,
}

/// Sends the request over a connected stream, in the place that the stream has on the loop.
pub(super) fn start(attempt: &Rc<Attempt>, stream: Stream, token: Token, ready: Ready) {
    let stream = stream.traced(attempt.config.trace.as_ref(), Role::Client);
    let mut request = Vec::new();
    attempt.request.encode(&mut request);
    let state = State { stream, request, answer: AnswerReader::new(&attempt.config) };
    let upgrading = Rc::new(Upgrading {
        attempt: Rc::clone(attempt),
        token,
        state: RefCell::new(Some(state)),
        ends: Cell::new(false),
    });
    EventLoop::current().replace(token, Rc::clone(&upgrading) as Rc<dyn Source>);
    let cancelled = Rc::clone(&upgrading);
    *attempt.cancel.borrow_mut() = Some(Box::new(move || cancelled.detach()));
    upgrading.ready(ready);
}

/// How far the handshake has come.
enum Progress {
    /// More has to arrive.
    Waiting,
    /// The socket may hold more.
    Again,
    /// The server agrees. The flag says whether the last read may have
    /// left something behind.
    Open { accepted: Accepted, may_have_more: bool },
}

impl State {
    fn step(&mut self, attempt: &Attempt) -> Result<Progress, Error> {
        while !self.request.is_empty() {
            match self.stream.write(&self.request) {
                Ok(count) => drop(self.request.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let received = &mut self.answer.received;
        let start = received.len();
        received.resize(start + PIECE, 0);
        let read = self.stream.read(&mut received[start..]);
        received.truncate(start + read.as_ref().copied().unwrap_or(0));
        let count = match read {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Waiting),
            Err(error) => return Err(error.into()),
        };
        match self.answer.look(&attempt.request, count == 0)? {
            Some(accepted) => {
                let may_have_more = self.stream.may_have_more(count, PIECE);
                Ok(Progress::Open { accepted, may_have_more })
            }
            None if count == 0 => Err(Error::Lost),
            // Read on to the end, a piece each turn: the server must not be able to hold the loop.
            None => Ok(Progress::Again),
        }
    }
}

impl Upgrading {
    fn detach(&self) {
        let state = self.state.borrow_mut().take();
        if let Some(mut state) = state {
            EventLoop::current().detach(self.token, &mut state.stream);
        }
    }
}

impl Source for Upgrading {
    fn ready(self: Rc<Self>, ready: Ready) {
        self.ends.set(self.ends.get() | ready.read_closed);
        let progress = match &mut *self.state.borrow_mut() {
            Some(state) => state.step(&self.attempt),
            None => return,
        };
        match progress {
            Ok(Progress::Waiting) => {}
            Ok(Progress::Again) => EventLoop::current().requeue(self.token, Ready::READABLE),
            Ok(Progress::Open { accepted: Accepted { head, agreed, deflate }, may_have_more }) => {
                let state = self.state.borrow_mut().take();
                self.attempt.cancel.borrow_mut().take();
                let (Some(mut state), Some((listener, done))) = (state, self.attempt.finish()) else {
                    return;
                };
                done(Ok(Connection::open(Opening {
                    role: Role::Client,
                    stream: state.stream,
                    token: self.token,
                    listener,
                    config: Arc::clone(&self.attempt.config),
                    agreed: Some(agreed),
                    deflate,
                    output: Vec::new(),
                    early: &mut state.answer.received[head..],
                    unread: Ready {
                        readable: may_have_more || self.ends.get(),
                        writable: false,
                        read_closed: self.ends.get(),
                    },
                })));
            }
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
