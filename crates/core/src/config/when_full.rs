//! Overflow policy: what happens to a message for which there is no room.

/// What happens to a message for which there is no room, because the peer does not read what was sent before
/// ([`Config::max_buffered`](crate::Config::max_buffered)). A connection has one such policy
/// ([`Config::when_full`](crate::Config::when_full)), and each send may have another
/// (`Connection::send_with`). Pings, pongs and close frames are exempt.
///
/// ```
/// use threadwire::{Config, Connection, Error, WhenFull};
///
/// // Prices: who is slow gets the newest.
/// let config = Config::default().max_buffered(64 << 10).when_full(WhenFull::DropOldest);
///
/// // Somebody's typing is not worth to wait for.
/// fn typing(ws: &Connection) -> Result<(), Error> {
///     ws.send_with("typing", WhenFull::DropNewest)
/// }
/// # let _ = (config, typing);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Sending fails with [`Error::Limit`](crate::Error::Limit), and nothing else happens.
    #[default]
    Error,
    /// Sending waits until there is room, while the loop of the sending thread goes on. It fails with
    /// [`Error::Closed`](crate::Error::Closed) if the connection ends meanwhile, and with
    /// [`Error::Stopped`](crate::Error::Stopped) if the thread's worker is stopped. In a callback it does not wait without end for a peer
    /// that takes nothing, nor do more than a few callbacks of a thread wait: see
    /// [`Config::wait_timeout`](crate::Config::wait_timeout).
    Wait,
    /// The oldest messages make room, of those that were sent with this policy and have not begun to leave. They are
    /// counted: see `Connection::dropped`. Fragments are not dropped.
    DropOldest,
    /// The new message is dropped, and counted. A fragment is refused as with `Error`.
    DropNewest,
    /// The connection is closed with 1008 (RFC 6455, section 7.4.1), and sending fails with
    /// [`Error::Limit`](crate::Error::Limit).
    Close,
}

/// The reason in the close frame for a peer that does not read ([`WhenFull::Close`]).
#[doc(hidden)]
pub const TOO_SLOW: &str = "too slow in reading";
