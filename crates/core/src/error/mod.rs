//! The error type of all faces.

use std::fmt;
use std::io;
use std::sync::Arc;

use threadwire_guard::Panicked;
use threadwire_proto::handshake::{Answer, HandshakeError, HeaderError};
use threadwire_proto::{SendError, Violation};
use threadwire_stopped::Stopped;

mod closed;
mod io_kind;
mod limit;
mod network;
mod proxy;
mod redirect;
mod refusal;
mod request;
mod route;
mod setting;
pub(crate) mod shown;
mod timeout;
mod tls;
mod transience;
mod url;

pub use closed::Closed;
use io_kind::{is_forbidden, plain};
pub use limit::{LimitError, LimitKind};
pub use network::{ConnectError, ConnectUnixError, ListenError, ResolveError};
pub use proxy::{ProxyError, ProxyProblem};
pub use redirect::{RedirectError, RedirectProblem};
use refusal::Refusal;
pub use request::{RequestId, RequestRefused};
pub use route::RouteError;
pub use setting::SettingError;
pub use timeout::{Stage, Step, TimeoutKind};
pub use tls::{TlsError, TlsFileError, TlsProblem};
pub use url::{UrlError, UrlPart};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why something failed.
///
/// `{error}` says what was tried, and the standard [`source`](std::error::Error::source) what lies underneath; neither
/// repeats the other, so that what prints chains of errors prints each once. `{error:#}` prints the whole chain in one line.
///
/// Transient is what may go away by itself: [`is_transient`](Error::is_transient).
///
/// | error | when | transient |
/// | --- | --- | --- |
/// | [`Closed`](Error::Closed) | something is sent on a connection that is closed or closing | no |
/// | [`Timeout`](Error::Timeout) | opening, closing, or the answer to a ping takes longer than allowed, or the peer is silent | yes |
/// | [`Protocol`](Error::Protocol) | the peer breaks a rule of RFC 6455, or a limit of ours on what it may send | no |
/// | [`Lost`](Error::Lost) | the peer ends TCP without a close frame, or while opening | yes |
/// | [`Status`](Error::Status) | the server answers with another status than 101 | status 408, 418, 425, 429 and 500 to 599, what carries a `Retry-After`, and what a captive portal answers |
/// | [`Handshake`](Error::Handshake) | anything else is wrong with the opening handshake, or a header can't be sent | no |
/// | [`Url`](Error::Url) | a URL can't be connected to | no |
/// | [`Resolve`](Error::Resolve) | the system finds no address of the host now | yes |
/// | [`Connect`](Error::Connect), [`ConnectUnix`](Error::ConnectUnix) | no address of the server can be reached | unless forbidden |
/// | [`Proxy`](Error::Proxy) | a proxy can't be reached, or does not let through | as [`ProxyProblem::is_transient`] says |
/// | [`Redirect`](Error::Redirect) | the server sends elsewhere, and there it must not go | no |
/// | [`Tls`](Error::Tls) | TLS with the server fails: its certificate, for one | if its certificate is not valid yet, or not any more, or if it ended the handshake without blaming this side |
/// | [`TlsFile`](Error::TlsFile) | a certificate or a key of one's own can't be used | no |
/// | [`Listen`](Error::Listen) | a server can't listen at an address | unless forbidden |
/// | [`Io`](Error::Io) | reading, writing, or another request to the system fails | unless forbidden |
/// | [`Ended`](Error::Ended) | a receive finds that the connection has ended, and not normally | as [`Closed::is_transient`] says |
/// | [`Limit`](Error::Limit) | too much waits to be sent, or a server has too many connections | yes |
/// | [`Route`](Error::Route) | a pattern of a router is malformed, or can't be told from another | no |
/// | [`Setting`](Error::Setting) | a setting can't be heeded in the way in which it is used | no |
/// | [`Send`](Error::Send) | something must not be sent | no |
/// | [`Request`](Error::Request) | an app's request is not sent, or its answer can't be waited for | no |
/// | [`Panicked`](Error::Panicked) | a callback panics | no |
/// | [`Stopped`](Error::Stopped) | the worker is stopped | no |
/// | [`Other`](Error::Other) | the program says so | no |
///
/// "Forbidden" is what the system refuses for good: [`PermissionDenied`](io::ErrorKind::PermissionDenied),
/// [`InvalidInput`](io::ErrorKind::InvalidInput) and [`Unsupported`](io::ErrorKind::Unsupported).
///
/// An error is small, so that every `Result` is: it holds one value, and that in a box where it is large. What a box holds is
/// reached by its fields:
///
/// ```
/// use threadwire::error::UrlPart;
/// use threadwire::{Client, Error};
///
/// match Client::new("wss://example.com:wss/feed") {
///     Err(Error::Url(error)) if error.part == UrlPart::Port => assert_eq!(error.url, "wss://example.com:wss/feed"),
///     other => panic!("{other:?}"),
/// }
/// assert!(size_of::<Result<(), Error>>() <= 24);
/// ```
///
/// A server that refuses says why with its answer, which has [`status`](threadwire_proto::handshake::Answer::status), [`headers`](threadwire_proto::handshake::Answer::headers) and as
/// much of the [`body`](threadwire_proto::handshake::Answer::body) as came with it (4 KiB at most):
///
/// ```
/// use threadwire::{Connection, Error, Message, connect};
/// # use threadwire::{Reply, Server};
/// # let refusal = threadwire::Response::new(403)?.with_header("X-Why", "quota")?.with_body("too many feeds");
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| Reply::respond(refusal.clone()))?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let said = match connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(())) {
///     Ok(_) => "welcome".to_owned(),
///     Err(Error::Status(answer)) => {
///         let why = answer.header("X-Why").unwrap_or("no reason");
///         format!("refused with {} ({why}): {}", answer.status(), String::from_utf8_lossy(answer.body()))
///     }
///     Err(error) if error.is_transient() => format!("try again: {error:#}"),
///     Err(error) => return Err(error),
/// };
/// assert_eq!(said, "refused with 403 (quota): too many feeds");
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The connection is closed or closing: nothing can be sent any more.
    Closed,
    /// Something took longer than the configured time.
    Timeout(TimeoutKind),
    /// The peer broke this rule of RFC 6455, or this limit on what it may send.
    Protocol(Violation),
    /// The peer ended TCP without a close frame (RFC 6455, section 7.1.5: code 1006), or during the opening handshake.
    Lost,
    /// The server answered with another status than 101: its answer, with up to 4 KiB of its body.
    Status(Box<Answer>),
    /// The opening handshake failed, but for an answer with another [status](Error::Status). Also for a header or a subprotocol
    /// that can't be sent.
    Handshake(Box<HandshakeError>),
    /// A URL that can't be connected to.
    Url(Box<UrlError>),
    /// A host name could not be resolved.
    Resolve(Box<ResolveError>),
    /// No address of a server could be reached.
    Connect(Box<ConnectError>),
    /// A unix socket could not be connected to.
    ConnectUnix(Box<ConnectUnixError>),
    /// The way through a proxy failed.
    Proxy(Box<ProxyError>),
    /// The server answered with a redirect that must not be followed.
    Redirect(Box<RedirectError>),
    /// No TLS connection was made with a server.
    Tls(Box<TlsError>),
    /// A certificate or a key of one's own can't be used.
    TlsFile(Box<TlsFileError>),
    /// A server could not listen at an address.
    Listen(Box<ListenError>),
    /// The connection has ended, and not with one of the codes that say that all is well (see [`Closed::is_normal`]): what a
    /// receive ends with then. What lies underneath is [`Closed::error`](crate::Closed::error).
    Ended(Arc<Closed>),
    /// Reading, writing, or another request to the system failed. It reads as what the system said, which is therefore not
    /// its source as well.
    Io(io::Error),
    /// A limit of ours on what we send is reached, see [`Config`](crate::Config); or one of a server on its connections, see
    /// [`Admission`](crate::Admission).
    Limit(LimitError),
    /// A pattern of a [`Router`](crate::Router) can't be used.
    Route(Box<RouteError>),
    /// A setting that can't be heeded in the way in which a connection is opened or served.
    Setting(Box<SettingError>),
    /// Something that must not be sent (RFC 6455, sections 5.4, 5.5 and 7.4).
    Send(SendError),
    /// A request of an app was not sent, or its answer can't be waited for.
    Request(Box<RequestRefused>),
    /// A callback panicked, with this message.
    Panicked(Box<str>),
    /// The worker was asked to stop: what every wait answers then (`Stopped`), to be passed on with `?`.
    Stopped,
    /// An error of the program's own, see [`Error::other`]. It reads as that error, and has that error's source.
    Other(Source),
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Each prints the error that it holds.
            Error::Handshake(error) => error.source(),
            Error::Resolve(error) => error.source(),
            Error::Connect(error) => error.source(),
            Error::ConnectUnix(error) => error.source(),
            Error::Proxy(error) => error.source(),
            Error::Tls(error) => error.source(),
            Error::TlsFile(error) => error.source(),
            Error::Listen(error) => error.source(),
            Error::Io(error) => error.source(),
            Error::Other(error) => error.source(),
            // It says the same: it is there for who looks for it, as a task does that may return any error.
            Error::Stopped => Some(&Stopped),
            _ => None,
        }
    }
}

