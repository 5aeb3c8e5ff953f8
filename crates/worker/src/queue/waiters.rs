//! Threads that wait for their turn at something shared.
//!
//! What they wait for stays where it is: a waiter is only woken, and then takes it like anybody else. So nothing is
//! ever in the hands of a waiter that has gone, and a newcomer that is quicker takes nothing away but time. Three
//! rules keep a wake-up from being lost:
//!
//! - Waiters are woken in the order in which they came. One that finds nothing left goes back to its old place.
//! - One that leaves (it timed out, was stopped, or panicked) after it was woken wakes the next in its place.
//! - One that is woken and can't come, because a callback of its loop waits inside of its wait, lets the next one in.
//!   It learns so from a timer: its own turn would have come before.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::lock::Lock;
use crate::{EventLoop, Remote, Stopped, TimerId};

/// How many times a thread may do without waiting what could have waited, before its loop gets a turn.
const QUICK_CALLS: u32 = 128;

/// How often a thread lets others run before it goes to sleep, if nobody sleeps in its line already: what it waits for
/// is often on its way, and to sleep and be woken costs more. Few, since its loop does not turn meanwhile.
const YIELDS: u32 = 4;

thread_local! {
    static QUICK: Cell<u32> = const { Cell::new(0) };
}

/// Those who wait for the same thing and have not been woken.
#[derive(Default)]
pub(crate) struct Waiters {
    asleep: BTreeMap<u64, Arc<Waiter>>,
    tickets: u64,
}

/// One waiting thread.
pub(crate) struct Waiter {
    ticket: u64,
    remote: Remote,
    woken: AtomicBool,
    /// Rings if it doesn't come although it was woken. Only its own thread uses it.
    held_up: Lock<Option<TimerId>>,
}

impl Waiters {
    fn enter(&mut self, remote: Remote) -> Arc<Waiter> {
        self.tickets += 1;
        let waiter =
            Waiter { ticket: self.tickets, remote, woken: AtomicBool::new(false), held_up: Lock::new(None) };
        let waiter = Arc::new(waiter);
        self.asleep.insert(waiter.ticket, Arc::clone(&waiter));
        waiter
    }

    /// Takes out the one that has waited longest: it is to be [told](Shared::tell) when the lock is released.
    #[inline]
    pub(crate) fn wake_first(&mut self) -> Option<Arc<Waiter>> {
        let (_, waiter) = self.asleep.pop_first()?;
        waiter.woken.store(true, Ordering::Release);
        Some(waiter)
    }

    /// The same for all of them.
    pub(crate) fn wake_all(&mut self) -> Vec<Arc<Waiter>> {
        std::iter::from_fn(|| self.wake_first()).collect()
    }
}

/// What a waiter's attempt came to.
pub(crate) enum Attempt<R> {
    /// It has what it waited for, and this other waiter can go on because of that.
    Done(R, Option<Wake>),
    /// It has to wait.
    NotYet,
}

/// A waiter of the given line that is to be told.
pub(crate) type Wake = (Line, Arc<Waiter>);

/// Which of the lines of [`Lines`].
pub(crate) type Line = usize;

/// Something under a lock with lines of waiters.
pub(crate) trait Lines: Send + 'static {
    /// Those who wait in a line.
    fn line(&mut self, line: Line) -> &mut Waiters;

    /// Whether there is something for one more of that line.
    fn has_room_for(&self, line: Line) -> bool;
}

/// State that threads wait for.
pub(crate) struct Shared<S>(Lock<S>);

impl<S: Lines> Shared<S> {
    pub(crate) fn new(state: S) -> Arc<Shared<S>> {
        Arc::new(Shared(Lock::new(state)))
    }

