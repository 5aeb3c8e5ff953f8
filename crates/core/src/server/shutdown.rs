//! Graceful shutdown of a server: code, reason and grace, and the report of what came of it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use threadwire_proto::{CloseCode, Closing};

/// How a server is to shut down, see `Running::shutdown`.
///
/// ```
/// use std::time::Duration;
/// use threadwire::server::Shutdown;
/// use threadwire::CloseCode;
///
/// let restart = Shutdown::default()
///     .code(CloseCode::SERVICE_RESTART)
///     .reason("back in a minute".to_owned())
///     .timeout(Duration::from_secs(30))
///     .retry_after(Some(Duration::from_secs(60)));
/// assert!(!restart.keep_listening);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shutdown {
    /// The code that every connection is closed with. 1001 (going away) by default.
    pub code: CloseCode,
    /// The reason that goes with it. Of a longer one the first 123 bytes are sent, cut at a character. Empty by default.
    pub reason: String,
    /// How long the peers have to answer, from the call on. 5 s by default. During a shutdown it takes the place of
    /// [`Config::close_timeout`](crate::Config::close_timeout), whichever is longer: who has not answered then is dropped.
    pub timeout: Duration,
    /// The `Retry-After` header of refused handshakes (RFC 9110, section 10.2.3), in whole seconds, rounded up.
    /// By default there is none.
    pub retry_after: Option<Duration>,
    /// Whether new connections are accepted until the end, to be answered with 503. By default the listening socket is closed
    /// at once, and the system refuses new clients: then the address is free for the next server, but a balancer that
    /// tells a server which goes away from one which is gone may want the answer.
    pub keep_listening: bool,
}

threadwire_proto::setters! {
    Shutdown { code: CloseCode, timeout: Duration, keep_listening: bool } optional { retry_after: Duration }
}

impl Shutdown {
    /// Sets the field `reason`, where its meaning and its default are told.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Shutdown {
        self.reason = reason.into();
        self
    }
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown {
            code: CloseCode::GOING_AWAY,
            reason: String::new(),
            timeout: Duration::from_secs(5),
            retry_after: None,
            keep_listening: false,
        }
    }
}

/// The result of a shutdown (`Running::shutdown`). Its text is one line that sums it up.
///
/// ```
/// use threadwire::server::Shutdown;
/// use threadwire::{Connection, Message, Reply, Server};
///
/// let server = Server::bind("127.0.0.1:0")?.serve(|_| Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m)))?;
/// let report = server.shutdown(Shutdown::default())?;
/// assert!(report.is_clean());
/// assert_eq!(report.to_string(), "0 connections, all closed cleanly");
/// server.join()?;
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// How many connections had not ended when the shutdown began. Those of callbacks that wait for this very shutdown are
    /// not among them.
    pub connections: usize,
    /// How many of them closed cleanly: both sides sent a close frame.
    pub clean: usize,
    /// The others, of those workers that reported.
    pub unclean: Vec<UncleanClose>,
    /// How many handshakes were under way, or waited to be accepted, and were answered with 503. With
    /// [`Shutdown::keep_listening`], also those that came later.
    pub refused: usize,
    /// The workers that could not tell, since a callback kept them from it.
    pub stuck: Vec<StuckWorker>,
}

impl ShutdownReport {
    /// Whether every connection closed cleanly.
    pub fn is_clean(&self) -> bool {
        self.unclean.is_empty() && self.stuck.is_empty()
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.connections == 1 { "" } else { "s" };
        write!(f, "{} connection{plural}, ", self.connections)?;
        match self.connections - self.clean {
            0 => f.write_str("all closed cleanly")?,
            others => write!(f, "{} closed cleanly and {others} did not", self.clean)?,
        }
        match self.refused {
            0 => Ok(()),
            1 => f.write_str("; 1 handshake was refused"),
            refused => write!(f, "; {refused} handshakes were refused"),
        }
    }
}

/// A connection that did not close cleanly when its server shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UncleanClose {
    /// The peer's address. `None` if the connection was broken already when the shutdown began.
    pub peer: Option<SocketAddr>,
    /// Why.
    pub problem: CloseProblem,
}

impl UncleanClose {
    #[doc(hidden)]
    pub fn new(peer: Option<SocketAddr>, problem: CloseProblem) -> UncleanClose {
        UncleanClose { peer, problem }
    }
}

impl fmt::Display for UncleanClose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "{peer} {}", self.problem),
            None => write!(f, "a peer {}", self.problem),
        }
    }
}

/// Why a connection did not close cleanly when its server shut down.
///
/// ```
/// use threadwire::server::CloseProblem;
/// assert_eq!(CloseProblem::Unwritten { bytes: 4096 }.to_string(), "left 4096 bytes unread");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseProblem {
    /// Everything was written, and the time passed without an answer.
    Silent,
    /// The time passed before everything was written: the peer does not read.
    Unwritten {
        /// Bytes that were not written, with the headers of frames, and the close frame itself.
        bytes: usize,
    },
    /// When the time had passed, a callback of the connection still waited for something; an answer that had come was not
    /// read for that.
    InCallback,
    /// The connection ended within the time, but otherwise: the peer left without a close frame, or broke a rule.
    Broken,
}

impl CloseProblem {
    /// The problem of a connection of which this is known; `None` if nothing is wrong.
    #[doc(hidden)]
    pub fn of(closing: Option<&Closing>, is_in_callback: bool, buffered: usize) -> Option<CloseProblem> {
        if closing.is_some_and(|closing| closing.lost || closing.violation.is_some()) {
            Some(CloseProblem::Broken)
        } else if is_in_callback {
            Some(CloseProblem::InCallback)
        } else if buffered > 0 {
            Some(CloseProblem::Unwritten { bytes: buffered })
        } else {
            (!closing.is_some_and(Closing::is_clean)).then_some(CloseProblem::Silent)
        }
    }
}

impl fmt::Display for CloseProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseProblem::Silent => f.write_str("did not answer"),
            CloseProblem::Unwritten { bytes } => write!(f, "left {bytes} bytes unread"),
            CloseProblem::InCallback => f.write_str("was held by a callback that did not return"),
            CloseProblem::Broken => f.write_str("broke the connection"),
        }
    }
}

/// A worker that did not get to shut down in time: a callback blocks its thread, and does not wait in one of Threadwire's
/// calls. Once that returns, it ends as after a stop (`Running::stop`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StuckWorker {
    /// The name of its thread, or its number if that has none.
    pub name: String,
    /// How many connections it has.
    pub connections: usize,
}

impl StuckWorker {
    #[doc(hidden)]
    pub fn new(name: String, connections: usize) -> StuckWorker {
        StuckWorker { name, connections }
    }
}
