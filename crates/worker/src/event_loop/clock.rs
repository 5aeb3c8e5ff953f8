//! The time of a loop's turn: one clock read per wake-up, shared by all that need the time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use super::EventLoop;

/// The clock of a loop, read once per turn, and only while somebody keeps time.
#[derive(Debug)]
pub(super) struct Clock {
    keepers: Cell<usize>,
    turned_at: Cell<Instant>,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Rc<Clock> {
        Rc::new(Clock { keepers: Cell::new(0), turned_at: Cell::new(now) })
    }

    /// The loop has polled.
    #[inline]
    pub(super) fn turn(&self) {
        if self.keepers.get() > 0 {
            self.turned_at.set(Instant::now());
        }
    }
}

impl EventLoop {
    /// The time at which the loop has last polled, about, and found the work that it does now. Nested waits poll too, so
    /// it may move on during a callback, and it never goes back.
    ///
    /// While there is a [`TimeKeeper`], the loop notes it once per turn, and asking costs nothing. Without one, this reads the
    /// clock, and so tells the present.
    ///
    /// ```
    /// use threadwire_worker::EventLoop;
    /// let event_loop = EventLoop::current();
    /// let _keeper = event_loop.keep_time();
    /// assert_eq!(event_loop.turned_at(), event_loop.turned_at(), "it has not turned between");
    /// ```
    #[inline]
    pub fn turned_at(&self) -> Instant {
        if self.clock.keepers.get() > 0 { self.clock.turned_at.get() } else { Instant::now() }
    }

    /// Has the loop note the time of each turn, for [`turned_at`](EventLoop::turned_at), until what this returns is dropped:
    /// one clock read per turn, however many want it.
    pub fn keep_time(&self) -> TimeKeeper {
        let keepers = &self.clock.keepers;
        if keepers.get() == 0 {
            // The time that was noted for earlier keepers is old.
            self.clock.turned_at.set(Instant::now());
        }
        keepers.set(keepers.get() + 1);
        TimeKeeper(Rc::clone(&self.clock))
    }
}

/// While it is alive, its loop notes the time of each turn. See [`EventLoop::keep_time`].
#[derive(Debug)]
#[must_use = "a loop keeps time only while this is alive"]
pub struct TimeKeeper(Rc<Clock>);

impl Drop for TimeKeeper {
    fn drop(&mut self) {
        self.0.keepers.set(self.0.keepers.get() - 1);
    }
}
