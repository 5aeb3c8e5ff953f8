//! A flag that wakes those who wait for it, on whichever threads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::lock::Lock;
use crate::{EventLoop, Remote, Stopped};

/// A flag that any thread sets, and that wakes those who wait for it at once: what an atomic `bool` in a
/// [`wait_until`](crate::wait_until) is not. Clones are the same flag.
///
/// A wait sees each [`set`](Flag::set) that comes while it waits, also one that is cleared right away. For a value instead of a yes use a
/// [`Defer`](crate::Defer), and to stop workers a [`StopToken`](crate::StopToken).
///
/// ```
/// use threadwire_worker::Flag;
///
/// let ready = Flag::new();
/// std::thread::spawn({
///     let ready = ready.clone();
///     move || ready.set()
/// });
/// ready.wait()?; // this thread's loop turns meanwhile
/// assert!(ready.is_set());
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
#[derive(Clone, Default)]
pub struct Flag(Arc<FlagState>);

#[derive(Default)]
struct FlagState {
    /// The number of changes: it is odd while the flag is set.
    changes: AtomicU64,
    /// The loops that wait for the next change.
    waiting: Lock<Slab<Remote>>,
}

fn is_set(changes: u64) -> bool {
    changes % 2 == 1
}

impl Flag {
    /// A flag that is not set.
    pub fn new() -> Flag {
        Flag::default()
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        is_set(self.0.changes.load(Ordering::Acquire))
    }

    /// Sets it, and wakes all who wait for it. Returns whether it was not set before.
    pub fn set(&self) -> bool {
        let waiting: Vec<Remote> = {
            // The flag changes under the lock under which waits look at it last: each sees the change or is woken.
            let waiting = self.0.waiting.lock();
            if self.is_set() {
                return false;
            }
            self.0.changes.fetch_add(1, Ordering::AcqRel);
            waiting.iter().map(|(_, remote)| remote.clone()).collect()
        };
        waiting.iter().for_each(Remote::wake);
        true
    }

    /// Clears it: waits that begin afterwards wait for the next [`set`](Flag::set). Returns whether it was set.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire_worker::Flag;
    /// let flag = Flag::new();
    /// flag.set();
    /// assert!(flag.clear());
    /// assert!(!flag.wait_timeout(Duration::from_millis(1))?);
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    pub fn clear(&self) -> bool {
        let _waiting = self.0.waiting.lock();
        let was_set = self.is_set();
        if was_set {
            self.0.changes.fetch_add(1, Ordering::AcqRel);
        }
        was_set
    }

    /// Waits until it is set, while the loop of this thread turns. Returns at once if it is.
    pub fn wait(&self) -> Result<(), Stopped> {
        self.wait_to(None).map(drop)
    }

    /// As [`wait`](Flag::wait), for at most `timeout`. Returns whether it was set.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, Stopped> {
        self.wait_to(Instant::now().checked_add(timeout))
    }

    fn wait_to(&self, until: Option<Instant>) -> Result<bool, Stopped> {
        let event_loop = EventLoop::current();
        let (place, before) = {
            let mut waiting = self.0.waiting.lock();
            (waiting.insert(event_loop.remote()), self.0.changes.load(Ordering::Acquire))
        };
        // It leaves also when a callback's panic ends the wait.
        let _place = Place { flag: self, place };
        event_loop.wait(until, || {
            let changes = self.0.changes.load(Ordering::Acquire);
            is_set(before) || changes != before
        })
    }
}

/// A loop's place among those that wait for a flag.
struct Place<'a> {
    flag: &'a Flag,
    place: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let left = self.flag.0.waiting.lock().try_remove(self.place);
        drop(left);
    }
}

impl fmt::Debug for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flag").field("set", &self.is_set()).finish_non_exhaustive()
    }
}
