//! Threads of a room: those on which it has members.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};

use threadwire_worker::{Lock, Remote};

use super::delivery::Counts;
use super::road::{Road, Traffic};

/// What all threads know of a room.
pub(crate) struct Core {
    pub(super) id: u64,
    homes: Lock<Homes>,
    /// How many members there are.
    pub(super) members: AtomicUsize,
    pub(super) totals: Counts,
    /// What may be on its way to each worker.
    pub(super) traffic: Traffic,
}

#[derive(Default)]
struct Homes {
    /// Each thread, and how many have a reason to keep it here.
    stays: Vec<(Arc<Road>, usize)>,
    /// The threads, to be read without the lock.
    roads: Arc<[Arc<Road>]>,
}

static ROOMS: AtomicU64 = AtomicU64::new(1);

impl Core {
    pub(super) fn new(traffic: Traffic) -> Core {
        Core {
            id: ROOMS.fetch_add(1, Ordering::Relaxed),
            homes: Lock::default(),
            members: AtomicUsize::new(0),
            totals: Counts::default(),
            traffic,
        }
    }

    fn homes(&self) -> MutexGuard<'_, Homes> {
        self.homes.lock()
    }

    /// Where messages have to go.
    pub(super) fn roads(&self) -> Arc<[Arc<Road>]> {
        Arc::clone(&self.homes().roads)
    }
}

/// A reason for messages to go to a worker: it has members, or will have.
pub(super) struct Stay {
    core: Arc<Core>,
    road: Arc<Road>,
}

impl Stay {
    pub(super) fn new(core: &Arc<Core>, worker: &Remote) -> Stay {
        let mut homes = core.homes();
        let known = homes.stays.iter_mut().find(|(road, _)| road.worker == *worker);
        let road = match known {
            Some((road, reasons)) => {
                *reasons += 1;
                Arc::clone(road)
            }
            None => {
                let road = Road::new(worker);
                homes.stays.push((Arc::clone(&road), 1));
                homes.update();
                road
            }
        };
        drop(homes);
        Stay { core: Arc::clone(core), road }
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(super) fn road(&self) -> &Road {
        &self.road
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut homes = self.core.homes();
        let Some(place) = homes.stays.iter().position(|(road, _)| Arc::ptr_eq(road, &self.road)) else {
            return;
        };
        homes.stays[place].1 -= 1;
        if homes.stays[place].1 == 0 {
            homes.stays.remove(place);
            homes.update();
        }
    }
}

impl Homes {
    fn update(&mut self) {
        self.roads = self.stays.iter().map(|(road, _)| Arc::clone(road)).collect();
    }
}
