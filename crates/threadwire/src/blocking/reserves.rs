//! Reserves of a server whose connections go to threads of their own: what a connection needs there is had before its handshake is
//! answered.
//!
//! A thread that has no loop yet needs descriptors for one. Each connection that is opened is promised a reserve, and there are always
//! as many as were promised. Where a thread turns out to have a loop, the reserve comes back for the next connection.

use std::fmt;
use std::io;
use std::sync::Arc;

use threadwire_worker::{EventLoop, Lock, Reserve};

/// How many more than were promised are kept.
const SPARE: usize = 2;

#[derive(Clone, Default)]
pub(super) struct Reserves(Arc<Lock<Stock>>);

#[derive(Default)]
struct Stock {
    there: Vec<Reserve>,
    promised: usize,
}

/// A reserve is there for a connection, until this is dropped.
pub(super) struct Promise(Reserves);

impl Reserves {
    /// Promises one. Fails if the system has no descriptors left.
    pub(super) fn promise(&self) -> io::Result<Promise> {
        let mut stock = self.0.lock();
        if stock.there.len() <= stock.promised {
            let reserve = Reserve::new()?;
            stock.there.push(reserve);
        }
        stock.promised += 1;
        drop(stock);
        Ok(Promise(self.clone()))
    }

    /// Takes the one that was promised to a connection, whose promise is dropped next.
    pub(super) fn take(&self) -> Option<Reserve> {
        self.0.lock().there.pop()
    }

    /// Takes one back.
    pub(super) fn give_back(&self, reserve: Reserve) {
        let mut stock = self.0.lock();
        if stock.there.len() < stock.promised + SPARE {
            stock.there.push(reserve);
        }
    }

    /// The loop of this thread gets the reserve if it needs it.
    pub(super) fn equip(&self, reserve: Option<Reserve>) {
        if let Some(left) = reserve.and_then(|reserve| EventLoop::current().equip(reserve)) {
            self.give_back(left);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut stock = self.0.0.lock();
        stock.promised -= 1;
        let left = stock.promised + SPARE;
        let too_many = if stock.there.len() > left { stock.there.pop() } else { None };
        drop(stock);
        drop(too_many);
    }
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a promise")
    }
}
