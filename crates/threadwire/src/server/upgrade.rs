//! The opening handshake of a connection that was accepted (RFC 6455, section 4.2).

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use mio::Interest;
use mio::net::TcpStream;
use threadwire_proto::Role;
use threadwire_proto::handshake::{HandshakeError, HeadReader, Headers, Response, Upgrade};
use threadwire_worker::{EventLoop, Ready, Source, TimerId, Token};

use super::{Request, Service};
use crate::connection::{Agreed, Opening};
use crate::listener::accept::Answer;
use crate::local::Local;
use crate::outbox::Outbox;
use crate::stream::Stream;
use crate::{Connection, Listener};

/// A handshake under way.
struct Upgrading {
    service: Service,
    token: Token,
    peer: SocketAddr,
    /// Missing while the program is asked, which may wait, and when the handshake is over.
    state: RefCell<Option<State>>,
    /// Readiness that came while the program was asked.
    missed: Cell<Ready>,
    /// Why the connection is to be dropped, if that was decided while the program was asked.
    verdict: Cell<Option<&'static str>>,
    timer: Cell<Option<TimerId>>,
}

struct State {
    stream: Stream,
    /// What was received, if the request did not come in one piece.
    received: Vec<u8>,
    head: HeadReader,
    /// Whether the end of the stream was announced: then it is read on to.
    ends: bool,
    /// A response that is no upgrade: once it has left, the peer's end is awaited, so that it can be read.
    refusal: Option<Outbox>,
}

