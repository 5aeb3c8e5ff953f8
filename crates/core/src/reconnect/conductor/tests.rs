//! Conductor in virtual time: a driver plays a script of attempts.

use threadwire_proto::{Initiator, Violation};

use super::*;
use crate::config::TOO_SLOW;
use crate::error::TimeoutKind;

const SECOND: Duration = Duration::from_secs(1);

/// A driver without a loop. Everything is told by hand, and time passes when a test says so.
struct Driver {
    conductor: Conductor,
    now: Instant,
    /// The effects since the last look, in a few words.
    done: Vec<String>,
    forbids: bool,
    retries: bool,
    /// An event that happens while the program is told of a change.
    meanwhile: Vec<(State, Event)>,
}

impl Driver {
    fn new(backoff: Backoff) -> Driver {
        Driver {
            conductor: Conductor::new(backoff),
            now: Instant::now(),
            done: Vec::new(),
            forbids: false,
            retries: true,
            meanwhile: Vec::new(),
        }
    }

    /// With a first connection that is open.
    fn open() -> Driver {
        let mut driver = Driver::new(Backoff::default());
        driver.run();
        driver.opens();
        driver.done.clear();
        driver
    }

    /// Carries effects out until nothing is to be done.
    fn run(&mut self) -> Vec<String> {
        while let Some(effect) = self.conductor.next_effect() {
            self.done.push(match effect {
                Effect::Tell(change) => {
                    if let Some(place) = self.meanwhile.iter().position(|(state, _)| *state == change.state) {
                        self.conductor.on(self.meanwhile.remove(place).1);
                    }
                    change.state.to_string()
                }
                Effect::Ask { number, .. } => {
                    self.conductor.on(match self.forbids {
                        true => Event::Forbidden(Error::other("no token")),
                        false => Event::Allowed,
                    });
                    format!("ask {number}")
                }
                Effect::Dial => "dial".to_owned(),
                Effect::Cancel => {
                    self.conductor.on(Event::Failed(Error::Closed));
                    "cancel".to_owned()
                }
                Effect::Release => "release".to_owned(),
                Effect::Measure { rounds } => format!("measure {rounds}"),
                Effect::Close(code, _) => format!("close {}", code.get()),
                Effect::DropNow => "drop".to_owned(),
                Effect::Judge(cause) => {
                    self.conductor.on(match self.retries {
                        true => Event::Retry { random: 1.0, now: SystemTime::UNIX_EPOCH },
                        false => Event::GiveUp,
                    });
                    format!("judge: {cause}")
                }
                Effect::Wait(delay) => {
                    self.now += delay;
                    format!("wait {delay:?}")
                }
                Effect::End => "end".to_owned(),
            });
        }
        std::mem::take(&mut self.done)
    }

    fn on(&mut self, event: Event) -> Vec<String> {
        self.conductor.on(event);
        self.run()
    }

    fn opens(&mut self) -> Vec<String> {
        self.conductor.on(Event::Opened(self.now));
        self.conductor.on(Event::Ready);
        self.run()
    }

    /// The connection ends, some time later.
    fn ends(&mut self, lives: Duration, closed: Closed) -> Vec<String> {
        self.now += lives;
        self.on(Event::Ended { now: self.now, closed: Some(Arc::new(closed)) })
    }

    fn fails(&mut self) -> Vec<String> {
        self.on(Event::Failed(Error::Lost))
    }
}

fn closed(initiator: Initiator, code: u16, error: Option<Error>) -> Closed {
    let sent = Some(String::new());
    let code = CloseCode::new(code);
    Closed { code, reason: String::new(), initiator, clean: error.is_none(), error, sent, unread_for: None }
}

fn by_us() -> Closed {
    closed(Initiator::Local, 1000, None)
}

fn by_the_peer() -> Closed {
    closed(Initiator::Peer, 1001, None)
}

fn close() -> Event {
    Event::Commanded(Command::Close(CloseCode::NORMAL, String::new()))
}

const CONNECTS: [&str; 3] = ["connecting (attempt 1)", "ask 1", "dial"];
const STOPS: [&str; 2] = ["stopped", "end"];

#[test]
fn tells_asks_dials_judges_and_waits_in_this_order() {
    let mut driver = Driver::new(Backoff::default());
    assert_eq!(driver.run(), CONNECTS);
    let lost = "judge: the peer ended the connection without a close frame";
    assert_eq!(driver.fails(), [lost, "waiting 1.0s before attempt 2", "wait 1s"]);
    assert_eq!(driver.on(Event::Rung), ["connecting (attempt 2)", "ask 2", "dial"]);
    assert_eq!(driver.opens(), ["open", "release"]);
    let done = driver.ends(SECOND, by_the_peer());
    let [first, judged, waiting, wait] = &done[..] else { panic!("{done:?}") };
    assert_eq!([first, waiting, wait], ["closed", "waiting 2.0s before attempt 3", "wait 2s"]);
    assert!(judged.starts_with("judge: "), "{judged}");
    assert_eq!(driver.on(Event::Rung)[0], "connecting (attempt 3)");
}