impl Error {
    /// The error's own message, without its source.
    fn headline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Closed => f.write_str("the connection is closed"),
            Error::Timeout(kind) => write!(f, "{kind}"),
            Error::Protocol(rule) => {
                write!(
                    f,
                    "the peer broke the protocol: {rule} (RFC {}, section {})",
                    rule.rfc(),
                    rule.section()
                )
            }
            Error::Lost => f.write_str("the peer ended the connection without a close frame"),
            Error::Status(answer) => {
                let refusal = Refusal { answer, challenge: (401, "WWW-Authenticate") };
                write!(
                    f,
                    "the server answered the opening handshake with {refusal}, expected 101 (RFC 6455, section 4.1)"
                )
            }
            Error::Handshake(error) => write!(f, "the opening handshake failed: {error}"),
            Error::Url(error) => write!(f, "{error}"),
            Error::Resolve(error) => write!(f, "{error}"),
            Error::Connect(error) => write!(f, "{error}"),
            Error::ConnectUnix(error) => write!(f, "{error}"),
            Error::Proxy(error) => write!(f, "{error}"),
            Error::Redirect(error) => write!(f, "{error}"),
            Error::Tls(error) => write!(f, "{error}"),
            Error::TlsFile(error) => write!(f, "{error}"),
            Error::Listen(error) => write!(f, "{error}"),
            Error::Io(error) => f.write_str(&plain(error)),
            Error::Ended(closed) => write!(f, "{closed}"),
            Error::Limit(error) => write!(f, "{error}"),
            Error::Route(error) => write!(f, "{error}"),
            Error::Setting(error) => write!(f, "{error}"),
            Error::Send(error) => write!(f, "{error}"),
            Error::Request(error) => write!(f, "{error}"),
            Error::Panicked(message) => write!(f, "a callback panicked: {message}"),
            Error::Stopped => f.write_str("the worker was asked to stop"),
            Error::Other(error) => write!(f, "{error}"),
        }
    }
}

