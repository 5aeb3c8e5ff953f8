//! Close handshake: sending the close frame, who ends TCP and when, and the time that it may take.

use std::time::Instant;

use threadwire_proto::close::fit_reason;
use threadwire_proto::state::State;
use threadwire_proto::{CloseCode, CloseFrame, SendError};

use super::Session;
use super::buffers::Buffers;
use super::linger::Linger;
use crate::transport::Transport;

/// The next step on the way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndStep {
    /// There is something to wait for: the peer, or the stream that does not take what waits.
    Wait,
    /// All was said, and the stream is shut down for writing. The program can be told now; from here on what the peer still
    /// sends is [read away](Session::linger). Said once.
    Linger,
    /// The stream can be closed.
    HangUp,
}

/// As much of a reason as fits a close frame, cut at a character (RFC 6455, section 5.5). If that is not all, it is logged.
pub fn fitted(reason: &str) -> &str {
    let sent = fit_reason(reason);
    if sent.len() < reason.len() {
        tracing::warn!(
            bytes = reason.len(),
            sent,
            "a close reason was cut to what a close frame has room for"
        );
    }
    sent
}

impl Session {
    /// Sends a close frame behind all that was sent before. Does nothing on a connection that is closing. A reason that does not fit is
    /// cut, and that is logged.
    pub fn close(&mut self, frame: CloseFrame<'_>, buffers: &Buffers) -> Result<(), SendError> {
        let reason = if self.state() == State::Open { fitted(frame.reason) } else { "" };
        let frame = CloseFrame { reason, ..frame };
        self.protocol.close(frame, &mut buffers.shared.borrow_mut(), self.outbox.end(buffers))
    }

    /// Closes without waiting for the peer's answer: waiting bytes and a close frame leave if the stream takes them at once.
    pub fn close_now(&mut self, io: &mut impl Transport, code: CloseCode, reason: &str, buffers: &Buffers) {
        // On a connection that is closing already, nothing is added.
        let _ = self.close(CloseFrame { code: Some(code), reason }, buffers);
        if let Err(error) = self.write(io, buffers) {
            drop(self.note(error.into()));
        }
        self.abort();
    }

    /// Leaves the peer without waiting for its answer: the code is the one that the peer gets, if the close frame has left.
    pub fn leave(&mut self) {
        match self.is_drained() {
            true => self.protocol.leave(),
            false => self.protocol.abort(),
        }
    }

    /// Ends without a word.
    pub fn abort(&mut self) {
        self.protocol.abort();
    }

    pub(super) fn tcp_ended(&mut self, io: &mut impl Transport) {
        self.protocol.tcp_ended();
        io.say_goodbye();
    }

    /// The next step of a connection that is not open any more. `is_unread` says that something which has arrived was not looked
    /// at yet.
    ///
    /// A server ends TCP as soon as both close frames are through and written, either side does after a broken rule (RFC 6455,
    /// sections 7.1.1 and 7.1.7), and a client lets the server go first. If something of the peer's may be left unread, or
    /// the stream has words of its own to end with, it lingers first: see [`linger`](super::linger).
    pub fn end_step(&mut self, io: &mut impl Transport, is_unread: bool) -> EndStep {
        let state = self.state();
        if state == State::Ended {
            return EndStep::HangUp;
        }
        let is_ours = self.input_is_over || self.protocol.should_end_tcp();
        if self.lingers || !is_ours || !self.is_drained() {
            return EndStep::Wait;
        }
        if state == State::Closed && io.is_plain() && !self.may_have_more && !is_unread {
            // No input of the peer is unread, and none will follow: closing TCP can't reset the connection.
            return EndStep::HangUp;
        }
        if !Linger::begin(io) {
            return EndStep::Wait;
        }
        self.lingers = true;
        EndStep::Linger
    }

    /// Whether all was said, and what the peer still sends is only to be read away.
    #[inline]
    pub fn lingers(&self) -> bool {
        self.lingers
    }

    /// Whether nothing more is to be read of a connection that still has something to write.
    #[inline]
    pub fn input_is_over(&self) -> bool {
        self.input_is_over
    }

    /// Reads away what the peer still sends. Its end is the connection's.
    pub fn linger(&mut self, io: &mut impl Transport, input: &mut [u8]) -> Linger {
        if self.input_is_over {
            self.tcp_ended(io);
            return Linger::Over;
        }
        let lingering = Linger::read(io, input);
        if lingering == Linger::Over {
            self.tcp_ended(io);
        }
        lingering
    }

    /// When closing is to be given up; `None` while the connection is open, and after its end.
    pub(super) fn closing_deadline(&mut self, now: Instant) -> Option<Instant> {
        self.protocol.deadline(now)
    }

    /// Gives closing up if its time has passed.
    pub fn expire(&mut self, now: Instant) {
        self.protocol.expire(now);
    }

    /// Gives closing up, whatever time is left.
    pub fn expire_now(&mut self, now: Instant) {
        if let Some(deadline) = self.protocol.deadline(now) {
            self.protocol.expire(deadline);
        }
    }

    /// The end: lets go of what waits.
    pub fn let_go(&mut self) {
        self.outbox.let_go();
        self.close_account();
        self.unflushed = false;
        self.keeps_input = false;
        if let Some(extras) = &mut self.extras {
            extras.kept_input = Vec::new();
        }
    }
}
