//! Duties of the workers of every arm: the same code, so that arms differ only in how events reach it.

use super::arm::Arm;
use crate::fail::Result;
use crate::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// An event that is fired at a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// The sender.
    pub(crate) producer: u32,
    /// Whether it is the producer's last one.
    pub(crate) last: bool,
    /// The how many-th of the producer's it is.
    pub(crate) number: u64,
}

/// The duty of one worker, and the core it does it on, if it is to stay on one.
pub(crate) struct Duty<A: Arm> {
    core: Option<usize>,
    work: Work<A>,
}

enum Work<A: Arm> {
    Tally(Tally, Sender<(Tally, Instant)>),
    Ping(Ping<A>),
    Pong(Arc<OnceLock<A::Remote>>),
    Idle(Idle),
}

impl<A: Arm> Duty<A> {
    /// To count the events of so many producers, and to tell `done` when the last one has come.
    pub(crate) fn tally(producers: usize, core: Option<usize>, done: Sender<(Tally, Instant)>) -> Duty<A> {
        Duty { core, work: Work::Tally(Tally::new(producers), done) }
    }

    /// To send an event to `peer` again and again, and to take the time until it is back. The first event starts it.
    pub(crate) fn ping(
        peer: A::Remote,
        core: Option<usize>,
        trips: Trips,
        done: Sender<Result<Trips>>,
    ) -> Duty<A> {
        Duty { core, work: Work::Ping(Ping { peer, trips, done }) }
    }

    /// To send every event back to `peer`.
    pub(crate) fn pong(peer: Arc<OnceLock<A::Remote>>, core: Option<usize>) -> Duty<A> {
        Duty { core, work: Work::Pong(peer) }
    }

    /// To do nothing but to tell `awake` of events, and to be counted in `ended` when it is over.
    pub(crate) fn idle(awake: Sender<()>, ended: Arc<AtomicU64>) -> Duty<A> {
        Duty { core: None, work: Work::Idle(Idle { awake, ended }) }
    }

    /// Does what is to be done about an event, on the worker's thread.
    #[inline]
    pub(crate) fn on(&mut self, event: Event) {
        if let Some(core) = self.core.take() {
            pin::pin(core).expect("the cores were found usable before");
        }
        match &mut self.work {
            Work::Tally(tally, done) => {
                if tally.count(event) {
                    // A measurement that was given up has no receiver. The same below.
                    let _ = done.send((std::mem::take(tally), Instant::now()));
                }
            }
            Work::Ping(ping) => ping.on(event),
            Work::Pong(peer) => {
                let peer = peer.get().expect("the peer is known before it fires");
                // A peer that misses the event reports that itself.
                let _ = A::fire(peer, event);
            }
            Work::Idle(idle) => {
                let _ = idle.awake.send(());
            }
        }
    }
}

/// Counts events, and sees whether those of each producer come in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The number of each producer's next event.
    next: Vec<u64>,
    /// How many producers have still to send their last event.
    open: usize,
    /// How many events did not have the number that was the next.
    pub(crate) disordered: u64,
}

impl Tally {
    fn new(producers: usize) -> Tally {
        Tally { next: vec![0; producers], open: producers, disordered: 0 }
    }

    /// Takes an event in. Returns whether it was the last of all.
    #[inline]
    fn count(&mut self, event: Event) -> bool {
        let next = &mut self.next[event.producer as usize];
        if *next != event.number {
            self.disordered += 1;
        }
        *next += 1;
        self.open -= usize::from(event.last);
        event.last && self.open == 0
    }

    /// How many events have come.
    pub(crate) fn events(&self) -> u64 {
        self.next.iter().sum()
    }
}

struct Ping<A: Arm> {
    peer: A::Remote,
    trips: Trips,
    done: Sender<Result<Trips>>,
}

impl<A: Arm> Ping<A> {
    fn on(&mut self, event: Event) {
        match self.trips.back(event, Instant::now()) {
            Some(number) => {
                if let Err(error) = A::fire(&self.peer, Event { number, ..Event::default() }) {
                    let _ = self.done.send(Err(error));
                }
            }
            None => {
                let _ = self.done.send(Ok(std::mem::take(&mut self.trips)));
            }
        }
    }
}

