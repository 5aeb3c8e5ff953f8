//! Conductor of reconnecting: events in, effects out, without a loop, a runtime or a clock.
//!
//! A driver tells it what has happened ([`on`](Conductor::on)), and then carries out one effect after the other, until there
//! are none ([`next_effect`](Conductor::next_effect)). Effects are handed out one at a time because the program's callbacks run in between:
//! a command that arrives meanwhile goes ahead of what would have followed.
//!
//! | effect | the events that answer it |
//! | --- | --- |
//! | `Tell` | - |
//! | `Ask` | `Allowed` or `Forbidden`, before the next effect |
//! | `Dial` | later: `Opened` or `Failed` |
//! | `Cancel` | `Failed` |
//! | `Release` | later, if the connection took only some of it: `Room` |
//! | `Measure` | later, or never: `Measured` |
//! | `Close`, `DropNow` | later: `Ended`, which may come at any time |
//! | `Judge` | `Retry` or `GiveUp`, before the next effect |
//! | `Wait` | later: `Rung` |
//! | `End` | - (there is no effect after it) |

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use threadwire_proto::CloseCode;

use super::command::Command;
use super::machine::{Machine, Verdict, is_wanted};
use super::retry::retry_after;
use super::{Backoff, Cause, Change, State};
use crate::error::{Closed, Error};

/// An event for the conductor.
#[derive(Debug)]
pub enum Event {
    /// A handle has asked for something.
    Commanded(Command),
    /// The thread of the driver stops: an attempt or a wait is over, and a connection closes by itself.
    Stopping,
    /// The program lets the attempt begin.
    Allowed,
    /// The program forbids the attempt.
    Forbidden(Error),
    /// The attempt has opened a connection.
    Opened(Instant),
    /// The program's callback for an open connection has returned.
    Ready,
    /// There is room again for messages of the offline queue.
    Room,
    /// The round trips of the connection.
    Measured(Vec<Duration>),
    /// A callback has failed, for which the connection is closed: with its error, if the connection's end does not carry it.
    CallbackFailed(Option<Error>),
    /// The attempt has failed.
    Failed(Error),
    /// The connection has ended.
    Ended {
        now: Instant,
        /// How; missing at the end of the thread.
        closed: Option<Arc<Closed>>,
    },
    /// The end is worth another attempt.
    Retry {
        /// From 0 to 1, for the jitter.
        random: f64,
        now: SystemTime,
    },
    /// The end is not worth another attempt.
    GiveUp,
    /// The wait is over.
    Rung,
}

/// An effect that a driver has to carry out.
#[derive(Debug)]
pub enum Effect {
    /// Tell everybody of a new state.
    Tell(Change),
    /// Ask the program whether the attempt may begin.
    Ask { number: u32, cause: Option<Arc<Cause>> },
    /// Begin the attempt.
    Dial,
    /// Drop the attempt.
    Cancel,
    /// Send what waits in the offline queue.
    Release,
    /// Measure so many round trips.
    Measure { rounds: usize },
    /// Close the connection.
    Close(CloseCode, String),
    /// Close the connection without waiting for the peer's answer.
    DropNow,
    /// Ask the program whether this end is worth another attempt.
    Judge(Arc<Cause>),
    /// Wait; for no time at all, until the driver's next turn.
    Wait(Duration),
    /// Let go of everything.
    End,
}

#[derive(Debug)]
enum Phase {
    /// The next attempt is due.
    Due,
    /// `Connecting` was told.
    Announced,
    /// The program is being asked.
    Asking,
    Allowed,
    Dialing {
        is_cancelled: bool,
    },
    Connected(Box<Connected>),
    Judging {
        cause: Arc<Cause>,
        is_asked: bool,
    },
    Decided(Decision),
    /// A wait is to begin.
    Pausing(Duration),
    Waiting,
    Ending,
    Over,
}

/// The decision after an end, as long as no command says otherwise.
#[derive(Debug)]
struct Decision {
    verdict: Verdict,
    cause: Option<Arc<Cause>>,
    random: f64,
    at_least: Duration,
}

impl Decision {
    fn new(verdict: Verdict, cause: Option<Arc<Cause>>) -> Decision {
        Decision { verdict, cause, random: 0.0, at_least: Duration::ZERO }
    }
}

/// The state of the open connection.
#[derive(Debug, Default)]
struct Connected {
    /// Whether the program's callback has returned, so that others may send.
    is_ready: bool,
    release: bool,
    measure: Option<usize>,
    /// A command that was not carried out yet.
    command: Command,
    failure: Option<Option<Error>>,
    /// The error for which this side drops the connection; without it, the drop would count as a close of the program.
    dropped_for: Option<Cause>,
}

/// Conducts one reconnecting connection.
#[derive(Debug)]
pub struct Conductor {
    machine: Machine,
    phase: Phase,
    untold: Option<Change>,
    /// The end of the last connection or attempt.
    cause: Option<Arc<Cause>>,
    /// Whether this side wants the end.
    is_ending: bool,
    /// Whether this side wants another connection.
    is_renewing: bool,
    /// The longest round trip that is good enough, and how many are measured.
    slowest: Option<(Duration, usize)>,
}

