//! Nested waits, the primitive of all others: they hold while the worker is paused, and end with a stop.

use std::panic::Location;
use std::time::{Duration, Instant};

use super::EventLoop;
use super::inbox::{PAUSE, STOP};
use super::timer;
use crate::Stopped;

/// The shortest time between two polls of a [checkpoint](crate::checkpoint).
const CHECK_EVERY: Duration = Duration::from_millis(1);

impl EventLoop {
    /// Turns the loop until `done` says so (`Ok(true)`), or until the given time has come (`Ok(false)`), or until the
    /// worker is stopped. All other waits are made of this one.
    ///
    /// Waits nest: a callback may wait, and the callbacks of that wait too, [`MAX_NESTING`](EventLoop::MAX_NESTING)
    /// deep. They end last in, first out: an outer wait that is due returns when the waits inside of it have ended. Use
    /// a timer, or another worker, where that is not wanted.
    ///
    /// While the worker is [paused](crate::Remote::pause), the outermost wait does not end.
    ///
    /// `done` is asked after every turn, and nothing but mail, sockets, timers and [`Remote::wake`](crate::Remote::wake) makes a loop turn:
    /// a variable that another thread changes does not. ([`wait_until`](crate::wait_until) asks now and then all the same.)
    #[track_caller]
    pub fn wait(&self, until: Option<Instant>, done: impl FnMut() -> bool) -> Result<bool, Stopped> {
        self.wait_asking(until, None, done)
    }

    /// As [`wait`](EventLoop::wait), asking `done` at least each time that `every` has passed.
    #[inline]
    #[track_caller]
    pub(crate) fn wait_asking(
        &self,
        until: Option<Instant>,
        every: Option<Duration>,
        mut done: impl FnMut() -> bool,
    ) -> Result<bool, Stopped> {
        let is_of_task = self.is_outermost();
        if is_of_task && let Some(topic) = self.keeping.take() {
            topic.forget_kept();
        }
        let _nested = self.nest(Location::caller());
        let mut has_turned = false;
        loop {
            // Gathered output leaves even if there is nothing to wait for, and flushing may bring what is waited for.
            self.flush();
            if self.is_stopping() {
                return Err(Stopped);
            }
            if is_of_task && self.is_paused() {
                self.turn(None);
                has_turned = true;
                continue;
            }
            let done = done();
            if done || until.is_some_and(|until| until <= Instant::now()) {
                if !has_turned {
                    self.turn_now_and_then();
                }
                return Ok(done);
            }
            let next = every.and_then(|every| Instant::now().checked_add(every));
            self.turn(next.map_or(until, |next| Some(until.map_or(next, |until| until.min(next)))));
            has_turned = true;
        }
    }

    /// Turns the loop of a thread that is no worker and was stopped, until `done` says so: for what ends with the thread, and can't be waited
    /// for by other waits any more. (The loop of a worker goes on turning after its task.) All such calls together take no longer than the
    /// thread's [grace](EventLoop::set_grace).
    #[doc(hidden)]
    #[track_caller]
    pub fn wind_down(&self, mut done: impl FnMut() -> bool) {
        if self.has_task() || self.finished.get() || !self.is_stopping() {
            return;
        }
        let deadline =
            self.winds_down_until.get().unwrap_or_else(|| timer::after(Instant::now(), self.grace.get()));
        self.winds_down_until.set(Some(deadline));
        let _nested = self.nest(Location::caller());
        let was_winding_down = self.winds_down.replace(true);
        while !done() && Instant::now() < deadline {
            self.turn(Some(deadline));
        }
        self.winds_down.set(was_winding_down);
    }

    /// Turns the loop at every 16th wait that had nothing to wait for: a program that makes only such waits must not starve its
    /// sockets.
    fn turn_now_and_then(&self) {
        const NOW_AND_THEN: u32 = 16;
        let immediate = self.immediate.get() + 1;
        self.immediate.set(immediate);
        if immediate >= NOW_AND_THEN {
            self.turn(Some(Instant::now()));
        }
    }

    /// Does what there is to do, without waiting (unless the worker is paused): the hook for a program that has a loop of
    /// its own.
    #[track_caller]
    pub fn update(&self) -> Result<(), Stopped> {
        let is_of_task = self.is_outermost();
        let _nested = self.nest(Location::caller());
        // The thread may have slept in another loop.
        self.worker.inbox.wake_up();
        if !self.is_stopping() {
            self.turn(Some(Instant::now()));
        }
        while is_of_task && self.is_paused() && !self.is_stopping() {
            self.turn(None);
        }
        if self.is_stopping() { Err(Stopped) } else { Ok(()) }
    }

    /// As [`update`](EventLoop::update), if there is mail or a millisecond has passed.
    #[inline]
    pub(crate) fn checkpoint(&self) -> Result<(), Stopped> {
        let inbox = &self.worker.inbox;
        let has_mail = inbox.has_some() || !self.mail.borrow().is_empty();
        if inbox.has(STOP | PAUSE) || has_mail || self.turned.get().elapsed() >= CHECK_EVERY {
            self.update()?;
            self.turned.set(Instant::now());
        }
        Ok(())
    }
}
