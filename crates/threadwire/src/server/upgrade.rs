//! The opening handshake of a connection that was accepted (RFC 6455, section 4.2).

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use mio::Interest;
use mio::net::TcpStream;
use threadwire_proto::Role;
use threadwire_proto::handshake::{HandshakeError, HeadReader, Request, Response, Upgrade};
use threadwire_worker::{EventLoop, Ready, Source, TimerId, Token};

use super::Service;
use crate::connection::Opening;
use crate::listener::server::Answer;
use crate::local::Local;
use crate::outbox::Outbox;
use crate::stream::Stream;
use crate::{Connection, Listener};

/// A handshake under way.
struct Upgrading {
    service: Service,
    token: Token,
    state: RefCell<Option<State>>,
    /// Whether the end of the stream was announced: then it is read on to.
    ends: Cell<bool>,
    timer: Cell<Option<TimerId>>,
}

struct State {
    stream: Stream,
    /// What was received, if the request did not come in one piece.
    received: Vec<u8>,
    head: HeadReader,
    /// A response that is no upgrade: once it has left, the peer's end is awaited, so that it can be read.
    refusal: Option<Outbox>,
}

/// Begins the handshake of a connection, on this thread's loop.
pub(super) fn start(service: &Service, stream: TcpStream) {
    let event_loop = EventLoop::current();
    let mut upgrading = None;
    let attached =
        event_loop.attach(Stream::tcp(stream), Interest::READABLE | Interest::WRITABLE, |stream, token| {
            let head = HeadReader::new(service.config.head_limits());
            let source = Rc::new(Upgrading {
                service: service.clone(),
                token,
                state: RefCell::new(Some(State { stream, received: Vec::new(), head, refusal: None })),
                ends: Cell::new(false),
                timer: Cell::default(),
            });
            upgrading = Some(Rc::clone(&source));
            source
        });
    match (attached, upgrading) {
        (Ok(_), Some(upgrading)) => {
            let late = Rc::downgrade(&upgrading);
            let timer = event_loop.after(service.config.open_timeout, move || {
                if let Some(upgrading) = late.upgrade() {
                    upgrading.drop_it("it took too long");
                }
            });
            upgrading.timer.set(Some(timer));
        }
        (Err(error), _) => tracing::warn!(%error, "can't watch an accepted connection"),
        (Ok(_), None) => {}
    }
}

/// What a read has led to.
enum Progress {
    /// More has to arrive, or to leave.
    Waiting,
    /// The socket may hold more.
    Again,
    /// The connection is over.
    Over(&'static str),
    /// It is upgraded.
    Open { listener: Box<dyn Listener>, upgrade: Box<Upgrade>, early: Early, unread: Ready },
}

/// Where the bytes lie that came behind the request.
enum Early {
    /// In the receive buffer, from here to there.
    Input(usize, usize),
    /// In a vector.
    Own(Vec<u8>),
}

impl Upgrading {
    fn advance(&self, input: &mut [u8]) -> Progress {
        let mut state = self.state.borrow_mut();
        let Some(state) = &mut *state else { return Progress::Waiting };
        if state.refusal.is_some() {
            return state.finish_refusal(input);
        }
        let count = match state.stream.read(input) {
            Ok(0) => return Progress::Over("the peer left"),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waiting,
            Err(error) => {
                tracing::debug!(%error, "reading a request failed");
                return Progress::Over("reading failed");
            }
        };
        let may_have_more = count == input.len() || self.ends.get();
        let parsed = if state.received.is_empty() {
            state.head.request(&input[..count])
        } else {
            state.received.extend_from_slice(&input[..count]);
            state.head.request(&state.received)
        };
        let refused = match parsed {
            Ok(Some((request, head))) => match self.answer(&request) {
                Ok((listener, upgrade)) => {
                    let early = if state.received.is_empty() {
                        Early::Input(head, count)
                    } else {
                        Early::Own(state.received.split_off(head))
                    };
                    let unread =
                        Ready { readable: may_have_more, writable: false, read_closed: self.ends.get() };
                    return Progress::Open { listener, upgrade: Box::new(upgrade), early, unread };
                }
                Err(response) => response,
            },
            Ok(None) => {
                if state.received.is_empty() {
                    state.received.extend_from_slice(&input[..count]);
                }
                return if may_have_more { Progress::Again } else { Progress::Waiting };
            }
            Err(error) => {
                tracing::debug!(%error, "refused a request");
                error.response()
            }
        };
        let mut response = Vec::new();
        refused.encode(&mut response);
        state.refusal = Some(Outbox::with(response));
        state.finish_refusal(input)
    }