impl Conductor {
    pub fn new(backoff: Backoff) -> Conductor {
        Conductor {
            machine: Machine::new(backoff),
            phase: Phase::Due,
            untold: None,
            cause: None,
            is_ending: false,
            is_renewing: false,
            slowest: None,
        }
    }

    /// Has each connection measured, and dropped if the median of `rounds` round trips is longer than `slowest`.
    pub fn slower_than(&mut self, slowest: Duration, rounds: usize) {
        self.slowest = Some((slowest, rounds));
    }

    pub fn state(&self) -> State {
        self.machine.state()
    }

    pub fn connections(&self) -> u64 {
        self.machine.connections()
    }

    /// The end of the last connection or attempt.
    pub fn cause(&self) -> Option<&Arc<Cause>> {
        self.cause.as_ref()
    }

    /// Whether the last effect was handed out.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Why it gave up, if it did, as an error for the program.
    pub fn failure(&self) -> Option<Error> {
        let cause = self.cause().filter(|_| self.state() == State::GaveUp)?;
        Some(match &**cause {
            Cause::Closed(closed) => Error::Ended(Arc::clone(closed)),
            _ => Error::other(Arc::clone(cause)),
        })
    }

    /// The program that has had the connection to itself asks for another, and this one has ended. Where this side ended it, the
    /// next one follows at once; any other end is judged as ever.
    pub fn on_asked_for_next(&mut self, now: Instant, closed: Option<Arc<Closed>>) {
        if closed.as_ref().is_some_and(|closed| is_wanted(closed, false)) {
            self.on(Event::Commanded(Command::Renew));
        }
        self.on(Event::Ended { now, closed });
    }

    /// Takes an event in. One that does not fit the moment, such as a timer that rings late, changes nothing.
    pub fn on(&mut self, event: Event) {
        let is_interrupted = self.wanted().is_some();
        match (event, &mut self.phase) {
            (Event::Commanded(command), _) => self.want(command),
            (Event::Stopping, _) => self.is_ending = true,
            (Event::Allowed, phase @ Phase::Asking) => *phase = Phase::Allowed,
            (Event::Forbidden(error), phase @ Phase::Asking) => {
                let cause = Some(Arc::new(Cause::Error(error)));
                *phase = Phase::Decided(Decision::new(Verdict::GiveUp, cause));
            }
            (Event::Opened(now), Phase::Dialing { .. }) => {
                self.phase = Phase::Connected(Box::default());
                let state = self.machine.opened(now);
                self.tell(state, self.cause.clone());
            }
            (Event::Ready, Phase::Connected(connected)) => {
                connected.is_ready = true;
                connected.release = true;
                connected.measure = self.slowest.map(|(_, rounds)| rounds);
            }
            (Event::Room, Phase::Connected(connected)) => connected.release = connected.is_ready,
            (Event::Measured(mut times), Phase::Connected(connected)) if !is_interrupted => {
                times.sort_unstable();
                if let Some(&round_trip) = times.get(times.len() / 2)
                    && self.slowest.is_some_and(|(slowest, _)| round_trip > slowest)
                {
                    connected.dropped_for = Some(Cause::TooSlow { round_trip });
                    connected.command.raise(Command::Renew);
                }
            }
            (Event::CallbackFailed(error), Phase::Connected(connected)) => connected.failure = Some(error),
            (Event::Failed(error), Phase::Dialing { .. }) => self.failed(error),
            (Event::Ended { now, closed }, Phase::Connected(connected)) => {
                let connected = std::mem::take(&mut **connected);
                self.ended(connected, now, closed);
            }
            (Event::Retry { random, now }, Phase::Judging { cause, .. }) => {
                let at_least = retry_after(Some(cause), now);
                let (verdict, cause) = (Verdict::Retry, Some(Arc::clone(cause)));
                self.phase = Phase::Decided(Decision { verdict, cause, random, at_least });
            }
            (Event::GiveUp, Phase::Judging { cause, .. }) => {
                let cause = Some(Arc::clone(cause));
                self.phase = Phase::Decided(Decision::new(Verdict::GiveUp, cause));
            }
            (Event::Rung, phase @ Phase::Waiting) => *phase = Phase::Due,
            _ => {}
        }
    }

    fn want(&mut self, command: Command) {
        self.is_ending |= command.is_end();
        self.is_renewing |= matches!(command, Command::Renew);
        if let Phase::Connected(connected) = &mut self.phase {
            connected.command.raise(command);
        }
    }

    /// The decision after an end when a command came first.
    fn wanted(&self) -> Option<Verdict> {
        match (self.is_ending, self.is_renewing) {
            (true, _) => Some(Verdict::Stop),
            (false, true) => Some(Verdict::Renew),
            (false, false) => None,
        }
    }

