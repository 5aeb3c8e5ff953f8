//! End of a connection: close code, reason, and the side that began it.

use std::fmt;
use std::time::Duration;

use threadwire_proto::{CloseCode, Closing, Initiator};

use super::shown::Shown;
use super::transience::may_come_back;
use super::{Error, TimeoutKind};

/// How a connection ended, as `Listener::on_close` is told.
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use threadwire::{CloseCode, Closed, Connection, Listener, connect};
/// # use threadwire::{Reply, Message, Server};
/// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// struct Log(Rc<RefCell<String>>);
///
/// impl Listener for Log {
///     fn on_close(&mut self, _ws: &Connection, closed: &Closed) {
///         assert!(closed.clean, "{closed}");
///         *self.0.borrow_mut() = closed.to_string();
///     }
/// }
///
/// let log = Rc::new(RefCell::new(String::new()));
/// let ws = connect(&url, Log(Rc::clone(&log)))?;
/// ws.close_with(CloseCode::GOING_AWAY, "lunch")?;
/// ws.wait_closed()?;
/// assert_eq!(*log.borrow(), "closed by us with 1001 (going away): lunch");
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed {
    /// The close code (RFC 6455, section 7.1.5): the peer's, 1005 if its close frame had none, 1006 if there was no close
    /// frame. If the peer broke the protocol, the code for that.
    pub code: CloseCode,
    /// The reason that came with the code: the peer's, or what rule it broke. Where this side closed, and the peer gave no other reason,
    /// it is our own. Empty if there was none.
    pub reason: String,
    /// Which side began to close. A broken rule is answered by us; TCP that ends by itself was ended by the peer.
    pub initiator: Initiator,
    /// Whether both sides sent a close frame, and neither broke a rule.
    pub clean: bool,
    /// What went wrong first, if something did: the peer broke a rule, left or was too slow, or a callback failed (which
    /// may well end in a clean close with 1011).
    pub error: Option<Error>,
    /// Set if the peer ended the connection after this side had not read for a second or longer: it may have taken us for
    /// silent. Known of callbacks that waited and of pauses where there is keepalive, and of whatever else held the loop
    /// where its stalls are detected (`worker::EventLoop::set_stall_limit`).
    pub unread_for: Option<Duration>,
    /// The reason in the close frame that we sent, if we sent one.
    #[doc(hidden)]
    pub sent: Option<String>,
}

impl Closed {
    /// Whether another connection is worth a try, judged without knowing the peer.
    ///
    /// - Closed by the peer: with any code but 1002, 1003, 1007, 1009, 1010 and 1015, with which it says that it can't do with
    ///   what we are. A feed that is closed with 1000 or 1001 is wanted again, and so is one that is closed with 1008: servers do that
    ///   where a pong was late, or a token has expired. What codes from 3000 on mean only the program knows; they count as
    ///   transient.
    /// - Closed by this side: if a callback failed, as with its error; otherwise
    ///   (`Connection::abort`, or a peer that did not read) yes.
    pub fn is_transient(&self) -> bool {
        let is_worth_it = self.initiator == Initiator::Local || may_come_back(self.code);
        is_worth_it && self.error.as_ref().is_none_or(Error::is_transient)
    }

    /// Whether all went as it should: a clean end with 1000, 1001 or without a code, and without an error. Receiving then ends
    /// without one, too.
    pub fn is_normal(&self) -> bool {
        let is_good = [CloseCode::NORMAL, CloseCode::GOING_AWAY, CloseCode::NO_STATUS].contains(&self.code);
        is_good && self.clean && self.error.is_none()
    }

    /// From what the protocol knows, and what went wrong besides.
    #[doc(hidden)]
    pub fn new(closing: Option<&Closing>, error: Option<Error>) -> Closed {
        let Some(closing) = closing else {
            let (code, reason) = (CloseCode::ABNORMAL, String::new());
            return Closed {
                code,
                reason,
                initiator: Initiator::Local,
                clean: false,
                error,
                unread_for: None,
                sent: None,
            };
        };
        let implied = || match closing {
            Closing { timed_out: true, .. } => Some(Error::Timeout(TimeoutKind::Close)),
            Closing { lost: true, .. } => Some(Error::Lost),
            _ => None,
        };
        let sent = closing.sent.as_ref().map(|(_, reason)| reason.clone());
        let is_ours = closing.initiator == Initiator::Local && closing.violation.is_none();
        let ours = sent.as_deref().filter(|_| is_ours).unwrap_or_default();
        Closed {
            code: closing.code(),
            reason: Some(closing.reason()).filter(|reason| !reason.is_empty()).unwrap_or(ours).to_owned(),
            initiator: closing.initiator,
            clean: closing.is_clean(),
            error: error.or_else(implied),
            unread_for: None,
            sent,
        }
    }
}

/// The error may be the program's, with a drop that panics; and the last to hold an end may be anybody.
impl Drop for Closed {
    fn drop(&mut self) {
        threadwire_guard::discard(self.error.take());
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.initiator {
            Initiator::Local => "us",
            Initiator::Peer => "the peer",
        };
        write!(f, "closed by {by} with {}", self.code)?;
        // What this side has found stands in the error as well.
        let is_finding = matches!(
            self.error,
            Some(
                Error::Protocol(_)
                    | Error::Timeout(
                        TimeoutKind::Silence { .. } | TimeoutKind::Message | TimeoutKind::Unread
                    )
            )
        );
        if !self.reason.is_empty() && !is_finding {
            write!(f, ": {}", Shown(&self.reason))?;
        }
        if let Some(error) = &self.error {
            write!(f, " ({error:#})")?;
        }
        match self.unread_for {
            Some(time) => write!(f, "; we had not read for {:.1} s", time.as_secs_f64()),
            None => Ok(()),
        }
    }
}
