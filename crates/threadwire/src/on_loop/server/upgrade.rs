//! The opening handshake of a connection that was accepted (RFC 6455, section 4.2).

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use mio::Interest;
use threadwire_proto::Role;
use threadwire_proto::deflate::Agreement;
use threadwire_proto::handshake::{self, HandshakeError, HeadReader, Headers, Response, Upgrade};
use threadwire_worker::{EventLoop, Ready, Source, TimerId, Token};

use super::accept::Arrival;
use super::control::Pending;
use super::handshakes::{self, Place};
use super::{Service, Station};
use crate::connection::Opening;
use crate::on_loop::stream::Stream;
use crate::{Config, Connection, Error, Listener, Request};
use threadwire_core::agreed::Agreed;
use threadwire_core::server::admission::{Gate, Guest, TooMany};
use threadwire_core::server::answer::{Answer, Subprotocol};
use threadwire_core::server::check::plain;
use threadwire_core::server::proxy_protocol::{self, Demand, Proxied};
use threadwire_core::server::request::Caller;
use threadwire_core::session::buffers::Buffers;
use threadwire_core::session::outbox::Outbox;
use threadwire_core::transport::Transport as _;

/// A handshake under way.
pub(super) struct Upgrading {
    service: Service,
    token: Token,
    /// Missing while the program is asked, which may wait, and when the handshake is over.
    state: RefCell<Option<State>>,
    /// Readiness that came while the program was asked.
    missed: Cell<Ready>,
    /// Why the connection is to be dropped, if that was decided while the program was asked.
    verdict: Cell<Option<&'static str>>,
    timer: Cell<Option<TimerId>>,
    /// Until it is over, a shutdown waits for it.
    pending: Cell<Option<Pending>>,
    /// Where it stands among the handshakes of its worker, which a shutdown goes through.
    place: Cell<u32>,
    /// Where it stands among those that are dropped if they are too many.
    turn: Cell<Option<Place>>,
}

struct State {
    stream: Stream,
    caller: Caller,
    /// Whether a header of the PROXY protocol comes first. Until it has, the stream is that of the socket.
    awaits_header: bool,
    /// What was received, if the request did not come in one piece.
    received: Vec<u8>,
    head: HeadReader,
    /// Whether the end of the stream was announced: then it is read on to.
    ends: bool,
    /// A response that is no upgrade: once it has left, the peer's end is awaited, so that it can be read.
    refusal: Option<Outbox>,
    /// Whether the peer's TLS is broken, so that only its end is awaited.
    lingers: bool,
}

