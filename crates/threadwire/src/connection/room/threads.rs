//! Threads of a room: those on which it has members.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};

use threadwire_worker::{Lock, Remote};

use super::delivery::Counts;

/// What all threads know of a room.
pub(crate) struct Core {
    pub(super) id: u64,
    homes: Lock<Homes>,
    /// How many members there are.
    pub(super) members: AtomicUsize,
    pub(super) totals: Counts,
}

#[derive(Default)]
struct Homes {
    /// Each thread, and how many have a reason to keep it here.
    stays: Vec<(Remote, usize)>,
    /// The threads, to be read without the lock.
    workers: Arc<[Remote]>,
}

static ROOMS: AtomicU64 = AtomicU64::new(1);

impl Core {
    pub(super) fn new() -> Core {
        Core {
            id: ROOMS.fetch_add(1, Ordering::Relaxed),
            homes: Lock::default(),
            members: AtomicUsize::new(0),
            totals: Counts::default(),
        }
    }

    fn homes(&self) -> MutexGuard<'_, Homes> {
        self.homes.lock()
    }

    /// Where messages have to go.
    pub(super) fn workers(&self) -> Arc<[Remote]> {
        Arc::clone(&self.homes().workers)
    }
}

/// A reason for messages to go to a worker: it has members, or will have.
pub(super) struct Stay {
    core: Arc<Core>,
    worker: Remote,
}

impl Stay {
    pub(super) fn new(core: &Arc<Core>, worker: &Remote) -> Stay {
        let mut homes = core.homes();
        match homes.stays.iter_mut().find(|(known, _)| known == worker) {
            Some((_, reasons)) => *reasons += 1,
            None => {
                homes.stays.push((worker.clone(), 1));
                homes.update();
            }
        }
        drop(homes);
        Stay { core: Arc::clone(core), worker: worker.clone() }
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut homes = self.core.homes();
        let Some(place) = homes.stays.iter().position(|(known, _)| *known == self.worker) else { return };
        homes.stays[place].1 -= 1;
        if homes.stays[place].1 == 0 {
            homes.stays.remove(place);
            homes.update();
        }
    }
}

impl Homes {
    fn update(&mut self) {
        self.workers = self.stays.iter().map(|(worker, _)| worker.clone()).collect();
    }
}