/// `{}` says what was tried, `{:#}` also why that failed: all that lies underneath. The program's own errors print themselves, and
/// one that panics at that is said to.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printed = threadwire_guard::run(|| self.chain(f));
        printed.unwrap_or_else(|panicked| {
            write!(f, "an error that can't be printed, as that panics: {panicked}")
        })
    }
}

impl Error {
    fn chain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.headline(f)?;
        let mut below = std::error::Error::source(self).filter(|error| !error.is::<Stopped>());
        while let Some(error) = below.filter(|_| f.alternate()) {
            match error.downcast_ref::<io::Error>() {
                Some(error) => write!(f, ": {}", plain(error))?,
                None => write!(f, ": {error}")?,
            }
            below = error.source();
        }
        Ok(())
    }
}

impl Error {
    /// An error of the program's own, to be returned from a callback: the connection is then closed with 1011.
    ///
    /// ```
    /// use threadwire::Error;
    /// let error = Error::other("no such channel");
    /// assert_eq!(error.to_string(), "no such channel");
    ///
    /// fn parse(text: &str) -> Result<u32, Error> {
    ///     text.parse().map_err(Error::other)
    /// }
    /// assert!(parse("x").is_err());
    /// ```
    pub fn other(error: impl Into<Source>) -> Error {
        Error::Other(error.into())
    }