/// Begins the handshake of a connection that was accepted, on this thread's loop.
pub(super) fn start(service: &Service, arrival: Arrival, pending: Option<Pending>) {
    let event_loop = EventLoop::current();
    let Arrival { stream, peer, since } = arrival;
    let demand = service.gate.demand(peer);
    if demand == Demand::Drop {
        tracing::debug!("dropped a connection: it does not come from a proxy that is trusted");
        return;
    }
    let mut upgrading = None;
    let interest = Interest::READABLE | Interest::WRITABLE;
    // What a proxy says first comes before TLS, and is not shown.
    let awaits_header = demand == Demand::Header;
    let stream = if awaits_header { Ok(stream) } else { service.prepare(stream) };
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "can't serve an accepted connection"),
    };
    let attached = event_loop.attach(stream, interest, |stream, token| {
        let state = State {
            stream,
            caller: Caller { peer, proxied: None },
            awaits_header,
            received: Vec::new(),
            head: HeadReader::new(service.config.head_limits()),
            ends: false,
            refusal: None,
            lingers: false,
        };
        let source = Rc::new(Upgrading {
            service: service.clone(),
            token,
            state: RefCell::new(Some(state)),
            missed: Cell::default(),
            verdict: Cell::default(),
            timer: Cell::default(),
            pending: Cell::new(pending),
            place: Cell::new(Station::NOWHERE),
            turn: Cell::default(),
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
            upgrading.turn.set(Some(handshakes::enter(&service.gate, &upgrading)));
            if let Some(station) = Station::of(&service.config) {
                upgrading.place.set(station.begin_handshake(&upgrading));
                if station.is_shutting_down() {
                    upgrading.shut_down();
                }
            }
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
    Asked(handshake::Request, Early),
}

/// Where the bytes lie that came behind the request.
enum Early {
    /// In the receive buffer, from here to there.
    Input(usize, usize),
    /// In a vector.
    Own(Vec<u8>),
}

/// Listens to a connection that nobody wants to listen to.
struct Nobody;

impl Listener for Nobody {}

/// What an upgrade is made of.
struct Granted {
    listener: Box<dyn Listener>,
    upgrade: Upgrade,
    headers: Headers,
    deflate: Option<Agreement>,
    guest: Option<Guest>,
}

/// What came of looking for a header of the PROXY protocol.
enum Header {
    Missing(Progress),
    Said(Option<Proxied>),
}

impl State {
    /// Looks for the header that a proxy sends first, and takes it out of the socket when it is all there.
    fn look_for_header(&mut self, input: &mut [u8]) -> Header {
        let longest = input.len().min(proxy_protocol::LONGEST);
        let seen = match self.stream.peek(&mut input[..longest]) {
            Ok(0) => return Header::Missing(Progress::Over("the peer left")),
            Ok(seen) => seen,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Header::Missing(Progress::Waiting);
            }
            Err(error) => {
                tracing::debug!(%error, "reading what a proxy sends failed");
                return Header::Missing(Progress::Over("reading failed"));
            }
        };
        match proxy_protocol::parse(&input[..seen]) {
            Ok(Some(header)) => match self.stream.read(&mut input[..header.length]) {
                Ok(count) if count == header.length => Header::Said(header.proxied),
                _ => Header::Missing(Progress::Over("reading failed")),
            },
            Ok(None) if self.ends => Header::Missing(Progress::Over("the peer left")),
            Ok(None) => Header::Missing(Progress::Waiting),
            Err(error) => {
                tracing::debug!(%error, "refused a connection");
                Header::Missing(Progress::Over("it is not from a proxy"))
            }
        }
    }

    /// Reads once, and looks whether the request is there.
    fn advance(&mut self, input: &mut [u8]) -> Progress {
        if self.lingers {
            return self.linger(input);
        }
        if self.refusal.is_some() {
            return self.finish_refusal(input);
        }
        let count = match self.stream.read(input) {
            Ok(0) => return Progress::Over("the peer left"),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waiting,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::debug!(%error, peer = ?self.stream.peer_addr().ok(), "a client does not speak TLS as it should");
                return self.linger(input);
            }
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
                if self.ends || self.stream.may_have_more(count, input.len()) {
                    Progress::Again
                } else {
                    Progress::Waiting
                }
            }
            Err(error) => {
                tracing::debug!(%error, "refused a request");
                self.refuse(&error.response(), false, input)
            }
        }
    }

    /// Lets the peer read what was wrong: closing the socket under what it still sends would reset the connection.
    fn linger(&mut self, input: &mut [u8]) -> Progress {
        if !std::mem::replace(&mut self.lingers, true) {
            // Where that fails, so will reading.
            let _ = self.stream.shutdown_write();
        }
        match self.stream.read_away(input) {
            Ok(0) => Progress::Over("its TLS was refused"),
            Ok(_) => Progress::Again,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Progress::Waiting,
            Err(_) => Progress::Over("the peer broke the connection"),
        }
    }

    /// Answers with a response; to a HEAD request without its body.
    fn refuse(&mut self, response: &Response, is_head: bool, input: &mut [u8]) -> Progress {
        let bytes = encode(response, is_head);
        self.refusal = Some(Outbox::with(bytes));
        self.finish_refusal(input)
    }

    /// Writes a response, then waits for the peer's end.
    fn finish_refusal(&mut self, input: &mut [u8]) -> Progress {
        let Some(outbox) = &mut self.refusal else { return Progress::Waiting };
        if !outbox.is_empty() {
            outbox.unblock();
            if outbox.write(&mut self.stream, &Buffers::current()).is_err() {
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

/// A response as it goes over the wire; to a HEAD request without its body (RFC 9110, section 9.3.2).
pub(crate) fn encode(response: &Response, is_head: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    if is_head {
        response.encode_head(&mut bytes)
    } else {
        response.encode(&mut bytes)
    }
    bytes
}

/// Agrees on compression, if both sides want it.
pub(crate) fn agree(upgrade: &mut Upgrade, config: &Config) -> Option<Agreement> {
    let agreement = config.deflate.as_ref()?.answer(upgrade.offered_extensions())?;
    // It was offered.
    upgrade.add_extension(agreement.to_extension()).ok().map(|()| agreement)
}

/// Why a request that the program agrees to does not become a connection.
pub(crate) struct Refusal {
    /// What the peer is told.
    pub(crate) response: Response,
    /// What the program is told, if it waits for that.
    #[cfg_attr(not(feature = "aio"), allow(dead_code, reason = "only tasks wait for it"))]
    pub(crate) error: Error,
}

impl From<HandshakeError> for Box<Refusal> {
    fn from(error: HandshakeError) -> Box<Refusal> {
        let response = error.response();
        if response.status() >= 500 {
            tracing::error!(%error, "a request can't be answered as the program wants");
        } else {
            tracing::debug!(%error, "refused a request");
        }
        Box::new(Refusal { response, error: error.into() })
    }
}

impl From<TooMany> for Box<Refusal> {
    fn from(too_many: TooMany) -> Box<Refusal> {
        let error = Error::from(too_many);
        tracing::debug!(%error, "refused a request");
        Box::new(Refusal { response: too_many.response(), error })
    }
}

/// What is answered to a request that the program agrees to, if it is as it must be, and there is room for one more.
pub(crate) fn grant(
    gate: &Arc<Gate>,
    request: &Request,
    headers: &Headers,
    subprotocol: &Subprotocol,
) -> Result<(Upgrade, Option<Guest>), Box<Refusal>> {
    let mut upgrade = request.upgrade()?;
    match subprotocol {
        Subprotocol::None => {}
        Subprotocol::Exactly(name) => upgrade.set_subprotocol(name)?,
        Subprotocol::FirstOf { names, is_required } => {
            if upgrade.choose_subprotocol(names).is_none() && *is_required {
                return Err(no_common_subprotocol(names));
            }
        }
    }
    for (name, value) in headers.iter() {
        upgrade.add_header(name, value).map_err(HandshakeError::from)?;
    }
    let permit = gate.admit(request.client_ip())?;
    Ok((upgrade, Guest::new(request, permit)))
}

fn no_common_subprotocol(names: &[String]) -> Box<Refusal> {
    let expected = format!("expected one of the subprotocols {}", names.join(", "));
    tracing::debug!(expected, "refused a request");
    let error = Error::other(format!("the client offers no subprotocol that is spoken here: {expected}"));
    Box::new(Refusal { response: plain(400, &format!("{expected}\n")), error })
}

/// What the connection keeps of the handshake; nothing, if that is all.
pub(crate) fn agreed(upgrade: &Upgrade, headers: Headers, guest: Option<Guest>) -> Option<Box<Agreed>> {
    let subprotocol = upgrade.subprotocol().map(str::to_owned);
    let is_something = subprotocol.is_some() || !headers.is_empty() || guest.is_some();
    is_something.then(|| Box::new(Agreed { subprotocol, headers, guest }))
}

impl Upgrading {
    /// Asks the program, and checks the request: a connection, or the response that the peer gets instead.
    fn ask(&self, request: handshake::Request, caller: Caller, stream: &Stream) -> Result<Granted, Response> {
        let request = self.service.gate.request(request, caller)?;
        #[cfg(feature = "tls")]
        let request = request.secured(stream.tls());
        #[cfg(not(feature = "tls"))]
        let _ = stream;
        let (listener, headers, subprotocol) = match self.service.ask(&request).0 {
            Answer::Respond(response) => return Err(response),
            Answer::Upgrade { listener, headers, subprotocol } => {
                (listener.unwrap_or_else(|| Box::new(Nobody)), headers, subprotocol)
            }
        };
        match grant(&self.service.gate, &request, &headers, &subprotocol) {
            Ok((mut upgrade, guest)) => {
                let deflate = agree(&mut upgrade, &self.service.config);
                Ok(Granted { listener, upgrade, headers, guest, deflate })
            }
            Err(refusal) => Err(refusal.response),
        }
    }

    fn open(&self, state: State, granted: Granted, early: Early, input: &mut [u8]) {
        self.stop_timer();
        let Granted { listener, upgrade, headers, guest, deflate } = granted;
        let mut output = Buffers::current().lend_output();
        upgrade.encode(&mut output);
        let agreed = agreed(&upgrade, headers, guest);
        let (mut own, is_full);
        let early = match early {
            Early::Input(start, end) => {
                is_full = state.stream.may_have_more(end, input.len());
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
        // From here on the connection itself is pending.
        self.leave();
        Connection::open(Opening {
            role: Role::Server,
            stream: state.stream,
            token: self.token,
            listener,
            config: Arc::clone(&self.service.config),
            agreed,
            deflate,
            output,
            early,
            unread,
        });
    }

    fn go_on(&self, state: State, progress: Progress) {
        match progress {
            Progress::Over(why) => self.end(state, why),
            Progress::Again => {
                self.missed.set(self.missed.get() | Ready::READABLE);
                self.keep(state);
            }
            Progress::Waiting | Progress::Asked(..) => self.keep(state),
        }
    }

    /// The handshake goes on.
    fn keep(&self, state: State) {
        *self.state.borrow_mut() = Some(state);
        EventLoop::current().requeue(self.token, self.missed.take());
    }

    /// The connection is to be dropped; if the program is being asked, as soon as it has answered.
    pub(super) fn condemn(&self, why: &'static str) {
        self.verdict.set(Some(why));
        let state = self.state.borrow_mut().take();
        if let Some(state) = state {
            self.end(state, why);
        }
    }

    /// The server shuts down: the peer is told so, unless it is being told something else. If the program is being asked,
    /// that happens when it has answered.
    pub(super) fn shut_down(&self) {
        let state = self.state.borrow_mut().take();
        let Some(mut state) = state else { return };
        if state.refusal.is_some() {
            return self.keep(state);
        }
        let local = Buffers::current();
        let mut input = local.lend_input();
        let progress = self.refuse_for_shutdown(&mut state, &mut input);
        local.return_input(input);
        self.go_on(state, progress.unwrap_or(Progress::Waiting));
    }

    /// Answers with 503, if the server shuts down.
    fn refuse_for_shutdown(&self, state: &mut State, input: &mut [u8]) -> Option<Progress> {
        let station = Station::of(&self.service.config)?;
        let order = station.order()?;
        station.count_refused();
        if state.awaits_header {
            return Some(Progress::Over("the server shuts down"));
        }
        Some(state.refuse(&order.refusal, false, input))
    }

    /// The program is being asked on this very thread, and waits for the shutdown: that does not wait for it then.
    pub(super) fn excuse_if_asking(&self) {
        if self.state.borrow().is_none() {
            self.pending.take();
        }
    }

    /// The time of the shutdown has passed.
    pub(super) fn give_up(&self) {
        self.condemn("the time to shut down has passed");
        // Also if the program does not answer.
        self.pending.take();
    }

    fn end(&self, state: State, why: &str) {
        self.stop_timer();
        self.leave();
        tracing::debug!(why, "dropped a connection before it was open");
        EventLoop::current().detach_and_close(self.token, state.stream);
    }

    /// The stream is gone.
    fn forget(&self) {
        self.stop_timer();
        self.leave();
        EventLoop::current().detach_idle(self.token);
    }

    /// It is over, whatever came of it.
    fn leave(&self) {
        let place = self.place.replace(Station::NOWHERE);
        if place != Station::NOWHERE
            && let Some(station) = Station::of(&self.service.config)
        {
            station.end_handshake(place);
        }
        self.turn.take();
        self.pending.take();
    }

    pub(super) fn set_place(&self, place: u32) {
        self.place.set(place);
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
        if ready.writable {
            state.stream.writable();
        }
        let local = Buffers::current();
        let mut input = local.lend_input();
        if state.awaits_header {
            match state.look_for_header(&mut input) {
                Header::Missing(progress) => {
                    local.return_input(input);
                    return self.go_on(state, progress);
                }
                Header::Said(proxied) => {
                    state.caller.proxied = proxied;
                    state.awaits_header = false;
                    state.stream = match self.service.prepare(state.stream) {
                        Ok(stream) => stream,
                        Err(error) => {
                            local.return_input(input);
                            tracing::warn!(%error, "can't serve an accepted connection");
                            return self.forget();
                        }
                    };
                }
            }
        }
        let mut progress = state.advance(&mut input);
        if let Progress::Asked(request, early) = progress {
            let is_head = request.method() == "HEAD";
            match (self.ask(request, state.caller, &state.stream), self.verdict.get()) {
                (_, Some(why)) => progress = Progress::Over(why),
                (Ok(granted), None) => match self.refuse_for_shutdown(&mut state, &mut input) {
                    Some(refused) => progress = refused,
                    None => {
                        self.open(state, granted, early, &mut input);
                        return local.return_input(input);
                    }
                },
                (Err(response), None) => progress = state.refuse(&response, is_head, &mut input),
            }
        }
        local.return_input(input);
        self.go_on(state, progress);
    }

    fn stop(self: Rc<Self>) {
        self.condemn("the server stops");
    }
}
