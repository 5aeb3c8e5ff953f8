//! Backoff: the wait before the next attempt.

use std::time::Duration;

/// When a reconnecting (`Client::reconnect`) connection tries again, and when it gives up.
///
/// Before each attempt but the first it waits for a random time between nothing and a ceiling: `first` after one failure,
/// `factor` times as much after each further one, up to `cap`. The whole range is drawn from, so that the clients of a server
/// that restarts do not come back all at once.
///
/// A server, or a proxy, whose answer says when to come again (`Retry-After`, RFC 9110, section 10.2.3) is not asked sooner, however
/// low `cap` is, but for waits that are longer than `retry_after_cap`.
///
/// A failure is an attempt that did not open a connection, and a connection that ended before it was open for
/// `stable_after`. One that was open for as long ends the row: the next attempt is the first again (though it waits too, up
/// to `first`). The time for which a connection was open counts as waited: wait and connection together last no longer than `cap`,
/// unless `first` does. So a server that takes every connection and closes it a little later is hardly asked more often than one that takes
/// none, as long as `stable_after` is not much less than `cap`.
///
/// ```
/// use std::time::Duration;
/// use threadwire::reconnect::Backoff;
///
/// let backoff = Backoff::default().cap(Duration::from_secs(5)).max_attempts(10);
/// assert_eq!(backoff.ceiling(1), Duration::from_secs(1));
/// assert_eq!(backoff.ceiling(2), Duration::from_secs(2));
/// assert_eq!(backoff.ceiling(9), Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Backoff {
    /// The ceiling after the first failure. 1 s by default; zero never waits.
    pub first: Duration,
    /// By how much the ceiling grows with each further failure. 2 by default; what is below 1 counts as 1.
    pub factor: f64,
    /// The highest ceiling. 60 s by default.
    pub cap: Duration,
    /// After how many failures in a row to give up. `None` by default: never. (The first attempt is made in any case.)
    pub max_attempts: Option<u32>,
    /// For how long a connection has to be open to end a row of failures. 60 s by default.
    pub stable_after: Duration,
    /// The longest wait that a server or a proxy may ask for (`Retry-After`): where it asks for more, it is asked again after that. 24 h
    /// by default.
    pub retry_after_cap: Duration,
}

threadwire_proto::setters! {
    Backoff { first: Duration, factor: f64, cap: Duration, stable_after: Duration, retry_after_cap: Duration } optional { max_attempts: u32 }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            first: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_secs(60),
            max_attempts: None,
            stable_after: Duration::from_secs(60),
            retry_after_cap: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl Backoff {
    /// The longest wait after this many failures in a row. (None and one are the same: also after a connection that was
    /// stable there is a wait.)
    pub fn ceiling(&self, failures: u32) -> Duration {
        if self.first.is_zero() {
            return Duration::ZERO;
        }
        let growth = self.factor.max(1.0).powi(i32::try_from(failures.max(1) - 1).unwrap_or(i32::MAX));
        let seconds = self.first.as_secs_f64() * growth;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).min(self.cap)
    }

    /// The wait after this many failures in a row; `None` if that are too many. `random` is from 0 to 1.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::reconnect::Backoff;
    ///
    /// let backoff = Backoff::default().max_attempts(3);
    /// assert_eq!(backoff.delay(1, 0.5), Some(Duration::from_millis(500)));
    /// assert_eq!(backoff.delay(2, 0.5), Some(Duration::from_secs(1)));
    /// assert_eq!(backoff.delay(3, 0.5), None);
    /// ```
    pub fn delay(&self, failures: u32, random: f64) -> Option<Duration> {
        self.delay_after(failures, Duration::ZERO, random)
    }

    /// The same after a connection that was open for a time, which counts as waited.
    pub(super) fn delay_after(&self, failures: u32, open_for: Duration, random: f64) -> Option<Duration> {
        if self.max_attempts.is_some_and(|most| failures >= most) {
            return None;
        }
        let rest = self.cap.saturating_sub(open_for).max(self.ceiling(1));
        let ceiling = self.ceiling(failures).min(rest);
        let seconds = ceiling.as_secs_f64() * random.clamp(0.0, 1.0);
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(ceiling).min(ceiling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_ceiling_grows_up_to_the_cap() {
        let backoff = Backoff::default();
        let ceilings: Vec<u64> = (0..9).map(|failures| backoff.ceiling(failures).as_secs()).collect();
        assert_eq!(ceilings, [1, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.ceiling(u32::MAX), 60 * SECOND);
    }

    #[test]
    fn the_wait_is_drawn_from_the_whole_range() {
        let backoff = Backoff { factor: 1.6, ..Backoff::default() };
        assert_eq!(backoff.delay(2, 0.0), Some(Duration::ZERO));
        assert_eq!(backoff.delay(2, 0.25), Some(Duration::from_millis(400)));
        assert_eq!(backoff.delay(2, 1.0), Some(Duration::from_millis(1600)));
    }

    #[test]
    fn odd_settings_and_random_numbers_do_no_harm() {
        let never = Backoff { first: Duration::ZERO, ..Backoff::default() };
        assert_eq!(never.delay(u32::MAX, 0.9), Some(Duration::ZERO));
        for factor in [0.0, -3.0, f64::NAN, 1.0] {
            assert_eq!(Backoff { factor, ..Backoff::default() }.ceiling(100), SECOND, "{factor}");
        }
        let endless = Backoff { cap: Duration::MAX, factor: f64::INFINITY, ..Backoff::default() };
        assert_eq!(endless.ceiling(1), SECOND);
        assert_eq!(endless.delay(9, 1.0), Some(Duration::MAX));
        assert_eq!(Backoff::default().delay(1, f64::NAN).map(|delay| delay <= SECOND), Some(true));
        assert_eq!(Backoff::default().delay(1, 17.0), Some(SECOND));
    }

    #[test]
    fn the_time_for_which_a_connection_was_open_counts_as_waited() {
        let ceilings = |seconds: u32| -> Vec<u64> {
            let backoff = Backoff::default();
            let wait = |failures| backoff.delay_after(failures, seconds * SECOND, 1.0).unwrap().as_secs();
            (1..=8).map(wait).collect()
        };
        assert_eq!(ceilings(0), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(ceilings(11), [1, 2, 4, 8, 16, 32, 49, 49]);
        assert_eq!(ceilings(45), [1, 2, 4, 8, 15, 15, 15, 15]);
        assert_eq!(ceilings(1000), [1; 8]);
        let never = Backoff { first: Duration::ZERO, ..Backoff::default() };
        assert_eq!(never.delay_after(9, SECOND, 1.0), Some(Duration::ZERO));
        let low = Backoff { cap: SECOND / 2, ..Backoff::default() };
        assert_eq!(low.delay_after(9, SECOND, 1.0), Some(SECOND / 2));
    }

    #[test]
    fn gives_up_after_the_most_failures() {
        let backoff = Backoff { max_attempts: Some(2), ..Backoff::default() };
        assert!(backoff.delay(1, 1.0).is_some());
        assert_eq!(backoff.delay(2, 1.0), None);
        assert!(backoff.delay(0, 1.0).is_some(), "after a connection that was stable");
        assert!(Backoff::default().delay(u32::MAX, 1.0).is_some());
    }
}
