//! A connection from any thread.
//!
//! A [`Handle`] leaves what it sends in the connection's [lane](lane) and has the owner's loop look into it; on the owner's
//! own thread it goes straight to the connection. A message that is sent in parts holds the connection's messages up until
//! it is finished: those of others wait for it, in order ([`crate::connection`]'s `remote.rs`).

pub mod events;
pub(crate) mod lane;
mod parts;
mod sync;
mod waiting;

use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::task::{Wake, Waker};

use threadwire_core::config::TOO_SLOW;
use threadwire_proto::frame::MAX_CONTROL;
use threadwire_proto::{AsMessage, CloseCode, CloseFrame, Compress, Message, OpCode, SendError};
use threadwire_worker::{EventLoop, Lock, Remote, WorkerId};

use crate::connection::patience::{Patience, wait_for_room};
use crate::connection::registry::Registry;
use crate::{Closed, Config, Connection, Error, SendOptions, WhenFull};
use lane::{Lane, LeftFrame, Pushed};
pub use parts::Parts;
use waiting::{Below, Ended};

/// What a handle has the owner do.
pub(crate) type Call = Box<dyn FnOnce(&Connection) + Send>;

/// A connection from any thread: a cheap clone, `Send` and `Sync`. [`Connection::handle`] makes one.
///
/// All of it works from every thread - workers, native threads, tasks of some runtime - and none of it waits for the socket.
/// What one handle sends leaves in that order, also with its clones' calls on other threads, as far as these come one after
/// the other. What different threads send at the same time comes in some order, a message at a time.
///
/// Dropping the last handle does not close the connection.
///
/// ```
/// use threadwire::{Connection, Message, connect};
/// # use threadwire::{Reply, Server};
/// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let ws = connect(&url, |_ws: &Connection, message: Message<'_>| {
///     println!("{message}");
///     Ok(())
/// })?;
/// let handle = ws.handle();
/// let thread = std::thread::spawn(move || {
///     handle.send("from another thread")?;
///     handle.close()
/// });
/// ws.wait_closed()?;
/// thread.join().unwrap()?;
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone)]
pub struct Handle(Arc<Core>);

struct Core {
    id: u64,
    /// None while the connection is between two threads.
    owner: Lock<Option<Remote>>,
    /// The connection's place among those of its thread that have handles.
    place: AtomicUsize,
    config: Arc<Config>,
    lane: Lane<Call, Arc<Closed>>,
    /// The workers that were told of the end.
    told: Lock<Vec<WorkerId>>,
}

static HANDLES: AtomicU64 = AtomicU64::new(1);

/// What any thread may do.
impl Handle {
    /// Sends a message, as [`Connection::send`] does; past [`Config::max_buffered`] it does what [`Config::when_full`] says.
    ///
    /// That it returns `Ok` says that the message was taken: it leaves, unless the connection ends first.
    ///
    /// Fails with [`Error::Closed`] if the connection is not open, and with [`Error::Limit`] if too much waits.
    pub fn send(&self, message: impl AsMessage) -> Result<(), Error> {
        self.send_with(message, SendOptions::default())
    }

    /// Sends a message, and chooses what is to happen if there is no room for it, or whether it is compressed: see
    /// [`SendOptions`].
    ///
    /// ```
    /// use threadwire::{Error, Handle, WhenFull};
    ///
    /// fn tick(feed: &Handle, price: f64) -> Result<(), Error> {
    ///     feed.send_with(&price.to_string(), WhenFull::DropOldest)
    /// }
    /// ```
    pub fn send_with(&self, message: impl AsMessage, options: impl Into<SendOptions>) -> Result<(), Error> {
        let (message, options) = (message.as_message(), options.into());
        if let Some(connection) = self.connection() {
            return connection.send_with(message, options);
        }
        let when_full = options.when_full.unwrap_or(self.0.config.when_full);
        self.leave_frame((message.opcode(), true), message.as_bytes(), 0, when_full, options.compress)
    }

    /// Begins a text message that is sent in parts: see [`Parts`].
    pub fn start_text(&self) -> Parts {
        Parts::new(self.clone(), OpCode::Text)
    }

    /// Begins a binary message that is sent in parts: see [`Parts`].
    pub fn start_binary(&self) -> Parts {
        Parts::new(self.clone(), OpCode::Binary)
    }