    /// The attempt has opened no connection.
    fn failed(&mut self, error: Error) {
        self.machine.failed();
        self.phase = match error {
            _ if self.wanted().is_some() => Phase::Decided(Decision::new(Verdict::Stop, self.cause.clone())),
            Error::Stopped => {
                Phase::Decided(Decision::new(Verdict::Stop, Some(Arc::new(Cause::Error(error)))))
            }
            error => Phase::Judging { cause: Arc::new(Cause::Error(error)), is_asked: false },
        };
    }

    /// The connection has ended.
    fn ended(&mut self, connected: Connected, now: Instant, closed: Option<Arc<Closed>>) {
        let Connected { failure, dropped_for, .. } = connected;
        let has_failed = failure.is_some();
        let is_wanted = closed.as_ref().is_none_or(|closed| is_wanted(closed, has_failed));
        let dropped_for = match self.wanted() {
            Some(Verdict::Stop) => None,
            Some(_) => Some(Cause::Requested),
            None => dropped_for,
        };
        let was_dropped = dropped_for.is_some();
        let failure = failure.flatten().map(Cause::Error);
        let cause = dropped_for.or(failure).or(closed.map(Cause::Closed)).map(Arc::new);
        let state = self.machine.closed(now);
        self.tell(state, cause.clone());
        self.phase = match cause {
            Some(cause) if was_dropped || !is_wanted => Phase::Judging { cause, is_asked: false },
            cause => Phase::Decided(Decision::new(Verdict::Stop, cause)),
        };
    }

    fn tell(&mut self, state: State, cause: Option<Arc<Cause>>) {
        self.cause.clone_from(&cause);
        self.untold = Some(Change::new(state, self.machine.connections(), cause));
    }

    /// The next thing to do. `None` until something happens again.
    pub fn next_effect(&mut self) -> Option<Effect> {
        loop {
            if let Some(change) = self.untold.take() {
                return Some(Effect::Tell(change));
            }
            let is_interrupted = self.wanted().is_some();
            match &mut self.phase {
                Phase::Due | Phase::Announced | Phase::Allowed | Phase::Pausing(_) | Phase::Waiting
                    if is_interrupted =>
                {
                    self.follow(Decision::new(Verdict::Stop, self.cause.clone()));
                }
                Phase::Due => {
                    self.phase = Phase::Announced;
                    let state = self.machine.connecting();
                    self.tell(state, self.cause.clone());
                }
                Phase::Announced => {
                    let State::Connecting { attempt: number } = self.machine.state() else { return None };
                    self.phase = Phase::Asking;
                    return Some(Effect::Ask { number, cause: self.cause.clone() });
                }
                Phase::Allowed => {
                    self.phase = Phase::Dialing { is_cancelled: false };
                    return Some(Effect::Dial);
                }
                Phase::Dialing { is_cancelled: is_cancelled @ false } if is_interrupted => {
                    *is_cancelled = true;
                    return Some(Effect::Cancel);
                }
                Phase::Connected(connected) => return connected.next(),
                Phase::Judging { cause, is_asked: false } if is_interrupted => {
                    let cause = Some(Arc::clone(cause));
                    self.follow(Decision::new(Verdict::Stop, cause));
                }
                Phase::Judging { cause, is_asked: is_asked @ false } => {
                    *is_asked = true;
                    return Some(Effect::Judge(Arc::clone(cause)));
                }
                Phase::Decided(decision) => {
                    let decision = std::mem::replace(decision, Decision::new(Verdict::Stop, None));
                    self.follow(decision);
                }
                Phase::Pausing(delay) => {
                    let delay = *delay;
                    self.phase = Phase::Waiting;
                    return Some(Effect::Wait(delay));
                }
                Phase::Ending => {
                    self.phase = Phase::Over;
                    return Some(Effect::End);
                }
                Phase::Asking
                | Phase::Dialing { .. }
                | Phase::Judging { .. }
                | Phase::Waiting
                | Phase::Over => {
                    return None;
                }
            }
        }
    }

    /// Goes on from an end: as commands want, or else as was decided.
    fn follow(&mut self, decision: Decision) {
        let Decision { verdict, cause, random, at_least } = decision;
        let verdict = self.wanted().unwrap_or(verdict);
        self.is_renewing = false;
        let state = self.machine.next(verdict, random, at_least);
        self.phase = match state {
            State::Waiting { delay, .. } => Phase::Pausing(delay),
            State::GaveUp | State::Stopped => Phase::Ending,
            // Commands that come again and again leave the driver's thread its other work.
            _ => Phase::Pausing(Duration::ZERO),
        };
        match state {
            State::Connecting { .. } => self.cause = cause,
            state => self.tell(state, cause),
        }
    }
}

impl Connected {
    fn next(&mut self) -> Option<Effect> {
        match std::mem::take(&mut self.command) {
            Command::Close(code, reason) => return Some(Effect::Close(code, reason)),
            Command::Renew | Command::Stop => return Some(Effect::DropNow),
            Command::Nothing => {}
        }
        if std::mem::take(&mut self.release) {
            return Some(Effect::Release);
        }
        self.measure.take().map(|rounds| Effect::Measure { rounds })
    }
}

#[cfg(test)]
mod tests;
