//! Timeouts, and the steps of opening a connection at which they strike.

use std::fmt;
use std::time::Duration;

/// The step that took too long.
///
/// ```
/// use std::{net::TcpListener, time::Duration};
/// use threadwire::error::TimeoutKind;
/// use threadwire::{Client, Config, Connection, Error, Message};
///
/// let silent = TcpListener::bind("127.0.0.1:0")?;
/// let client = Client::new(&format!("ws://{}", silent.local_addr()?))?
///     .config(Config::default().open_timeout(Duration::from_millis(1)));
/// let result = client.connect(|_ws: &Connection, _message: Message<'_>| Ok(()));
/// assert!(matches!(result, Err(Error::Timeout(TimeoutKind::Open { .. }))));
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutKind {
    /// Opening, as a whole ([`Config::open_timeout`](crate::Config::open_timeout)): reaching the server, and the opening handshake.
    Open {
        /// The step that was under way when the time was up, on a client.
        during: Option<Box<Stage>>,
    },
    /// One step of opening a connection, which has a limit of its own ([`Timeouts`](crate::Timeouts)).
    Step(Box<Stage>),
    /// Closing: the peer's answer to a close frame.
    Close,
    /// The peer was silent: nothing came from it, not even after a ping (see [`Keepalive`](threadwire_proto::Keepalive)).
    Silence {
        /// Since the last byte.
        silent_for: Duration,
    },
    /// A message of the peer's was begun, and nothing more of it came ([`Config::progress_timeout`](crate::Config::progress_timeout)).
    Message,
    /// The peer took nothing of what waited for it ([`Config::progress_timeout`](crate::Config::progress_timeout)).
    Unread,
    /// The answer to a ping with which a round trip was measured.
    Pong,
    /// Receiving: no message came within the time that the program gave.
    Receive,
}

impl fmt::Display for TimeoutKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimeoutKind::Open { during: None } => f.write_str("opening the connection took too long"),
            TimeoutKind::Open { during: Some(stage) } => {
                write!(f, "opening the connection took too long; it was {stage}")
            }
            TimeoutKind::Step(stage) => write!(f, "{stage} took too long"),
            TimeoutKind::Close => f.write_str("the peer's answer to our close frame took too long"),
            TimeoutKind::Silence { silent_for } => {
                write!(f, "the peer was silent for {:.1} s", silent_for.as_secs_f64())
            }
            TimeoutKind::Message => f.write_str("the rest of a message did not come in time"),
            TimeoutKind::Unread => f.write_str("the peer took nothing of what waited for it in time"),
            TimeoutKind::Receive => f.write_str("no message came in time"),
            TimeoutKind::Pong => f.write_str("the answer to a ping took too long"),
        }
    }
}

/// A step on the way from a URL to an open connection.
///
/// ```
/// use std::{net::TcpListener, time::Duration};
/// use threadwire::client::Timeouts;
/// use threadwire::error::{Step, TimeoutKind};
/// use threadwire::{Client, Connection, Error, Message};
///
/// let silent = TcpListener::bind("127.0.0.1:0")?;
/// let client = Client::new(&format!("ws://{}", silent.local_addr()?))?
///     .timeouts(Timeouts::default().upgrade(Duration::from_millis(1)));
/// match client.connect(|_ws: &Connection, _message: Message<'_>| Ok(())) {
///     Err(Error::Timeout(TimeoutKind::Step(stage))) => {
///         assert_eq!((stage.step, &*stage.at), (Step::Upgrade, "127.0.0.1"));
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Finding the addresses of a host.
    Resolve,
    /// Connecting to one of them.
    Connect,
    /// Asking a proxy for a way through.
    Proxy,
    /// The handshake of TLS, with a proxy or with the server.
    Tls,
    /// The opening handshake: the request, and the server's answer.
    Upgrade,
}

/// A step of opening a connection, and with whom it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stage {
    /// The step.
    pub step: Step,
    /// The host, the path of the unix socket, or the proxy's URL without user name and password.
    pub at: String,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stage { step, at } = self;
        match step {
            Step::Resolve => write!(f, "finding the address of {at}"),
            Step::Connect => write!(f, "connecting to {at}"),
            Step::Proxy => write!(f, "asking the proxy {at} for a way through"),
            Step::Tls => write!(f, "agreeing on TLS with {at}"),
            Step::Upgrade => write!(f, "waiting for {at} to answer the request"),
        }
    }
}
