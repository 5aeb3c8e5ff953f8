//! Round-trip times of pings and their pongs (RFC 6455, sections 5.5.2 and 5.5.3).
//!
//! A pong carries the payload of its ping, so several may be under way and each is timed by itself. What was measured is
//! kept in a histogram of fixed precision, because it is the slow ones that matter, and no average shows those.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The pings of one connection that are under way, and the times of those that came back.
///
/// Durations are exact for [`last`](RoundTrips::last), [`min`](RoundTrips::min) and [`max`](RoundTrips::max). Quantiles
/// come from a histogram: to two significant digits (1 %), or 64 ns where that is coarser, and up to
/// [`LONGEST`](RoundTrips::LONGEST).
///
/// Memory: 184 bytes on 64-bit systems, and until the first ping nothing else. Then 256 bytes for those that are under
/// way, and with the first pong a histogram that grows with the longest round trip: 4 to 6 KiB for 1 ms, 7 to 12 KiB for
/// 50 ms, and never more than 12 KiB.
///
/// ```
/// use std::time::{Duration, Instant};
/// use threadwire_proto::RoundTrips;
///
/// let ms = Duration::from_millis(1);
/// let start = Instant::now();
/// let mut trips = RoundTrips::new();
/// let payload = trips.begin(start); // send a ping with this
/// assert_eq!(trips.pong(&payload, start + 3 * ms), Some(3 * ms));
/// assert_eq!(trips.pong(&payload, start + 4 * ms), None, "it has been answered before");
/// assert_eq!(trips.p50(), Some(3 * ms));
/// ```
///
/// A ping that is no ping frame and can't carry the payload (picows' user-specific pings) is measured as well: keep the
/// payload, and hand it to [`pong`](RoundTrips::pong) when its answer is recognised.
#[derive(Clone)]
pub struct RoundTrips {
    /// The number of the oldest ping under way. Numbers count up from a random one, and are the payloads.
    first: u64,
    /// When the pings under way were begun: that of `first`, and of the numbers after it.
    begun: VecDeque<Instant>,
    last: Duration,
    min: Duration,
    max: Duration,
    /// In nanoseconds.
    times: Option<Histogram<u32>>,
}

impl RoundTrips {
    /// The number of pings that may be under way: 16. One more, and the oldest is forgotten.
    pub const IN_FLIGHT: usize = 16;
    /// The longest round trip in quantiles, for which longer ones are taken: 60 s.
    pub const LONGEST: Duration = Duration::from_secs(60);

    /// Nothing measured, nothing under way.
    ///
    /// # Panics
    ///
    /// If the operating system's random source fails.
    pub fn new() -> RoundTrips {
        let first = getrandom::u64().unwrap_or_else(|error| {
            panic!("cannot draw a payload for pings: the random source failed: {error}")
        });
        RoundTrips {
            first,
            begun: VecDeque::new(),
            last: Duration::ZERO,
            min: Duration::ZERO,
            max: Duration::ZERO,
            times: None,
        }
    }

    /// Begins a round trip. Returns the payload for its ping: no two of a connection are the same, and the first is
    /// random, so that a peer can't know it from another connection.
    pub fn begin(&mut self, now: Instant) -> [u8; 8] {
        if self.begun.len() == RoundTrips::IN_FLIGHT {
            self.settle(1);
        } else if self.begun.capacity() == 0 {
            self.begun.reserve_exact(RoundTrips::IN_FLIGHT);
        }
        let number = self.first.wrapping_add(self.begun.len() as u64);
        self.begun.push_back(now);
        number.to_be_bytes()
    }

    /// A pong was received. If it answers a ping that is under way: how long that took. Pongs that nobody asked for are
    /// allowed (RFC 6455, section 5.5.3) and change nothing.
    ///
    /// A peer may answer only the last of several pings (the same section), so earlier ones are settled with it, without
    /// a time of their own.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadwire_proto::RoundTrips;
    ///
    /// let ms = Duration::from_millis(1);
    /// let start = Instant::now();
    /// let mut trips = RoundTrips::new();
    /// let [first, second, third] = [0, 10, 20].map(|after| trips.begin(start + after * ms));
    /// assert_eq!(trips.pong(&second, start + 25 * ms), Some(15 * ms));
    /// assert_eq!(trips.pong(&first, start + 26 * ms), None);
    /// assert_eq!(trips.pong(&third, start + 27 * ms), Some(7 * ms));
    /// assert_eq!(trips.count(), 2);
    /// ```
    pub fn pong(&mut self, payload: &[u8], now: Instant) -> Option<Duration> {
        let number = u64::from_be_bytes(payload.try_into().ok()?);
        let index = usize::try_from(number.wrapping_sub(self.first)).ok()?;
        let time = now.saturating_duration_since(*self.begun.get(index)?);
        self.settle(index + 1);
        self.record(time);
        Some(time)
    }

