//! Tests of keepalive in virtual time (RFC 6455, section 5.5.2).

use std::time::{Duration, Instant};

use crate::common::{MS, NANOSECOND, SECOND, fixed_cases};
use proptest::prelude::*;
use threadwire_proto::keepalive::{Check, Hold, Keepalive, PingStrategy, Pulse};

fn settings(strategy: PingStrategy, idle: Duration, reply: Duration) -> Keepalive {
    Keepalive::default().idle_timeout(idle).reply_timeout(reply).strategy(strategy)
}

/// A pulse that began at second 0, with seconds for times.
struct Seconds {
    pulse: Pulse,
    start: Instant,
}

impl Seconds {
    fn new(strategy: PingStrategy, idle: u32, reply: u32) -> Seconds {
        let start = Instant::now();
        let pulse = Pulse::new(&settings(strategy, idle * SECOND, reply * SECOND), start);
        Seconds { pulse, start }
    }

    fn at(&self, second: f64) -> Instant {
        self.start + Duration::from_secs_f64(second)
    }

    fn heard(&mut self, second: f64) {
        self.pulse.heard(self.at(second));
    }

    fn hold(&mut self, why: Hold, second: f64) {
        self.pulse.hold(why, self.at(second));
    }

    fn release(&mut self, why: Hold, second: f64) -> Option<Duration> {
        self.pulse.release(why, self.at(second))
    }

    fn check(&mut self, second: f64) -> Check {
        self.pulse.check(self.at(second))
    }

    /// What is due at the deadline and not a nanosecond before, and which second that is.
    #[track_caller]
    fn next(&mut self) -> (f64, Check) {
        let deadline = self.pulse.deadline().expect("it is not held");
        assert_eq!(self.pulse.check(deadline - NANOSECOND), Check::NotYet);
        ((deadline - self.start).as_secs_f64(), self.pulse.check(deadline))
    }
}

fn silent(seconds: u32) -> Check {
    Check::Silent { for_: seconds * SECOND }
}

#[test]
fn a_ping_is_due_when_nothing_was_received_for_the_idle_timeout() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    assert_eq!(pulse.next(), (20.0, Check::Ping));
}

#[test]
fn received_bytes_put_off_the_ping_of_an_idle_connection() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    for second in [3.0, 19.5, 39.0] {
        pulse.heard(second);
    }
    assert_eq!(pulse.check(20.0), Check::NotYet);
    assert_eq!(pulse.next(), (59.0, Check::Ping));
}

#[test]
fn a_peer_that_does_not_answer_is_silent_and_its_silence_is_counted_from_its_last_byte() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    pulse.heard(5.0);
    assert_eq!(pulse.next(), (25.0, Check::Ping));
    assert_eq!(pulse.next(), (35.0, silent(30)));
}

#[test]
fn any_byte_is_an_answer_though_the_pong_never_comes() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    assert_eq!(pulse.next(), (20.0, Check::Ping));
    pulse.heard(29.0);
    assert_eq!(pulse.check(30.0), Check::NotYet);
    assert_eq!(pulse.next(), (49.0, Check::Ping));
}

#[test]
fn an_answer_that_comes_at_once_ends_the_wait_at_once() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 2, 10);
    for round in 0..5 {
        let due = 2.0 + f64::from(round) * 2.5;
        assert_eq!(pulse.next(), (due, Check::Ping));
        pulse.heard(due + 0.5);
    }
}

#[test]
fn the_reply_timeout_begins_when_the_ping_is_sent_not_when_it_was_due() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    assert_eq!(pulse.check(24.0), Check::Ping);
    assert_eq!(pulse.next(), (34.0, silent(34)));
}

#[test]
fn an_idle_peer_is_pinged_once_and_not_again_before_it_is_heard() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 1, 10);
    assert_eq!(pulse.check(1.0), Check::Ping);
    for second in 2..11 {
        assert_eq!(pulse.check(f64::from(second)), Check::NotYet);
    }
    assert_eq!(pulse.check(11.0), silent(11));
}

