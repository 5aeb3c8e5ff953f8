//! A once-settled cell, and the threads and wakers that wait for it.
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

pub(crate) struct PromiseCell<V>(Lock<CellState<V>>);

struct CellState<V> {
    outcome: Settlement<V>,
    /// The waiters; empty as soon as there is an outcome.
    waiting: Slab<PromiseWaiter>,
}

pub(super) enum Settlement<V> {
    Pending,
    Settled(Settled<V>),
    Taken,
}

enum PromiseWaiter {
    Thread(Remote),
    Task(Waker),
}

/// The access of a waiter to the outcome: it takes or shares it.
pub(super) type Access<V> = fn(&mut Settlement<V>) -> Option<Settled<V>>;

impl<V> Settlement<V> {
    /// Takes the outcome away from all others.
    pub(super) fn take(&mut self) -> Option<Settled<V>> {
        match std::mem::replace(self, Settlement::Taken) {
            Settlement::Pending => {
                *self = Settlement::Pending;
                None
            }
            Settlement::Settled(settled) => Some(settled),
            Settlement::Taken => Some(Err(PromiseError::Taken)),
        }
    }

    /// Clones the outcome, and leaves it to others.
    pub(super) fn share(&mut self) -> Option<Settled<V>>
    where
        V: Clone,
    {
        match self {
            Settlement::Pending => None,
            Settlement::Settled(settled) => Some(settled.clone()),
            Settlement::Taken => Some(Err(PromiseError::Taken)),
        }
    }
}

impl<V> PromiseCell<V> {
    pub(super) fn new() -> PromiseCell<V> {
        PromiseCell(Lock::new(CellState { outcome: Settlement::Pending, waiting: Slab::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, CellState<V>> {
        self.0.lock()
    }

    pub(super) fn is_settled(&self) -> bool {
        !matches!(self.lock().outcome, Settlement::Pending)
    }

    /// Settles the cell. The first caller wins; the others get their values back.
    pub(super) fn settle(&self, settled: Settled<V>) -> Result<(), Settled<V>> {
        let waiting = {
            let mut state = self.lock();
            if !matches!(state.outcome, Settlement::Pending) {
                return Err(settled);
            }
            state.outcome = Settlement::Settled(settled);
            std::mem::take(&mut state.waiting)
        };
        for (_, waiting) in waiting {
            match waiting {
                // The code of some executor: the others are told whatever it does.
                PromiseWaiter::Task(waker) => {
                    threadwire_guard::contain("a waker", || waker.wake());
                }
                PromiseWaiter::Thread(remote) => remote.wake(),
            }
        }
        Ok(())
    }

    pub(super) fn look(&self, look: Access<V>) -> Option<Settled<V>> {
        look(&mut self.lock().outcome)
    }

    pub(super) fn wait(&self, until: Option<Instant>, look: Access<V>) -> Settled<V> {
        let event_loop = EventLoop::current();
        let remote = event_loop.remote();
        let key = {
            let mut state = self.lock();
            if let Settlement::Pending = state.outcome {
                Some(state.waiting.insert(PromiseWaiter::Thread(remote)))
            } else {
                None
            }
        };
        // Leaves the waiters also when a callback's panic ends the wait.
        let _place = WaiterGuard { cell: self, key };
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
        look: Access<V>,
    ) -> Poll<Settled<V>> {
        let waker = context.waker().clone();
        let mut state = self.lock();
        if let Some(settled) = look(&mut state.outcome) {
            *key = None;
            drop(state);
            return Poll::Ready(settled);
        }
        let old = match key.and_then(|key| state.waiting.get_mut(key)) {
            Some(place) => Some(std::mem::replace(place, PromiseWaiter::Task(waker))),
            None => {
                *key = Some(state.waiting.insert(PromiseWaiter::Task(waker)));
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

struct WaiterGuard<'a, V> {
    cell: &'a PromiseCell<V>,
    key: Option<usize>,
}

impl<V> Drop for WaiterGuard<'_, V> {
    fn drop(&mut self) {
        self.cell.leave(self.key);
    }
}
