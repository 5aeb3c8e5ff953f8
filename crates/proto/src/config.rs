//! Settings of a connection: its role, limits on what a peer may send, and automatic answers.

use std::time::Duration;

/// The end of the connection that this is. A client masks what it sends and a server does not (RFC 6455,
/// section 5.1).
///
/// ```
/// use threadwire_proto::{Config, Connection, Role, Shared};
///
/// let (mut shared, mut out) = (Shared::new(), Vec::new());
/// for role in [Role::Server, Role::Client] {
///     Connection::new(role, &Config::default()).send("hi".into(), &mut shared, &mut out)?;
/// }
/// assert_eq!(&out[..4], b"\x81\x02hi");
/// assert_eq!(out[4..6], [0x81, 0x82], "a mask follows, and then what nobody can read");
/// # Ok::<(), threadwire_proto::SendError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end that opened the connection.
    Client,
    /// The end that accepted it.
    Server,
}

/// The units that [`Connection::receive`](crate::Connection::receive) hands out. [`Frame`](crate::Frame) has an example of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// Whole messages, however many frames they came in.
    #[default]
    Messages,
    /// Every frame as it came. Order, lengths and UTF-8 are checked all the same.
    Frames,
}

/// Limits on the memory that one peer may make us hold. A peer that goes past a limit is sent a close frame with 1009, as soon as the
/// frame's header says so.
///
/// ```
/// use threadwire_proto::{CloseCode, Config, Limits, Pool, Reader, Role, Violation};
///
/// let limits = Limits::default().max_message(4);
/// let mut reader = Reader::new(Role::Client, &Config::default().limits(limits));
/// let mut header = *b"\x82\x05"; // it announces five bytes
/// let violation = reader.next(&mut &mut header[..], &mut Pool::new()).unwrap_err();
/// assert_eq!(violation, Violation::MessageTooLong { length: 5, limit: 4 });
/// assert_eq!(violation.code(), CloseCode::TOO_BIG);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest message, in bytes, over all its fragments. 16 MiB by default. Applies at [`Level::Messages`].
    pub max_message: usize,
    /// The longest payload of one data frame, in bytes. 16 MiB by default. Applies at [`Level::Frames`], where nothing is
    /// assembled.
    pub max_frame: usize,
    /// The most fragments one message may have. 131,072 by default. Applies at [`Level::Messages`].
    pub max_fragments: u32,
}

crate::setters! {
    Limits { max_message: usize, max_frame: usize, max_fragments: u32 }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_message: 16 << 20, max_frame: 16 << 20, max_fragments: 131_072 }
    }
}

/// The settings of one [`Connection`](crate::Connection).
///
/// ```
/// use threadwire_proto::{Config, Limits};
///
/// let small = Config::default().limits(Limits::default().max_message(64 << 10));
/// assert!(small.auto_pong);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Messages (the default) or frames.
    pub level: Level,
    /// The limits on what is received.
    pub limits: Limits,
    /// Whether a ping is answered with a pong of the same payload (RFC 6455, section 5.5.2). True by default.
    pub auto_pong: bool,
    /// The time that the closing handshake may take in all, from the first close frame to the end of TCP. 5 s by
    /// default.
    pub close_timeout: Duration,
}

crate::setters! {
    Config { level: Level, limits: Limits, auto_pong: bool, close_timeout: Duration }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            level: Level::default(),
            limits: Limits::default(),
            auto_pong: true,
            close_timeout: Duration::from_secs(5),
        }
    }
}
