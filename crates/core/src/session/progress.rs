//! Progress of what is incomplete: a message of which nothing more arrives, and output of which the peer takes nothing, have a time
//! after which the connection ends.
//!
//! Small messages that arrive and leave whole cost nothing for that: only a connection with something left over at the end of a turn
//! is looked at, from then on a few times within the allowed time, until nothing is left over. So no byte that moves asks for the
//! time, and a verdict comes up to a quarter of the allowed time late, never early.

use std::time::{Duration, Instant};

use threadwire_proto::{CloseCode, CloseFrame, Keepalive};

use super::{Env, Session};
use crate::error::{Error, TimeoutKind};
use crate::transport::Transport;

/// How often a connection is looked at within the allowed time.
const LOOKS: u32 = 4;

/// How soon a connection is looked at again that holds memory of the budget.
const HOLDING: Duration = Duration::from_secs(1);

/// The shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(1);

/// The side of a connection on which nothing moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// A message of the peer's has begun, and does not go on.
    Input,
    /// The peer takes nothing of what waits for it.
    Output,
    /// Connections hold more memory than their budget, and this one holds at least as much as others do.
    Memory,
}

/// What was seen at the looks.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    look_at: Instant,
    /// Since when nothing has come of a message, as far as this side read.
    input_since: Option<Instant>,
    /// Since when nothing has left of what waits.
    output_since: Option<Instant>,
    /// How much had left by then.
    written: u64,
}

impl Session {
    /// Whether something is left over at the end of a turn that nobody looks at yet: then [`watch`](Session::watch).
    #[inline]
    pub fn leaves_something(&self) -> bool {
        (!self.is_watched && (!self.outbox.is_empty() || !self.protocol.is_between_messages()))
            || self.has_to_tell()
    }

    /// The same after input, where it is mostly answered by the first question.
    #[inline]
    pub fn leaves_input(&self) -> bool {
        !self.protocol.is_between_messages() && self.leaves_something()
    }

    /// Has the connection looked at from now on, and tells what it holds. The timer is to be set anew then, or the connection is
    /// [given up](Session::give_up_stalled).
    #[cold]
    pub fn watch(&mut self, now: Instant, env: Env<'_>) -> Option<Stall> {
        if !self.is_watched {
            self.outbox.fit(env.buffers);
        }
        let stall = if self.has_to_tell() { self.tell_held(env) } else { None };
        self.begin_watch(now, env);
        stall
    }

    fn begin_watch(&mut self, now: Instant, env: Env<'_>) {
        self.is_watched = true;
        let Some(look_at) = self.next_look(now, env) else { return };
        if let Some(progress) = self.extras.as_mut().and_then(|extras| extras.progress.as_mut()) {
            progress.look_at = progress.look_at.min(look_at);
            return;
        }
        self.protocol.reader().take_moved();
        let input_since = (!self.protocol.is_between_messages()).then_some(now);
        let output_since = (!self.is_drained()).then_some(now);
        let written = self.outbox.written();
        self.extras().progress = Some(Progress { look_at, input_since, output_since, written });
    }

    /// When the connection is to be looked at, unless nothing is left over any more.
    pub(super) fn look_at(&mut self) -> Option<Instant> {
        if self.is_watched && !self.is_incomplete() {
            self.end_watch();
        }
        Some(self.extras.as_ref()?.progress?.look_at)
    }

    /// Whether something waits for the peer, or for more of the peer's, or is held for the program.
    fn is_incomplete(&self) -> bool {
        self.held() > 0 || !self.is_drained() || !self.protocol.is_between_messages()
    }

    /// Looks no more.
    pub(super) fn end_watch(&mut self) {
        self.is_watched = false;
        if let Some(extras) = &mut self.extras {
            extras.progress = None;
        }
        if self.held() == 0 {
            self.close_account();
        }
    }

