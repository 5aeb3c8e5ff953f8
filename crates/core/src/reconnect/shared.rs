//! State that a reconnecting connection shares with its handles: commands one way, the open connection the other.
//!
//! The driver is woken for commands and for room; it looks whether there are any without taking a lock. Handles of
//! connections are cloned under the lock and used, and dropped, without it, but for the offline queue: that is drained under
//! the lock, so that nothing overtakes it. The waker that calls for more of it therefore takes no lock that is held then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use threadwire_proto::{CloseCode, Compress, Message};

use super::command::Command;
use super::offline_queue::OfflineQueue;
use super::{Change, State};
use crate::config::SendOptions;
use crate::error::Error;

/// A handle of one connection, as reconnecting uses it. Sealed.
pub trait ConnectionHandle: Clone + PartialEq + Send + Sync + 'static {
    /// Where the driver lives.
    type Owner: Send + Sync;

    /// Sends a message.
    fn send_with(&self, message: Message<'_>, options: SendOptions) -> Result<(), Error>;

    /// Sends a message, after waiting for room.
    fn send_later<'a>(&'a self, message: Message<'a>) -> impl Future<Output = Result<(), Error>> + Send + 'a;

    /// Sends a message of the offline queue, or fails with [`Error::Limit`] where there is no room. It waits for nothing, and
    /// calls nothing of the program's.
    fn offer(&self, message: Message<'_>, compress: Compress) -> Result<(), Error>;

    /// Whether there is room for so many bytes, or the connection has ended. If not, the waker is called when it is so.
    fn has_room(&self, length: usize, waker: &Waker) -> bool;

    /// Begins to close.
    fn close_with(&self, code: CloseCode, reason: &str) -> Result<(), Error>;

    /// Closes with 1001, without waiting for the peer's answer.
    fn close_now(&self);
}

/// The state that a driver shares with its handles.
pub struct SharedState<H: ConnectionHandle> {
    pub owner: H::Owner,
    inner: Mutex<Inner<H>>,
    /// Has the driver take a turn.
    driver: Mutex<Option<Waker>>,
    /// Whether there is a command, or room.
    has_news: AtomicBool,
    has_room: AtomicBool,
    /// Whether code of the program runs that is not for a connection: a hook, or a listener that is told of an end.
    is_calling: AtomicBool,
}

struct Inner<H> {
    change: Change,
    /// The connection that is open.
    connection: Option<H>,
    /// The same, where messages can be sent straight to it.
    gate: Option<H>,
    offline: OfflineQueue,
    command: Command,
    /// Whether the end was asked for.
    is_closing: bool,
    /// Whether the end has come, and everybody was told of it.
    has_ended: bool,
    /// Those who wait for the end.
    waiting: Vec<Waker>,
}

impl<H: ConnectionHandle> SharedState<H> {
    pub fn new(owner: H::Owner, state: State) -> Arc<SharedState<H>> {
        let inner = Inner {
            change: Change::new(state, 0, None),
            connection: None,
            gate: None,
            offline: OfflineQueue::new(None),
            command: Command::Nothing,
            is_closing: false,
            has_ended: false,
            waiting: Vec::new(),
        };
        Arc::new(SharedState {
            owner,
            inner: Mutex::new(inner),
            driver: Mutex::new(None),
            has_news: AtomicBool::new(false),
            has_room: AtomicBool::new(false),
            is_calling: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<H>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For the driver.
impl<H: ConnectionHandle> SharedState<H> {
    /// Runs code of the program that is not for a connection, on the owner's thread. The end comes after it.
    pub fn calling<R>(&self, call: impl FnOnce() -> R) -> R {
        struct Calling<'a>(&'a AtomicBool, bool);

        impl Drop for Calling<'_> {
            fn drop(&mut self) {
                self.0.store(self.1, Ordering::Relaxed);
            }
        }

        let _calling = Calling(&self.is_calling, self.is_calling.swap(true, Ordering::Relaxed));
        call()
    }

    /// Bounds the offline queue, in bytes.
    pub fn hold(&self, bytes: usize) {
        self.lock().offline = OfflineQueue::new(Some(bytes));
    }

    /// Has this waker woken for news from now on.
    pub fn set_driver(&self, waker: Waker) {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        let before = driver.replace(waker);
        drop(driver);
        drop(before);
    }

    /// Takes out the command, if there is one, and whether there may be room for the offline queue.
    #[inline]
    pub fn take_news(&self) -> Option<(Command, bool)> {
        // Looked at by every receive.
        if !self.has_news.load(Ordering::Acquire) {
            return None;
        }
        self.has_news.store(false, Ordering::SeqCst);
        let has_room = self.has_room.swap(false, Ordering::SeqCst);
        Some((std::mem::take(&mut self.lock().command), has_room))
    }

    fn nudge(&self) {
        self.has_news.store(true, Ordering::SeqCst);
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// A new state.
    pub fn change(&self, change: Change) {
        let mut inner = self.lock();
        inner.is_closing |= change.state.is_final();
        let before = std::mem::replace(&mut inner.change, change);
        drop(inner);
        // The cause may hold errors of the program: dropped without the lock.
        drop(before);
    }

    /// A connection is open. Messages go straight to it, unless they are held until the program's callback has returned.
    pub fn opened(&self, handle: H) {
        let mut inner = self.lock();
        let gate = Some(handle.clone()).filter(|_| !inner.offline.holds());
        let before = (std::mem::replace(&mut inner.gate, gate), inner.connection.replace(handle));
        drop(inner);
        drop(before);
    }

    /// The connection has ended.
    pub fn closed(&self) {
        let mut inner = self.lock();
        let before = (inner.connection.take(), inner.gate.take());
        drop(inner);
        drop(before);
    }

    /// Sends the offline queue while there is room, and lets others send when it is empty.
    pub fn release(self: &Arc<Self>) {
        let mut inner = self.lock();
        if inner.gate.is_some() {
            return;
        }
        let Some(handle) = inner.connection.clone() else { return };
        loop {
            match inner.offline.drain(|message, compress| handle.offer(message, compress)) {
                Ok(()) => {
                    inner.gate = Some(handle);
                    return;
                }
                Err(Error::Limit(_)) => {
                    let waker = Waker::from(Arc::clone(self));
                    if !handle.has_room(inner.offline.first(), &waker) {
                        return;
                    }
                }
                // The connection has ended already.
                Err(_) => return,
            }
        }
    }

    /// No more messages are taken.
    pub fn shut(&self) {
        self.lock().is_closing = true;
    }

    /// The driver is gone: in the last state, which everybody was told of, or before that.
    pub fn end(&self) {
        let mut inner = self.lock();
        inner.is_closing = true;
        inner.has_ended = true;
        if !inner.change.state.is_final() {
            inner.change.state = State::Stopped;
        }
        let left = (inner.connection.take(), inner.gate.take(), inner.offline.clear());
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop((left, driver));
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// For handles.
impl<H: ConnectionHandle> SharedState<H> {
    /// Where a message is to be sent; `None` if it was kept.
    pub fn route(&self, message: Message<'_>, compress: Compress) -> Result<Option<H>, Error> {
        let mut inner = self.lock();
        match &inner.gate {
            _ if inner.is_closing => Err(Error::Closed),
            Some(handle) => Ok(Some(handle.clone())),
            None => inner.offline.push(message, compress).map(|()| None),
        }
    }

    /// This connection has ended, which the driver does not know yet: no message is sent to it any more.
    pub fn shut_gate(&self, handle: &H) {
        let mut inner = self.lock();
        let before = inner.gate.take_if(|gate| *gate == *handle);
        drop(inner);
        drop(before);
    }

    pub fn send(&self, message: Message<'_>, options: SendOptions) -> Result<(), Error> {
        loop {
            let Some(handle) = self.route(message, options.compress)? else { return Ok(()) };
            match handle.send_with(message, options) {
                Err(Error::Closed) => self.shut_gate(&handle),
                sent => return sent,
            }
        }
    }

    /// Whether messages go straight to the connection that is open.
    pub fn is_direct(&self) -> bool {
        self.lock().gate.is_some()
    }

    pub async fn send_later(&self, message: Message<'_>) -> Result<(), Error> {
        loop {
            let Some(handle) = self.route(message, Compress::Auto)? else { return Ok(()) };
            match handle.send_later(message).await {
                Err(Error::Closed) => self.shut_gate(&handle),
                sent => return sent,
            }
        }
    }

    /// Asks the driver for something. Returns the connection that is open.
    pub fn command(&self, command: Command) -> Option<H> {
        let mut inner = self.lock();
        inner.is_closing |= command.is_end();
        inner.command.raise(command);
        let handle = inner.connection.clone();
        drop(inner);
        self.nudge();
        handle
    }

    pub fn last_change(&self) -> Change {
        self.lock().change.clone()
    }

    pub fn state(&self) -> State {
        self.lock().change.state
    }

    pub fn connections(&self) -> u64 {
        self.lock().change.connections
    }

    pub fn held(&self) -> usize {
        self.lock().offline.bytes()
    }

    pub fn connection(&self) -> Option<H> {
        self.lock().connection.clone()
    }

    /// Whether a [call](SharedState::calling) runs.
    pub fn is_calling(&self) -> bool {
        self.is_calling.load(Ordering::Relaxed)
    }

    /// Whether the end has come. If not, the waker is called when it has.
    pub fn has_ended(&self, waker: &Waker) -> bool {
        let mut inner = self.lock();
        if !inner.has_ended && !inner.waiting.iter().any(|known| known.will_wake(waker)) {
            inner.waiting.push(waker.clone());
        }
        inner.has_ended
    }
}

/// There may be room for what is held.
impl<H: ConnectionHandle> Wake for SharedState<H> {
    fn wake(self: Arc<Self>) {
        self.has_room.store(true, Ordering::SeqCst);
        self.nudge();
    }
}
