//! Waiters: tasks that wait for a change of a connection.

use std::task::Waker;

/// Those who wait. A waiter that goes away without having been woken says so, by the number it was given.
#[derive(Default)]
pub(super) struct Waiters {
    list: Vec<(u64, Waker)>,
    last: u64,
}

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Notes who waits; `number` is its place, if it has one.
    pub(super) fn note(&mut self, number: &mut Option<u64>, waker: &Waker) {
        let place = number.and_then(|number| self.list.iter().position(|(other, _)| *other == number));
        match place {
            Some(place) => self.list[place].1.clone_from(waker),
            None => {
                self.last += 1;
                *number = Some(self.last);
                self.list.push((self.last, waker.clone()));
            }
        }
    }

    /// Forgets a waiter. Its waker is given back, to be dropped where no lock is held.
    pub(super) fn forget(&mut self, number: &mut Option<u64>) -> Option<Waker> {
        let number = number.take()?;
        let place = self.list.iter().position(|(other, _)| *other == number)?;
        Some(self.list.swap_remove(place).1)
    }

    /// All of them, to be woken where no lock is held, in the order in which they came.
    pub(super) fn take_all(&mut self, woken: &mut Vec<Waker>) {
        self.list.sort_unstable_by_key(|(number, _)| *number);
        woken.extend(self.list.drain(..).map(|(_, waker)| waker));
    }
}
