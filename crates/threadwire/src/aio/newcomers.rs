//! The sockets of a server that are no connections, or not yet: whose request is read, waits for the program, or is answered otherwise, and
//! who was answered and has not ended. Where there are too many, the oldest is dropped; and none outlives the server.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::task::AbortHandle;

use threadwire_core::server::admission::Gate;
use threadwire_core::server::admission::UnderWay;

/// All of a server, in the order in which they were accepted.
#[derive(Debug, Default)]
pub(super) struct Newcomers(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    begun: u64,
    /// The task of each, by its number. While its request is the program's, that is one that has finished.
    tasks: BTreeMap<u64, Option<AbortHandle>>,
}

/// One of them. It counts as long as this is there.
#[derive(Debug)]
pub(super) struct Place {
    newcomers: Weak<Newcomers>,
    number: u64,
    _counted: UnderWay,
}

impl Newcomers {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more was accepted. If there are too many now, the oldest is dropped.
    pub(super) fn enter(self: &Arc<Newcomers>, gate: &Arc<Gate>) -> Place {
        let counted = gate.begin_handshake();
        if gate.has_too_many_handshakes() {
            self.drop_oldest();
        }
        let mut places = self.lock();
        places.begun += 1;
        let number = places.begun;
        places.tasks.insert(number, None);
        Place { newcomers: Arc::downgrade(self), number, _counted: counted }
    }

    /// Which task deals with one of them, if that has not ended meanwhile.
    pub(super) fn set_task(&self, number: u64, task: AbortHandle) {
        if let Some(place) = self.lock().tasks.get_mut(&number) {
            *place = Some(task);
        }
    }

    /// Drops the one that has been there for longest. Those that are the program's are left to it.
    pub(super) fn drop_oldest(&self) {
        let mut places = self.lock();
        let is_running =
            |task: &&mut Option<AbortHandle>| task.as_ref().is_some_and(|task| !task.is_finished());
        let oldest = places.tasks.values_mut().find(is_running).and_then(Option::take);
        // What is dropped may give its place back right here.
        drop(places);
        if let Some(oldest) = oldest {
            tracing::debug!("dropped a handshake: there are too many, and it was the oldest");
            oldest.abort();
        }
    }
}

impl Drop for Newcomers {
    fn drop(&mut self) {
        let places = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        for task in std::mem::take(&mut places.tasks).into_values().flatten() {
            task.abort();
        }
    }
}

impl Place {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(newcomers) = self.newcomers.upgrade() {
            let left = newcomers.lock().tasks.remove(&self.number);
            drop(left);
        }
    }
}

/// Goes on with one of them in a task of its own. One without a server, or whose server is gone, has nobody to be dropped by.
pub(super) fn go_on(place: Option<Place>, work: impl Future<Output = ()> + Send + 'static) {
    let seat = place.as_ref().map(|place| (place.newcomers.clone(), place.number));
    let task = tokio::spawn(async move {
        work.await;
        drop(place);
    });
    if let Some((newcomers, number)) = seat
        && let Some(newcomers) = newcomers.upgrade()
    {
        newcomers.set_task(number, task.abort_handle());
    }
}