#[test]
fn bytes_during_a_long_wait_never_bring_the_deadline_forward() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 2, 10);
    assert_eq!(pulse.check(2.0), Check::Ping);
    for (second, deadline) in [(4.0, 6.0), (6.0, 8.0), (8.0, 10.0), (10.0, 12.0)] {
        assert_eq!(pulse.pulse.deadline(), Some(pulse.at(second)));
        let mut heard = pulse.pulse.clone();
        heard.heard(pulse.at(second - 1.9));
        assert!(heard.deadline() >= pulse.pulse.deadline());
        assert_eq!(pulse.check(second), Check::NotYet);
        assert_eq!(pulse.pulse.deadline(), Some(pulse.at(deadline)));
    }
    assert_eq!(pulse.check(12.0), silent(12));
}

#[test]
fn bytes_whose_time_was_taken_before_the_ping_count_when_they_are_reported_after_it() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    assert_eq!(pulse.check(20.0), Check::Ping);
    pulse.heard(19.0);
    assert_eq!(pulse.next(), (40.0, Check::Ping));
}

#[test]
fn periodic_pings_come_whatever_is_received() {
    let mut pulse = Seconds::new(PingStrategy::Periodically, 20, 10);
    for second in [20.0, 40.0, 60.0] {
        pulse.heard(second - 1.0);
        assert_eq!(pulse.next(), (second, Check::Ping));
        pulse.heard(second + 7.0);
    }
}

#[test]
fn a_periodic_ping_is_due_one_period_after_the_last_not_after_its_reply() {
    let mut pulse = Seconds::new(PingStrategy::Periodically, 20, 15);
    assert_eq!(pulse.check(23.0), Check::Ping);
    pulse.heard(37.0);
    assert_eq!(pulse.next(), (43.0, Check::Ping));
}

#[test]
fn another_periodic_ping_does_not_prolong_the_wait() {
    let mut pulse = Seconds::new(PingStrategy::Periodically, 4, 10);
    assert_eq!(pulse.next(), (4.0, Check::Ping));
    assert_eq!(pulse.next(), (8.0, Check::Ping));
    assert_eq!(pulse.next(), (12.0, Check::Ping));
    assert_eq!(pulse.next(), (14.0, silent(14)));
}

#[test]
fn a_verdict_comes_before_a_ping_that_is_due_at_the_same_time() {
    let mut pulse = Seconds::new(PingStrategy::Periodically, 10, 10);
    assert_eq!(pulse.check(10.0), Check::Ping);
    assert_eq!(pulse.check(20.0), silent(20));
    assert_eq!(pulse.check(20.0), Check::Ping);
    assert_eq!(pulse.check(20.0), Check::NotYet);
}

#[test]
fn a_caller_that_only_notes_the_verdict_gets_it_again_after_another_timeout() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    assert_eq!(pulse.next(), (20.0, Check::Ping));
    assert_eq!(pulse.next(), (30.0, silent(30)));
    assert_eq!(pulse.check(30.0), Check::NotYet);
    assert_eq!(pulse.next(), (40.0, silent(40)));
    pulse.heard(45.0);
    assert_eq!(pulse.next(), (65.0, Check::Ping));
}

#[test]
fn nothing_is_due_while_we_do_not_read_and_the_times_start_anew_afterwards() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    pulse.hold(Hold::NotReading, 12.0);
    assert_eq!(pulse.pulse.deadline(), None);
    assert_eq!(pulse.check(500.0), Check::NotYet);
    assert_eq!(pulse.release(Hold::NotReading, 512.0), Some(500 * SECOND));
    assert_eq!(pulse.next(), (532.0, Check::Ping));
    assert_eq!(pulse.next(), (542.0, silent(30)), "time in which we did not read is not the peer's");
}

#[test]
fn a_wait_that_was_held_gives_the_peer_the_whole_reply_timeout_again() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    assert_eq!(pulse.next(), (20.0, Check::Ping));
    pulse.hold(Hold::NotReading, 29.0);
    assert_eq!(pulse.release(Hold::NotReading, 100.0), Some(71 * SECOND));
    assert!(pulse.pulse.awaits_reply());
    assert_eq!(pulse.next(), (110.0, silent(10)));
}

