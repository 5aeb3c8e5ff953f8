//! The opening handshake on a server, without I/O (RFC 6455, section 4.2): from an accepted socket to a request, and to its answer.
//!
//! A driver does what the last [`Step`] says and tells it what came of it; the next step follows from that:
//!
//! ```text
//! begin -> [Read: header of the PROXY protocol] -> Wrap -> Read ... -> Ask -> granted: a connection
//!                                                    |                  |
//!                                     no HTTP, no TLS, or a shutdown    +-> refused: Answer -> Linger -> Read ... -> Over
//! ```
//!
//! A refused peer is read until it ends: closing the socket under what it still sends would reset the connection, and it might never see
//! the answer. All of that has to happen before one [deadline](OpeningHandshake::deadline).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use threadwire_proto::deflate::Agreement;
use threadwire_proto::handshake::{self, HandshakeError, HeadReader, Headers, Response, Upgrade};

use super::admission::{Guest, TooMany};
use super::check::plain;
use super::proxy_protocol::{self, Demand};
use super::reply::Subprotocol;
use super::request::{Caller, Request};
use super::settings::ServerSettings;
use crate::agreed::Agreed;
use crate::config::{Budgets, Config};
use crate::error::{Error, LimitError, TimeoutKind};
#[cfg(feature = "tls")]
use crate::tls::{TlsFailure, session::Session};

pub struct OpeningHandshake {
    settings: Arc<ServerSettings>,
    caller: Caller,
    stage: Stage,
    /// Received bytes that are not used up, if they did not come in one piece.
    received: Vec<u8>,
    head: HeadReader,
    /// Whether the request is a HEAD request, whose answer has no body (RFC 9110, section 9.3.2).
    is_head: bool,
    deadline: Option<Instant>,
    /// How it ends when the peer that is answered has left.
    outcome: Result<(), Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A header of the PROXY protocol comes first.
    ProxyHeader,
    Head,
    /// The request is the program's to answer.
    Asked,
    /// An answer is being written that is no upgrade.
    Answering,
    /// The peer's end is awaited.
    Lingering,
    Over,
}

/// The next step of a driver.
#[derive(Debug)]
pub enum Step {
    /// Read, and [pass on](OpeningHandshake::advance) what has come.
    Read,
    /// Put TLS, if there is a [session](OpeningHandshake::session), and the trace, which is shown [what was read](OpeningHandshake::early), around the stream;
    /// then say that it is [wrapped](OpeningHandshake::wrapped).
    Wrap,
    /// Find out what becomes of the request. Either [`grant`](OpeningHandshake::grant), or [`refuse`](OpeningHandshake::refuse).
    Ask(Box<Request>, Early),
    /// Write these bytes, and say that they are [written](OpeningHandshake::answered).
    Answer(Vec<u8>),
    /// Tell the peer that nothing more will come; then read on.
    Linger,
    /// Close the socket. It was answered as the program wants, or this is what went wrong.
    Over(Result<(), Error>),
}

/// Where the bytes lie that came behind a request.
#[derive(Debug)]
pub enum Early {
    /// In what was passed on last, from there to its end.
    Input(usize),
    Own(Vec<u8>),
}

impl Early {
    pub fn into_vec(self, input: &[u8]) -> Vec<u8> {
        match self {
            Early::Input(start) => input[start..].to_vec(),
            Early::Own(bytes) => bytes,
        }
    }
}

/// An upgrade that both sides agree to.
pub struct Granted {
    upgrade: Upgrade,
    /// The result of the handshake that the connection keeps, if there is more than nothing to keep.
    pub agreed: Option<Box<Agreed>>,
    /// If messages may be compressed.
    pub deflate: Option<Agreement>,
}

impl Granted {
    /// Appends the answer as it goes over the wire.
    pub fn encode(&self, output: &mut Vec<u8>) {
        self.upgrade.encode(output);
    }
}

impl OpeningHandshake {
    /// For a socket that was accepted at that time.
    pub fn new(
        settings: Arc<ServerSettings>,
        peer: Option<SocketAddr>,
        accepted: Instant,
    ) -> OpeningHandshake {
        OpeningHandshake {
            caller: Caller { peer, proxied: None },
            stage: Stage::Head,
            received: Vec::new(),
            head: HeadReader::new(settings.config.head_limits()),
            is_head: false,
            deadline: accepted.checked_add(settings.config.open_timeout),
            outcome: Ok(()),
            settings,
        }
    }

    pub fn settings(&self) -> &Arc<ServerSettings> {
        &self.settings
    }