#[test]
fn a_stable_connection_begins_a_new_row_and_too_many_failures_end_it() {
    let mut driver = Driver::new(Backoff { max_attempts: Some(2), ..Backoff::default() });
    for _ in 0..3 {
        driver.run();
        driver.opens();
        let done = driver.ends(60 * SECOND, by_the_peer());
        assert_eq!(done[2..], ["waiting 1.0s before attempt 1", "wait 1s"]);
        driver.conductor.on(Event::Rung);
    }
    driver.run();
    assert_eq!(driver.fails()[1..], ["waiting 1.0s before attempt 2", "wait 1s"]);
    driver.on(Event::Rung);
    assert_eq!(driver.fails()[1..], ["gave up", "end"]);
    assert!(driver.conductor.is_over());
    assert_eq!(driver.conductor.connections(), 3);
}

#[test]
fn what_is_not_worth_it_is_given_up_with_its_cause() {
    let mut driver = Driver::new(Backoff::default());
    driver.run();
    driver.retries = false;
    assert_eq!(driver.fails()[1..], ["gave up", "end"]);
    assert!(matches!(driver.conductor.cause.as_deref(), Some(Cause::Error(Error::Lost))));
}

#[test]
fn the_program_may_forbid_an_attempt() {
    let mut driver = Driver::new(Backoff::default());
    driver.forbids = true;
    assert_eq!(driver.run(), ["connecting (attempt 1)", "ask 1", "gave up", "end"]);
    assert_eq!(driver.conductor.cause.unwrap().to_string(), "no token");
}

#[test]
fn an_end_that_the_program_wanted_stops_and_one_by_the_peer_is_judged() {
    assert_eq!(Driver::open().ends(SECOND, by_us()), ["closed", "stopped", "end"]);
    assert!(Driver::open().ends(SECOND, by_the_peer())[1].starts_with("judge: "));
    // A connection that ends without a reason.
    let mut aborted = Driver::open();
    let mut closed = by_us();
    closed.sent = None;
    aborted.conductor.on(Event::Ended { now: aborted.now, closed: Some(Arc::new(closed)) });
    assert!(aborted.run()[1].starts_with("judge: "), "to abort is to ask for another connection");
    // The thread ended.
    let mut driver = Driver::open();
    assert_eq!(driver.on(Event::Ended { now: driver.now, closed: None }), ["closed", "stopped", "end"]);
}

#[test]
fn a_peer_that_does_not_read_does_not_end_it_though_this_side_closed() {
    let mut too_slow = by_us();
    too_slow.sent = Some(TOO_SLOW.to_owned());
    assert!(Driver::open().ends(SECOND, too_slow)[1].starts_with("judge: "));
    let silent_for = 40 * SECOND;
    let silence = Error::Timeout(TimeoutKind::Silence { silent_for });
    assert!(
        Driver::open().ends(SECOND, closed(Initiator::Local, 1011, Some(silence)))[1].starts_with("judge: ")
    );
    let rule = Violation::Masked;
    let broken = closed(Initiator::Local, 1002, Some(Error::Protocol(rule)));
    assert!(Driver::open().ends(SECOND, broken)[1].starts_with("judge: "));
}

#[test]
fn a_callback_that_fails_or_panics_is_judged_by_its_error() {
    let mut driver = Driver::open();
    driver.conductor.on(Event::CallbackFailed(Some(Error::other("no channel"))));
    assert_eq!(driver.ends(SECOND, by_us())[..2], ["closed", "judge: no channel"]);

    // The end itself has the error.
    let mut driver = Driver::open();
    driver.conductor.on(Event::CallbackFailed(None));
    let panicked = Error::panicked(Box::new("a bug") as Box<dyn std::any::Any + Send>);
    let done = driver.ends(SECOND, closed(Initiator::Local, 1011, Some(panicked)));
    assert!(done[1].starts_with("judge: ") && done[1].contains("a bug"), "{done:?}");
    // The failure is forgotten with its connection.
    driver.on(Event::Rung);
    driver.opens();
    assert_eq!(driver.ends(SECOND, by_us()), ["closed", "stopped", "end"]);
}

#[test]
fn a_close_is_carried_out_on_the_connection_and_ends_it_whoever_closed() {
    for end in [by_us(), by_the_peer(), closed(Initiator::Peer, 1006, Some(Error::Lost))] {
        let mut driver = Driver::open();
        assert_eq!(driver.on(close()), ["close 1000"]);
        assert_eq!(driver.ends(SECOND, end), ["closed", "stopped", "end"]);
        assert!(matches!(driver.conductor.cause.as_deref(), Some(Cause::Closed(_))));
    }
}

#[test]
fn a_stop_outranks_a_close_and_a_close_another_connection() {
    let mut driver = Driver::open();
    driver.conductor.on(close());
    driver.conductor.on(Event::Commanded(Command::Stop));
    driver.conductor.on(Event::Commanded(Command::Renew));
    assert_eq!(driver.run(), ["drop"]);
    assert_eq!(driver.ends(SECOND, by_us()), ["closed", "stopped", "end"]);
}