/// Round trips: those to be made, and how long those made have taken.
#[derive(Debug, Default)]
pub(crate) struct Trips {
    count: usize,
    limit: Duration,
    began: Option<Instant>,
    left_at: Option<Instant>,
    made: u64,
    /// Nanoseconds each of them took.
    pub(crate) took: Vec<f64>,
    /// How many came back as another event than the one that was sent.
    pub(crate) wrong: u64,
}

impl Trips {
    /// The first ones find everything cold, and are not counted.
    const WARM_UP: u64 = 20;

    /// So many are to be made, unless they take longer than `limit`; one in any case, however slow the machine is.
    pub(crate) fn new(count: usize, limit: Duration) -> Trips {
        Trips { count, limit, took: Vec::with_capacity(count), ..Trips::default() }
    }

    /// An event is back (or starts the whole): returns the number to send next, if there is one.
    fn back(&mut self, event: Event, now: Instant) -> Option<u64> {
        let began = *self.began.get_or_insert(now);
        if let Some(left_at) = self.left_at {
            self.wrong += u64::from(event.number != self.made);
            if self.made > Trips::WARM_UP {
                self.took.push((now - left_at).as_nanos() as f64);
            }
        }
        let is_late = !self.took.is_empty() && now - began >= self.limit;
        if self.took.len() >= self.count || is_late {
            return None;
        }
        self.made += 1;
        self.left_at = Some(now);
        Some(self.made)
    }
}

struct Idle {
    awake: Sender<()>,
    ended: Arc<AtomicU64>,
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.ended.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(producer: u32, number: u64, last: bool) -> Event {
        Event { producer, last, number }
    }

    #[test]
    fn a_tally_ends_with_the_last_event_of_the_last_producer() {
        let mut tally = Tally::new(2);
        let ends = [event(0, 0, false), event(1, 0, true), event(0, 1, false), event(0, 2, true)]
            .map(|event| tally.count(event));
        assert_eq!(ends, [false, false, false, true]);
        assert_eq!((tally.events(), tally.disordered), (4, 0));
    }

    #[test]
    fn a_tally_sees_events_that_are_lost_doubled_or_exchanged() {
        let disordered = |numbers: &[u64]| {
            let mut tally = Tally::new(1);
            for number in numbers {
                tally.count(event(0, *number, false));
            }
            tally.disordered
        };
        assert_eq!(disordered(&[0, 1, 2]), 0);
        assert_ne!(disordered(&[0, 2, 3]), 0);
        assert_ne!(disordered(&[0, 0, 1]), 0);
        assert_ne!(disordered(&[0, 2, 1]), 0);
    }

    #[test]
    fn trips_are_timed_from_leaving_to_coming_back_after_the_warm_up() {
        let mut now = Instant::now();
        let mut trips = Trips::new(3, Duration::from_secs(60));
        let mut next = trips.back(Event::default(), now);
        while let Some(number) = next {
            now += Duration::from_nanos(number);
            next = trips.back(event(0, number, false), now);
        }
        let first = Trips::WARM_UP as f64 + 1.0;
        assert_eq!(trips.took, [first, first + 1.0, first + 2.0]);
        assert_eq!(trips.wrong, 0);
    }

    #[test]
    fn trips_end_when_their_time_is_over_and_one_was_timed() {
        let (start, late) = (Instant::now(), Duration::from_millis(5));
        let mut trips = Trips::new(1000, late);
        let mut next = trips.back(Event::default(), start);
        let mut made = 0;
        while let Some(number) = next {
            made += 1;
            next = trips.back(event(0, number, false), start + late);
        }
        assert_eq!((made, trips.took.len()), (Trips::WARM_UP + 1, 1));
    }

    #[test]
    fn a_trip_that_comes_back_as_another_is_wrong() {
        let now = Instant::now();
        let mut trips = Trips::new(3, Duration::from_secs(60));
        trips.back(Event::default(), now);
        trips.back(event(0, 7, false), now);
        assert_eq!(trips.wrong, 1);
    }
}
