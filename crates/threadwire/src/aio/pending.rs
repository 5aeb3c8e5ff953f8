//! Pending handshakes of a server on tokio: the tasks that deal with them. None outlives the server.

use std::future::Future;
use std::sync::{Arc, MutexGuard, Weak};

use threadwire_worker::Lock;
use tokio::task::AbortHandle;

use threadwire_core::server::admission::Gate;
use threadwire_core::server::pending::PendingHandshakes;
use threadwire_core::server::tally::Pending;

/// The task of a handshake. While its request is the program's, that is one that has finished.
type Task = Option<AbortHandle>;

#[derive(Debug)]
pub(super) struct HandshakeTasks(Lock<PendingHandshakes<Task>>);

/// One of them. It counts as long as this is there.
pub(super) struct Place {
    tasks: Weak<HandshakeTasks>,
    number: u64,
    /// A shutdown waits for it.
    _pending: Pending,
}

/// Takes a task out that can be dropped. Requests that are the program's are left to it.
fn take_running(task: &mut Task) -> Task {
    task.take_if(|task| !task.is_finished())
}

fn drop_handshake(oldest: Option<AbortHandle>) {
    if let Some(oldest) = oldest {
        tracing::debug!("dropped a handshake: there are too many, and it was the oldest");
        oldest.abort();
    }
}

impl HandshakeTasks {
    pub(super) fn new(gate: Arc<Gate>) -> Arc<HandshakeTasks> {
        Arc::new(HandshakeTasks(Lock::new(PendingHandshakes::new(gate))))
    }

    fn lock(&self) -> MutexGuard<'_, PendingHandshakes<Task>> {
        self.0.lock()
    }

    /// One more was accepted. If there are too many now, the oldest is dropped.
    pub(super) fn enter(self: &Arc<HandshakeTasks>, pending: Pending) -> Place {
        let (number, oldest) = self.lock().enter(None, take_running);
        // The dropped handshake may give its place back right here.
        drop_handshake(oldest);
        Place { tasks: Arc::downgrade(self), number, _pending: pending }
    }

    /// Which task deals with one of them, if that has not ended meanwhile.
    pub(super) fn set_task(&self, number: u64, task: AbortHandle) {
        if let Some(place) = self.lock().get_mut(number) {
            *place = Some(task);
        }
    }

    /// Makes room where sockets are short.
    pub(super) fn drop_oldest(&self) {
        let oldest = self.lock().oldest(take_running);
        drop_handshake(oldest);
    }
}

impl Drop for HandshakeTasks {
    fn drop(&mut self) {
        self.lock().iter().flatten().for_each(AbortHandle::abort);
    }
}

impl Place {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(tasks) = self.tasks.upgrade() {
            let left = tasks.lock().leave(self.number);
            drop(left);
        }
    }
}

/// Goes on with one of them in a task of its own. One without a server, or whose server is gone, has nobody to be dropped by.
pub(super) fn go_on(place: Option<Place>, work: impl Future<Output = ()> + Send + 'static) {
    let seat = place.as_ref().map(|place| (place.tasks.clone(), place.number));
    let task = tokio::spawn(async move {
        work.await;
        drop(place);
    });
    if let Some((tasks, number)) = seat
        && let Some(tasks) = tasks.upgrade()
    {
        tasks.set_task(number, task.abort_handle());
    }
}