    /// Asks the program, and checks the request: a connection, or the response that the peer gets instead.
    fn answer(&self, request: &Request) -> Result<(Box<dyn Listener>, Upgrade), Response> {
        let (listener, headers, subprotocol) = match self.service.ask(request).0 {
            Answer::Respond(response) => return Err(response),
            Answer::Upgrade { listener, headers, subprotocol } => (listener, headers, subprotocol),
        };
        let prepare = || -> Result<Upgrade, HandshakeError> {
            let mut upgrade = request.upgrade()?;
            if let Some(subprotocol) = &subprotocol {
                upgrade.set_subprotocol(subprotocol)?;
            }
            for (name, value) in headers.iter() {
                upgrade.add_header(name, value)?;
            }
            Ok(upgrade)
        };
        prepare().map(|upgrade| (listener, upgrade)).map_err(|error| {
            let response = error.response();
            if response.status() >= 500 {
                tracing::error!(%error, "a request can't be answered as the program wants");
            } else {
                tracing::debug!(%error, "refused a request");
            }
            response
        })
    }

    fn open(&self, listener: Box<dyn Listener>, upgrade: &Upgrade, early: &mut [u8], unread: Ready) {
        if let Some(timer) = self.timer.take() {
            EventLoop::current().cancel(timer);
        }
        let state = self.state.borrow_mut().take();
        let Some(state) = state else { return };
        let mut output = Local::current().lend_output();
        upgrade.encode(&mut output);
        Connection::open(Opening {
            role: Role::Server,
            stream: state.stream,
            token: self.token,
            listener,
            config: Arc::clone(&self.service.config),
            output,
            early,
            unread,
        });
    }

    fn drop_it(&self, why: &str) {
        let event_loop = EventLoop::current();
        if let Some(timer) = self.timer.take() {
            event_loop.cancel(timer);
        }
        let state = self.state.borrow_mut().take();
        if let Some(mut state) = state {
            tracing::debug!(why, "dropped a connection before it was open");
            event_loop.detach(self.token, &mut state.stream);
        }
    }
}

impl State {
    /// Writes a response, then waits for the peer's end.
    fn finish_refusal(&mut self, input: &mut [u8]) -> Progress {
        let Some(outbox) = &mut self.refusal else { return Progress::Waiting };
        if !outbox.is_empty() {
            outbox.unblock();
            if outbox.write(&mut self.stream, &Local::current()).is_err() {
                return Progress::Over("the peer took no answer");
            }
            if !outbox.is_empty() {
                return Progress::Waiting;
            }
            // Where that fails, so will reading.
            let _ = self.stream.shutdown_write();
        }
        // A peer that goes on sending is read for as long as the whole handshake may take, a piece each turn.
        match self.stream.read(input) {
            Ok(0) => Progress::Over("it was answered"),
            Ok(_) => Progress::Again,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Progress::Waiting,
            Err(_) => Progress::Over("the peer broke the connection"),
        }
    }
}

impl Source for Upgrading {
    fn ready(self: Rc<Self>, ready: Ready) {
        self.ends.set(self.ends.get() | ready.read_closed);
        let local = Local::current();
        let mut input = local.lend_input();
        match self.advance(&mut input) {
            Progress::Waiting => {}
            Progress::Again => EventLoop::current().requeue(self.token, Ready::READABLE),
            Progress::Over(why) => self.drop_it(why),
            Progress::Open { listener, upgrade, early, unread } => match early {
                Early::Input(start, end) => {
                    self.open(listener, &upgrade, &mut input[start..end], unread);
                }
                Early::Own(mut bytes) => self.open(listener, &upgrade, &mut bytes, unread),
            },
        }
        local.return_input(input);
    }

    fn stop(self: Rc<Self>) {
        self.drop_it("the server stops");
    }
}