#[test]
fn the_period_of_pings_starts_anew_after_a_hold() {
    let mut pulse = Seconds::new(PingStrategy::Periodically, 20, 10);
    pulse.hold(Hold::Measuring, 19.0);
    pulse.heard(20.0);
    assert_eq!(pulse.release(Hold::Measuring, 21.0), Some(2 * SECOND));
    assert_eq!(pulse.next(), (41.0, Check::Ping));
}

#[test]
fn a_byte_during_a_hold_answers_the_ping_before_it() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    assert_eq!(pulse.next(), (20.0, Check::Ping));
    pulse.hold(Hold::Measuring, 21.0);
    pulse.heard(22.0);
    pulse.release(Hold::Measuring, 23.0);
    assert_eq!(pulse.next(), (43.0, Check::Ping));
}

#[test]
fn each_reason_to_hold_is_released_by_itself() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    pulse.hold(Hold::NotReading, 1.0);
    pulse.hold(Hold::Measuring, 2.0);
    pulse.hold(Hold::NotReading, 3.0);
    assert_eq!(pulse.release(Hold::NotReading, 4.0), Some(3 * SECOND), "counted from the first hold");
    assert_eq!(pulse.release(Hold::NotReading, 5.0), None);
    assert!(pulse.pulse.is_held());
    assert_eq!(pulse.release(Hold::Measuring, 6.0), Some(4 * SECOND));
    assert!(!pulse.pulse.is_held());
    assert_eq!(pulse.next(), (26.0, Check::Ping));
}

#[test]
fn a_release_without_a_hold_changes_nothing() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    assert_eq!(pulse.release(Hold::NotReading, 10.0), None);
    assert_eq!(pulse.next(), (20.0, Check::Ping));
}

#[test]
fn a_reply_is_awaited_from_the_ping_until_it_is_recognised_whatever_else_is_received() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    assert!(!pulse.pulse.awaits_reply());
    assert_eq!(pulse.next(), (20.0, Check::Ping));
    pulse.heard(21.0);
    assert!(pulse.pulse.awaits_reply());
    let now = pulse.at(22.0);
    pulse.pulse.answered(now);
    assert!(!pulse.pulse.awaits_reply());
    assert_eq!(pulse.next(), (42.0, Check::Ping));
    assert!(pulse.pulse.awaits_reply());
}

#[test]
fn a_recognised_reply_is_a_sign_of_life() {
    let mut pulse = Seconds::new(PingStrategy::WhenIdle, 20, 10);
    assert_eq!(pulse.next(), (20.0, Check::Ping));
    let now = pulse.at(25.0);
    pulse.pulse.answered(now);
    assert_eq!(pulse.next(), (45.0, Check::Ping));
}

#[test]
fn timeouts_of_zero_are_a_millisecond_and_every_check_moves_the_deadline_on() {
    for strategy in [PingStrategy::WhenIdle, PingStrategy::Periodically] {
        let start = Instant::now();
        let mut pulse = Pulse::new(&settings(strategy, Duration::ZERO, NANOSECOND), start);
        let mut last = start;
        for _ in 0..100 {
            let deadline = pulse.deadline().unwrap();
            assert!(deadline >= last);
            while pulse.check(deadline) != Check::NotYet {}
            assert!(pulse.deadline().unwrap() >= deadline + Keepalive::SHORTEST);
            last = deadline;
        }
        assert_eq!(last, start + 100 * MS);
    }
}

#[test]
fn timeouts_without_end_never_come_and_overflow_no_clock() {
    for strategy in [PingStrategy::WhenIdle, PingStrategy::Periodically] {
        let start = Instant::now();
        let mut pulse = Pulse::new(&settings(strategy, SECOND, Duration::MAX), start);
        assert_eq!(pulse.check(start + SECOND), Check::Ping);
        assert!(!matches!(pulse.check(start + Keepalive::LONGEST), Check::Silent { .. }));

        let mut pulse = Pulse::new(&settings(strategy, Duration::MAX, Duration::MAX), start);
        assert_eq!(pulse.deadline(), Some(start + Keepalive::LONGEST));
        assert_eq!(pulse.check(start + Keepalive::LONGEST), Check::Ping);
    }
}

