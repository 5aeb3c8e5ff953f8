//! The last step: the opening handshake (RFC 6455, section 4.1).

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use threadwire_proto::Role;
use threadwire_proto::handshake::{Answer, HandshakeError, HeadReader};
use threadwire_worker::{EventLoop, Ready, Source, Token};

use super::Attempt;
use crate::connection::{Agreed, Opening};
use crate::stream::Stream;
use crate::{Connection, Error};

/// As much of the body of a refusal as is kept for the error.
const MAX_BODY: usize = 4 << 10;

/// How much is read at once.
const PIECE: usize = 4 << 10;

/// The most answers that announce another (100, 103) before the one that counts.
const MAX_INTERIM: u32 = 8;

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
    /// What was received.
    received: Vec<u8>,
    head: HeadReader,
    /// An answer other than 101, whose body is arriving.
    refusal: Option<Answer>,
    /// How many answers have come that only announce another.
    interim: u32,
}

/// Sends the request over a connected stream, in the place that the stream has on the loop.
pub(super) fn start(attempt: &Rc<Attempt>, stream: Stream, token: Token, ready: Ready) {
    let mut request = Vec::new();
    attempt.request.encode(&mut request);
    let head = HeadReader::new(attempt.config.head_limits());
    let state = State { stream, request, received: Vec::new(), head, refusal: None, interim: 0 };
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
    /// The server agrees; this many bytes of what was received are its answer. The flag says whether the last read may have
    /// left something behind.
    Open { agreed: Box<Agreed>, head: usize, may_have_more: bool },
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
        let start = self.received.len();
        self.received.resize(start + PIECE, 0);
        let read = self.stream.read(&mut self.received[start..]);
        self.received.truncate(start + read.as_ref().copied().unwrap_or(0));
        let count = match read {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Waiting),
            Err(error) => return Err(error.into()),
        };
        match self.answer(attempt, count == 0)? {
            Some((head, agreed)) => Ok(Progress::Open { agreed, head, may_have_more: count == PIECE }),
            None if count == 0 => Err(Error::Lost),
            // Read on to the end, a piece each turn: the server must not be able to hold the loop.
            None => Ok(Progress::Again),
        }
    }

    /// Looks at what was received: the length of the answer's head, if it is a 101 and as it must be.
    fn answer(&mut self, attempt: &Attempt, ended: bool) -> Result<Option<(usize, Box<Agreed>)>, Error> {
        loop {
            if let Some(refusal) = self.refusal.take() {
                let whole =
                    refusal.content_length().is_some_and(|length| self.received.len() as u64 >= length);
                if !whole && !ended && self.received.len() < MAX_BODY {
                    self.refusal = Some(refusal);
                    return Ok(None);
                }
                self.received.truncate(MAX_BODY);
                let refusal = refusal.with_body(std::mem::take(&mut self.received));
                return Err(HandshakeError::Status(Box::new(refusal)).into());
            }
            let Some((answer, head)) = self.head.answer(&self.received)? else { return Ok(None) };
            if answer.status() == 101 {
                let accepted = attempt.request.verify(answer)?;
                let agreed = Agreed { subprotocol: accepted.subprotocol, headers: accepted.headers };
                return Ok(Some((head, Box::new(agreed))));
            }
            self.received.drain(..head);
            self.interim += u32::from(answer.is_interim());
            if !answer.is_interim() || self.interim > MAX_INTERIM {
                self.refusal = Some(answer);
            }
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
            Ok(Progress::Open { agreed, head, may_have_more }) => {
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
                    output: Vec::new(),
                    early: &mut state.received[head..],
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
