//! What can go wrong.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use threadwire_proto::handshake::{HandshakeError, HeaderError};
use threadwire_proto::{SendError, Violation};
use threadwire_worker::Stopped;

use crate::Closed;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why something failed. Each says what was tried, and carries what lies underneath as its source.
///
/// ```
/// use threadwire::{Connection, Error, HandshakeError, Message, connect};
/// # use threadwire::{Accept, Server};
/// # let server = Server::bind("127.0.0.1:0")?.serve(|_| Accept::status(403))?;
/// # let url = format!("ws://{}", server.local_addr());
///
/// let said = match connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(())) {
///     Ok(_) => "welcome".to_owned(),
///     Err(Error::Handshake(HandshakeError::Status(answer))) => format!("refused with {}", answer.status()),
///     Err(error @ (Error::Connect { .. } | Error::Timeout(_) | Error::Lost)) => format!("try again: {error}"),
///     Err(error) => return Err(error),
/// };
/// assert_eq!(said, "refused with 403");
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection is closed or closing: nothing can be sent any more.
    #[error("the connection is closed")]
    Closed,
    /// Something took longer than the configured time.
    #[error("{0}")]
    Timeout(TimeoutKind),
    /// The peer broke a rule of RFC 6455, or a limit on what it may send.
    #[error("the peer broke the protocol: {rule} (RFC 6455, section {})", rule.section())]
    Protocol {
        /// The rule.
        rule: Violation,
    },
    /// The peer ended TCP without a close frame (RFC 6455, section 7.1.5: code 1006), or during the opening handshake.
    #[error("the peer ended the connection without a close frame")]
    Lost,
    /// The opening handshake failed; a server that answers with another status than 101 is
    /// [`HandshakeError::Status`]. Also for a header or a subprotocol that can't be sent.
    #[error("the opening handshake failed: {0}")]
    Handshake(#[from] HandshakeError),
    /// A URL that can't be connected to.
    #[error("can't connect to {url:?}: {part} {problem}")]
    Url {
        /// The URL, without user name and password.
        url: String,
        /// The part of it that is wrong.
        part: UrlPart,
        /// What is wrong with it, and what was expected.
        problem: String,
    },
    /// A host name could not be resolved.
    #[error("can't find the address of {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// No address of a server could be reached.
    #[error("can't connect to {addr}: {}", plain(source))]
    Connect {
        /// The address that was tried last.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A server could not listen at an address.
    #[error("can't listen on {addr}: {}", plain(source))]
    Listen {
        /// The address, as it was given.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
    /// Reading, writing, or another request to the system failed.
    #[error("{}", plain(.0))]
    Io(#[from] io::Error),
    /// The connection has ended, with another code than those that say that all is well (1000, 1001, or none): what a receive
    /// on the async face says then. What went wrong, if something did, is [`Closed::error`](crate::Closed::error).
    #[error("{0}")]
    Ended(Arc<Closed>),
    /// A limit of ours on what we send is reached, see [`Config`](crate::Config).
    #[error("{kind} is over the limit of {limit} bytes")]
    Limit {
        /// Which one.
        kind: LimitKind,
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// Something that must not be sent (RFC 6455, sections 5.4, 5.5 and 7.4).
    #[error("{0}")]
    Send(SendError),
    /// A callback panicked, with this message.
    #[error("a callback panicked: {0}")]
    Panicked(String),
    /// The worker was asked to stop: what every wait answers then ([`Stopped`]), to be passed on with `?`.
    #[error("the worker was asked to stop")]
    Stopped,
    /// An error of the program's own, see [`Error::other`].
    #[error("{0}")]
    Other(#[source] Source),
}

/// What took too long.
///
/// ```
/// use std::{net::TcpListener, time::Duration};
/// use threadwire::{Client, Config, Connection, Error, Message, TimeoutKind};
///
/// let silent = TcpListener::bind("127.0.0.1:0")?;
/// let client = Client::new(&format!("ws://{}", silent.local_addr()?))?
///     .config(Config { open_timeout: Duration::from_millis(1), ..Config::default() });
/// let result = client.connect(|_ws: &Connection, _message: Message<'_>| Ok(()));
/// assert!(matches!(result, Err(Error::Timeout(TimeoutKind::Open))));
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutKind {
    /// Opening: reaching the server, and the opening handshake.
    Open,
    /// Closing: the peer's answer to a close frame.
    Close,
    /// The peer was silent: nothing came from it, not even after a ping (see [`Keepalive`](crate::Keepalive)).
    Silence {
        /// Since the last byte.
        silent_for: Duration,
    },
    /// The answer to a ping with which a round trip was measured.
    Pong,
}

impl std::fmt::Display for TimeoutKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TimeoutKind::Open => f.write_str("opening the connection took too long"),
            TimeoutKind::Close => f.write_str("the peer's answer to our close frame took too long"),
            TimeoutKind::Silence { silent_for } => {
                write!(f, "the peer was silent for {:.1} s", silent_for.as_secs_f64())
            }
            TimeoutKind::Pong => f.write_str("the answer to a ping took too long"),
        }
    }
}

/// Which limit was reached.
///
/// ```
/// use threadwire::{Client, Config, Connection, Error, LimitKind, Message};
/// # use threadwire::{Accept, Server};
/// # let echo = || Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr());
///
/// let client = Client::new(&url)?.config(Config { max_buffered: 8, ..Config::default() });
/// let ws = client.connect(|_ws: &Connection, _message: Message<'_>| Ok(()))?;
/// ws.send(&vec![0; 64 << 20])?; // taken, as nothing waits, but more than the system takes at once
/// assert!(matches!(ws.send("another"), Err(Error::Limit { kind: LimitKind::Buffered, limit: 8 })));
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitKind {
    /// [`Config::max_buffered`](crate::Config::max_buffered).
    Buffered,
}

impl std::fmt::Display for LimitKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LimitKind::Buffered => "what waits to be written to the peer",
        })
    }
}

/// A part of a URL.
///
/// ```
/// use threadwire::{Error, Target, UrlPart};
///
/// let Err(Error::Url { part, .. }) = Target::parse("ws://example.com:99999/") else { panic!("a port too far") };
/// assert_eq!(part, UrlPart::Port);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlPart {
    /// Its form as a whole.
    Form,
    /// What stands in front of the first colon.
    Scheme,
    /// The host.
    Host,
    /// The port.
    Port,
    /// What follows a `#`.
    Fragment,
}

impl std::fmt::Display for UrlPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            UrlPart::Form => "it",
            UrlPart::Scheme => "its scheme",
            UrlPart::Host => "its host",
            UrlPart::Port => "its port",
            UrlPart::Fragment => "its fragment",
        })
    }
}

impl Error {
    /// An error of the program's own, to be returned from a callback: the connection is then closed with 1011.
    ///
    /// ```
    /// use threadwire::Error;
    /// let error = Error::other("no such channel");
    /// assert_eq!(error.to_string(), "no such channel");
    /// ```
    pub fn other(error: impl Into<Source>) -> Error {
        Error::Other(error.into())
    }

    /// Too much waits to be written.
    pub(crate) fn too_much_buffered(limit: usize) -> Error {
        Error::Limit { kind: LimitKind::Buffered, limit }
    }

    /// The message of a panic.
    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Error {
        let text = match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => {
                payload.downcast::<&'static str>().map_or("(no message)", |text| *text).to_owned()
            }
        };
        Error::Panicked(text)
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
        Error::Handshake(error.into())
    }
}

/// What the system said, in its words but without its numbers.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}