    /// When the oldest ping under way was begun. `None` if all are settled. A program that measures gives up some time
    /// after this, and [`forget`](RoundTrips::forget)s.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.begun.front().copied()
    }

    /// Gives up the pings under way: their pongs will change nothing.
    pub fn forget(&mut self) {
        self.settle(self.begun.len());
    }

    /// The number of pings under way, at most [`IN_FLIGHT`](RoundTrips::IN_FLIGHT).
    pub fn in_flight(&self) -> usize {
        self.begun.len()
    }

    /// The number of round trips that were measured.
    pub fn count(&self) -> u64 {
        self.times.as_ref().map_or(0, Histogram::len)
    }

    /// The latest round trip. `None` before the first, as with all that follows.
    pub fn last(&self) -> Option<Duration> {
        self.times.as_ref().map(|_| self.last)
    }

    /// The shortest round trip.
    pub fn min(&self) -> Option<Duration> {
        self.times.as_ref().map(|_| self.min)
    }

    /// The longest round trip, also past [`LONGEST`](RoundTrips::LONGEST).
    pub fn max(&self) -> Option<Duration> {
        self.times.as_ref().map(|_| self.max)
    }

    /// A time that this share of the round trips did not exceed: 0.5 is the median. What is below 0 or above 1 is taken
    /// for that, and there is none for NaN.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadwire_proto::RoundTrips;
    ///
    /// let us = Duration::from_micros(1);
    /// let start = Instant::now();
    /// let mut trips = RoundTrips::new();
    /// for time in 1..=100 {
    ///     let payload = trips.begin(start);
    ///     trips.pong(&payload, start + time * us);
    /// }
    /// let p90 = trips.quantile(0.9).unwrap();
    /// assert!(p90.abs_diff(90 * us) < us, "{p90:?}");
    /// assert_eq!(trips.quantile(1.0), Some(100 * us));
    /// ```
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let times = self.times.as_ref().filter(|_| !quantile.is_nan())?;
        let time = Duration::from_nanos(times.value_at_quantile(quantile.clamp(0.0, 1.0)));
        // The histogram answers with an end of a range, and the range may be wider than what was measured.
        Some(time.clamp(self.min.min(RoundTrips::LONGEST), self.max.min(RoundTrips::LONGEST)))
    }

    /// The median.
    pub fn p50(&self) -> Option<Duration> {
        self.quantile(0.5)
    }

    /// The time that one round trip in a hundred exceeded.
    pub fn p99(&self) -> Option<Duration> {
        self.quantile(0.99)
    }

    /// A summary of the measurements so far, small enough to hand to other threads. `None` before the first pong.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadwire_proto::RoundTrips;
    ///
    /// let start = Instant::now();
    /// let mut trips = RoundTrips::new();
    /// let payload = trips.begin(start);
    /// assert_eq!(trips.summary(), None);
    /// trips.pong(&payload, start + Duration::from_micros(1_250));
    /// let summary = trips.summary().unwrap();
    /// std::thread::spawn(move || assert_eq!(summary.p99, Duration::from_micros(1_250))).join().unwrap();
    /// ```
    pub fn summary(&self) -> Option<RoundTripSummary> {
        Some(RoundTripSummary {
            count: self.count(),
            last: self.last()?,
            min: self.min()?,
            p50: self.p50()?,
            p99: self.p99()?,
            max: self.max()?,
        })
    }

    fn settle(&mut self, count: usize) {
        self.begun.drain(..count);
        self.first = self.first.wrapping_add(count as u64);
    }

    fn record(&mut self, time: Duration) {
        let nanos = time.min(RoundTrips::LONGEST).as_nanos() as u64;
        let times = self.times.get_or_insert_with(|| {
            (self.min, self.max) = (time, time);
            // The first range of so precise a histogram ends where a second one would begin.
            let mut times = Histogram::new_with_bounds(64, 16 << 10, 2).expect("the bounds are in order");
            times.auto(true);
            times
        });
        times.record(nanos).expect("a histogram of a minute fits into memory");
        self.last = time;
        self.min = self.min.min(time);
        self.max = self.max.max(time);
    }
}

impl Default for RoundTrips {
    fn default() -> RoundTrips {
        RoundTrips::new()
    }
}

impl fmt::Debug for RoundTrips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RoundTrips");
        debug.field("in_flight", &self.in_flight()).field("summary", &self.summary()).finish()
    }
}

/// The round trips of a connection at one moment: see [`RoundTrips::summary`], which has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoundTripSummary {
    /// The number of round trips that were measured; at least one.
    pub count: u64,
    /// The latest.
    pub last: Duration,
    /// The shortest.
    pub min: Duration,
    /// The median, to 1 %.
    pub p50: Duration,
    /// The time that one in a hundred exceeded, to 1 %.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}