    pub fn begin(&mut self) -> Step {
        match self.settings.gate.demand(self.caller.peer) {
            Demand::Nothing => Step::Wrap,
            Demand::Header => {
                self.stage = Stage::ProxyHeader;
                Step::Read
            }
            Demand::Drop => self.fail(Error::other("it does not come from a proxy that is trusted")),
        }
    }

    /// When the peer is given up, whatever the step is ([`Config::open_timeout`]). None if that is out of the clock's reach.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The error when the deadline has passed.
    pub fn too_late() -> Error {
        Error::Timeout(TimeoutKind::Open { during: None })
    }

    /// The program has taken its time to answer the request: the peer gets as much again to read that.
    pub fn restart(&mut self, now: Instant) {
        self.deadline = now.checked_add(self.settings.config.open_timeout);
    }

    /// The session of TLS to put around the stream, where the server speaks TLS. It begins with what was read behind a header of the PROXY
    /// protocol.
    #[cfg(feature = "tls")]
    pub fn session(&mut self) -> Result<Option<Session>, Error> {
        let Some(tls) = &self.settings.tls else { return Ok(None) };
        let early = std::mem::take(&mut self.received);
        Ok(Some(Session::server(tls.current(), early).map_err(TlsFailure::io)?))
    }

    /// Bytes read before TLS began, which are not TLS.
    pub fn early(&self) -> &[u8] {
        &self.received
    }

    /// The stream is wrapped.
    pub fn wrapped(&mut self) -> Step {
        if self.received.is_empty() { Step::Read } else { self.look_for_request(&[]) }
    }

    /// These bytes have come; none means that the peer has ended.
    pub fn advance(&mut self, input: &[u8]) -> Step {
        match (self.stage, input.is_empty()) {
            (Stage::ProxyHeader | Stage::Head | Stage::Asked, true) => self.fail(Error::Lost),
            (Stage::ProxyHeader, false) => self.look_for_header(input),
            (Stage::Head, false) => self.look_for_request(input),
            (Stage::Answering | Stage::Lingering, true) => self.end(),
            // A peer that goes on sending is read for as long as the whole handshake may take.
            _ => Step::Read,
        }
    }

    /// Looks for the header that a proxy sends first. What is behind it is for others.
    fn look_for_header(&mut self, input: &[u8]) -> Step {
        self.received.extend_from_slice(input);
        match proxy_protocol::parse(&self.received) {
            Ok(Some(header)) => {
                self.received.drain(..header.length);
                self.caller.proxied = header.proxied;
                self.stage = Stage::Head;
                Step::Wrap
            }
            Ok(None) => Step::Read,
            Err(error) => self.fail(Error::other(error)),
        }
    }

    fn look_for_request(&mut self, input: &[u8]) -> Step {
        let is_first = self.received.is_empty();
        if !is_first {
            self.received.extend_from_slice(input);
        }
        let bytes = if is_first { input } else { &self.received };
        match self.head.request(bytes) {
            Ok(Some((head, length))) => {
                let early = match is_first {
                    true => Early::Input(length),
                    false => Early::Own(std::mem::take(&mut self.received).split_off(length)),
                };
                self.ask(head, early)
            }
            Ok(None) => {
                if is_first {
                    self.received.extend_from_slice(input);
                }
                Step::Read
            }
            Err(error) => {
                tracing::debug!(%error, "refused a request");
                self.refuse(&error.response(), Err(error.into()))
            }
        }
    }

    fn ask(&mut self, head: handshake::Request, early: Early) -> Step {
        self.is_head = head.method() == "HEAD";
        // Before the program is asked, as it may answer with a page.
        if let Err(error) = head.check_host() {
            tracing::debug!(%error, "refused a request");
            return self.refuse(&error.response(), Err(error.into()));
        }
        match self.settings.gate.request(head, self.caller) {
            Ok(request) => {
                self.stage = Stage::Asked;
                Step::Ask(Box::new(request), early)
            }
            Err(response) => self.refuse(&response, Ok(())),
        }
    }

    /// Agrees to a request, if it is as it must be, and there is room for one more connection.
    pub fn grant(
        &self,
        request: &Request,
        headers: Headers,
        subprotocol: &Subprotocol,
    ) -> Result<Granted, Box<Refusal>> {
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
        let deflate = agree(&mut upgrade, &self.settings.config)?;
        if self.settings.gate.refuses(request.client_ip()) {
            return Err(unknown_client());
        }
        Budgets::of(self.settings.config.budget.as_ref()).admit().map_err(out_of_memory)?;
        let permit = self.settings.gate.admit(request.client_ip(), request.hop())?;
        let agreed = agreed(&upgrade, headers, Guest::new(request, permit));
        Ok(Granted { upgrade, agreed, deflate })
    }

