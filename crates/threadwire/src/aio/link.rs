//! A reconnecting connection from any task and any thread.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use threadwire_proto::{CloseCode, CloseFrame, Message};

use super::handle::Handle;
use crate::{Cause, Change, Error, State};
use threadwire_core::reconnect::command::Wish;

/// What a reconnecting connection and its links share.
pub(super) struct Shared(Mutex<Inner>);

struct Inner {
    change: Change,
    /// The connection that is open.
    handle: Option<Handle>,
    wish: Wish,
    /// Whether the end was asked for.
    is_closing: bool,
    /// Who receives.
    waiting: Option<Waker>,
}

impl Shared {
    pub(super) fn new(state: State) -> Arc<Shared> {
        let change = Change::new(state, 0, None);
        let (handle, wish) = (None, Wish::Nothing);
        Arc::new(Shared(Mutex::new(Inner { change, handle, wish, is_closing: false, waiting: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what was wished for. Who receives is woken by the next wish.
    pub(super) fn take_wish(&self, cx: &mut Context<'_>) -> Wish {
        let mut inner = self.lock();
        let is_known = inner.waiting.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
        let before = if is_known { None } else { inner.waiting.replace(cx.waker().clone()) };
        let wish = std::mem::take(&mut inner.wish);
        drop(inner);
        // What it wakes may be woken by its drop.
        drop(before);
        wish
    }

    /// A new state.
    pub(super) fn change(&self, change: Change) {
        let mut inner = self.lock();
        inner.is_closing |= change.state.is_final();
        inner.change = change;
    }

    /// The connection that is open from now on.
    pub(super) fn set_handle(&self, handle: Option<Handle>) {
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.handle, handle);
        drop(inner);
        drop(before);
    }

    /// What ended the last connection or attempt.
    pub(super) fn cause(&self) -> Option<Arc<Cause>> {
        self.lock().change.cause.clone()
    }

    /// It was dropped.
    pub(super) fn abandon(&self) {
        let mut inner = self.lock();
        inner.is_closing = true;
        if !inner.change.state.is_final() {
            inner.change.state = State::Stopped;
        }
        let left = (inner.handle.take(), inner.waiting.take());
        drop(inner);
        drop(left);
    }

    /// Wishes for something. Returns the connection that is open.
    fn wish(&self, wish: Wish) -> Option<Handle> {
        let mut inner = self.lock();
        inner.is_closing |= wish.is_end();
        inner.wish.raise(wish);
        let (waiting, handle) = (inner.waiting.take(), inner.handle.clone());
        drop(inner);
        if let Some(waker) = waiting {
            waker.wake();
        }
        handle
    }
}

/// A reconnecting connection from any task and any thread, also from native ones: a cheap clone, `Send` and `Sync`.
/// [`Reconnecting::link`](super::Reconnecting::link) makes one. It stands for one connection after the other, where a [`Handle`]
/// stands for one, and keeps nothing open.
///
/// ```
/// use threadwire::{Backoff, Error, State, aio};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let server = aio::Server::bind("127.0.0.1:0").await?;
/// # let url = format!("ws://{}", server.local_addr()?);
/// # tokio::spawn(server.serve(|_, mut ws| async move { while let Ok(Some(_)) = ws.recv().await {} }));
///
/// let mut feed = aio::reconnect(&url, Backoff::default());
/// let link = feed.link();
/// let thread = std::thread::spawn(move || {
///     while link.send("from a thread").is_err() {
///         std::thread::yield_now(); // no connection is open yet
///     }
///     link.close()
/// });
/// while let Some(message) = feed.recv().await? {
///     println!("{message}");
/// }
/// assert_eq!(feed.link().state(), State::Stopped);
/// thread.join().unwrap()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Link(pub(super) Arc<Shared>);

impl Link {
    /// Sends a message over the connection that is open, as [`Handle::send`] does. Fails with [`Error::Closed`] while none is, and
    /// from [`close`](Link::close) or [`stop`](Link::stop) on.
    pub fn send<'a>(&self, message: impl Into<Message<'a>>) -> Result<(), Error> {
        self.open()?.send(message)
    }

    /// The same, after waiting while there is no room: as [`Handle::send_async`].
    pub fn send_async<'a>(
        &'a self,
        message: impl Into<Message<'a>>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        let message = message.into();
        async move { self.open()?.send_async(message).await }
    }

    fn open(&self) -> Result<Handle, Error> {
        let inner = self.0.lock();
        inner.handle.clone().filter(|_| !inner.is_closing).ok_or(Error::Closed)
    }

    /// Closes with 1000, and reconnects no more. See [`close_with`](Link::close_with).
    pub fn close(&self) -> Result<(), Error> {
        self.close_with(CloseCode::NORMAL, "")
    }

    /// Closes the connection that is open, behind all that was sent before, and reconnects no more. If none is open, the attempt
    /// or the wait for it ends at once. Returns at once; whoever receives learns of the end.
    ///
    /// Fails with [`Error::Send`], and does nothing, as [`Handle::close_with`] does.
    pub fn close_with(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        CloseFrame { code: Some(code), reason }.check()?;
        match self.0.wish(Wish::Close(code, reason.to_owned())) {
            Some(handle) => handle.close_with(code, reason),
            None => Ok(()),
        }
    }

    /// Ends it now, whatever it is at. A connection that is open is closed with 1001 without waiting for the peer's answer (the
    /// peer may see that it broke). Returns at once.
    pub fn stop(&self) {
        if let Some(handle) = self.0.wish(Wish::Stop) {
            handle.drop_now();
        }
    }

    /// Drops the connection that is open, as [`stop`](Link::stop) does, the attempt or the wait for the next one, and begins the
    /// first attempt of a new row at once. Does nothing after the end.
    pub fn reconnect(&self) {
        if let Some(handle) = self.0.wish(Wish::Renew) {
            handle.drop_now();
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.0.lock().change.state
    }

    /// Where it stands, with what ended the last connection or attempt.
    pub fn last_change(&self) -> Change {
        self.0.lock().change.clone()
    }

    /// How many connections have been opened so far, with the one that is open.
    pub fn connections(&self) -> u64 {
        self.0.lock().change.connections
    }

    /// The connection that is open. The handle stays with that connection.
    pub fn handle(&self) -> Option<Handle> {
        self.0.lock().handle.clone()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = self.last_change();
        f.debug_struct("Link")
            .field("state", &change.state)
            .field("connections", &change.connections)
            .finish_non_exhaustive()
    }
}