#[test]
fn time_that_runs_backwards_stands_still() {
    for strategy in [PingStrategy::WhenIdle, PingStrategy::Periodically] {
        let mut pulse = Seconds::new(strategy, 20, 10);
        pulse.start += 100 * SECOND;
        let begin = pulse.start;
        pulse.pulse = Pulse::new(&settings(strategy, 20 * SECOND, 10 * SECOND), begin);
        pulse.pulse.heard(begin - 50 * SECOND);
        pulse.hold(Hold::NotReading, 0.0);
        assert_eq!(pulse.pulse.release(Hold::NotReading, begin - 10 * SECOND), Some(Duration::ZERO));
        assert_eq!(pulse.pulse.check(begin - SECOND), Check::NotYet);
        assert_eq!(pulse.next(), (20.0, Check::Ping));
    }
}

#[test]
#[cfg(target_pointer_width = "64")]
fn a_pulse_is_no_larger_than_documented() {
    assert!(size_of::<Pulse>() <= 120);
}

/// What happens to a connection, some milliseconds after what happened before.
#[derive(Clone, Copy, Debug)]
enum Step {
    Heard,
    Answered,
    Check,
    Hold(Hold),
    Release(Hold),
}

/// What has happened, with the millisecond of it. Everything that is due is found by reading it.
#[derive(Default)]
struct Log {
    entries: Vec<(u64, Entry)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Entry {
    Life,
    Answer,
    Hold(Hold),
    Release(Hold),
    /// The end of the last hold.
    Freed,
    Ping,
    Verdict,
}

impl Log {
    fn push(&mut self, at: u64, entry: Entry) {
        self.entries.push((at, entry));
    }

    fn last(&self, of: impl Fn(Entry) -> bool) -> Option<(usize, u64)> {
        let index = self.entries.iter().rposition(|&(_, entry)| of(entry))?;
        Some((index, self.entries[index].0))
    }

    fn time_of(&self, of: impl Fn(Entry) -> bool) -> u64 {
        self.last(of).map_or(0, |(_, at)| at)
    }

    /// Since when the connection is held for this.
    fn held_since(&self, why: Hold) -> Option<u64> {
        let released = self.last(|entry| entry == Entry::Release(why)).map_or(0, |(index, _)| index);
        let mut holds = self.entries[released..].iter();
        holds.find(|&&(_, entry)| entry == Entry::Hold(why)).map(|&(at, _)| at)
    }

    fn is_held(&self) -> bool {
        self.held_since(Hold::NotReading).is_some() || self.held_since(Hold::Measuring).is_some()
    }

    fn awaits_reply(&self) -> bool {
        let asked_or_answered = self.last(|entry| matches!(entry, Entry::Ping | Entry::Answer));
        asked_or_answered.is_some_and(|(index, _)| self.entries[index].1 == Entry::Ping)
    }

    /// The first ping since the last sign of life.
    fn unanswered(&self) -> Option<u64> {
        let life =
            self.last(|entry| matches!(entry, Entry::Life | Entry::Answer)).map_or(0, |(index, _)| index);
        self.entries[life..].iter().find(|&&(_, entry)| entry == Entry::Ping).map(|&(at, _)| at)
    }

