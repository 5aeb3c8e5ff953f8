//! A reconnecting connection from any thread, and what its threads share with its driver.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use threadwire_core::reconnect::command::Wish;
use threadwire_core::reconnect::offline_queue::Held;
use threadwire_proto::{CloseCode, CloseFrame, Message};
use threadwire_worker::{EventLoop, Ready, Remote, Token};

use super::{Cause, Change, State};
use crate::{Error, Handle, WhenFull};

/// What the driver and its links share.
pub(super) struct Shared {
    owner: Remote,
    /// The driver's place on the owner's loop.
    token: Token,
    inner: Mutex<Inner>,
}

struct Inner {
    change: Change,
    /// The connection that is open.
    handle: Option<Handle>,
    /// The same, where messages can be sent straight to it.
    gate: Option<Handle>,
    held: Held,
    wish: Wish,
    /// Whether the end was asked for.
    is_closing: bool,
    /// Whether the end has come, and everybody was told of it.
    has_ended: bool,
    /// Who waits for the end.
    waiting: Vec<Remote>,
}

impl Shared {
    pub(super) fn new(token: Token, hold: Option<usize>, state: State) -> Shared {
        let inner = Inner {
            change: Change::new(state, 0, None),
            handle: None,
            gate: None,
            held: Held::new(hold),
            wish: Wish::Nothing,
            is_closing: false,
            has_ended: false,
            waiting: Vec::new(),
        };
        Shared { owner: EventLoop::current().remote(), token, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what threads have wished for.
    pub(super) fn take_wish(&self) -> Wish {
        std::mem::take(&mut self.lock().wish)
    }

    /// Whether something is wished for.
    pub(super) fn has_wish(&self) -> bool {
        !matches!(self.lock().wish, Wish::Nothing)
    }

    fn wish(&self, wish: Wish) {
        let mut inner = self.lock();
        inner.is_closing |= wish.is_end();
        inner.wish.raise(wish);
        drop(inner);
        self.nudge();
    }

    /// Has the driver look around.
    fn nudge(&self) {
        let token = self.token;
        // A loop that has ended has ended the driver.
        let _ = self.owner.post(move |event_loop| event_loop.requeue(token, Ready::READABLE));
    }

    /// The cause of the last end.
    pub(super) fn cause(&self) -> Option<Arc<Cause>> {
        self.lock().change.cause.clone()
    }

    /// A new state.
    pub(super) fn change(&self, change: Change) {
        let before = std::mem::replace(&mut self.lock().change, change);
        // Not under the lock: it may hold the program's errors.
        drop(before);
    }

    /// A connection is open. Messages go straight to it, unless they are held until its listener has begun.
    pub(super) fn opened(&self, handle: Handle) {
        let mut inner = self.lock();
        inner.gate = Some(handle.clone()).filter(|_| !inner.held.holds());
        inner.handle = Some(handle);
    }

    /// The connection has ended.
    pub(super) fn closed(&self) {
        let mut inner = self.lock();
        (inner.handle, inner.gate) = (None, None);
    }

    /// The listener has begun: sends what was held, as far as there is room, and the rest when there is.
    pub(super) fn release(self: &Arc<Self>) {
        let mut inner = self.lock();
        if inner.gate.is_some() {
            return;
        }
        let Some(handle) = inner.handle.clone() else { return };
        loop {
            match inner.held.drain(|message| handle.take(message)) {
                Ok(()) => {
                    inner.gate = Some(handle);
                    return;
                }
                Err(Error::Limit { limit, .. }) => {
                    let most = limit.saturating_sub(inner.held.first());
                    let waker = Waker::from(Arc::clone(self));
                    if !handle.lane().is_below(Some(most), &waker) {
                        return;
                    }
                }
                // It has ended already.
                Err(_) => return,
            }
        }
    }

    /// The last state was entered, and told of.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.has_ended = true;
        let waiting = std::mem::take(&mut inner.waiting);
        let held = inner.held.clear();
        drop(inner);
        drop(held);
        waiting.iter().for_each(Remote::wake);
    }

    /// No more messages are taken.
    pub(super) fn shut(&self) {
        self.lock().is_closing = true;
    }
}

/// There is room for what is held.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.nudge();
    }
}

impl Inner {
    /// Where a message is to be sent; `None` if it was kept.
    fn route(&mut self, message: Message<'_>) -> Result<Option<Handle>, Error> {
        match &self.gate {
            _ if self.is_closing => Err(Error::Closed),
            Some(handle) => Ok(Some(handle.clone())),
            None => self.held.push(message).map(|()| None),
        }
    }
}

/// A reconnecting connection from any thread: a cheap clone, `Send` and `Sync`. It stands for one connection after the other,
/// where a [`Handle`] stands for one.
///
/// Made by [`Reconnect::start`](crate::Reconnect::start). It lives on the loop of the thread that started it, and goes on
/// while that loop turns, until it is [closed](Link::close) or [stopped](Link::stop), its listener closes, it gives up, or its
/// worker ends. Dropping the last link does not stop it.
///
/// ```
/// use threadwire::{Backoff, Client, Connection, Message, State};
/// # use threadwire::{Accept, Server};
/// # let echo = || Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let link = Client::new(&url)?
///     .reconnect(Backoff::default())
///     .hold(1 << 20)
///     .start_with(|link| {
///         let link = link.clone();
///         move |_ws: &Connection, message: Message<'_>| {
///             println!("connection {}: {message}", link.connections());
///             link.close()
///         }
///     });
/// std::thread::scope(|scope| {
///     scope.spawn(|| link.send("taken, though no connection is open yet"));
/// });
/// assert_eq!(link.wait_ended()?.state, State::Stopped);
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone)]
pub struct Link(pub(super) Arc<Shared>);

