//! Recorder of round trips: one reading of the clock for each.

use crate::fail;
use crate::fail::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Before it records, it lets pass its time divided by this.
const WARM_UP: u32 = 10;
/// The longest round trip that is told from longer ones, in nanoseconds.
const LONGEST: u64 = 10_000_000_000;

/// The measurements of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Round trips recorded.
    pub(crate) count: u64,
    /// The median, in nanoseconds.
    pub(crate) p50: u64,
    /// The 99th percentile.
    pub(crate) p99: u64,
    /// The 99.9th percentile.
    pub(crate) p999: u64,
}

/// Records round trips that follow each other without a pause.
///
/// The end of one is the beginning of the next: so what the client's own code does in between is part of it, and a call
/// of [`lap`](Recorder::lap) itself.
#[derive(Debug)]
pub(crate) struct Recorder {
    time: Duration,
    /// From when on is recorded, and until when; both are known when it has started.
    span: Option<(Instant, Instant)>,
    last: Instant,
    done: bool,
    round_trips: Histogram<u64>,
}

impl Recorder {
    /// One that records for this long, and at least one round trip.
    pub(crate) fn new(time: Duration) -> Result<Recorder> {
        let round_trips = Histogram::new_with_max(LONGEST, 3)?;
        Ok(Recorder { time, span: None, last: Instant::now(), done: false, round_trips })
    }

    /// The connection is open, and the first message is about to be sent.
    pub(crate) fn start(&mut self) {
        self.last = Instant::now();
        let from = self.last + self.time / WARM_UP;
        self.span = Some((from, from + self.time));
    }

    /// An echo has come. Whether another message shall be sent.
    pub(crate) fn lap(&mut self) -> bool {
        let now = Instant::now();
        let Some((from, until)) = self.span else { return false };
        if self.last >= from {
            self.round_trips.saturating_record((now - self.last).as_nanos() as u64);
        }
        self.last = now;
        self.done = now >= until && !self.round_trips.is_empty();
        !self.done
    }

    /// The recorded times.
    ///
    /// # Errors
    /// The connection ended before the time was over.
    pub(crate) fn outcome(&self) -> Result<Outcome> {
        if !self.done {
            return Err(fail!("the connection ended before enough was measured"));
        }
        let at = |quantile| self.round_trips.value_at_quantile(quantile);
        Ok(Outcome { count: self.round_trips.len(), p50: at(0.5), p99: at(0.99), p999: at(0.999) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_until_its_time_is_over() {
        let mut recorder = Recorder::new(Duration::from_millis(1)).unwrap();
        assert!(!recorder.lap(), "it has not started");
        let begin = Instant::now();
        recorder.start();
        let mut laps = 1;
        while recorder.lap() {
            assert!(recorder.outcome().is_err());
            laps += 1;
        }
        assert!(begin.elapsed() >= Duration::from_millis(1));
        let outcome = recorder.outcome().unwrap();
        assert!((1..=laps).contains(&outcome.count), "{outcome:?} of {laps}");
        assert!(outcome.p50 <= outcome.p99 && outcome.p99 <= outcome.p999);
    }
}
