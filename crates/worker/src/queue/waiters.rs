//! Wait queues: threads that wait for their turn at shared state, without lost wake-ups.
//!
//! An item stays where it is until a waiter takes it: a waiter is only woken, and then takes it like any other thread. So
//! nothing is ever in the hands of a waiter that has gone, and a newcomer that is quicker takes nothing away but time. Three
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

/// The number of calls in a row that did not have to wait, before the loop of the thread gets a turn.
const QUICK_CALLS: u32 = 128;

/// The number of times that a thread lets others run before it goes to sleep, if nobody sleeps in its line already: an item
/// is often on its way, and to sleep and be woken costs more. Few, since the loop does not turn meanwhile.
const YIELDS: u32 = 4;

thread_local! {
    static QUICK: Cell<u32> = const { Cell::new(0) };
}

/// The threads of one line that have not been woken.
#[derive(Default)]
pub(crate) struct Waiters {
    asleep: BTreeMap<u64, Arc<WaitingThread>>,
    tickets: u64,
}

/// A thread in a line.
pub(crate) struct WaitingThread {
    ticket: u64,
    remote: Remote,
    woken: AtomicBool,
    /// A timer that rings if the thread doesn't come although it was woken. Used by its own thread only.
    held_up: Lock<Option<TimerId>>,
}

impl Waiters {
    fn enter(&mut self, remote: Remote) -> Arc<WaitingThread> {
        self.tickets += 1;
        let waiter = WaitingThread {
            ticket: self.tickets,
            remote,
            woken: AtomicBool::new(false),
            held_up: Lock::new(None),
        };
        let waiter = Arc::new(waiter);
        self.asleep.insert(waiter.ticket, Arc::clone(&waiter));
        waiter
    }

    /// Takes out the thread that has waited longest: it is to be [told](Monitor::tell) when the lock is released.
    #[inline]
    pub(crate) fn wake_first(&mut self) -> Option<Arc<WaitingThread>> {
        let (_, waiter) = self.asleep.pop_first()?;
        waiter.woken.store(true, Ordering::Release);
        Some(waiter)
    }

    /// As [`wake_first`](Waiters::wake_first), for all threads of the line.
    pub(crate) fn wake_all(&mut self) -> Vec<Arc<WaitingThread>> {
        std::iter::from_fn(|| self.wake_first()).collect()
    }
}

/// The outcome of a waiter's attempt.
pub(crate) enum Attempt<R> {
    /// The attempt succeeded, with this result, and this other waiter can go on because of that.
    Done(R, Option<ToWake>),
    /// The waiter has to wait.
    NotYet,
}

/// A waiter of the given line that is to be told.
pub(crate) type ToWake = (WaitLine, Arc<WaitingThread>);

/// The index of a line among those of [`WaitLines`].
pub(crate) type WaitLine = usize;

/// Something under a lock with lines of waiters.
pub(crate) trait WaitLines: Send + 'static {
    /// The threads that wait in a line.
    fn line(&mut self, line: WaitLine) -> &mut Waiters;

    /// Whether there is an item (or room) for one more thread of that line.
    fn has_room_for(&self, line: WaitLine) -> bool;
}

/// State under a lock, with lines of threads that wait for it (a monitor).
pub(crate) struct Monitor<S>(Lock<S>);

impl<S: WaitLines> Monitor<S> {
    pub(crate) fn new(state: S) -> Arc<Monitor<S>> {
        Arc::new(Monitor(Lock::new(state)))
    }

    /// No code of a user runs under this lock.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, S> {
        self.0.lock()
    }

    /// Tries at once and then each time it is woken, while the loop of this thread turns. `Ok(None)` when the time is up.
    pub(crate) fn wait<R>(
        self: &Arc<Self>,
        line: WaitLine,
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
            break LineGuard { shared: self, line, waiter, served: Cell::new(false) };
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

    /// Has threads that were taken out of their lines look at the state. Not to be called under the lock.
    #[inline]
    pub(crate) fn tell(self: &Arc<Self>, wakes: impl IntoIterator<Item = ToWake>) {
        for (line, waiter) in wakes {
            self.tell_one(line, waiter);
        }
    }

    fn tell_one(self: &Arc<Self>, line: WaitLine, waiter: Arc<WaitingThread>) {
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

    /// Passes the wake-up of `late` on to the next in the line. `late` still looks for itself when it comes.
    fn let_the_next_in(self: &Arc<Self>, line: WaitLine, late: &WaitingThread) {
        let next = {
            let mut state = self.lock();
            let unserved = late.woken.load(Ordering::Relaxed) && state.has_room_for(line);
            if unserved { state.line(line).wake_first() } else { None }
        };
        self.tell(next.map(|waiter| (line, waiter)));
    }
}

impl WaitingThread {
    fn set_timer(&self, timer: Option<TimerId>) -> Option<TimerId> {
        std::mem::replace(&mut self.held_up.lock(), timer)
    }
}

/// A place in a line. Dropping it leaves the line, also when a callback's panic ends the wait.
struct LineGuard<'a, S: WaitLines> {
    shared: &'a Arc<Monitor<S>>,
    line: WaitLine,
    waiter: Arc<WaitingThread>,
    served: Cell<bool>,
}

impl<S: WaitLines> LineGuard<'_, S> {
    fn came(&self, event_loop: &EventLoop) {
        if let Some(timer) = self.waiter.set_timer(None) {
            event_loop.cancel(timer);
        }
    }
}

impl<S: WaitLines> Drop for LineGuard<'_, S> {
    fn drop(&mut self) {
        let next = {
            let mut state = self.shared.lock();
            let was_asleep = state.line(self.line).asleep.remove(&self.waiter.ticket).is_some();
            // From here on the timer has nothing to pass on.
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