    /// Sends a ping with a payload of at most 125 bytes, behind all that this handle sent before. Fails as
    /// [`Connection::ping`] does.
    pub fn ping(&self, payload: &[u8]) -> Result<(), Error> {
        self.control(OpCode::Ping, payload)
    }

    /// Sends a pong with a payload of at most 125 bytes. Fails as [`Connection::pong`] does.
    pub fn pong(&self, payload: &[u8]) -> Result<(), Error> {
        self.control(OpCode::Pong, payload)
    }

    fn control(&self, opcode: OpCode, payload: &[u8]) -> Result<(), Error> {
        let length = payload.len();
        if length > MAX_CONTROL {
            return Err(SendError::ControlTooLong { opcode, length }.into());
        }
        self.leave_frame((opcode, true), payload, 0, WhenFull::Error, Compress::Never)
    }

    /// Closes with 1000. See [`close_with`](Handle::close_with).
    pub fn close(&self) -> Result<(), Error> {
        self.close_with(CloseCode::NORMAL, "")
    }

    /// Closes, as [`Connection::close_with`] does: behind all that this handle sent before. Wakes the loop of the connection
    /// at once, and returns. Does nothing if the connection is closing already.
    pub fn close_with(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        CloseFrame { code: Some(code), reason }.check()?;
        let reason = reason.to_owned();
        // Later messages are too late.
        self.0.lane.shut();
        self.run(move |ws| {
            // Code and reason were checked above.
            let _ = ws.close_with(code, &reason);
        });
        Ok(())
    }

    /// Drops TCP without a closing handshake, as [`Connection::abort`] does.
    pub fn abort(&self) {
        self.run(Connection::abort);
    }

    /// Whether messages can be sent, as far as is known here: an end that has just come may still be on its way.
    pub fn is_open(&self) -> bool {
        self.0.lane.is_open()
    }

    /// Whether the connection has come to its end, and [`Listener::on_close`](crate::Listener::on_close) has returned.
    pub fn has_ended(&self) -> bool {
        self.0.lane.ended().is_some()
    }

    /// How the connection ended, if it has.
    pub fn closed(&self) -> Option<Arc<Closed>> {
        self.0.lane.ended()
    }

    /// How many bytes wait to be written. Where the oldest messages make room ([`WhenFull::DropOldest`]), what the connection's own
    /// thread is about to drop for newer ones does not count.
    pub fn buffered(&self) -> usize {
        self.0.lane.waiting_bytes(self.0.config.max_buffered)
    }

    /// How many messages this connection's handles have dropped on their way to it, because there was no room
    /// ([`WhenFull`]). What was dropped later on is counted by [`Connection::dropped`].
    pub fn dropped(&self) -> u64 {
        self.0.lane.dropped()
    }

    /// Waits until all that was sent has been written to the system, or the connection has ended; the loop of this thread goes
    /// on meanwhile. (That it was written does not say that the peer has got it.) Fails with [`Error::Stopped`] if this
    /// thread's worker is stopped; and in a callback with [`Error::Limit`] as a send does that
    /// [waits](crate::Config::wait_timeout).
    pub fn wait_drained(&self) -> Result<(), Error> {
        self.wait_below(0)
    }