impl Link {
    /// Sends a message over the connection that is open, as [`Handle::send`] does. While none is, it fails with
    /// [`Error::Closed`], or takes the message to be sent later where [`Reconnect::hold`](crate::Reconnect::hold) is set.
    ///
    /// What was given to a connection is lost if that ends before it has left (nobody knows how much of it the peer has read),
    /// and so is what is sent in the moment in which the end is not known yet on this thread.
    ///
    /// Fails with [`Error::Closed`] from [`close`](Link::close) or [`stop`](Link::stop) on, and with [`Error::Limit`] if too
    /// much waits for the peer ([`Config::max_buffered`](crate::Config::max_buffered)) or is held.
    pub fn send<'a>(&self, message: impl Into<Message<'a>>) -> Result<(), Error> {
        let message = message.into();
        self.send_by(message, |handle| handle.send(message))
    }

    /// Sends a message, and says what is to happen if the peer does not read and there is no room for it: see
    /// [`WhenFull`], and [`send`](Link::send). What is held is not concerned by that.
    ///
    /// ```
    /// use threadwire::{Error, Link, WhenFull};
    ///
    /// fn tick(feed: &Link, price: f64) -> Result<(), Error> {
    ///     feed.send_or(&price.to_string(), WhenFull::DropOldest)
    /// }
    /// ```
    pub fn send_or<'a>(&self, message: impl Into<Message<'a>>, when_full: WhenFull) -> Result<(), Error> {
        let message = message.into();
        self.send_by(message, |handle| handle.send_or(message, when_full))
    }

    fn send_by(
        &self,
        message: Message<'_>,
        send: impl Fn(&Handle) -> Result<(), Error>,
    ) -> Result<(), Error> {
        loop {
            let Some(handle) = self.0.lock().route(message)? else { return Ok(()) };
            match send(&handle) {
                Err(Error::Closed) => {
                    // The driver does not know yet that this connection is over.
                    let mut inner = self.0.lock();
                    inner.gate.take_if(|gate| *gate == handle);
                }
                sent => return sent,
            }
        }
    }

    /// Closes with 1000, and reconnects no more. See [`close_with`](Link::close_with).
    pub fn close(&self) -> Result<(), Error> {
        self.close_with(CloseCode::NORMAL, "")
    }

    /// Closes the connection that is open, behind all that was sent before, and reconnects no more. What is held is dropped.
    /// If none is open, the attempt or the wait for it ends at once. Returns at once; see [`wait_ended`](Link::wait_ended).
    ///
    /// Fails with [`Error::Send`], and does nothing, as [`Connection::close_with`](crate::Connection::close_with) does.
    pub fn close_with(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        CloseFrame { code: Some(code), reason }.check()?;
        self.0.wish(Wish::Close(code, reason.to_owned()));
        Ok(())
    }

    /// Ends it now, whatever it is at. A connection that is open is closed with 1001 without waiting for the peer's answer
    /// (the peer may see that it broke). Returns at once.
    pub fn stop(&self) {
        self.0.wish(Wish::Stop);
    }

    /// Drops the connection that is open, as [`stop`](Link::stop) does, the attempt or the wait for the next one, and begins
    /// the first attempt of a new row at once. For a program that knows more than the connection does: that the network has
    /// changed, say. Does nothing after the end.
    ///
    /// ```
    /// use threadwire::{Backoff, Client, Connection, Message, State, wait_until};
    /// # use threadwire::{Accept, Server};
    /// # let echo = || Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let quiet = |_ws: &Connection, _message: Message<'_>| Ok(());
    /// let link = Client::new(&url)?.reconnect(Backoff::default()).start(quiet);
    /// wait_until(None, || link.state() == State::Open)?;
    /// link.reconnect();
    /// wait_until(None, || link.connections() == 2)?;
    /// link.close()?;
    /// link.wait_ended()?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn reconnect(&self) {
        self.0.wish(Wish::Renew);
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.0.lock().change.state
    }

    /// Where it stands, with what ended the last connection or attempt.
    pub fn last_change(&self) -> Change {
        self.0.lock().change.clone()
    }

    /// How many connections have been opened so far, with the one that is open. In
    /// [`Listener::on_open`](crate::Listener::on_open) it is 1 for the first, and more for a re-connection.
    pub fn connections(&self) -> u64 {
        self.0.lock().change.connections
    }

    /// How many bytes of messages are held until a connection is open ([`Reconnect::hold`](crate::Reconnect::hold)).
    pub fn held(&self) -> usize {
        self.0.lock().held.bytes()
    }

    /// The connection that is open: for pings, messages in parts, and what else a [`Handle`] can do. It stays with that
    /// connection.
    pub fn handle(&self) -> Option<Handle> {
        self.0.lock().handle.clone()
    }

    /// Waits until it has come to its end ([`State::GaveUp`] or [`State::Stopped`]; the listener and the callbacks are
    /// dropped by then), and returns that end, with its cause. The loop of this thread goes on meanwhile. Fails with
    /// [`Error::Stopped`] if this thread's worker is stopped.
    pub fn wait_ended(&self) -> Result<Change, Error> {
        let event_loop = EventLoop::current();
        let here = event_loop.remote();
        event_loop.wait(None, || {
            let mut inner = self.0.lock();
            if !inner.has_ended && !inner.waiting.contains(&here) {
                inner.waiting.push(here.clone());
            }
            inner.has_ended
        })?;
        Ok(self.last_change())
    }

    /// The worker on whose loop it lives.
    pub fn worker(&self) -> &Remote {
        &self.0.owner
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
