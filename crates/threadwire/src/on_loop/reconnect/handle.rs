//! A reconnecting connection from any thread.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use threadwire_core::reconnect::command::Command;
use threadwire_core::reconnect::shared::{ConnectionHandle, SharedState};
use threadwire_proto::{AsMessage, CloseCode, CloseFrame, Compress, Message};
use threadwire_worker::{EventLoop, Remote};

use super::{Change, State};
use crate::connection::handle::waker_of_this_thread;
use crate::{Connection, Error, Handle, SendOptions};

/// A reconnecting connection from any thread: a cheap clone, `Send` and `Sync`. It stands for one connection after the other,
/// where a [`Handle`] stands for one.
///
/// Made by [`Reconnect::start`](crate::reconnect::Reconnect::start). It lives on the loop of the thread that started it, and goes on
/// while that loop turns, until it is [closed](ReconnectHandle::close) or [stopped](ReconnectHandle::stop), its listener closes,
/// it gives up, or its worker ends. Dropping the last handle does not stop it.
///
/// Those of the async face are the same type, with [`aio::Handle`](crate::aio::Handle)s for `H`:
/// [`aio::ReconnectHandle`](crate::aio::ReconnectHandle).
///
/// ```
/// use threadwire::reconnect::{Backoff, State};
/// use threadwire::{Client, Connection, Message};
/// # use threadwire::{Reply, Server};
/// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let handle = Client::new(&url)?
///     .reconnect(Backoff::default())
///     .hold(1 << 20)
///     .start_with(|handle| {
///         let handle = handle.clone();
///         move |_ws: &Connection, message: Message<'_>| {
///             println!("connection {}: {message}", handle.connections());
///             handle.close()
///         }
///     });
/// std::thread::scope(|scope| {
///     scope.spawn(|| handle.send("taken, though no connection is open yet"));
/// });
/// assert_eq!(handle.wait_ended()?.state, State::Stopped);
/// # Ok::<(), threadwire::Error>(())
/// ```
pub struct ReconnectHandle<H: ConnectionHandle = Handle>(pub(crate) Arc<SharedState<H>>);

impl<H: ConnectionHandle> ReconnectHandle<H> {
    /// Sends a message over the connection that is open, as [`Handle::send`] and
    /// [`aio::Handle::send`](crate::aio::Handle::send) do. While none is, it fails with [`Error::Closed`], or takes the message
    /// to be sent later where [`Reconnect::hold`](crate::reconnect::Reconnect::hold) is set.
    ///
    /// What was given to a connection is lost if that ends before it has left (nobody knows how much of it the peer has read),
    /// and so is what is sent in the moment in which the end is not known yet on this thread.
    ///
    /// Fails with [`Error::Closed`] from [`close`](ReconnectHandle::close) or [`stop`](ReconnectHandle::stop) on, and with
    /// [`Error::Limit`] if too much waits for the peer ([`Config::max_buffered`](crate::Config::max_buffered)) or is held.
    pub fn send(&self, message: impl AsMessage) -> Result<(), Error> {
        self.0.send(message.as_message(), SendOptions::default())
    }

    /// Sends a message, and chooses what is to happen if the peer does not read and there is no room for it, or whether it is
    /// compressed: see [`SendOptions`], and [`send`](ReconnectHandle::send). What is held is not concerned by the first.
    ///
    /// ```
    /// use threadwire::reconnect::ReconnectHandle;
    /// use threadwire::{Error, WhenFull};
    ///
    /// fn tick(feed: &ReconnectHandle, price: f64) -> Result<(), Error> {
    ///     feed.send_with(&price.to_string(), WhenFull::DropOldest)
    /// }
    /// ```
    pub fn send_with(&self, message: impl AsMessage, options: impl Into<SendOptions>) -> Result<(), Error> {
        self.0.send(message.as_message(), options.into())
    }

