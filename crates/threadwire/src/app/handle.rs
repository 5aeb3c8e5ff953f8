//! App handle for any thread, and the state that an app shares with its handles.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};

use threadwire_core::error::RequestId;
use threadwire_proto::{AsMessage, CloseCode, CloseFrame, Message, OwnedMessage};
use threadwire_worker::{EventLoop, Lock, Remote};

use super::request::{PendingReply, Requests};
use crate::error::RequestRefused;
use crate::reconnect::{ReconnectHandle, State};
use crate::{Closed, Error, Handle, SendOptions};

/// The state that an app shares with its handles.
#[derive(Default)]
pub(super) struct AppState {
    inner: Lock<Inner>,
    /// Whether a callback of the app is running.
    is_busy: AtomicBool,
    /// Whether a request may be waiting; without one, messages are not searched for ids.
    has_requests: AtomicBool,
}

#[derive(Default)]
struct Inner {
    /// The run that is under way. Nobody gets a clone of it, or the error that ended it could not be handed out.
    reconnect: Option<ReconnectHandle>,
    /// On which thread.
    owner: Option<Remote>,
    /// The connection that is open.
    connection: Option<Handle>,
    /// How the last one ended, in this run.
    closed: Option<Arc<Closed>>,
    /// With what the next run is to be closed before it begins.
    closing: Option<(CloseCode, String)>,
    requests: Requests,
    /// Whether answers can be told.
    has_ids: bool,
}

/// Calls of the app.
impl AppState {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// A run begins.
    pub(super) fn begin(&self, reconnect: &ReconnectHandle, has_ids: bool) {
        let mut inner = self.lock();
        inner.reconnect = Some(reconnect.clone());
        inner.owner = Some(EventLoop::current().remote());
        inner.closed = None;
        inner.has_ids = has_ids;
        if let Some((code, reason)) = inner.closing.take() {
            // Code and reason were checked when they were set.
            let _ = reconnect.close_with(code, &reason);
        }
    }

    /// The run is over. Returns the end of its last connection.
    pub(super) fn end(&self) -> Option<Arc<Closed>> {
        let mut inner = self.lock();
        let (reconnect, closed) = (inner.reconnect.take(), inner.closed.clone());
        drop(inner);
        drop(reconnect);
        closed
    }

    pub(super) fn opened(&self, handle: Handle) {
        self.lock().connection = Some(handle);
    }

    /// The connection has ended: there will be no more answers.
    pub(super) fn closed(&self, closed: Option<Arc<Closed>>) {
        let mut inner = self.lock();
        inner.connection = None;
        if closed.is_some() {
            inner.closed.clone_from(&closed);
        }
        let waiting = inner.requests.take_all();
        self.has_requests.store(false, Ordering::Release);
        drop(inner);
        for answer in waiting {
            let _ = answer.resolve(Err(closed.clone()));
        }
    }

    /// The connection over which a message goes; none if it is held.
    fn route(&self, message: Message<'_>, options: SendOptions) -> Result<Option<Handle>, Error> {
        self.lock().reconnect.as_ref().ok_or(Error::Closed)?.route(message, options)
    }

    /// What is sent from now on does not go over this connection, which is not open any more.
    fn shut_gate(&self, connection: &Handle) {
        if let Some(reconnect) = &self.lock().reconnect {
            reconnect.shut_gate(connection);
        }
    }

    /// Counts `call` as a callback.
    pub(super) fn busy<R>(&self, call: impl FnOnce() -> R) -> R {
        struct Busy<'a>(&'a AtomicBool);

        impl Drop for Busy<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }

        self.is_busy.store(true, Ordering::Relaxed);
        let _busy = Busy(&self.is_busy);
        call()
    }

    /// Whether this is the app's own thread, and in the middle of a callback.
    pub(super) fn is_in_callback_here(&self) -> bool {
        self.is_busy.load(Ordering::Relaxed) && self.lock().owner.as_ref().is_some_and(Remote::is_current)
    }

    pub(super) fn has_requests(&self) -> bool {
        self.has_requests.load(Ordering::Acquire)
    }

    /// Gives a message to the request that waits for it. False if none does.
    pub(super) fn answer(&self, id: &RequestId, message: Message<'_>) -> bool {
        let Some(answer) = self.with_requests(|requests| requests.take(id)) else { return false };
        let message: OwnedMessage = message.into();
        answer.resolve(Ok(message)).is_ok()
    }

    pub(super) fn with_requests<R>(&self, call: impl FnOnce(&mut Requests) -> R) -> R {
        let mut inner = self.lock();
        let result = call(&mut inner.requests);
        self.has_requests.store(!inner.requests.is_empty(), Ordering::Release);
        result
    }
}

/// An [`App`](super::App) from any thread: a cheap clone, `Send` and `Sync`, that is there before the app
/// [runs](super::App::run_forever), stands for one connection after the other, and may be kept over several runs. None of
/// it waits for the socket. Dropping it ends nothing.
///
/// ```
/// use threadwire::App;
/// # use threadwire::{Reply, Connection, Error, Message, Server};
/// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let mut app = App::new(&url)?;
/// let handle = app.handle();
/// let (tell, opened) = std::sync::mpsc::channel();
/// let thread = std::thread::spawn(move || {
///     opened.recv().unwrap();
///     handle.send("from another thread")?;
///     handle.close()
/// });
/// app = app.on_open(move |_ws| tell.send(()));
/// app.run_forever()?;
/// thread.join().unwrap()?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct AppHandle(pub(super) Arc<AppState>);