    /// A callback keeps this side from all that could be seen at a look: it is for later.
    pub fn put_off_look(&mut self, now: Instant, env: Env<'_>) {
        if let Some(progress) = self.extras.as_mut().and_then(|extras| extras.progress.as_mut()) {
            progress.input_since = None;
        }
        let next = self.next_look(now, env);
        if let (Some(next), Some(extras)) = (next, &mut self.extras)
            && let Some(progress) = &mut extras.progress
        {
            progress.look_at = next;
        }
    }

    /// Looks, if it is time. `reads` says that what arrives is read: where it is not, the peer can't be blamed.
    pub(super) fn look(&mut self, now: Instant, reads: bool, env: Env<'_>) -> Option<Stall> {
        let mut progress = self.extras.as_ref()?.progress?;
        if now < progress.look_at {
            return None;
        }
        let has_moved = self.protocol.reader().take_moved();
        progress.input_since = match reads && !self.is_throttled() && !self.protocol.is_between_messages() {
            true if has_moved => Some(now),
            true => progress.input_since.or(Some(now)),
            false => None,
        };
        let has_left =
            std::mem::replace(&mut progress.written, self.outbox.written()) != self.outbox.written();
        progress.output_since = match self.is_drained() {
            false if has_left => Some(now),
            false => progress.output_since.or(Some(now)),
            true => None,
        };
        let is_late = |since: Option<Instant>| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= env.config.progress_timeout)
        };
        let stall = match progress {
            _ if is_late(progress.output_since) => Some(Stall::Output),
            _ if is_late(progress.input_since) => Some(Stall::Input),
            _ => None,
        };
        // Also where nothing has changed here: others may hold more by now, or less.
        let is_counted = self.told > 0 || self.has_to_tell();
        let stall = stall.or(if is_counted { self.tell_held(env) } else { None });
        self.is_watched = self.is_incomplete();
        let next = self.next_look(now, env).filter(|_| self.is_watched);
        self.extras().progress = next.map(|look_at| Progress { look_at, ..progress });
        stall
    }

    /// Nothing is to be expected of the peer: it is told why, as far as it takes that, and then TCP ends. Not if it has just taken
    /// something: the system does not tell of every byte.
    #[cold]
    pub fn give_up_stalled(&mut self, stall: Stall, io: &mut impl Transport, env: Env<'_>) {
        let written = self.outbox.written();
        self.writable(io);
        let tried = self.write(io, env.buffers);
        if stall == Stall::Output && tried.is_ok() && self.outbox.written() != written {
            return;
        }
        let waits = !self.is_drained() || !self.protocol.is_between_messages();
        let (error, code, reason) = match stall {
            Stall::Input => {
                let reason = "a message was begun and not finished";
                (Error::Timeout(TimeoutKind::Message), CloseCode::POLICY, reason)
            }
            Stall::Output => {
                let reason = "what was sent to the peer is not read";
                (Error::Timeout(TimeoutKind::Unread), CloseCode::POLICY, reason)
            }
            Stall::Memory if waits => {
                (self.overdrawn(), CloseCode::POLICY, "too much is held for this connection")
            }
            Stall::Memory => (self.overdrawn(), CloseCode::TRY_AGAIN_LATER, "out of memory for connections"),
        };
        drop(self.note(error));
        let closed = self.close(CloseFrame { code: Some(code), reason }, env.buffers);
        debug_assert!(closed.is_ok(), "the code and the reason are fixed");
        if let Err(error) = self.write(io, env.buffers) {
            drop(self.note(error.into()));
        }
        self.leave();
        // Others need not wait for the memory to be free.
        self.close_account();
    }

    /// When a connection that is looked at now is to be looked at again.
    fn next_look(&self, now: Instant, env: Env<'_>) -> Option<Instant> {
        let timeout = env.config.progress_timeout;
        let next = (timeout <= Keepalive::LONGEST).then(|| (timeout / LOOKS).max(SHORTEST));
        let while_holding = (self.told > 0).then_some(HOLDING);
        next.into_iter().chain(while_holding).min().map(|time| now + time)
    }
}