    /// Sends a message in a task, after waiting while there is no room: as [`Handle::send_async`] and
    /// [`aio::Handle::send_async`](crate::aio::Handle::send_async). Where messages are held, one for which there is no room
    /// fails with [`Error::Limit`] all the same.
    pub fn send_async<'a>(
        &'a self,
        message: impl AsMessage + Send + Unpin + 'a,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        let shared = &self.0;
        async move { shared.send_later(message.as_message()).await }
    }

    /// Closes with 1000, and reconnects no more. See [`close_with`](ReconnectHandle::close_with).
    pub fn close(&self) -> Result<(), Error> {
        self.close_with(CloseCode::NORMAL, "")
    }

    /// Closes the connection that is open, behind all that was sent before, and reconnects no more. What is held is dropped.
    /// If none is open, the attempt or the wait for it ends at once. Returns at once.
    ///
    /// Fails with [`Error::Send`], and does nothing, as [`Connection::close_with`] does.
    pub fn close_with(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        CloseFrame { code: Some(code), reason }.check()?;
        match self.0.command(Command::Close(code, reason.to_owned())) {
            Some(connection) => connection.close_with(code, reason),
            None => Ok(()),
        }
    }

    /// Ends it now, whatever it is at. A connection that is open is closed with 1001 without waiting for the peer's answer
    /// (the peer may see that it broke). Returns at once.
    pub fn stop(&self) {
        if let Some(connection) = self.0.command(Command::Stop) {
            connection.close_now();
        }
    }

    /// Drops the connection that is open, as [`stop`](ReconnectHandle::stop) does, the attempt or the wait for the next one, and
    /// begins the first attempt of a new row at once. For a program that knows more than the connection does: that the network
    /// has changed, say. Does nothing after the end.
    ///
    /// ```
    /// use threadwire::reconnect::{Backoff, State};
    /// use threadwire::{Client, Connection, Message, wait_until};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let quiet = |_ws: &Connection, _message: Message<'_>| Ok(());
    /// let handle = Client::new(&url)?.reconnect(Backoff::default()).start(quiet);
    /// wait_until(None, || handle.state() == State::Open)?;
    /// handle.reconnect();
    /// wait_until(None, || handle.connections() == 2)?;
    /// handle.close()?;
    /// handle.wait_ended()?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn reconnect(&self) {
        if let Some(connection) = self.0.command(Command::Renew) {
            connection.close_now();
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.0.state()
    }

    /// Where it stands, with what ended the last connection or attempt.
    pub fn last_change(&self) -> Change {
        self.0.last_change()
    }

    /// How many connections have been opened so far, with the one that is open. In
    /// [`Listener::on_open`](crate::Listener::on_open) it is 1 for the first, and more for a re-connection.
    pub fn connections(&self) -> u64 {
        self.0.connections()
    }

    /// How many bytes of messages are held until a connection is open.
    pub fn held(&self) -> usize {
        self.0.held()
    }

    /// The connection that is open: for pings, messages in parts, and what else its handle can do. It stays with that
    /// connection.
    pub fn connection(&self) -> Option<H> {
        self.0.connection()
    }
}

/// On a loop.
impl ReconnectHandle {
    /// The connection over which a message goes; none if it is held. Sends nothing, and so waits for nothing.
    pub(crate) fn route(&self, message: Message<'_>, options: SendOptions) -> Result<Option<Handle>, Error> {
        self.0.route(message, options.compress)
    }

    /// Sends nothing over this connection any more.
    pub(crate) fn shut_gate(&self, connection: &Handle) {
        self.0.shut_gate(connection);
    }

    /// Waits until it has come to its end ([`State::GaveUp`] or [`State::Stopped`]; the listener and the callbacks are
    /// dropped by then), and returns that end, with its cause. The loop of this thread goes on meanwhile. Fails with
    /// [`Error::Stopped`] if this thread's worker is stopped; and at once in one of its own callbacks or hooks, as it can't end before
    /// those return.
    pub fn wait_ended(&self) -> Result<Change, Error> {
        let is_in_call = self.0.is_calling()
            || self.connection().is_some_and(|connection| connection.is_in_own_callback());
        if self.0.owner.is_current() && is_in_call && !self.state().is_final() {
            return Err(Error::other(
                "a reconnecting connection's end can't be waited for in one of its own callbacks",
            ));
        }
        let waker = waker_of_this_thread();
        EventLoop::current().wait(None, || self.0.has_ended(&waker))?;
        Ok(self.last_change())
    }

    /// The worker on whose loop it lives.
    pub fn worker(&self) -> &Remote {
        &self.0.owner
    }
}

impl ConnectionHandle for Handle {
    type Owner = Remote;

    fn send_with(&self, message: Message<'_>, options: SendOptions) -> Result<(), Error> {
        self.send_with(message, options)
    }

    fn send_later<'a>(&'a self, message: Message<'a>) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        self.send_async(message)
    }

    fn offer(&self, message: Message<'_>, compress: Compress) -> Result<(), Error> {
        self.leave(message, compress)
    }

    fn has_room(&self, length: usize, waker: &Waker) -> bool {
        self.has_room_for(length, waker)
    }

    fn close_with(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        self.close_with(code, reason)
    }

    fn close_now(&self) {
        self.run(Connection::close_now);
    }
}

impl<H: ConnectionHandle> Clone for ReconnectHandle<H> {
    fn clone(&self) -> ReconnectHandle<H> {
        ReconnectHandle(Arc::clone(&self.0))
    }
}

impl<H: ConnectionHandle> fmt::Debug for ReconnectHandle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = self.last_change();
        f.debug_struct("ReconnectHandle")
            .field("state", &change.state)
            .field("connections", &change.connections)
            .finish_non_exhaustive()
    }
}
