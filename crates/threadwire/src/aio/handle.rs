//! A connection from any task and any thread.

use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_core::Stream;
use threadwire_core::session::round_trip::Measurement;
use threadwire_proto::{AsMessage, CloseCode, Compress, Message, OpCode, OwnedMessage};
use tokio::runtime;

use super::core::Core;
use super::round_trip;
use super::sending::{Ending, Waiting, send_message};
use super::sending_parts::send_parts;
use crate::connection::handle::waker_of_this_thread;
use crate::connection::patience::{Patience, wait_for_room};
use crate::{Closed, Error, SendOptions, WhenFull};
use threadwire_core::config::TOO_SLOW;
use threadwire_core::reconnect::shared::ConnectionHandle;

/// A connection from any task and any thread, also from native ones: a cheap clone, `Send` and `Sync`.
/// [`Connection::handle`](super::Connection::handle) makes one.
///
/// What is sent leaves soon, whoever sends it and wherever: nobody has to wake anybody. Messages of one handle keep their order;
/// what several send at the same time comes in some order, a message at a time.
///
/// A handle keeps nothing open: the connection closes when its [`Connection`](super::Connection), or both halves of it, are
/// dropped. And it does not receive; what the peer does, its end included, is noticed all the same.
///
/// ```
/// use threadwire::{Error, aio};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let server = aio::Server::bind("127.0.0.1:0").await?;
/// # let url = format!("ws://{}", server.local_addr()?);
/// # tokio::spawn(server.serve(|_, mut ws| async move {
/// #     while let Ok(Some(message)) = ws.recv().await { ws.send(&message).await.unwrap() }
/// # }));
///
/// let mut ws = aio::connect(&url).await?;
/// let handle = ws.handle();
/// let thread = std::thread::spawn(move || handle.send("from a native thread"));
/// assert_eq!(ws.recv().await?.unwrap(), "from a native thread");
/// thread.join().unwrap()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handle(Arc<Core>);

impl Handle {
    pub(super) fn new(core: &Arc<Core>) -> Handle {
        Handle(Arc::clone(core))
    }

    /// What there is of the connection.
    pub(super) fn core(&self) -> &Core {
        &self.0
    }

    /// Sends a message, without waiting: past [`Config::max_buffered`](crate::Config::max_buffered) it does what
    /// [`Config::when_full`](crate::Config::when_full) says.
    ///
    /// [`WhenFull::Wait`] blocks a native thread until there is room. In a task it would hold up the runtime that has to write
    /// what waits, so there it is taken for [`WhenFull::Error`]: [`send_async`](Handle::send_async) waits in tasks.
    ///
    /// Fails with [`Error::Closed`] if the connection is not open, with [`Error::Limit`] if too much waits, and with
    /// [`Error::Send`] between the fragments of a message
    /// ([`Sender::send_frame`](super::Sender::send_frame)).
    pub fn send(&self, message: impl AsMessage) -> Result<(), Error> {
        self.send_with(message, SendOptions::default())
    }

    /// Sends a message, and chooses what is to happen if there is no room for it, or whether it is compressed: see
    /// [`SendOptions`]. Otherwise it is as [`send`](Handle::send).
    ///
    /// ```
    /// use threadwire::{Error, WhenFull, aio};
    ///
    /// fn tick(feed: &aio::Handle, price: f64) -> Result<(), Error> {
    ///     feed.send_with(&price.to_string(), WhenFull::DropOldest)
    /// }
    /// ```
    pub fn send_with(&self, message: impl AsMessage, options: impl Into<SendOptions>) -> Result<(), Error> {
        let (message, SendOptions { when_full, compress, .. }) = (message.as_message(), options.into());
        let when_full = when_full.unwrap_or(self.0.config.when_full);
        let (opcode, payload) = (message.opcode(), message.as_bytes());
        loop {
            match self.0.send_or(opcode, payload, when_full, compress) {
                Err(Error::Limit(_)) if when_full == WhenFull::Wait && !is_in_runtime() => {
                    self.wait_for_room(payload.len())?;
                }
                result => return result,
            }
        }
    }

    #[cold]
    fn wait_for_room(&self, length: usize) -> Result<(), Error> {
        let mut room = pin!(Waiting::new(&self.0, |core, cx, number| core.poll_room_for(cx, number, length)));
        let (waker, config) = (waker_of_this_thread(), &self.0.config);
        let mut cx = Context::from_waker(&waker);
        let is_there = || room.as_mut().poll(&mut cx).is_ready();
        match wait_for_room(config.wait_timeout, || self.0.written(), is_there)? {
            Patience::Rewarded => return Ok(()),
            Patience::Refused => {}
            Patience::Exhausted => self.close_with(CloseCode::POLICY, TOO_SLOW)?,
        }
        Err(Error::too_much_buffered(config.max_buffered))
    }