    /// Waits until the connection has ended, and says how; the loop of this thread goes on meanwhile. Fails with
    /// [`Error::Stopped`] if this thread's worker is stopped; and at once in a callback of the same connection, `on_close` too, which can't
    /// end before that returns.
    ///
    /// ```
    /// use threadwire::{Connection, Message, connect};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let handle = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?.handle();
    /// handle.close()?;
    /// assert!(handle.wait_closed()?.clean);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn wait_closed(&self) -> Result<Arc<Closed>, Error> {
        if self.is_in_own_callback() {
            return Err(Error::other("a connection's end can't be waited for in one of its own callbacks"));
        }
        let waker = waker_of_this_thread();
        EventLoop::current().wait(None, || self.0.lane.is_below(None, &waker))?;
        self.closed().ok_or(Error::Stopped)
    }

    /// As [`send`](Handle::send), in a task: where there is no room ([`Config::max_buffered`]) it waits until there is, whatever
    /// [`Config::when_full`] says. Dropped while it waits, it has sent nothing.
    ///
    /// ```
    /// use threadwire::{Error, Handle};
    ///
    /// async fn export(peer: Handle, rows: Vec<String>) -> Result<(), Error> {
    ///     for row in &rows {
    ///         peer.send_async(row).await?;
    ///     }
    ///     peer.wait_drained_async().await;
    ///     peer.close()
    /// }
    /// ```
    pub fn send_async<'a>(
        &'a self,
        message: impl AsMessage + Send + Unpin + 'a,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        let most = self.0.config.max_buffered.saturating_sub(message.as_message().len());
        async move {
            let message = message.as_message();
            loop {
                match self.send_with(message, WhenFull::Error) {
                    Err(Error::Limit(_)) => {
                        Below::new(self, Some(most)).await;
                        // The limit on the number of messages may be reached, and not that on bytes.
                        waiting::leave_others_their_turn().await;
                    }
                    sent => return sent,
                }
            }
        }
    }

    /// As [`wait_drained`](Handle::wait_drained), in a task of any executor.
    pub fn wait_drained_async(&self) -> impl Future<Output = ()> + Send + 'static {
        Below::new(self, Some(0))
    }

    /// As [`wait_closed`](Handle::wait_closed), in a task of any executor. Nobody has to receive for that: the connection's own
    /// thread does. Don't [`block_on`](crate::worker::block_on) it in a callback of the same connection: it is never ready there.
    ///
    /// ```
    /// use threadwire::worker::block_on;
    /// use threadwire::{Connection, Message, connect};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let handle = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?.handle();
    /// handle.close()?;
    /// assert!(block_on(handle.wait_closed_async())?.clean);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn wait_closed_async(&self) -> impl Future<Output = Arc<Closed>> + Send + 'static {
        Ended(Below::new(self, None))
    }

    /// The worker on whose loop the connection lives; `None` while it is handed from one thread to another.
    pub fn worker(&self) -> Option<Remote> {
        self.owner().clone()
    }

    /// A number that no other connection of this process has.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Has `call` run on the connection's thread, with the connection, behind all that this handle sent before. Nothing
    /// happens if the connection has ended.
    ///
    /// ```
    /// use threadwire::Handle;
    ///
    /// /// From any thread: reads no more until told otherwise.
    /// fn hold(feed: &Handle) {
    ///     feed.run(|ws| ws.pause_reading());
    /// }
    /// ```
    pub fn run(&self, call: impl FnOnce(&Connection) + Send + 'static) {
        if let Some(connection) = self.connection() {
            return call(&connection);
        }
        let pushed = self.0.lane.push_call(Box::new(call));
        self.tell_owner(pushed);
    }
}

/// What the connection needs of its handles.
impl Handle {
    pub(crate) fn new(config: Arc<Config>) -> Handle {
        let id = HANDLES.fetch_add(1, Ordering::Relaxed);
        let (owner, place) = (Lock::new(None), AtomicUsize::new(0));
        Handle(Arc::new(Core { id, owner, place, config, lane: Lane::new(), told: Lock::default() }))
    }

    /// The connection lives on this thread from now on, at that place.
    pub(crate) fn come_to_thread(&self, place: usize) {
        self.0.place.store(place, Ordering::Relaxed);
        *self.owner() = Some(EventLoop::current().remote());
    }

    /// The connection leaves this thread. Returns the place that it had.
    pub(crate) fn leave_thread(&self) -> usize {
        *self.owner() = None;
        self.place()
    }

    /// Tells a worker how the connection has ended, unless it was told before.
    pub(crate) fn tell_end(&self, worker: &Remote, closed: Arc<Closed>) {
        let mut told = self.0.told.lock();
        let is_new = !told.contains(&worker.id());
        if is_new {
            told.push(worker.id());
            drop(told);
            // One that has ended needs not know.
            let _ = worker.fire(events::Closed { handle: self.clone(), closed });
        }
    }

    fn owner(&self) -> MutexGuard<'_, Option<Remote>> {
        self.0.owner.lock()
    }

    /// Leaves a message in the lane, also on the owner's own thread: nothing is called, and nothing waits.
    pub(crate) fn leave(&self, message: Message<'_>, compress: Compress) -> Result<(), Error> {
        self.leave_frame((message.opcode(), true), message.as_bytes(), 0, WhenFull::Error, compress)
    }

    /// Whether there is room for so many bytes, or the connection has ended. If not, the waker is called when it is so.
    pub(crate) fn has_room_for(&self, length: usize, waker: &Waker) -> bool {
        self.0.lane.is_below(Some(self.0.config.max_buffered.saturating_sub(length)), waker)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn lane(&self) -> &Lane<Call, Arc<Closed>> {
        &self.0.lane
    }

    pub(crate) fn place(&self) -> usize {
        self.0.place.load(Ordering::Relaxed)
    }
}

