//! Measurement of round trips that the program asks for: one ping after the other, each when the one before was answered.

use std::time::{Duration, Instant};

use threadwire_proto::RoundTrips;
use threadwire_proto::keepalive::Keepalive;

use crate::config::Config;

/// How long a pong may take, where no keepalive says so.
const PATIENCE: Duration = Duration::from_secs(20);

/// A measurement that is under way.
pub struct Measurement {
    trips: RoundTrips,
    rounds: usize,
    times: Vec<Duration>,
    /// The payload of the program's own ping, and when that left.
    own: Option<(Vec<u8>, Option<Instant>)>,
}

impl Measurement {
    pub fn new(rounds: usize) -> Measurement {
        Measurement { trips: RoundTrips::new(), rounds, times: Vec::new(), own: None }
    }

    /// One round, of a ping with this payload; an empty one stands for one that no other ping has.
    pub fn of(payload: &[u8]) -> Measurement {
        let own = if payload.is_empty() { None } else { Some((payload.to_vec(), None)) };
        Measurement { own, ..Measurement::new(1) }
    }

    /// How long each pong may take.
    pub fn limit(config: &Config) -> Duration {
        config.keepalive.map_or(PATIENCE, |keepalive| keepalive.reply_timeout.max(Keepalive::SHORTEST))
    }

    /// The payload of the next ping, which leaves now.
    pub fn begin(&mut self, now: Instant) -> Vec<u8> {
        match &mut self.own {
            Some((payload, left)) => {
                *left = Some(now);
                payload.clone()
            }
            None => self.trips.begin(now).to_vec(),
        }
    }

    /// A pong has arrived. Whether it answers the ping of this round: then the next one is to be sent, or this is
    /// [done](Measurement::is_done).
    pub fn pong_arrived(&mut self, payload: &[u8], now: Instant) -> bool {
        let time = match &mut self.own {
            Some((own, left)) if own == payload => {
                left.take().map(|left| now.saturating_duration_since(left))
            }
            Some(_) => None,
            None => self.trips.pong(payload, now),
        };
        self.times.extend(time);
        time.is_some()
    }

    pub fn is_done(&self) -> bool {
        self.times.len() >= self.rounds
    }

    pub fn into_times(self) -> Vec<Duration> {
        self.times
    }

    /// The time of a measurement of one round.
    pub fn only(times: Vec<Duration>) -> Duration {
        times.first().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pong_of_its_own_ping_ends_a_round() {
        let (start, ms) = (Instant::now(), Duration::from_millis(1));
        let mut measurement = Measurement::new(2);
        let first = measurement.begin(start);
        assert!(!measurement.pong_arrived(b"another's", start + ms));
        assert!(measurement.pong_arrived(&first, start + 3 * ms));
        assert!(!measurement.is_done());
        let second = measurement.begin(start + 4 * ms);
        assert!(!measurement.pong_arrived(&first, start + 5 * ms));
        assert!(measurement.pong_arrived(&second, start + 6 * ms));
        assert!(measurement.is_done());
        assert_eq!(measurement.into_times(), [3 * ms, 2 * ms]);
    }

    #[test]
    fn a_ping_of_the_programs_own_is_answered_by_its_payload_once() {
        let (start, ms) = (Instant::now(), Duration::from_millis(1));
        let mut measurement = Measurement::of(b"mine");
        assert!(!measurement.pong_arrived(b"mine", start), "it has not left");
        assert_eq!(measurement.begin(start), b"mine");
        assert!(!measurement.pong_arrived(b"", start + ms));
        assert!(measurement.pong_arrived(b"mine", start + 2 * ms));
        assert!(!measurement.pong_arrived(b"mine", start + 3 * ms));
        assert_eq!(Measurement::only(measurement.into_times()), 2 * ms);
        assert_ne!(Measurement::of(b"").begin(start), b"");
    }

    #[test]
    fn a_pong_has_the_time_that_keepalive_gives_it() {
        let ms = Duration::from_millis(1);
        let limit = |keepalive| Measurement::limit(&Config { keepalive, ..Config::default() });
        assert_eq!(limit(None), PATIENCE);
        let with_time = |reply_timeout| {
            let mut keepalive = Keepalive::default();
            keepalive.reply_timeout = reply_timeout;
            Some(keepalive)
        };
        assert_eq!(limit(with_time(700 * ms)), 700 * ms);
        assert_eq!(limit(with_time(Duration::ZERO)), Keepalive::SHORTEST);
    }
}