/// Begins the handshake of a connection that was accepted at `since`, on this thread's loop.
pub(super) fn start(service: &Service, stream: TcpStream, peer: SocketAddr, since: Instant) {
    let event_loop = EventLoop::current();
    let mut upgrading = None;
    let interest = Interest::READABLE | Interest::WRITABLE;
    let attached = event_loop.attach(Stream::tcp(stream), interest, |stream, token| {
        let head = HeadReader::new(service.config.head_limits());
        let state = State { stream, received: Vec::new(), head, ends: false, refusal: None };
        let source = Rc::new(Upgrading {
            service: service.clone(),
            token,
            peer,
            state: RefCell::new(Some(state)),
            missed: Cell::default(),
            verdict: Cell::default(),
            timer: Cell::default(),
        });
        upgrading = Some(Rc::clone(&source));
        source
    });
    match (attached, upgrading) {
        (Ok(_), Some(upgrading)) => {
            let late = Rc::downgrade(&upgrading);
            let left = service.config.open_timeout.saturating_sub(since.elapsed());
            let timer = event_loop.after(left, move || {
                if let Some(upgrading) = late.upgrade() {
                    upgrading.condemn("it took too long");
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
    /// The request is there.
    Asked(threadwire_proto::handshake::Request, Early),
}

/// Where the bytes lie that came behind the request.
enum Early {
    /// In the receive buffer, from here to there.
    Input(usize, usize),
    /// In a vector.
    Own(Vec<u8>),
}

/// What an upgrade is made of.
struct Granted {
    listener: Box<dyn Listener>,
    upgrade: Upgrade,
    headers: Headers,
}

impl State {
    /// Reads once, and looks whether the request is there.
    fn advance(&mut self, input: &mut [u8]) -> Progress {
        if self.refusal.is_some() {
            return self.finish_refusal(input);
        }
        let count = match self.stream.read(input) {
            Ok(0) => return Progress::Over("the peer left"),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waiting,
            Err(error) => {
                tracing::debug!(%error, "reading a request failed");
                return Progress::Over("reading failed");
            }
        };
        let is_first = self.received.is_empty();
        let parsed = if is_first {
            self.head.request(&input[..count])
        } else {
            self.received.extend_from_slice(&input[..count]);
            self.head.request(&self.received)
        };
        match parsed {
            Ok(Some((request, head))) if is_first => Progress::Asked(request, Early::Input(head, count)),
            Ok(Some((request, head))) => Progress::Asked(request, Early::Own(self.received.split_off(head))),
            Ok(None) => {
                if is_first {
                    self.received.extend_from_slice(&input[..count]);
                }
                if self.ends || count == input.len() { Progress::Again } else { Progress::Waiting }
            }
            Err(error) => {
                tracing::debug!(%error, "refused a request");
                self.refuse(&error.response(), input)
            }
        }
    }

    fn refuse(&mut self, response: &Response, input: &mut [u8]) -> Progress {
        let mut bytes = Vec::new();
        response.encode(&mut bytes);
        self.refusal = Some(Outbox::with(bytes));
        self.finish_refusal(input)
    }

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

/// What is answered to a request that the program agrees to, if it is as it must be.
pub(crate) fn prepare(
    request: &Request,
    headers: &Headers,
    subprotocol: Option<&str>,
) -> Result<Upgrade, HandshakeError> {
    let mut upgrade = request.upgrade()?;
    if let Some(subprotocol) = subprotocol {
        upgrade.set_subprotocol(subprotocol)?;
    }
    for (name, value) in headers.iter() {
        upgrade.add_header(name, value)?;
    }
    Ok(upgrade)
}

/// What is answered where that can't be done.
pub(crate) fn refuse(error: &HandshakeError) -> Response {
    let response = error.response();
    if response.status() >= 500 {
        tracing::error!(%error, "a request can't be answered as the program wants");
    } else {
        tracing::debug!(%error, "refused a request");
    }
    response
}

/// What the connection keeps of the handshake; nothing, if that is all.
pub(crate) fn agreed(upgrade: &Upgrade, headers: Headers) -> Option<Box<Agreed>> {
    let subprotocol = upgrade.subprotocol().map(str::to_owned);
    (subprotocol.is_some() || !headers.is_empty()).then(|| Box::new(Agreed { subprotocol, headers }))
}

impl Upgrading {
    /// Asks the program, and checks the request: a connection, or the response that the peer gets instead.
    fn ask(&self, request: threadwire_proto::handshake::Request) -> Result<Granted, Response> {
        let request = Request::new(request, self.peer);
        let (listener, headers, subprotocol) = match self.service.ask(&request).0 {
            Answer::Respond(response) => return Err(response),
            Answer::Upgrade { listener, headers, subprotocol } => (listener, headers, subprotocol),
        };
        match prepare(&request, &headers, subprotocol.as_deref()) {
            Ok(upgrade) => Ok(Granted { listener, upgrade, headers }),
            Err(error) => Err(refuse(&error)),
        }
    }

    fn open(&self, state: State, granted: Granted, early: Early, input: &mut [u8]) {
        self.stop_timer();
        let Granted { listener, upgrade, headers } = granted;
        let mut output = Local::current().lend_output();
        upgrade.encode(&mut output);
        let agreed = agreed(&upgrade, headers);
        let (mut own, is_full);
        let early = match early {
            Early::Input(start, end) => {
                is_full = end == input.len();
                &mut input[start..end]
            }
            Early::Own(bytes) => {
                // How much the last read took is not known any more: look once too often.
                (own, is_full) = (bytes, true);
                &mut own[..]
            }
        };
        let missed = self.missed.take();
        let unread = Ready {
            readable: is_full || state.ends || missed.readable,
            writable: missed.writable,
            read_closed: state.ends || missed.read_closed,
        };
        Connection::open(Opening {
            role: Role::Server,
            stream: state.stream,
            token: self.token,
            listener,
            config: Arc::clone(&self.service.config),
            agreed,
            output,
            early,
            unread,
        });
    }

    /// The handshake goes on.
    fn keep(&self, state: State) {
        *self.state.borrow_mut() = Some(state);
        EventLoop::current().requeue(self.token, self.missed.take());
    }

    /// The connection is to be dropped; if the program is being asked, as soon as it has answered.
    fn condemn(&self, why: &'static str) {
        self.verdict.set(Some(why));
        let state = self.state.borrow_mut().take();
        if let Some(state) = state {
            self.end(state, why);
        }
    }

    fn end(&self, mut state: State, why: &str) {
        self.stop_timer();
        tracing::debug!(why, "dropped a connection before it was open");
        EventLoop::current().detach(self.token, &mut state.stream);
    }

    fn stop_timer(&self) {
        if let Some(timer) = self.timer.take() {
            EventLoop::current().cancel(timer);
        }
    }
}

impl Source for Upgrading {
    fn ready(self: Rc<Self>, ready: Ready) {
        let state = self.state.borrow_mut().take();
        let Some(mut state) = state else { return self.missed.set(self.missed.get() | ready) };
        state.ends |= ready.read_closed;
        let local = Local::current();
        let mut input = local.lend_input();
        let mut progress = state.advance(&mut input);
        if let Progress::Asked(request, early) = progress {
            match (self.ask(request), self.verdict.get()) {
                (_, Some(why)) => progress = Progress::Over(why),
                (Ok(granted), None) => {
                    self.open(state, granted, early, &mut input);
                    return local.return_input(input);
                }
                (Err(response), None) => progress = state.refuse(&response, &mut input),
            }
        }
        local.return_input(input);
        match progress {
            Progress::Over(why) => self.end(state, why),
            Progress::Again => {
                self.missed.set(self.missed.get() | Ready::READABLE);
                self.keep(state);
            }
            Progress::Waiting | Progress::Asked(..) => self.keep(state),
        }
    }

    fn stop(self: Rc<Self>) {
        self.condemn("the server stops");
    }
}