    /// What is due at `now`, in milliseconds, and nothing if `None`.
    fn due(&self, idle: u64, reply: u64, strategy: PingStrategy, now: u64) -> Check {
        if self.is_held() {
            return Check::NotYet;
        }
        let freed = self.time_of(|entry| entry == Entry::Freed);
        if let Some(ping) = self.unanswered() {
            let verdict = self.time_of(|entry| entry == Entry::Verdict);
            if now >= ping.max(freed).max(verdict) + reply {
                let heard = self.time_of(|entry| matches!(entry, Entry::Life | Entry::Answer | Entry::Freed));
                return Check::Silent { for_: Duration::from_millis(now - heard) };
            }
        }
        let from = match strategy {
            PingStrategy::WhenIdle if self.unanswered().is_some() => return Check::NotYet,
            PingStrategy::WhenIdle => {
                self.time_of(|entry| matches!(entry, Entry::Life | Entry::Answer | Entry::Freed))
            }
            PingStrategy::Periodically => self.time_of(|entry| matches!(entry, Entry::Ping | Entry::Freed)),
            other => panic!("{other:?} is not modelled"),
        };
        if now >= from + idle { Check::Ping } else { Check::NotYet }
    }
}

fn strategies() -> impl Strategy<Value = PingStrategy> {
    prop_oneof![Just(PingStrategy::WhenIdle), Just(PingStrategy::Periodically)]
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let hold = || prop_oneof![Just(Hold::NotReading), Just(Hold::Measuring)];
    let step = prop_oneof![
        3 => Just(Step::Heard),
        1 => Just(Step::Answered),
        8 => Just(Step::Check),
        1 => hold().prop_map(Step::Hold),
        2 => hold().prop_map(Step::Release),
    ];
    proptest::collection::vec((prop_oneof![0..4_u64, 0..40_u64], step), 0..120)
}

proptest! {
    #![proptest_config(fixed_cases(512))]

    #[test]
    fn pings_and_verdicts_come_exactly_when_the_history_says_so(
        strategy in strategies(),
        idle in 1..25_u64,
        reply in 1..25_u64,
        steps in steps(),
    ) {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut pulse = Pulse::new(&settings(strategy, ms(idle), ms(reply)), start);
        let mut log = Log::default();
        let mut at = 0;
        for (later, step) in steps {
            at += later;
            let now = start + ms(at);
            match step {
                Step::Heard => {
                    let before = pulse.deadline();
                    pulse.heard(now);
                    prop_assert!(pulse.deadline() >= before, "bytes brought the deadline forward");
                    log.push(at, Entry::Life);
                }
                Step::Answered => {
                    pulse.answered(now);
                    log.push(at, Entry::Answer);
                }
                Step::Check => {
                    let due = log.due(idle, reply, strategy, at);
                    let deadline = pulse.deadline();
                    prop_assert_eq!(deadline.is_none(), log.is_held());
                    if due != Check::NotYet {
                        prop_assert!(deadline.unwrap() <= now, "{:?} is due before the deadline", due);
                    }
                    prop_assert_eq!(pulse.check(now), due, "{} ms", at);
                    match due {
                        Check::NotYet => {}
                        Check::Ping => log.push(at, Entry::Ping),
                        Check::Silent { .. } => log.push(at, Entry::Verdict),
                    }
                }
                Step::Hold(why) => {
                    pulse.hold(why, now);
                    log.push(at, Entry::Hold(why));
                }
                Step::Release(why) => {
                    let held = log.held_since(why).map(|since| ms(at - since));
                    log.push(at, Entry::Release(why));
                    if held.is_some() && !log.is_held() {
                        log.push(at, Entry::Freed);
                    }
                    prop_assert_eq!(pulse.release(why, now), held);
                }
            }
            prop_assert_eq!(pulse.awaits_reply(), log.awaits_reply());
        }
    }

    /// One is asked every millisecond. The other has one timer, which is left alone when bytes come.
    #[test]
    fn a_timer_that_is_only_set_anew_when_it_rings_misses_nothing(
        strategy in strategies(),
        idle in 1..25_u64,
        reply in 1..25_u64,
        steps in steps(),
    ) {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut asked = Pulse::new(&settings(strategy, ms(idle), ms(reply)), start);
        let mut timed = asked.clone();
        let mut timer = timed.deadline();
        let mut at = 0;
        for (later, step) in steps {
            for _ in 0..later {
                at += 1;
                let now = start + ms(at);
                loop {
                    let rings = timer.is_some_and(|timer| timer <= now);
                    let answer = if rings { timed.check(now) } else { Check::NotYet };
                    if rings {
                        timer = timed.deadline();
                        prop_assert!(
                            answer != Check::NotYet || timer.is_none_or(|timer| timer > now),
                            "a deadline in the past, and nothing to do"
                        );
                    }
                    let expected = asked.check(now);
                    prop_assert_eq!(answer, expected, "{} ms", at);
                    if expected == Check::NotYet {
                        break;
                    }
                }
            }
            let now = start + ms(at);
            for pulse in [&mut asked, &mut timed] {
                match step {
                    Step::Heard => pulse.heard(now),
                    Step::Answered => pulse.answered(now),
                    Step::Hold(why) => pulse.hold(why, now),
                    Step::Release(why) => _ = pulse.release(why, now),
                    Step::Check => {}
                }
            }
            if let Step::Release(_) = step {
                timer = timed.deadline();
            }
        }
    }
}