    /// Sends a message, after waiting while more than [`Config::high_watermark`](crate::Config::high_watermark) bytes wait to be
    /// written. Dropped while it waits, it has sent nothing. Fails as [`send`](Handle::send) does, but for the limit.
    pub fn send_async<'a>(
        &'a self,
        message: impl AsMessage + Send + Unpin + 'a,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        send_message(&self.0, message, SendOptions::default())
    }

    /// Sends a message whose parts a stream yields: see [`Connection::send_parts`](super::Connection::send_parts).
    pub fn send_parts<'a, P: Into<OwnedMessage> + Send + 'a>(
        &'a self,
        parts: impl Stream<Item = Result<P, Error>> + Send + 'a,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        send_parts(Arc::clone(&self.0), parts)
    }

    /// Sends a ping with a payload of at most 125 bytes. Fails as [`send`](Handle::send) does.
    pub fn ping(&self, payload: &[u8]) -> Result<(), Error> {
        self.0.send_or(OpCode::Ping, payload, WhenFull::Error, Compress::Never)
    }

    /// Sends a pong with a payload of at most 125 bytes. Fails as [`send`](Handle::send) does.
    pub fn pong(&self, payload: &[u8]) -> Result<(), Error> {
        self.0.send_or(OpCode::Pong, payload, WhenFull::Error, Compress::Never)
    }

    /// Closes with 1000. See [`close_with`](Handle::close_with).
    pub fn close(&self) -> Result<(), Error> {
        self.close_with(CloseCode::NORMAL, "")
    }

    /// Begins to close: behind what was sent before. What the peer still sends is dropped, and whoever receives learns of the
    /// end once the peer has answered, or [`Config::close_timeout`](crate::Config::close_timeout) has passed. Does nothing if
    /// the connection is closing already.
    ///
    /// Of a reason longer than 123 bytes as much is sent as [fits](crate::proto::close::fit_reason), and a warning is logged.
    ///
    /// Fails with [`Error::Send`], and does nothing, if the code must not be sent (1000-1003, 1007-1014 and 3000-4999 may).
    pub fn close_with(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        self.0.close(code, reason)
    }

    /// Drops TCP without a closing handshake: the peer sees that the connection broke.
    pub fn abort(&self) {
        self.0.abort(None);
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        self.0.is_open()
    }

    /// How many bytes wait to be written.
    pub fn buffered(&self) -> usize {
        self.0.buffered()
    }

    /// How many messages were dropped because there was no room ([`WhenFull`]).
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }

    /// Measures how long a ping takes to come back, this many times: see
    /// [`Connection::measure_roundtrip`](super::Connection::measure_roundtrip).
    pub fn measure_roundtrip(
        &self,
        rounds: usize,
    ) -> impl Future<Output = Result<Vec<Duration>, Error>> + Send + '_ {
        round_trip::measure(Arc::clone(&self.0), Measurement::new(rounds))
    }

    /// Sends a ping, and waits for its pong: how long that took. See
    /// [`Connection::roundtrip`](super::Connection::roundtrip).
    pub fn roundtrip(
        &self,
        payload: &[u8],
    ) -> impl Future<Output = Result<Duration, Error>> + Send + 'static {
        round_trip::one(&self.0, payload)
    }

    /// How the connection ended, if it has.
    pub fn closed(&self) -> Option<Arc<Closed>> {
        self.0.outcome()
    }

    /// Waits until the connection has ended, and says how.
    pub fn wait_closed(&self) -> impl Future<Output = Arc<Closed>> + Send + 'static {
        Ending::new(&self.0)
    }
}

impl ConnectionHandle for Handle {
    type Owner = ();

    fn send_with(&self, message: Message<'_>, options: SendOptions) -> Result<(), Error> {
        self.send_with(message, options)
    }

    fn send_later<'a>(&'a self, message: Message<'a>) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        self.send_async(message)
    }

    fn offer(&self, message: Message<'_>, compress: Compress) -> Result<(), Error> {
        self.0.send_or(message.opcode(), message.as_bytes(), WhenFull::Error, compress)
    }

    fn has_room(&self, length: usize, waker: &Waker) -> bool {
        // A registered waker stays until it is woken.
        self.0.poll_room_for(&mut Context::from_waker(waker), &mut None, length).is_ready()
    }

    fn close_with(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        self.close_with(code, reason)
    }

    fn close_now(&self) {
        self.0.close_now();
    }
}

/// Whether this thread must not be blocked.
fn is_in_runtime() -> bool {
    runtime::Handle::try_current().is_ok()
}

/// Handles are equal if they are of the same connection.
impl PartialEq for Handle {
    fn eq(&self, other: &Handle) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Handle {}

impl Hash for Handle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(f, "Handle")
    }
}
