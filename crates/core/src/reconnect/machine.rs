//! State machine of reconnecting: the state after each attempt and each end, without clock, network or callback.

use std::time::{Duration, Instant};

use threadwire_proto::Initiator;

use super::{Backoff, State};
use crate::config::TOO_SLOW;
use crate::error::{Closed, Error, TimeoutKind};

/// The verdict about an end, before the backoff is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another attempt, after a wait.
    Retry,
    /// Another attempt at once, the first of a new row: this side wants it.
    Renew,
    /// Nothing: it is not worth while.
    GiveUp,
    /// Nothing: this side wants it.
    Stop,
}

/// The state machine.
#[derive(Debug)]
pub struct Machine {
    backoff: Backoff,
    state: State,
    /// How many failures there have been in a row.
    failures: u32,
    connections: u64,
    /// When the connection was opened that is open.
    opened: Option<Instant>,
    /// For how long the last connection was open, if nothing was tried since.
    open_for: Duration,
}

impl Machine {
    pub fn new(backoff: Backoff) -> Machine {
        let state = State::Connecting { attempt: 1 };
        Machine { backoff, state, failures: 0, connections: 0, opened: None, open_for: Duration::ZERO }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn connections(&self) -> u64 {
        self.connections
    }

    fn enter(&mut self, state: State) -> State {
        self.state = state;
        state
    }

    /// An attempt begins.
    pub fn connecting(&mut self) -> State {
        self.enter(State::Connecting { attempt: self.failures.saturating_add(1) })
    }

    /// The attempt has opened a connection.
    pub fn opened(&mut self, now: Instant) -> State {
        self.opened = Some(now);
        self.connections += 1;
        self.enter(State::Open)
    }

    /// The connection has ended.
    pub fn closed(&mut self, now: Instant) -> State {
        let open_for = self.opened.take().map(|opened| now.saturating_duration_since(opened));
        match open_for {
            Some(open_for) if open_for >= self.backoff.stable_after => self.failures = 0,
            _ => self.failed(),
        }
        self.open_for = open_for.unwrap_or_default();
        self.enter(State::Closed)
    }

    /// An attempt has opened none.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.open_for = Duration::ZERO;
    }

    /// What follows, after [`closed`](Machine::closed) or [`failed`](Machine::failed): a wait, the end, or `Connecting`, which is
    /// to be entered when the attempt begins. `random` is from 0 to 1; the other side may have asked for a wait of `at_least` so long.
    pub fn next(&mut self, verdict: Verdict, random: f64, at_least: Duration) -> State {
        match verdict {
            Verdict::Stop => self.enter(State::Stopped),
            Verdict::GiveUp => self.enter(State::GaveUp),
            Verdict::Renew => {
                self.failures = 0;
                State::Connecting { attempt: 1 }
            }
            Verdict::Retry => match self.backoff.delay_after(self.failures, self.open_for, random) {
                Some(delay) => {
                    let delay = delay.max(at_least.min(self.backoff.retry_after_cap));
                    self.enter(State::Waiting { attempt: self.failures.saturating_add(1), delay })
                }
                None => self.enter(State::GaveUp),
            },
        }
    }
}