impl AppHandle {
    pub(super) fn new() -> AppHandle {
        AppHandle(Arc::default())
    }

    /// Sends a message over the connection that is open, as [`Handle::send`] does. While the app runs and none is, it is held if
    /// [`App::hold`](super::App::hold) says so; otherwise it is refused with [`Error::Closed`].
    pub fn send(&self, message: impl AsMessage) -> Result<(), Error> {
        self.send_with(message, SendOptions::default())
    }

    /// Sends a message, and chooses what is to happen if there is no room for it, or whether it is compressed: see
    /// [`SendOptions`], and [`send`](AppHandle::send).
    pub fn send_with(&self, message: impl AsMessage, options: impl Into<SendOptions>) -> Result<(), Error> {
        let (message, options) = (message.as_message(), options.into());
        loop {
            let Some(connection) = self.0.route(message, options)? else { return Ok(()) };
            match connection.send_with(message, options) {
                Err(Error::Closed) => self.0.shut_gate(&connection),
                sent => return sent,
            }
        }
    }

    /// How many bytes of messages are [held](super::App::hold) until a connection is open.
    pub fn held(&self) -> usize {
        self.0.lock().reconnect.as_ref().map_or(0, ReconnectHandle::held)
    }

    /// Closes with 1000. See [`close_with`](AppHandle::close_with).
    pub fn close(&self) -> Result<(), Error> {
        self.close_with(CloseCode::NORMAL, "")
    }

    /// Ends the run: closes the connection that is open, behind all that this handle sent before, or an attempt or a wait for
    /// the next one at once, and reconnects no more. [`run_forever`](super::App::run_forever) returns when the connection
    /// has ended, which takes at most [`Config::close_timeout`](crate::Config::close_timeout). This returns at once.
    ///
    /// While the app does not run, it is the next run that is closed: that returns at once, and nothing is opened.
    ///
    /// Fails with [`Error::Send`], and does nothing, as [`Connection::close_with`](crate::Connection::close_with) does.
    ///
    /// ```
    /// use threadwire::App;
    ///
    /// let mut app = App::new("ws://example.com/")?;
    /// app.handle().close()?;
    /// let ended = app.run_forever()?;
    /// assert_eq!(ended.connections, 0);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn close_with(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        CloseFrame { code: Some(code), reason }.check()?;
        let mut inner = self.0.lock();
        match &inner.reconnect {
            Some(reconnect) => reconnect.close_with(code, reason)?,
            None => inner.closing = Some((code, reason.to_owned())),
        }
        let connection = inner.connection.clone();
        drop(inner);
        match connection {
            // Closing the connection itself drops messages that arrive from now on, not only from the loop's next turn on.
            Some(connection) => connection.close_with(code, reason),
            None => Ok(()),
        }
    }

    /// Whether messages can be sent, as this thread knows it.
    pub fn is_open(&self) -> bool {
        self.connection().is_some_and(|connection| connection.is_open())
    }

    /// Where the run stands; `None` while the app does not run.
    pub fn state(&self) -> Option<State> {
        self.0.lock().reconnect.as_ref().map(ReconnectHandle::state)
    }

    /// The connection that is open: for pings, messages in parts, and what else a [`Handle`] can do. It stays with that
    /// connection.
    pub fn connection(&self) -> Option<Handle> {
        self.0.lock().connection.clone()
    }

    /// Sends a message, to which the answer is the first message of which [`App::id`](super::App::id) says that its id is
    /// this one. Any number may be under way, from any threads; they may be answered in any order.
    ///
    /// Fails as [`send`](AppHandle::send) does; and with [`Error::Request`] if a request of this id waits already, or if
    /// `App::id` is not set.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::{App, app};
    /// # use threadwire::{Reply, Connection, Message, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// // Messages are "ID TEXT" here. The app runs on a worker of its own.
    /// let (tell, opened) = std::sync::mpsc::channel();
    /// let running = app::spawn(move || {
    ///     let id = |message: threadwire::Message<'_>| message.as_text()?.split(' ').next()?.parse::<u64>().ok();
    ///     Ok(App::new(&url)?.id(id).on_open(move |_ws| tell.send(())))
    /// })?;
    /// let handle = running.handle();
    /// opened.recv()?;
    ///
    /// let first = handle.request(1, "1 what is the time?")?;
    /// let second = handle.request(2, "2 and the date?")?;
    /// assert_eq!(second.get_timeout(Duration::from_secs(5))?, "2 and the date?"); // an echo
    /// assert_eq!(first.get()?, "1 what is the time?");
    /// handle.close()?;
    /// running.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn request(&self, id: impl Into<RequestId>, message: impl AsMessage) -> Result<PendingReply, Error> {
        let id = id.into();
        let mut inner = self.0.lock();
        let connection = inner.connection.clone().ok_or(Error::Closed)?;
        if !inner.has_ids {
            return Err(RequestRefused::NoIds.into());
        }
        // Before it is sent, or the answer might come too early; and while it is sure that there is a connection, whose end
        // is the end of this at the latest.
        let (number, answer) = inner.requests.add(&id)?;
        self.0.has_requests.store(true, Ordering::Release);
        drop(inner);
        let reply = PendingReply::new(id, number, answer, Arc::clone(&self.0));
        // A failed send drops the reply, which removes the request.
        connection.send(message)?;
        Ok(reply)
    }
}

impl fmt::Debug for AppHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppHandle").field("state", &self.state()).finish_non_exhaustive()
    }
}
