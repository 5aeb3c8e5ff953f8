//! Workers that hear of what happens to the connection, as events.

use std::sync::Arc;

use threadwire_proto::Message;
use threadwire_worker::{EventLoop, Remote, Undeliverable};

use super::Connection;
use crate::{Closed, Handle, events};

impl Connection {
    /// Tells a message to those who have subscribed. Workers that have ended are forgotten.
    pub(super) fn tell_watchers(&self, message: Message<'_>) {
        let watchers = self.with_extras(|extras| Some(extras.watchers.clone())).unwrap_or_default();
        if watchers.is_empty() {
            return;
        }
        let handle = self.handle();
        for worker in watchers {
            let received = events::Received { handle: handle.clone(), message: message.to_owned() };
            if worker.fire(received).is_err_and(|error| error.reason == Undeliverable::NotRunning) {
                self.forget_watcher(&worker);
            }
        }
    }

    pub(super) fn tell_watchers_of_the_end(&self, handle: &Handle, closed: &Arc<Closed>) {
        let watchers = self.with_extras(|extras| Some(std::mem::take(&mut extras.watchers)));
        for worker in watchers.unwrap_or_default() {
            handle.tell_end(&worker, Arc::clone(closed));
        }
    }

    fn add_watcher(&self, worker: Remote) {
        let is_new = {
            let mut extras = self.0.extras.borrow_mut();
            let watchers = &mut extras.get_or_insert_default().watchers;
            let is_new = !watchers.contains(&worker);
            is_new.then(|| watchers.push(worker.clone()));
            is_new
        };
        self.set_inspects();
        if is_new {
            // One that has ended is found out with the first message.
            let _ = worker.fire(events::Opened { handle: self.handle() });
        }
    }

    fn forget_watcher(&self, worker: &Remote) {
        self.with_extras(|extras| {
            extras.watchers.retain(|watcher| watcher != worker);
            Some(())
        });
        self.set_inspects();
    }
}

/// As by the [handle](Connection::handle).
impl Connection {
    /// As [`Handle::subscribe`].
    pub fn subscribe(&self) {
        self.handle().subscribe();
    }

    /// As [`Handle::subscribe_worker`].
    pub fn subscribe_worker(&self, worker: &Remote) {
        self.handle().subscribe_worker(worker);
    }

    /// As [`Handle::unsubscribe`].
    pub fn unsubscribe(&self) {
        self.handle().unsubscribe();
    }
}

impl Handle {
    /// From now on the current worker hears of this connection as [events](crate::events): [`Opened`](events::Opened) once, as
    /// soon as the connection's thread has taken note, [`Received`](events::Received) for each message, and
    /// [`Closed`](events::Closed), exactly once, at the end; also if it has ended already. To subscribe twice changes nothing. Where this worker's inbox has a limit ([`Builder::inbox`](crate::worker::Builder::inbox)), its policy
    /// applies to all of them.
    ///
    /// There is an example at [`events`](crate::events).
    pub fn subscribe(&self) {
        self.subscribe_worker(&EventLoop::current().remote());
    }

    /// As [`subscribe`](Handle::subscribe), for another worker.
    pub fn subscribe_worker(&self, worker: &Remote) {
        let subscription = Subscription(Some((self.clone(), worker.clone())));
        self.run(move |ws| subscription.begin(ws));
    }

    /// Ends what [`subscribe`](Handle::subscribe) began. Events that are on their way still come.
    pub fn unsubscribe(&self) {
        let worker = EventLoop::current().remote();
        self.run(move |ws| ws.forget_watcher(&worker));
    }
}

/// A subscription on its way to the connection. If it comes too late, the worker is told of the end.
struct Subscription(Option<(Handle, Remote)>);

impl Subscription {
    fn begin(mut self, ws: &Connection) {
        if let Some((_, worker)) = self.0.take() {
            ws.add_watcher(worker);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some((handle, worker)) = self.0.take()
            && let Some(closed) = handle.closed()
        {
            handle.tell_end(&worker, closed);
        }
    }
}