/// Whether a connection was closed because the program wanted that, by closing it or by stopping the worker.
pub fn is_wanted(closed: &Closed, callback_failed: bool) -> bool {
    let Some(reason) = &closed.sent else { return false };
    match &closed.error {
        Some(Error::Stopped) => true,
        _ if closed.initiator == Initiator::Peer || callback_failed => false,
        // Only the close handshake failed.
        Some(Error::Closed | Error::Lost | Error::Timeout(TimeoutKind::Close) | Error::Io(_)) => true,
        Some(_) => false,
        None => reason != TOO_SLOW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use threadwire_proto::CloseCode;

    const SECOND: Duration = Duration::from_secs(1);

    fn waiting(attempt: u32, delay: Duration) -> State {
        State::Waiting { attempt, delay }
    }

    #[test]
    fn failures_in_a_row_wait_longer_and_longer_and_then_give_up() {
        let mut machine = Machine::new(Backoff { max_attempts: Some(4), ..Backoff::default() });
        for attempt in 1..4 {
            assert_eq!(machine.connecting(), State::Connecting { attempt });
            machine.failed();
            let delay = SECOND * 2_u32.pow(attempt - 1);
            assert_eq!(machine.next(Verdict::Retry, 1.0, Duration::ZERO), waiting(attempt + 1, delay));
        }
        assert_eq!(machine.connecting(), State::Connecting { attempt: 4 });
        machine.failed();
        assert_eq!(machine.next(Verdict::Retry, 1.0, Duration::ZERO), State::GaveUp);
        assert!(machine.state().is_final());
    }

    #[test]
    fn a_connection_that_is_lost_early_is_a_failure_and_a_stable_one_ends_the_row() {
        let start = Instant::now();
        let mut machine = Machine::new(Backoff::default());
        let mut live = |lives: Duration| {
            machine.connecting();
            machine.opened(start);
            assert_eq!(machine.closed(start + lives), State::Closed);
            machine.next(Verdict::Retry, 1.0, Duration::ZERO)
        };
        assert_eq!(live(SECOND), waiting(2, SECOND));
        assert_eq!(live(59 * SECOND), waiting(3, SECOND), "its time counts as waited");
        assert_eq!(live(60 * SECOND), waiting(1, SECOND));
        assert_eq!(live(SECOND), waiting(2, SECOND));
        assert_eq!(machine.connections(), 4);
    }

    #[test]
    fn one_that_was_stable_is_followed_by_as_many_attempts_as_there_may_be() {
        let start = Instant::now();
        let mut machine = Machine::new(Backoff { max_attempts: Some(1), ..Backoff::default() });
        machine.connecting();
        machine.opened(start);
        machine.closed(start + 60 * SECOND);
        assert_eq!(machine.next(Verdict::Retry, 0.0, Duration::ZERO), waiting(1, Duration::ZERO));
        machine.connecting();
        machine.failed();
        assert_eq!(machine.next(Verdict::Retry, 0.0, Duration::ZERO), State::GaveUp);
    }

    #[test]
    fn connections_that_end_a_little_later_each_time_are_waited_for_longer_and_longer() {
        let mut now = Instant::now();
        let mut machine = Machine::new(Backoff::default());
        let mut waits = Vec::new();
        for _ in 0..9 {
            machine.connecting();
            machine.opened(now);
            now += 11 * SECOND;
            machine.closed(now);
            match machine.next(Verdict::Retry, 1.0, Duration::ZERO) {
                State::Waiting { delay, .. } => waits.push(delay.as_secs()),
                other => panic!("{other:?}"),
            }
            now += *waits.last().unwrap() as u32 * SECOND;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 49, 49, 49]);
        // An attempt that opens nothing was open for no time.
        machine.connecting();
        machine.failed();
        assert_eq!(machine.next(Verdict::Retry, 1.0, Duration::ZERO), waiting(11, 60 * SECOND));
    }

    #[test]
    fn a_server_may_ask_for_a_longer_wait_than_the_cap_but_not_for_any() {
        let backoff = Backoff { cap: SECOND, retry_after_cap: 100 * SECOND, ..Backoff::default() };
        let mut machine = Machine::new(backoff);
        let mut wait = |at_least| {
            machine.connecting();
            machine.failed();
            match machine.next(Verdict::Retry, 1.0, at_least) {
                State::Waiting { delay, .. } => delay,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(wait(5 * SECOND), 5 * SECOND);
        assert_eq!(wait(SECOND / 2), SECOND, "its own is longer");
        assert_eq!(wait(3600 * SECOND), 100 * SECOND);
        assert_eq!(Backoff::default().retry_after_cap, 24 * 3600 * SECOND);
    }

    #[test]
    fn this_side_may_begin_a_new_row_or_end_it() {
        let mut machine = Machine::new(Backoff { max_attempts: Some(1), ..Backoff::default() });
        machine.connecting();
        machine.failed();
        assert_eq!(machine.next(Verdict::Renew, 1.0, Duration::ZERO), State::Connecting { attempt: 1 });
        assert_eq!(machine.connecting(), State::Connecting { attempt: 1 });
        machine.failed();
        assert_eq!(machine.next(Verdict::Stop, 1.0, Duration::ZERO), State::Stopped);
    }

    #[test]
    fn what_is_not_worth_another_attempt_gets_none() {
        let mut machine = Machine::new(Backoff::default());
        machine.connecting();
        machine.failed();
        assert_eq!(machine.next(Verdict::GiveUp, 1.0, Duration::ZERO), State::GaveUp);
    }

    #[test]
    fn only_a_close_that_the_program_asked_for_is_wanted() {
        let end = |initiator, sent: Option<&str>, error| Closed {
            code: CloseCode::NORMAL,
            reason: String::new(),
            initiator,
            clean: false,
            error,
            sent: sent.map(str::to_owned),
            unread_for: None,
        };
        let by_us = |error| is_wanted(&end(Initiator::Local, Some(""), error), false);
        assert!(by_us(None));
        assert!(by_us(Some(Error::Timeout(TimeoutKind::Close))), "the peer did not answer");
        assert!(by_us(Some(Error::Lost)), "the peer was gone");
        assert!(by_us(Some(Error::Stopped)));
        let silent_for = 40 * SECOND;
        assert!(!by_us(Some(Error::Timeout(TimeoutKind::Silence { silent_for }))), "keepalive gave it up");
        assert!(!by_us(Some(Error::other("a callback failed"))));
        assert!(!by_us(Some(Error::Protocol(threadwire_proto::Violation::Masked))));

        assert!(!is_wanted(&end(Initiator::Local, Some(""), Some(Error::Lost)), true), "a callback said so");
        assert!(!is_wanted(&end(Initiator::Peer, Some(""), None), false), "the peer's close was answered");
        assert!(!is_wanted(&end(Initiator::Local, None, None), false), "aborted");
        assert!(!is_wanted(&end(Initiator::Local, Some(TOO_SLOW), None), false), "when_full");
    }
}