    /// Answers with a response that is no upgrade. Once it has left and the peer has ended, `outcome` is what came of it.
    pub fn refuse(&mut self, response: &Response, outcome: Result<(), Error>) -> Step {
        self.outcome = outcome;
        self.stage = Stage::Answering;
        self.received = Vec::new();
        Step::Answer(encode(response, self.is_head))
    }

    /// The answer is written.
    pub fn answered(&mut self) -> Step {
        self.stage = Stage::Lingering;
        Step::Linger
    }

    /// The server shuts down: the peer is answered so, unless it is being answered otherwise (`None`). A proxy that has not said whose
    /// connection it is is no HTTP client: it is dropped.
    pub fn shut_down(&mut self, response: &Response) -> Option<Step> {
        match self.stage {
            Stage::ProxyHeader => Some(self.fail(Error::Closed)),
            Stage::Head | Stage::Asked => Some(self.refuse(response, Ok(()))),
            Stage::Answering | Stage::Lingering | Stage::Over => None,
        }
    }

    /// Reading or writing has failed. A client whose TLS is broken was told what is wrong with it, and has to be able to read that.
    pub fn failed(&mut self, error: io::Error) -> Step {
        let is_refused = error.kind() == io::ErrorKind::InvalidData;
        match self.stage {
            Stage::Lingering => self.end(),
            Stage::Head if is_refused => {
                tracing::debug!(%error, peer = ?self.caller.peer, "a client does not speak TLS as it should");
                self.outcome = Err(error.into());
                self.answered()
            }
            _ => self.fail(error.into()),
        }
    }

    fn fail(&mut self, error: Error) -> Step {
        self.outcome = Err(error);
        self.end()
    }

    fn end(&mut self) -> Step {
        self.stage = Stage::Over;
        Step::Over(std::mem::replace(&mut self.outcome, Ok(())))
    }
}

/// A response as it goes over the wire.
fn encode(response: &Response, is_head: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    if is_head {
        response.encode_head(&mut bytes)
    } else {
        response.encode(&mut bytes)
    }
    bytes
}

/// Agrees on compression, if both sides want it. An error if this side does, and what the other one offers is malformed.
pub fn agree(upgrade: &mut Upgrade, config: &Config) -> Result<Option<Agreement>, HandshakeError> {
    let Some(deflate) = &config.deflate else { return Ok(None) };
    let agreement = deflate.answer(upgrade.offered_extensions()?);
    if let Some(agreement) = &agreement {
        upgrade.add_extension(agreement.to_extension())?;
    }
    Ok(agreement)
}

/// The result of the handshake that the connection keeps, if there is more than nothing to keep.
pub fn agreed(upgrade: &Upgrade, headers: Headers, guest: Option<Guest>) -> Option<Box<Agreed>> {
    let subprotocol = upgrade.subprotocol().map(str::to_owned);
    let is_something = subprotocol.is_some() || !headers.is_empty() || guest.is_some();
    is_something.then(|| Box::new(Agreed { subprotocol, headers, guest }))
}

/// Why a request that the program agrees to does not become a connection.
#[derive(Debug)]
pub struct Refusal {
    /// The response to the peer.
    pub response: Response,
    /// The error for the program, if it waits for one.
    pub error: Error,
}

impl From<HandshakeError> for Box<Refusal> {
    fn from(error: HandshakeError) -> Box<Refusal> {
        let response = error.response();
        // Any other status is a client's doing, 505 among them.
        if response.status() == 500 {
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

/// A proxy in front was to say where the client comes from.
fn unknown_client() -> Box<Refusal> {
    let error = Error::other("the proxy in front does not say where the client comes from");
    tracing::debug!(%error, "refused a request");
    Box::new(Refusal {
        response: plain(400, "expected the client's address in a forwarding header\n"),
        error,
    })
}

/// Connections hold as much memory as they may.
fn out_of_memory(error: LimitError) -> Box<Refusal> {
    let error = Error::from(error);
    tracing::debug!(%error, "refused a request");
    Box::new(Refusal { response: plain(503, "busy\n"), error })
}

fn no_common_subprotocol(names: &[String]) -> Box<Refusal> {
    let expected = format!("expected one of the subprotocols {}", names.join(", "));
    tracing::debug!(expected, "refused a request");
    let error = Error::other(format!("the client offers no subprotocol that is spoken here: {expected}"));
    Box::new(Refusal { response: plain(400, &format!("{expected}\n")), error })
}

#[cfg(test)]
mod tests;
