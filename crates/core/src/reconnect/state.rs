//! States of a reconnecting connection, and causes of their changes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Closed, Error};

/// Where a reconnecting (`Client::reconnect`) connection stands.
///
/// | from | to |
/// | --- | --- |
/// | (the start) | `Connecting` |
/// | `Connecting` | `Open`, `Waiting`, `GaveUp`, `Stopped`; `Connecting` for `ReconnectHandle::reconnect` |
/// | `Open` | `Closed` |
/// | `Closed` | `Waiting`, `GaveUp`, `Stopped`; `Connecting` for `ReconnectHandle::reconnect` |
/// | `Waiting` | `Connecting`, `Stopped` |
/// | `GaveUp`, `Stopped` | nothing: these are the end |
///
/// ```
/// use threadwire::reconnect::{ReconnectHandle, State};
///
/// /// For a status line.
/// fn status(feed: &ReconnectHandle) -> &'static str {
///     match feed.state() {
///         State::Open => "live",
///         State::Connecting { attempt: 1 } => "connecting",
///         state if state.is_final() => "off",
///         _ => "connecting again",
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// A connection is being opened.
    Connecting {
        /// Which attempt it is, in the row that began when a connection was last stable; from 1.
        attempt: u32,
    },
    /// A connection is open. It may be closing already.
    Open,
    /// The connection has ended, and `Listener::on_close` has returned.
    Closed,
    /// The connection waits before the next attempt.
    Waiting {
        /// Which attempt that will be.
        attempt: u32,
        /// How long it waits.
        delay: Duration,
    },
    /// The end: another attempt is not worth while, or there were too many.
    GaveUp,
    /// The end, as this side wanted it: it was closed here, or the worker was stopped.
    Stopped,
}

impl State {
    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, State::GaveUp | State::Stopped)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Connecting { attempt } => write!(f, "connecting (attempt {attempt})"),
            State::Open => f.write_str("open"),
            State::Closed => f.write_str("closed"),
            State::Waiting { attempt, delay } => write!(f, "waiting {delay:.1?} before attempt {attempt}"),
            State::GaveUp => f.write_str("gave up"),
            State::Stopped => f.write_str("stopped"),
        }
    }
}

/// A new state of a reconnecting (`Client::reconnect`) connection, as
/// `on_change` is told.
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use threadwire::reconnect::{Backoff, Change};
/// use threadwire::{Client, Connection, Message};
/// # let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
/// # let url = format!("ws://{nobody}");
///
/// let log = Rc::new(RefCell::new(Vec::new()));
/// let writes = Rc::clone(&log);
/// let handle = Client::new(&url)? // where nobody listens
///     .reconnect(Backoff::default().max_attempts(1))
///     .on_change(move |change: &Change| writes.borrow_mut().push(change.to_string()))
///     .start(|_ws: &Connection, _message: Message<'_>| Ok(()));
/// handle.wait_ended()?;
/// let expected = format!("gave up: can't connect to {nobody}: connection refused");
/// assert_eq!(*log.borrow(), ["connecting (attempt 1)".to_owned(), expected]);
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Change {
    /// Where it stands now.
    pub state: State,
    /// How many connections have been opened so far, with the one that is open: while that is 1, it is no re-connection.
    pub connections: u64,
    /// The end of the last connection or attempt; `None` while there was none. It stays until the next end.
    pub cause: Option<Arc<Cause>>,
}

impl Change {
    #[doc(hidden)]
    pub fn new(state: State, connections: u64, cause: Option<Arc<Cause>>) -> Change {
        Change { state, connections, cause }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.state)?;
        match &self.cause {
            Some(cause) if !matches!(self.state, State::Open | State::Connecting { .. }) => {
                write!(f, ": {cause}")
            }
            _ => Ok(()),
        }
    }
}

/// The end of a connection, or of an attempt at one.
///
/// ```
/// use threadwire::reconnect::Cause;
/// use threadwire::CloseCode;
///
/// /// A server that closes with 4401 wants another login, which this program can't give it.
/// fn is_worth_another_attempt(cause: &Cause) -> bool {
///     match cause {
///         Cause::Closed(closed) if closed.code == CloseCode::new(4401) => false,
///         cause => cause.is_transient(),
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// No connection was opened.
    Error(Error),
    /// A connection was open, and ended.
    Closed(Arc<Closed>),
    /// This side wanted another connection: `ReconnectHandle::reconnect`.
    Requested,
    /// The connection was slower than it may be: `Reconnect::slower_than`.
    TooSlow {
        /// The median of what was measured.
        round_trip: Duration,
    },
}