    /// No code of a user runs under this lock.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, S> {
        self.0.lock()
    }

    /// Tries at once and then each time it is woken, while the loop of this thread turns. `Ok(None)` when the time is up.
    pub(crate) fn wait<R>(
        self: &Arc<Self>,
        line: Line,
        until: Option<Instant>,
        mut attempt: impl FnMut(&mut S) -> Attempt<R>,
    ) -> Result<Option<R>, Stopped> {
        let event_loop = EventLoop::current();
        give_the_loop_a_turn(&event_loop)?;
        let mut yields = if until.is_none() { YIELDS } else { 0 };
        let place = loop {
            let mut state = self.lock();
            if let Attempt::Done(result, wake) = attempt(&mut state) {
                drop(state);
                self.tell(wake);
                return Ok(Some(result));
            }
            if yields > 0 && state.line(line).asleep.is_empty() {
                drop(state);
                yields -= 1;
                thread::yield_now();
                continue;
            }
            let waiter = state.line(line).enter(event_loop.remote());
            break Place { shared: self, line, waiter, served: Cell::new(false) };
        };
        let mut result = None;
        event_loop.wait(until, || {
            if !place.waiter.woken.load(Ordering::Acquire) {
                return false;
            }
            place.came(&event_loop);
            let mut state = self.lock();
            match attempt(&mut state) {
                Attempt::Done(done, wake) => {
                    place.served.set(true);
                    drop(state);
                    result = Some(done);
                    self.tell(wake);
                    true
                }
                Attempt::NotYet => {
                    let waiter = &place.waiter;
                    waiter.woken.store(false, Ordering::Relaxed);
                    state.line(line).asleep.insert(waiter.ticket, Arc::clone(waiter));
                    false
                }
            }
        })?;
        Ok(result)
    }

    /// Has waiters that were taken out of their line look at the state. Not to be called under the lock.
    #[inline]
    pub(crate) fn tell(self: &Arc<Self>, wakes: impl IntoIterator<Item = Wake>) {
        for (line, waiter) in wakes {
            self.tell_one(line, waiter);
        }
    }

    fn tell_one(self: &Arc<Self>, line: Line, waiter: Arc<Waiter>) {
        let shared = Arc::clone(self);
        let remote = waiter.remote.clone();
        // A waiter whose loop has ended has left, or is about to: then it wakes the next.
        let _ = remote.post(move |event_loop| {
            if !waiter.woken.load(Ordering::Relaxed) {
                return;
            }
            let late = Arc::clone(&waiter);
            let timer = event_loop.after(Duration::ZERO, move || shared.let_the_next_in(line, &late));
            waiter.set_timer(Some(timer));
        });
    }

    /// What `late` was woken for goes to the next in the line. It still looks for itself when it comes.
    fn let_the_next_in(self: &Arc<Self>, line: Line, late: &Waiter) {
        let next = {
            let mut state = self.lock();
            let unserved = late.woken.load(Ordering::Relaxed) && state.has_room_for(line);
            if unserved { state.line(line).wake_first() } else { None }
        };
        self.tell(next.map(|waiter| (line, waiter)));
    }
}

impl Waiter {
    fn set_timer(&self, timer: Option<TimerId>) -> Option<TimerId> {
        std::mem::replace(&mut self.held_up.lock(), timer)
    }
}

/// A place in a line. Dropping it leaves the line, also when a callback's panic ends the wait.
struct Place<'a, S: Lines> {
    shared: &'a Arc<Shared<S>>,
    line: Line,
    waiter: Arc<Waiter>,
    served: Cell<bool>,
}

impl<S: Lines> Place<'_, S> {
    fn came(&self, event_loop: &EventLoop) {
        if let Some(timer) = self.waiter.set_timer(None) {
            event_loop.cancel(timer);
        }
    }
}

impl<S: Lines> Drop for Place<'_, S> {
    fn drop(&mut self) {
        let next = {
            let mut state = self.shared.lock();
            let was_asleep = state.line(self.line).asleep.remove(&self.waiter.ticket).is_some();
            // From here on its timer has nothing to pass on.
            self.waiter.woken.store(false, Ordering::Relaxed);
            if was_asleep || self.served.get() || !state.has_room_for(self.line) {
                None
            } else {
                state.line(self.line).wake_first()
            }
        };
        self.shared.tell(next.map(|waiter| (self.line, waiter)));
    }
}

/// A thread that never has to wait must not starve its sockets and timers, nor miss that it is to stop.
#[inline]
fn give_the_loop_a_turn(event_loop: &EventLoop) -> Result<(), Stopped> {
    if event_loop.is_stopping() {
        return Err(Stopped);
    }
    let calls = QUICK.get() + 1;
    if calls < QUICK_CALLS {
        QUICK.set(calls);
        return Ok(());
    }
    QUICK.set(0);
    event_loop.update()
}
