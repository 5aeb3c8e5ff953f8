//! Road of a room's messages to one worker: how much is on its way there, what is done where that is too much, and who waits for room.
//!
//! A worker that is slower than the senders would otherwise gather, in its inbox, all that they are ahead of it. Members have a limit
//! each for what waits to be written; this one is for what has not come as far as that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use threadwire_worker::{EventLoop, Lock, Remote};

use super::delivery::Part;
use crate::WhenFull;
use crate::connection::patience::wait_for_room;

/// How many bytes may be on their way to a worker, unless the room says something else.
pub(super) const LIMIT: usize = 16 << 20;

/// The cost of a message besides its payload, so that many short ones are not free.
const OVERHEAD: usize = 256;

/// How long a send may wait inside of a callback while the worker takes nothing at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// What may be on its way to each worker of a room, and what happens past it.
#[derive(Clone, Copy)]
pub(super) struct Traffic {
    pub(super) limit: usize,
    pub(super) when_full: WhenFull,
}

/// The way to one worker that has members.
pub(super) struct Road {
    pub(super) worker: Remote,
    /// How many members the worker has.
    pub(super) members: AtomicUsize,
    /// How many bytes are on their way, with the overhead.
    in_flight: AtomicUsize,
    /// Messages that may be dropped for newer ones, the oldest first.
    droppable: Lock<VecDeque<Arc<Parcel>>>,
    has_waiters: AtomicBool,
    waiters: Lock<Vec<Remote>>,
}

/// Bytes on their way, until this is dropped.
struct Load {
    road: Arc<Road>,
    bytes: usize,
}

/// A payload on its way.
pub(super) struct Cargo {
    payload: Arc<[u8]>,
    part: Part,
    load: Load,
}

/// A payload that may still be dropped.
#[derive(Default)]
struct Parcel(Lock<Option<Cargo>>);

/// A message for a worker, as it lies in the worker's inbox.
pub(super) enum Shipment {
    Fixed(Cargo),
    Droppable(Place),
}

/// The place in the inbox of a message that may be dropped meanwhile. It counts as long as it is there.
pub(super) struct Place {
    parcel: Arc<Parcel>,
    load: Load,
}

impl Road {
    pub(super) fn new(worker: &Remote) -> Arc<Road> {
        Arc::new(Road {
            worker: worker.clone(),
            members: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            droppable: Lock::default(),
            has_waiters: AtomicBool::new(false),
            waiters: Lock::default(),
        })
    }

    /// Whether a payload of this length may go. One of any length may if nothing is on its way.
    fn has_room(&self, length: usize, limit: usize) -> bool {
        let in_flight = self.in_flight.load(Ordering::SeqCst);
        in_flight == 0 || in_flight.saturating_add(length + OVERHEAD) <= limit
    }

    fn load(self: &Arc<Road>, bytes: usize) -> Load {
        self.in_flight.fetch_add(bytes, Ordering::AcqRel);
        Load { road: Arc::clone(self), bytes }
    }

    /// Waits until a payload of this length may go; inside of a callback no longer than its patience lasts, and if few wait.
    pub(super) fn wait_for_room(&self, length: usize, limit: usize) {
        if self.has_room(length, limit) {
            return;
        }
        let me = EventLoop::current().remote();
        // A worker that stops waits no more.
        let _ = wait_for_room(
            PATIENCE,
            || self.in_flight.load(Ordering::Acquire) as u64,
            || {
                if self.has_room(length, limit) {
                    return true;
                }
                let mut waiters = self.waiters.lock();
                if !waiters.contains(&me) {
                    waiters.push(me.clone());
                }
                self.has_waiters.store(true, Ordering::SeqCst);
                drop(waiters);
                // It may have become free before this was noted.
                self.has_room(length, limit)
            },
        );
    }

    /// Takes a message. Where there is no room for it, older ones are dropped, or this one is: its part is given back then.
    pub(super) fn take(
        self: &Arc<Road>,
        payload: &Arc<[u8]>,
        part: Part,
        traffic: Traffic,
        mut dropped: impl FnMut(Part),
    ) -> Option<Shipment> {
        let length = payload.len();
        let drops_oldest = traffic.when_full == WhenFull::DropOldest;
        while !self.has_room(length, traffic.limit) {
            let oldest = if drops_oldest { self.droppable.lock().pop_front() } else { None };
            let Some(oldest) = oldest else {
                dropped(part);
                return None;
            };
            if let Some(cargo) = oldest.0.lock().take() {
                dropped(cargo.part);
            }
        }
        let payload = Arc::clone(payload);
        if !drops_oldest {
            return Some(Shipment::Fixed(Cargo { payload, part, load: self.load(length + OVERHEAD) }));
        }
        let (place, load) = (self.load(OVERHEAD), self.load(length));
        let parcel = Arc::new(Parcel(Lock::new(Some(Cargo { payload, part, load }))));
        self.droppable.lock().push_back(Arc::clone(&parcel));
        Some(Shipment::Droppable(Place { parcel, load: place }))
    }
}

impl Shipment {
    /// The message has come to its worker: hands it over, unless it was dropped.
    pub(super) fn arrive(self, gather: impl FnOnce(&[u8], Part)) {
        let cargo = match self {
            Shipment::Fixed(cargo) => Some(cargo),
            Shipment::Droppable(place) => place.take(),
        };
        if let Some(Cargo { payload, part, load }) = cargo {
            gather(&payload, part);
            drop(load);
        }
    }
}

impl Place {
    /// What is still there.
    fn take(&self) -> Option<Cargo> {
        let mut droppable = self.load.road.droppable.lock();
        // Those before it have come, or were dropped.
        if droppable.front().is_some_and(|front| Arc::ptr_eq(front, &self.parcel)) {
            droppable.pop_front();
        }
        drop(droppable);
        self.parcel.0.lock().take()
    }
}

/// Also where the worker has ended, and nothing arrives any more.
impl Drop for Place {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.road.in_flight.fetch_sub(self.bytes, Ordering::SeqCst);
        if self.road.has_waiters.swap(false, Ordering::SeqCst) {
            let waiters = std::mem::take(&mut *self.road.waiters.lock());
            waiters.iter().for_each(Remote::wake);
        }
    }
}
