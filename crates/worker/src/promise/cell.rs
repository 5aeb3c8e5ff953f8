//! What is settled once, and who waits for it.
//!
//! A waiter registers under the lock under which it saw that nothing is settled, and the settler takes all waiters out
//! under the lock under which it settles: so each waiter either sees the outcome or is woken. Nobody is woken, and
//! nothing of the user's is cloned or dropped, while the lock is held.

use std::sync::MutexGuard;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use slab::Slab;

use super::PromiseError;
use crate::lock::Lock;
use crate::{EventLoop, Remote};

pub(crate) type Settled<V> = Result<V, PromiseError>;

pub(crate) struct Core<V>(Lock<State<V>>);

struct State<V> {
    outcome: Outcome<V>,
    /// Empty as soon as there is an outcome.
    waiting: Slab<Waiting>,
}

pub(super) enum Outcome<V> {
    Pending,
    Settled(Settled<V>),
    Taken,
}

enum Waiting {
    Thread(Remote),
    Task(Waker),
}

/// How a waiter gets at the outcome.
pub(super) type Look<V> = fn(&mut Outcome<V>) -> Option<Settled<V>>;

impl<V> Outcome<V> {
    /// Takes it away from all others.
    pub(super) fn take(&mut self) -> Option<Settled<V>> {
        match std::mem::replace(self, Outcome::Taken) {
            Outcome::Pending => {
                *self = Outcome::Pending;
                None
            }
            Outcome::Settled(settled) => Some(settled),
            Outcome::Taken => Some(Err(PromiseError::Taken)),
        }
    }

    /// Leaves it to others as well.
    pub(super) fn share(&mut self) -> Option<Settled<V>>
    where
        V: Clone,
    {
        match self {
            Outcome::Pending => None,
            Outcome::Settled(settled) => Some(settled.clone()),
            Outcome::Taken => Some(Err(PromiseError::Taken)),
        }
    }
}

impl<V> Core<V> {
    pub(super) fn new() -> Core<V> {
        Core(Lock::new(State { outcome: Outcome::Pending, waiting: Slab::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, State<V>> {
        self.0.lock()
    }

    pub(super) fn is_settled(&self) -> bool {
        !matches!(self.lock().outcome, Outcome::Pending)
    }

    /// The first wins; the others get theirs back.
    pub(super) fn settle(&self, settled: Settled<V>) -> Result<(), Settled<V>> {
        let waiting = {
            let mut state = self.lock();
            if !matches!(state.outcome, Outcome::Pending) {
                return Err(settled);
            }
            state.outcome = Outcome::Settled(settled);
            std::mem::take(&mut state.waiting)
        };
        for (_, waiting) in waiting {
            match waiting {
                Waiting::Task(waker) => waker.wake(),
                Waiting::Thread(remote) => remote.wake(),
            }
        }
        Ok(())
    }

    pub(super) fn look(&self, look: Look<V>) -> Option<Settled<V>> {
        look(&mut self.lock().outcome)
    }

    pub(super) fn wait(&self, until: Option<Instant>, look: Look<V>) -> Settled<V> {
        let event_loop = EventLoop::current();
        let remote = event_loop.remote();
        let key = {
            let mut state = self.lock();
            if let Outcome::Pending = state.outcome {
                Some(state.waiting.insert(Waiting::Thread(remote)))
            } else {
                None
            }
        };
        // Also when a callback's panic ends the wait.
        let _place = Place { core: self, key };
        let mut settled = None;
        event_loop.wait(until, || {
            settled = self.look(look);
            settled.is_some()
        })?;
        settled.unwrap_or(Err(PromiseError::TimedOut))
    }

    /// `key` is the place of the task that polls, if it has one.
    pub(super) fn poll(
        &self,
        key: &mut Option<usize>,
        context: &Context<'_>,
        look: Look<V>,
    ) -> Poll<Settled<V>> {
        let waker = context.waker().clone();
        let mut state = self.lock();
        if let Some(settled) = look(&mut state.outcome) {
            *key = None;
            drop(state);
            return Poll::Ready(settled);
        }
        let old = match key.and_then(|key| state.waiting.get_mut(key)) {
            Some(place) => Some(std::mem::replace(place, Waiting::Task(waker))),
            None => {
                *key = Some(state.waiting.insert(Waiting::Task(waker)));
                None
            }
        };
        drop(state);
        drop(old);
        Poll::Pending
    }

    pub(super) fn leave(&self, key: Option<usize>) {
        if let Some(key) = key {
            let left = self.lock().waiting.try_remove(key);
            drop(left);
        }
    }
}

struct Place<'a, V> {
    core: &'a Core<V>,
    key: Option<usize>,
}

impl<V> Drop for Place<'_, V> {
    fn drop(&mut self) {
        self.core.leave(self.key);
    }
}