impl Handle {
    /// The connection, on its own thread, if nothing that was left for it before has to be done first: the order of a handle's
    /// calls is kept.
    fn connection(&self) -> Option<Connection> {
        self.here().filter(Connection::pass_lane)
    }

    /// The connection, on its own thread: nothing is done first.
    pub(crate) fn here(&self) -> Option<Connection> {
        Registry::current().connection(self.place(), self.0.id)
    }

    /// Whether this is called in one of the connection's own callbacks.
    pub(crate) fn is_in_own_callback(&self) -> bool {
        self.here().is_some_and(|connection| connection.is_in_own_callback())
    }

    /// Has `call` run on the connection's thread: now, or in the order in which this thread posts other things to it (and not
    /// with what the handle has sent). Nothing happens if the connection has ended, or is between two threads.
    pub(crate) fn post(&self, call: impl FnOnce(&Connection) + Send + 'static) {
        if let Some(connection) = self.here() {
            return call(&connection);
        }
        let Some(owner) = self.worker() else { return };
        let handle = self.clone();
        // Refused, it has ended with its worker.
        let _ = owner.post(move |_| {
            if let Some(connection) = handle.here() {
                call(&connection);
            }
        });
    }

    /// Leaves a frame for the owner.
    pub(crate) fn leave_frame(
        &self,
        (opcode, fin): (OpCode, bool),
        payload: &[u8],
        part_of: u64,
        when_full: WhenFull,
        compress: Compress,
    ) -> Result<(), Error> {
        let limit = self.0.config.max_buffered;
        let frame = LeftFrame { compress, ..LeftFrame::new(opcode, fin, part_of, when_full) };
        loop {
            match self.0.lane.push_frame(frame, payload, limit) {
                Pushed::Dropped => return Ok(()),
                Pushed::Ended => return Err(Error::Closed),
                Pushed::Full => self.make_room(when_full, payload.len())?,
                pushed => return if self.tell_owner(pushed) { Ok(()) } else { Err(Error::Closed) },
            }
        }
    }

    #[cold]
    fn make_room(&self, when_full: WhenFull, more: usize) -> Result<(), Error> {
        let limit = self.0.config.max_buffered;
        match when_full {
            WhenFull::Wait => return self.wait_below(limit.saturating_sub(more)),
            WhenFull::Close => self.close_with(CloseCode::POLICY, TOO_SLOW)?,
            _ => {}
        }
        Err(Error::too_much_buffered(limit))
    }

    fn wait_below(&self, most: usize) -> Result<(), Error> {
        let (waker, config) = (waker_of_this_thread(), &self.0.config);
        let taken = || self.0.lane.taken() as u64;
        let waited = wait_for_room(config.wait_timeout, taken, || self.0.lane.is_below(Some(most), &waker))?;
        match waited {
            Patience::Rewarded => return Ok(()),
            Patience::Refused => {}
            Patience::Exhausted => self.close_with(CloseCode::POLICY, TOO_SLOW)?,
        }
        Err(Error::too_much_buffered(config.max_buffered))
    }

    /// Has the owner look into the lane, if it doesn't know. False if it is no more.
    fn tell_owner(&self, pushed: Pushed) -> bool {
        if pushed != Pushed::First {
            return pushed == Pushed::Behind;
        }
        // Between two threads nobody has to be told: the next one looks.
        let Some(owner) = self.worker() else { return true };
        let handle = self.clone();
        let told = owner.post(move |_| {
            if let Some(connection) = handle.here() {
                connection.serve_lane();
            }
        });
        if told.is_ok() {
            return true;
        }
        // The connection may have moved on from a worker that has ended since.
        if self.worker().as_ref() != Some(&owner) {
            return self.tell_owner(pushed);
        }
        self.0.lane.shut();
        false
    }
}

/// Has the loop of this thread look whether what it waits for is there.
pub(crate) fn waker_of_this_thread() -> Waker {
    struct Look(Remote);

    impl Wake for Look {
        fn wake(self: Arc<Self>) {
            self.0.wake();
        }
    }

    Waker::from(Arc::new(Look(EventLoop::current().remote())))
}

/// Handles are equal if they are of the same connection.
impl PartialEq for Handle {
    fn eq(&self, other: &Handle) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Handle {}

impl Hash for Handle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("id", &self.0.id)
            .field("is_open", &self.is_open())
            .finish_non_exhaustive()
    }
}
