//! Meter of one client: elapsed time and CPU time.

use crate::fail;
use crate::fail::Result;
use crate::measure;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Before it measures, it lets pass its time divided by this.
const WARM_UP: u32 = 10;
/// The longest round trip that is told from longer ones, in nanoseconds.
const LONGEST: u64 = 10_000_000_000;

/// The measurements of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Messages that were sent and came back.
    pub(crate) count: u64,
    /// Nanoseconds for all of them.
    pub(crate) elapsed: u64,
    /// Nanoseconds of CPU that the client used for them.
    pub(crate) cpu: u64,
    /// The median of the round trips, in nanoseconds.
    pub(crate) p50: u64,
    /// The 99th percentile.
    pub(crate) p99: u64,
}

/// Measures messages of which always the same number is in flight.
///
/// A message is sent for each echo, so the one that is sent for an echo comes back as many echoes later as are in flight: the
/// time for so many echoes is a round trip, and the clock is read only so often.
#[derive(Debug)]
pub(crate) struct Meter {
    time: Duration,
    /// How many messages are in flight.
    pub(crate) in_flight: u32,
    /// How many echoes are missing to a round trip.
    missing: u32,
    /// When it measures from, with the CPU time until then, and until when.
    span: Option<Span>,
    started: Instant,
    last: Instant,
    /// The time and the CPU time of all that was measured, when it is done.
    total: Option<(Duration, u64)>,
    round_trips: Histogram<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    from: Instant,
    cpu: u64,
    until: Instant,
}

impl Meter {
    /// One that measures for this long, and at least one round trip.
    pub(crate) fn new(time: Duration, in_flight: u32) -> Result<Meter> {
        let now = Instant::now();
        Ok(Meter {
            time,
            in_flight,
            missing: in_flight,
            span: None,
            started: now,
            last: now,
            total: None,
            round_trips: Histogram::new_with_max(LONGEST, 3)?,
        })
    }

    /// The connection is open, and the first messages are about to be sent.
    pub(crate) fn start(&mut self) {
        self.started = Instant::now();
        self.last = self.started;
    }

    /// An echo has come. Whether another message shall be sent.
    #[inline]
    pub(crate) fn lap(&mut self) -> bool {
        self.missing -= 1;
        if self.missing > 0 {
            return self.total.is_none();
        }
        self.missing = self.in_flight;
        self.round_trip()
    }

    fn round_trip(&mut self) -> bool {
        let now = Instant::now();
        match self.span {
            None if now >= self.started + self.time / WARM_UP => {
                let cpu = measure::process_cpu_time();
                self.span = Some(Span { from: now, cpu, until: now + self.time });
            }
            None => {}
            Some(span) => {
                self.round_trips.saturating_record((now - self.last).as_nanos() as u64);
                if now >= span.until && self.total.is_none() {
                    self.total = Some((now - span.from, measure::process_cpu_time() - span.cpu));
                }
            }
        }
        self.last = now;
        self.total.is_none()
    }

    /// The measurements.
    ///
    /// # Errors
    /// The connection ended before the time was over.
    pub(crate) fn outcome(&self) -> Result<Outcome> {
        let Some((elapsed, cpu)) = self.total else {
            return Err(fail!("the connection ended before enough was measured"));
        };
        let at = |quantile| self.round_trips.value_at_quantile(quantile);
        Ok(Outcome {
            count: self.round_trips.len() * u64::from(self.in_flight),
            elapsed: elapsed.as_nanos() as u64,
            cpu,
            p50: at(0.5),
            p99: at(0.99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_whole_round_trips_until_its_time_is_over() {
        for in_flight in [1, 16] {
            let mut meter = Meter::new(Duration::from_millis(1), in_flight).unwrap();
            meter.start();
            let mut laps = 1;
            while meter.lap() {
                assert!(meter.outcome().is_err());
                laps += 1;
            }
            let outcome = meter.outcome().unwrap();
            assert!(outcome.elapsed >= 1_000_000 && outcome.p50 <= outcome.p99, "{outcome:?}");
            assert!(
                outcome.count <= laps && outcome.count.is_multiple_of(u64::from(in_flight)),
                "{outcome:?} of {laps}"
            );
        }
    }
}
