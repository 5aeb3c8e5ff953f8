//! The timer queue of an event loop: an ordered map by deadline.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The time `delay` after `now`. A time that the clock can't count to is so far off that it never comes.
pub(crate) fn after(now: Instant, delay: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);
    now.checked_add(delay).unwrap_or_else(|| now + NEVER)
}

/// The identity of a timer, by which it is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId {
    due: Instant,
    /// Tells timers of the same instant apart, in the order in which they were set.
    number: u64,
}

/// Timers in the order in which they are due. Time is an argument: nothing here reads a clock.
pub(crate) struct Timers<T> {
    pending: BTreeMap<TimerId, T>,
    set: u64,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Timers<T> {
        Timers { pending: BTreeMap::new(), set: 0 }
    }

    pub(crate) fn set(&mut self, due: Instant, what: T) -> TimerId {
        self.set += 1;
        let id = TimerId { due, number: self.set };
        self.pending.insert(id, what);
        id
    }

    pub(crate) fn cancel(&mut self, id: TimerId) -> Option<T> {
        self.pending.remove(&id)
    }

    /// Takes all that are left.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.pending).into_values()
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.pending.keys().next().map(|id| id.due)
    }

    /// The number of timers that have ever been set: a bound for [`pop`](Timers::pop).
    pub(crate) fn last_set(&self) -> u64 {
        self.set
    }

    /// Takes the next one, if it is due at `now` and was not set after the `last`.
    pub(crate) fn pop(&mut self, now: Instant, last: u64) -> Option<T> {
        let first = self.pending.first_entry()?;
        (first.key().due <= now && first.key().number <= last).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn come_in_the_order_in_which_they_are_due_and_then_in_which_they_were_set() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut timers = Timers::new();
        timers.set(at(20), "c");
        timers.set(at(10), "a");
        timers.set(at(10), "b");
        let cancelled = timers.set(at(10), "cancelled");
        assert_eq!(timers.cancel(cancelled), Some("cancelled"));
        assert_eq!(timers.cancel(cancelled), None);

        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop(at(9), 9), None);
        assert_eq!(timers.pop(at(10), 9), Some("a"));
        assert_eq!(timers.pop(at(15), 9), Some("b"));
        assert_eq!(timers.pop(at(15), 9), None);
        assert_eq!(timers.pop(at(25), 9), Some("c"));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn one_that_is_set_while_others_run_waits_for_the_next_turn() {
        let now = Instant::now();
        let mut timers = Timers::new();
        timers.set(now, "first");
        let last = timers.last_set();
        assert_eq!(timers.pop(now, last), Some("first"));
        timers.set(now, "set by the first");
        assert_eq!(timers.pop(now, last), None);
        assert_eq!(timers.pop(now, timers.last_set()), Some("set by the first"));
    }
}