#[test]
fn the_end_of_the_thread_leaves_the_connection_to_close_by_itself() {
    let mut driver = Driver::open();
    assert!(driver.on(Event::Stopping).is_empty());
    let end = closed(Initiator::Local, 1001, Some(Error::Stopped));
    assert_eq!(driver.ends(SECOND, end), ["closed", "stopped", "end"]);
}

#[test]
fn an_end_is_wanted_whatever_it_is_at() {
    for end in [close, || Event::Commanded(Command::Stop), || Event::Stopping] {
        // Before the first turn.
        assert_eq!(Driver::new(Backoff::default()).on(end()), STOPS);
        // While the program is told that it connects.
        let mut driver = Driver::new(Backoff::default());
        driver.meanwhile.push((State::Connecting { attempt: 1 }, end()));
        assert_eq!(driver.run(), ["connecting (attempt 1)", "stopped", "end"]);
        // An attempt.
        let mut driver = Driver::new(Backoff::default());
        driver.run();
        assert_eq!(driver.on(end()), ["cancel", "stopped", "end"]);
        // A wait: its timer may ring all the same.
        let mut driver = Driver::new(Backoff::default());
        driver.run();
        driver.fails();
        assert_eq!(driver.on(end()), STOPS);
        assert!(driver.on(Event::Rung).is_empty());
        // While the program is told of an end.
        let mut driver = Driver::open();
        driver.meanwhile.push((State::Closed, end()));
        assert_eq!(driver.ends(SECOND, by_the_peer()), ["closed", "stopped", "end"], "nobody is asked");
        // After the end.
        assert!(driver.on(end()).is_empty());
    }
}

#[test]
fn another_connection_begins_a_new_row_at_the_next_turn_without_being_judged() {
    let renew = || Event::Commanded(Command::Renew);
    let anew = |driver: &mut Driver| assert_eq!(driver.on(Event::Rung), CONNECTS);
    let mut driver = Driver::open();
    assert_eq!(driver.on(renew()), ["drop"]);
    assert_eq!(driver.ends(SECOND, by_us()), ["closed", "wait 0ns"]);
    assert!(matches!(driver.conductor.cause.as_deref(), Some(Cause::Requested)));
    anew(&mut driver);
    // The second attempt, and the wait for the third.
    assert_eq!(driver.on(renew()), ["cancel", "wait 0ns"]);
    anew(&mut driver);
    driver.fails();
    driver.on(Event::Rung);
    assert_eq!(driver.fails().last().unwrap(), "wait 2s");
    assert_eq!(driver.on(renew()), ["wait 0ns"]);
    anew(&mut driver);
    // A command just before the connection ends by itself.
    driver.opens();
    driver.conductor.on(renew());
    assert_eq!(driver.ends(SECOND, by_the_peer()), ["closed", "wait 0ns"]);
    anew(&mut driver);
}

#[test]
fn what_is_held_is_released_when_the_callback_has_returned_and_when_there_is_room() {
    let mut driver = Driver::new(Backoff::default());
    driver.run();
    assert_eq!(driver.on(Event::Opened(driver.now)), ["open"]);
    assert!(driver.on(Event::Room).is_empty(), "what the callback sends goes first");
    assert_eq!(driver.on(Event::Ready), ["release"]);
    assert_eq!(driver.on(Event::Room), ["release"]);
    driver.ends(SECOND, by_the_peer());
    assert!(driver.on(Event::Room).is_empty());
}

#[test]
fn a_connection_that_is_too_slow_is_dropped_and_judged() {
    let measured = |median: Duration| Event::Measured(vec![9 * SECOND, Duration::ZERO, median]);
    let mut driver = Driver::new(Backoff::default());
    driver.conductor.slower_than(SECOND, 3);
    driver.run();
    assert_eq!(driver.opens(), ["open", "release", "measure 3"]);
    assert!(driver.on(measured(SECOND)).is_empty());
    assert_eq!(driver.on(measured(2 * SECOND)), ["drop"]);
    let done = driver.ends(SECOND, by_us());
    let expected = ["closed", "judge: a round trip took 2s", "waiting 1.0s before attempt 2", "wait 1s"];
    assert_eq!(done, expected);

    // Another connection was wanted as well: that does not wait.
    driver.on(Event::Rung);
    driver.opens();
    driver.on(measured(2 * SECOND));
    driver.on(Event::Commanded(Command::Renew));
    assert_eq!(driver.ends(SECOND, by_us()), ["closed", "wait 0ns"]);
    // A connection that is closing is let alone.
    driver.on(Event::Rung);
    driver.opens();
    driver.on(close());
    assert!(driver.on(measured(2 * SECOND)).is_empty());
}

#[test]
fn a_server_that_is_busy_says_how_long_to_wait() {
    use threadwire_proto::handshake::{Answer, Limits};

    let head = b"HTTP/1.1 503 Busy\r\nRetry-After: 20\r\n\r\n";
    let (answer, _) = Answer::parse(head, &Limits::default()).unwrap().unwrap();
    let mut driver = Driver::new(Backoff::default());
    driver.run();
    let done = driver.on(Event::Failed(Error::Status(Box::new(answer))));
    assert_eq!(done.last().unwrap(), "wait 20s");
}