/// The error may be the program's, with a drop that panics; and the last to hold a cause may be anybody.
impl Drop for Cause {
    fn drop(&mut self) {
        if let Cause::Error(error) = self {
            threadwire_guard::discard(std::mem::replace(error, Error::Closed));
        }
    }
}

impl Cause {
    /// The error, if no connection was opened.
    ///
    /// ```
    /// use threadwire::Error;
    /// use threadwire::reconnect::Cause;
    /// assert!(matches!(Cause::Error(Error::Lost).into_error(), Some(Error::Lost)));
    /// assert!(Cause::Requested.into_error().is_none());
    /// ```
    pub fn into_error(mut self) -> Option<Error> {
        match &mut self {
            Cause::Error(error) => Some(std::mem::replace(error, Error::Closed)),
            _ => None,
        }
    }

    /// Whether another attempt is worth while, judged without knowing the server: what
    /// `Reconnect::retry_if` goes by if it is not set.
    ///
    /// - An error: if it is [transient](Error::is_transient). So networks that fail, timeouts, connections that are lost,
    ///   servers that are busy; but not those that forbid it, bad URLs, or peers that break the protocol.
    /// - A connection that ended: as [`Closed::is_transient`] says. (A close that the program asked for is not asked about.)
    pub fn is_transient(&self) -> bool {
        match self {
            Cause::Error(error) => error.is_transient(),
            Cause::Closed(closed) => closed.is_transient(),
            Cause::Requested | Cause::TooSlow { .. } => true,
        }
    }

    /// The error, if there is one: of the attempt, or [of the connection](Closed::error).
    pub fn error(&self) -> Option<&Error> {
        match self {
            Cause::Error(error) => Some(error),
            Cause::Closed(closed) => closed.error.as_ref(),
            Cause::Requested | Cause::TooSlow { .. } => None,
        }
    }

    /// How the connection ended, if one was open.
    pub fn closed(&self) -> Option<&Closed> {
        match self {
            Cause::Closed(closed) => Some(closed),
            _ => None,
        }
    }
}

/// The message is complete by itself; there is no source.
impl std::error::Error for Cause {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Error(error) => write!(f, "{error:#}"),
            Cause::Closed(closed) => write!(f, "{closed}"),
            Cause::Requested => f.write_str("another connection was asked for"),
            Cause::TooSlow { round_trip } => write!(f, "a round trip took {round_trip:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TimeoutKind;
    use threadwire_proto::{CloseCode, Initiator};

    fn closed(initiator: Initiator, code: u16, error: Option<Error>) -> Cause {
        let reason = String::new();
        let code = CloseCode::new(code);
        let (clean, unread_for, sent) = (true, None, None);
        Cause::Closed(Arc::new(Closed { code, reason, initiator, clean, error, unread_for, sent }))
    }

    #[test]
    fn a_peer_that_closes_is_wanted_again_unless_it_rejects_us() {
        for code in [1000, 1001, 1005, 1006, 1008, 1011, 1012, 1013, 1014, 3000, 4000, 4999] {
            assert!(closed(Initiator::Peer, code, None).is_transient(), "{code}");
        }
        for code in [1002, 1003, 1007, 1009, 1010, 1015] {
            assert!(!closed(Initiator::Peer, code, None).is_transient(), "{code}");
            // The peer sent its close frame, and left before it had the answer.
            assert!(!closed(Initiator::Peer, code, Some(Error::Lost)).is_transient(), "{code}");
        }
    }

    #[test]
    fn an_error_decides_where_there_is_one() {
        assert!(closed(Initiator::Peer, 1006, Some(Error::Lost)).is_transient());
        let silent_for = Duration::from_secs(40);
        let silence = Error::Timeout(TimeoutKind::Silence { silent_for });
        assert!(closed(Initiator::Local, 1006, Some(silence)).is_transient());
        assert!(closed(Initiator::Peer, 1000, Some(Error::Timeout(TimeoutKind::Close))).is_transient());
        assert!(!closed(Initiator::Local, 1011, Some(Error::other("a bug"))).is_transient());
        // The peer repeats the code that it was told.
        assert!(closed(Initiator::Local, 1008, Some(Error::too_much_buffered(1))).is_transient());
        let rule = threadwire_proto::Violation::Masked;
        assert!(!closed(Initiator::Local, 1002, Some(Error::Protocol(rule))).is_transient());
    }
}