    /// Whether it is a [`Timeout`](Error::Timeout), of whatever kind.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Error::Timeout(_))
    }

    /// Whether it may go away by itself, so that the same may work when it is tried again, with nothing changed but the time:
    /// networks that fail, peers that are slow or gone, servers that are too busy. The table at [`Error`] says it of each;
    /// it is what reconnecting (`Client::reconnect`) goes by, unless it is told otherwise.
    ///
    /// A name that can't be resolved counts as transient, as the system does not say whether it will ever be there.
    ///
    /// ```
    /// use threadwire::client::Target;
    /// use threadwire::{Connection, Message, connect};
    ///
    /// // Nobody listens there, for now.
    /// let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// let refused = connect(&format!("ws://{nobody}"), |_ws: &Connection, _message: Message<'_>| Ok(()));
    /// assert!(refused.unwrap_err().is_transient());
    ///
    /// let bad = Target::parse("http://example.com/").unwrap_err();
    /// assert!(!bad.is_transient());
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Timeout(_) | Error::Lost | Error::Resolve(_) | Error::Limit(_) => true,
            Error::Tls(error) => transience::may_agree_later(&error.problem),
            Error::Status(answer) => transience::is_passing(answer),
            Error::Connect(error) => !is_forbidden(&error.source),
            Error::ConnectUnix(error) => !is_forbidden(&error.source),
            Error::Listen(error) => !is_forbidden(&error.source),
            Error::Io(error) => !is_forbidden(error),
            Error::Proxy(error) => error.problem.is_transient(),
            Error::Ended(closed) => closed.is_transient(),
            Error::Closed
            | Error::Protocol(_)
            | Error::Handshake(_)
            | Error::Url(_)
            | Error::Redirect(_)
            | Error::TlsFile(_)
            | Error::Send(_)
            | Error::Request(_)
            | Error::Panicked(_)
            | Error::Stopped
            | Error::Route(_)
            | Error::Setting(_)
            | Error::Other(_) => false,
        }
    }

    /// Too much waits to be written.
    #[doc(hidden)]
    pub fn too_much_buffered(limit: usize) -> Error {
        LimitError { kind: LimitKind::Buffered, limit }.into()
    }

    /// A server can't listen at an address.
    #[doc(hidden)]
    pub fn listen(addr: impl Into<String>, source: io::Error) -> Error {
        ListenError { addr: addr.into(), source }.into()
    }

    /// An error of the program's as one of ours: what it was if it was one, so that it counts as such.
    #[doc(hidden)]
    pub fn of_program(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let error = match error.into().downcast::<Error>() {
            Ok(error) => return *error,
            Err(error) => error,
        };
        let error = match error.downcast::<Stopped>() {
            Ok(_) => return Error::Stopped,
            Err(error) => error,
        };
        match error.downcast::<io::Error>() {
            Ok(error) => Error::Io(*error),
            Err(error) => Error::Other(error),
        }
    }

    /// The message of a panic.
    #[doc(hidden)]
    pub fn panicked(panicked: impl Into<Panicked>) -> Error {
        Error::Panicked(panicked.into().message().into())
    }
}

macro_rules! from_boxed {
    ($($variant:ident($error:ty))*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Error {
                Error::$variant(Box::new(error))
            }
        })*
    };
}

from_boxed! {
    Url(UrlError)
    Resolve(ResolveError)
    Connect(ConnectError)
    ConnectUnix(ConnectUnixError)
    Proxy(ProxyError)
    Redirect(RedirectError)
    Tls(TlsError)
    TlsFile(TlsFileError)
    Listen(ListenError)
    Route(RouteError)
    Setting(SettingError)
    Request(RequestRefused)
}

impl From<HandshakeError> for Error {
    fn from(error: HandshakeError) -> Error {
        match error {
            HandshakeError::Status(answer) => Error::Status(answer),
            error => Error::Handshake(Box::new(error)),
        }
    }
}

impl From<LimitError> for Error {
    fn from(error: LimitError) -> Error {
        Error::Limit(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

/// What it was, if it was one of these errors; else as [`Error::other`].
impl From<Source> for Error {
    fn from(error: Source) -> Error {
        Error::of_program(error)
    }
}

impl From<Stopped> for Error {
    fn from(_: Stopped) -> Error {
        Error::Stopped
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Error {
        match error {
            SendError::NotOpen => Error::Closed,
            error => Error::Send(error),
        }
    }
}

impl From<HeaderError> for Error {
    fn from(error: HeaderError) -> Error {
        HandshakeError::from(error).into()
    }
}

#[cfg(test)]
mod tests;
