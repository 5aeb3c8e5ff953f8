//! A connection: a stream, the protocol, and what waits to be written, driven by the thread's event loop.
//!
//! The order of things on one wake-up: one read into a buffer that all connections of the thread share; every frame in
//! it is handed to the listener, whose sends are gathered; then one write. Two rules keep that right when callbacks wait
//! and the loop turns inside of them: no borrow of a cell spans a callback, and the listener is taken out of its cell
//! while it runs. Found missing, it is busy: readiness is remembered and dealt with when it is back. Taken for good, it
//! can't be called again: that is how `on_close` is the last call, and the only one.

mod backpressure;
mod bound_session;
mod callbacks;
mod closing;
pub(crate) mod closure;
mod detach;
mod flags;
pub(crate) mod handle;
mod handle_messages;
mod keepalive;
pub(crate) mod listener;
pub(crate) mod membership;
pub mod messages;
pub(crate) mod patience;
mod reading;
mod receivers;
pub(crate) mod registry;
pub(crate) mod reply;
pub mod room;
mod round_trip;
pub(crate) mod stream;
mod subscribers;
pub(crate) mod writing;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use threadwire_core::agreed::Agreed;
use threadwire_proto::deflate::Agreement;
use threadwire_proto::handshake::{self, Headers};
use threadwire_proto::keepalive::Hold;
use threadwire_proto::state::State;
use threadwire_proto::{
    AsMessage, CloseCode, CloseFrame, Compress, Level, OpCode, Role, SendOptions as FrameOptions,
};
use threadwire_worker::{EventLoop, Ready, Remote, Source, TimerId, Token};

use self::callbacks::introduce;
use crate::connection::messages::inbox::Inbox;
use crate::connection::room::branch::Seat;
use crate::connection::stream::Stream;
use crate::error::TimeoutKind;
#[cfg(feature = "tls")]
use crate::tls::TlsInfo;
use crate::{Closed, Config, Error, Listener, SendOptions, WhenFull};
use bound_session::BoundSession;
pub(crate) use detach::{Moving, Remains};
use flags::Flags;
use handle_messages::Sharing;
use keepalive::KeepaliveTimer;
use membership::{Roster, Site};
use registry::Registry;
use round_trip::Measuring;
use threadwire_core::session::Session;

/// How many reads may go by before a peer is given up that may have answered our close frame while we did not read.
const MOST_LOOKS: u8 = 64;

/// An open connection: a cheap clone that stays on its thread. A [`Listener`] gets it with every call, and may keep it for
/// a timer or another callback; calls on a connection that is closed say so and do nothing else.
///
/// What is sent from callbacks while one read is worked through leaves in one write after it; what is sent otherwise leaves
/// when the thread's event loop turns next, that is with the next wait. Code that sends and then computes for long calls
/// [`flush`](Connection::flush).
///
/// Dropping a `Connection` does not close it: it lives on its thread's loop until it is closed, and
/// [`Listener::on_close`] is told.
///
/// ```
/// use threadwire::{Connection, Error, Message, connect};
/// # use threadwire::{Reply, Server};
/// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let ws = connect(&url, |ws: &Connection, _message: Message<'_>| ws.close())?;
/// let same = ws.clone();
/// same.send("hello")?;
/// ws.wait_closed()?; // the answer has come, and the listener has closed
/// assert!(same.has_ended());
/// assert!(matches!(same.send("too late"), Err(Error::Closed)));
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone)]
pub struct Connection(Rc<Inner>);

struct Inner {
    token: Token,
    session: RefCell<BoundSession>,
    level: Level,
    /// Stands for the listener's name.
    name: u16,
    /// Missing while a callback runs, and after `on_close`.
    listener: RefCell<Option<Box<dyn Listener>>>,
    /// Readiness that came while a callback ran.
    unread: Cell<Ready>,
    /// Whether a flush was asked for.
    dirty: Cell<bool>,
    agreed: Option<Box<Agreed>>,
    phase: Cell<Phase>,
    /// Closing has taken too long, but it may be that we have not read the answer: how often it was looked for since. None
    /// if there is still time.
    overdue: Cell<Option<u8>>,
    site: Rc<Site>,
    flags: Cell<Flags>,
    /// What its thread's connections share.
    registry: Rc<Registry>,
    /// Whether `on_close` was called.
    reported: Cell<bool>,
    extras: RefCell<Option<Box<Extras>>>,
    /// Where it stands among the connections of its server.
    place: Cell<u32>,
}

/// What most connections don't have, or only at their end.
#[derive(Default)]
struct Extras {
    sharing: Option<Box<Sharing>>,
    /// Its places in rooms.
    seats: Vec<Seat>,
    keepalive: Option<KeepaliveTimer>,
    measuring: Option<Measuring>,
    /// How it ended.
    closed: Option<Arc<Closed>>,
    /// Whether `on_close` has returned.
    is_over: bool,
    /// How many bytes wait for another thread's message to be finished.
    held_bytes: usize,
    /// The workers that hear of what arrives.
    watchers: Vec<Remote>,
    /// The queues that are filled with what arrives.
    receivers: Rc<Vec<Arc<Inbox>>>,
    /// Set while the connection closes.
    timer: Option<TimerId>,
}

/// A connection that may be gone.
pub(crate) struct WeakConnection(Weak<Inner>);

impl WeakConnection {
    pub(crate) fn upgrade(&self) -> Option<Connection> {
        self.0.upgrade().map(Connection)
    }
}

/// How far the end has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It has not begun.
    Running,
    /// Nothing more is written; `on_close` was called, or will be when the running callback returns. What the peer still
    /// sends is read and dropped: closing the socket under it would reset the connection, and the peer might never see
    /// our close frame.
    Lingering,
    /// The socket is closed.
    Over,
}

/// What a listener uses.
impl Connection {
    /// Sends a message: text or bytes.
    ///
    /// Fails with [`Error::Closed`] if the connection is not open, with [`Error::Limit`] if more than
    /// [`Config::max_buffered`] bytes would wait for a peer that does not read (unless [`Config::when_full`] says otherwise),
    /// and with [`Error::Send`] between the fragments of a message ([`send_frame`](Connection::send_frame)). In a callback, `?` passes that on, and then
    /// closes the callback's own connection: right for an echo; in a chat room, where it is another's connection that
    /// failed, look at the error instead.
    ///
    /// ```
    /// use threadwire::{Connection, Error, Message};
    ///
    /// fn tell_all(room: &[Connection], message: Message<'_>) {
    ///     for member in room {
    ///         if let Err(error) = member.send(message) {
    ///             println!("{member:?} did not get it: {error}");
    ///         }
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn send(&self, message: impl AsMessage) -> Result<(), Error> {
        let message = message.as_message();
        self.send_frame(message.opcode(), true, message.as_bytes())
    }

    /// Sends a message, and chooses what is to happen if there is no room for it, or whether it is compressed: see
    /// [`SendOptions`]. Fails as [`send`](Connection::send) does.
    ///
    /// ```
    /// use threadwire::{Compress, Connection, Error, WhenFull};
    ///
    /// fn show(ws: &Connection, jpeg: &[u8], price: &str) -> Result<(), Error> {
    ///     ws.send_with(jpeg, Compress::Never)?; // it does not get smaller
    ///     ws.send_with(price, WhenFull::DropOldest) // who is slow gets the newest
    /// }
    /// ```
    pub fn send_with(&self, message: impl AsMessage, options: impl Into<SendOptions>) -> Result<(), Error> {
        let (message, SendOptions { when_full, compress, .. }) = (message.as_message(), options.into());
        let when_full = when_full.unwrap_or(self.0.site.config.when_full);
        self.send_frame_or(message.opcode(), true, message.as_bytes(), when_full, compress)
    }

    /// Sends one frame: a message, a fragment of one (`fin` false on all but the last, the opcode
    /// [`Continuation`](OpCode::Continuation) on all but the first), a ping or a pong. Fragments of a text message need
    /// not end at a character; that they make UTF-8 together is up to the caller.
    ///
    /// Fails as [`send`](Connection::send) does, and with [`Error::Send`] if the frame must not be sent: a close frame
    /// ([`close`](Connection::close) is for that), a control frame that is longer than 125 bytes or a fragment, a
    /// continuation of nothing, or a new message before the last one is finished.
    ///
    /// ```
    /// use std::{cell::RefCell, rc::Rc};
    /// use threadwire::error::SendError;
    /// use threadwire::frame::OpCode;
    /// use threadwire::{Connection, Error, Message, connect};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let whole = Rc::new(RefCell::new(String::new()));
    /// let heard = Rc::clone(&whole);
    /// let ws = connect(&url, move |ws: &Connection, message: Message<'_>| {
    ///     *heard.borrow_mut() = message.to_string();
    ///     ws.close()
    /// })?;
    /// ws.send_frame(OpCode::Text, false, b"in two ")?;
    /// assert!(matches!(ws.send("between"), Err(Error::Send(SendError::MessageUnfinished))));
    /// ws.send_frame(OpCode::Continuation, true, b"fragments")?;
    /// ws.wait_closed()?;
    /// assert_eq!(*whole.borrow(), "in two fragments");
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    #[inline]
    pub fn send_frame(&self, opcode: OpCode, fin: bool, payload: &[u8]) -> Result<(), Error> {
        if !self.has(Flags::SENDS_SPECIALLY) && self.has_room(payload.len()) {
            return self.send_now(opcode, fin, payload, FrameOptions::default());
        }
        self.send_frame_or(opcode, fin, payload, self.0.site.config.when_full, Compress::Auto)
    }

    fn send_frame_or(
        &self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        when_full: WhenFull,
        compress: Compress,
    ) -> Result<(), Error> {
        self.flush_rooms();
        if !self.has_room(payload.len()) && !self.make_room(opcode, fin, payload.len(), when_full)? {
            return Ok(());
        }
        let is_shared = self.has(Flags::SHARED);
        // Whole messages only: without one of its fragments a message is none, and control frames are exempt.
        let is_whole = fin && matches!(opcode, OpCode::Text | OpCode::Binary);
        let options = FrameOptions { compress, droppable: is_whole && when_full == WhenFull::DropOldest };
        if is_shared && !opcode.is_control() && self.is_mid_message_of_another() {
            return Ok(self.hold(opcode, fin, payload, options)?);
        }
        self.send_now(opcode, fin, payload, options)?;
        if is_shared {
            if fin && opcode == OpCode::Continuation {
                self.finished_own_message();
            }
            self.publish(self.0.session.borrow().buffered());
        }
        Ok(())
    }

    #[inline]
    fn send_now(
        &self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        options: FrameOptions,
    ) -> Result<(), Error> {
        let mut session = self.0.session.borrow_mut();
        let sent = session.send_frame(opcode, fin, payload, options, &self.0.registry.buffers);
        let gathered = session.buffered();
        drop(session);
        match sent {
            Err(Error::Io(error)) => self.write_failed(error),
            sent => sent?,
        }
        self.flush_soon(gathered);
        Ok(())
    }

    /// Sends a ping with a payload of at most 125 bytes. The peer answers with a pong of the same payload: see
    /// [`Listener::on_pong`]. Fails as [`send_frame`](Connection::send_frame) does.
    pub fn ping(&self, payload: &[u8]) -> Result<(), Error> {
        self.send_frame(OpCode::Ping, true, payload)
    }

    /// Sends a pong with a payload of at most 125 bytes, unasked or as an answer to a ping: only needed for that where
    /// [`Config::auto_pong`] is off. Fails as [`send_frame`](Connection::send_frame) does.
    pub fn pong(&self, payload: &[u8]) -> Result<(), Error> {
        self.send_frame(OpCode::Pong, true, payload)
    }

    /// Closes with 1000. See [`close_with`](Connection::close_with).
    pub fn close(&self) -> Result<(), Error> {
        self.close_with(CloseCode::NORMAL, "")
    }

    /// Closes: sends a close frame behind all that was sent before. Messages that still arrive are dropped; when the peer
    /// has answered, or [`Config::close_timeout`] has passed, [`Listener::on_close`] is called. (A client also waits for the
    /// server to end TCP, within the same time.) Does nothing if the connection is closing already.
    ///
    /// Of a reason longer than 123 bytes as much is sent as [fits](crate::proto::close::fit_reason), and a warning is logged.
    ///
    /// Fails with [`Error::Send`], and does nothing, if the code must not be sent (1000-1003, 1007-1014 and 3000-4999 may).
    ///
    /// ```
    /// use threadwire::{CloseCode, Connection, Message, connect};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let ws = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?;
    /// assert!(ws.close_with(CloseCode::ABNORMAL, "").is_err(), "1006 is only reported, never sent");
    /// ws.close_with(CloseCode::new(4001), "another tab has taken over")?;
    /// assert!(!ws.is_open());
    /// ws.wait_closed()?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn close_with(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        self.flush_rooms();
        let mut session = self.0.session.borrow_mut();
        session.close(CloseFrame { code: Some(code), reason }, &self.0.registry.buffers)?;
        drop(session);
        self.sent_close();
        Ok(())
    }

    /// A close frame was gathered.
    fn sent_close(&self) {
        let gathered = self.0.session.borrow().buffered();
        if self.has(Flags::SHARED) {
            self.publish(gathered);
        }
        self.flush_soon(gathered);
    }

    /// Closes without waiting for the peer's answer: what waits, also what handles have left, and a close frame leave as far as
    /// the system takes them at once.
    pub(crate) fn close_now(&self) {
        self.pass_lane();
        self.flush_rooms();
        let buffers = &self.0.registry.buffers;
        self.0.session.borrow_mut().close_now(CloseCode::GOING_AWAY, "", buffers);
        self.sent_close();
    }

    /// Drops TCP without a closing handshake, when the thread's event loop turns next; [`Listener::on_close`] is told
    /// 1006. The peer sees that the connection broke.
    ///
    /// ```
    /// use threadwire::{Connection, Message, connect};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let ws = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?;
    /// ws.abort();
    /// assert!(!ws.is_open() && !ws.has_ended());
    /// ws.wait_closed()?; // at once: nobody is waited for
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn abort(&self) {
        self.flush_rooms();
        self.0.session.borrow_mut().abort();
        self.mark_dirty();
    }

    /// Writes what was gathered, now instead of at the loop's next turn, as far as the system takes it. If the
    /// connection turns out to be broken, [`Listener::on_close`] is told.
    ///
    /// ```
    /// use threadwire::{Connection, Message, connect};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let ws = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?;
    /// ws.send("first this, then the long sums")?;
    /// assert!(ws.buffered() > 0);
    /// ws.flush();
    /// assert_eq!(ws.buffered(), 0); // it is on its way
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn flush(&self) {
        self.flush_rooms();
        self.write();
    }

    /// Whether messages can be sent: neither side has begun to close.
    pub fn is_open(&self) -> bool {
        self.0.session.borrow().state() == State::Open
    }

    /// Whether it has come to its end: TCP is over, and [`Listener::on_close`] was called, or is due when the callback that is
    /// running returns.
    pub fn has_ended(&self) -> bool {
        self.0.phase.get() == Phase::Over
    }

    /// Waits until the connection [has ended](Connection::has_ended) and [`Listener::on_close`] was called, while this thread's
    /// event loop goes on, and says how it ended. After [`close`](Connection::close) that takes at most
    /// [`Config::close_timeout`].
    ///
    /// Fails with [`Error::Stopped`] if the worker is stopped; with [`Error::Closed`] if the connection has left this thread
    /// ([`detach`](crate::blocking::Connection::detach)); and at once in one of its own callbacks, as `on_close` comes after those.
    pub fn wait_closed(&self) -> Result<Arc<Closed>, Error> {
        if !self.is_reported() && self.is_in_own_callback() {
            return Err(Error::other("a connection's end can't be waited for in one of its own callbacks"));
        }
        EventLoop::current().wait(None, || self.has_ended() && self.is_reported())?;
        self.closed().ok_or(Error::Closed)
    }

    /// How the connection ended, once [`Listener::on_close`] is called.
    pub fn closed(&self) -> Option<Arc<Closed>> {
        self.with_extras(|extras| extras.closed.clone())
    }

    /// Whether `on_close` was called, or is being.
    pub(crate) fn is_reported(&self) -> bool {
        self.0.reported.get()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.site.config
    }

    /// How many bytes wait to be written, with the headers of their frames; what was sent to its [rooms](crate::Room) counts
    /// from the loop's next turn on. 0 once the connection has ended.
    pub fn buffered(&self) -> usize {
        self.0.session.borrow().buffered() + self.beside()
    }

    /// How many messages were dropped because there was no room for them, as [`WhenFull`] had it.
    pub fn dropped(&self) -> u64 {
        self.0.session.borrow().dropped()
    }

    /// Reads no more, until [`resume_reading`](Connection::resume_reading): the peer can go on to send only as far as the
    /// system's buffers allow. What was read already (64 KiB at most) is still handed out. Pings, and the peer's close frame,
    /// are not seen meanwhile; closing on this side ends the pause.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::{Connection, Error, Listener, Message, worker::later};
    ///
    /// struct Slow;
    ///
    /// impl Listener for Slow {
    ///     fn on_message(&mut self, ws: &Connection, _message: Message<'_>) -> Result<(), Error> {
    ///         ws.pause_reading();
    ///         let ws = ws.clone();
    ///         later(Duration::from_millis(1), move || ws.resume_reading()); // that is when the next one may come
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn pause_reading(&self) {
        if self.is_open() {
            self.set(Flags::READ_PAUSED, true);
            self.hold_pulse(Hold::NotReading);
        }
    }

    /// Reads again, after [`pause_reading`](Connection::pause_reading): at the loop's next turn.
    pub fn resume_reading(&self) {
        self.set(Flags::READ_PAUSED, false);
        self.read_on();
    }

    /// Whether reading is [paused](Connection::pause_reading) by the program.
    pub fn is_reading_paused(&self) -> bool {
        self.has(Flags::READ_PAUSED)
    }

    /// Which side this is: a client has opened the connection, a server has accepted it.
    pub fn role(&self) -> Role {
        self.0.session.borrow().role()
    }

    /// What was agreed on about compression ([`Config::deflate`]); `None` if nothing was, or if the connection has ended.
    ///
    /// ```
    /// use threadwire::{Reply, Client, Config, Connection, Deflate, Message, Server};
    ///
    /// let config = Config::default().deflate(Deflate::default());
    /// let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// let server = Server::bind("127.0.0.1:0")?.config(config.clone()).serve(move |_| echo())?;
    /// let client = Client::new(&format!("ws://{}", server.local_addr()?))?.config(config);
    /// let ws = client.connect(|_: &Connection, _: Message<'_>| Ok(()))?;
    /// assert_eq!(ws.deflate().expect("both want it").server_max_window_bits, 12);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn deflate(&self) -> Option<Agreement> {
        self.0.session.borrow().deflate()
    }

    /// The subprotocol that was agreed on, if one was (RFC 6455, section 1.9).
    ///
    /// ```
    /// use threadwire::{Reply, Client, Connection, Error, Message, Request, Server};
    ///
    /// fn accept(request: &Request) -> Result<Reply, Error> {
    ///     let upgrade = Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message));
    ///     match request.subprotocols().find(|name| *name == "chat.v2") {
    ///         Some(name) => upgrade.subprotocol(name)?.header("X-Room", "lobby"),
    ///         None => Ok(Reply::status(400)),
    ///     }
    /// }
    /// let serve = |request: &Request| accept(request).unwrap_or_else(|_| Reply::status(500));
    /// let server = Server::bind("127.0.0.1:0")?.serve(serve)?;
    ///
    /// let client = Client::new(&format!("ws://{}", server.local_addr()?))?.subprotocols(["chat.v3", "chat.v2"])?;
    /// let ws = client.connect(|_ws: &Connection, _message: Message<'_>| Ok(()))?;
    /// assert_eq!(ws.subprotocol(), Some("chat.v2"));
    /// assert_eq!(ws.response_headers().and_then(|headers| headers.get("X-Room")), Some("lobby"));
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn subprotocol(&self) -> Option<&str> {
        self.0.agreed.as_ref()?.subprotocol.as_deref()
    }

    /// The headers of the server's answer to the handshake; on a server, those that the program added to it, or `None` if
    /// it neither added any nor chose a subprotocol.
    pub fn response_headers(&self) -> Option<&Headers> {
        self.0.agreed.as_ref()?.response_headers()
    }

    /// What the program has [attached](crate::Request::attach) to the request that this connection began with, of this type: who the client
    /// is, say. `None` on a client.
    pub fn attached<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.agreed.as_ref()?.attached()
    }

    /// The request that this connection began with, if the program has [kept](crate::Request::keep) it. `None` on a client.
    pub fn request(&self) -> Option<Arc<handshake::Request>> {
        self.attached()
    }

    /// What the TLS handshake came to. `None` without TLS, and once the connection has ended.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<TlsInfo> {
        let session = self.0.session.borrow();
        Some(session.stream().ok()?.tls()?.info())
    }

    /// The peer's address. Fails with [`NotConnected`](io::ErrorKind::NotConnected) once TCP has ended, and with
    /// [`Unsupported`](io::ErrorKind::Unsupported) on a Unix socket, which has none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.session.borrow().stream()?.peer_addr()
    }

    /// This end's address. Fails with [`NotConnected`](io::ErrorKind::NotConnected) once TCP has ended, and with
    /// [`Unsupported`](io::ErrorKind::Unsupported) on a Unix socket, which has none.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.session.borrow().stream()?.local_addr()
    }
}

/// What a connection begins with, when its opening handshake is done.
pub(crate) struct Opening<'a> {
    pub(crate) role: Role,
    pub(crate) stream: Stream,
    /// The place that the handshake had on the loop.
    pub(crate) token: Token,
    pub(crate) listener: Box<dyn Listener>,
    pub(crate) site: Rc<Site>,
    /// None if there is nothing to tell.
    pub(crate) agreed: Option<Box<Agreed>>,
    /// If messages may be compressed.
    pub(crate) deflate: Option<Agreement>,
    /// What is still to be written: it leaves together with what `on_open` sends.
    pub(crate) output: Vec<u8>,
    /// What was received behind the handshake.
    pub(crate) early: &'a mut [u8],
    /// What the socket is ready for, as far as that was not dealt with.
    pub(crate) unread: Ready,
}

/// Coming to life.
impl Connection {
    pub(crate) fn open(opening: Opening<'_>) -> Connection {
        let Opening { role, stream, token, listener, site, agreed, deflate, output, early, unread } = opening;
        let registry = Registry::current();
        let (level, name) = introduce(&*listener);
        let name = registry.name_for(name);
        let flags = Flags::default().with(Flags::DROPS, site.config.when_full == WhenFull::DropOldest);
        let mut session = Session::new(site.config.open(role, level, deflate), output);
        session.set_may_have_more(unread.readable);
        let connection = Connection(Rc::new(Inner {
            token,
            session: RefCell::new(BoundSession::new(session, Some(stream))),
            registry,
            level,
            name,
            listener: RefCell::new(Some(listener)),
            unread: Cell::default(),
            overdue: Cell::new(None),
            dirty: Cell::new(false),
            agreed,
            phase: Cell::new(Phase::Running),
            site,
            flags: Cell::new(flags),
            reported: Cell::new(false),
            extras: RefCell::default(),
            place: Cell::new(membership::NOWHERE),
        }));
        if role == Role::Server {
            connection.enter();
        }
        let event_loop = EventLoop::current();
        event_loop.replace(token, Rc::clone(&connection.0) as Rc<dyn Source>);
        if connection.buffered() > 0 {
            // The answer to the handshake leaves also if `on_open` waits.
            connection.mark_dirty();
        }
        connection.begin_keeping();
        connection.call(|listener| {
            connection.guard(|| listener.on_open(&connection));
            if !connection.deliver(listener, early) {
                event_loop.requeue(token, Ready::READABLE);
            }
        });
        connection.settle();
        if !unread.is_empty() {
            event_loop.requeue(token, unread);
        }
        connection
    }
}

impl Source for Inner {
    fn name(&self) -> Cow<'static, str> {
        let peer = self.session.borrow().stream().and_then(|stream| stream.peer_addr());
        let listener = self.registry.name(self.name);
        match peer {
            Ok(peer) => format!("the connection with {peer} ({listener})").into(),
            Err(_) => format!("a connection that has ended ({listener})").into(),
        }
    }

    fn ready(self: Rc<Self>, ready: Ready) {
        let connection = Connection(self);
        if connection.has(Flags::LANE_LEFT) && ready.readable {
            connection.set(Flags::LANE_LEFT, false);
            connection.serve_lane();
        }
        let was_overdue = connection.0.overdue.get();
        if ready.writable {
            connection.0.session.borrow_mut().writable();
        }
        if ready.readable || ready.read_closed {
            connection.read(ready);
        }
        connection.settle();
        if let Some(looked) = was_overdue {
            // As long as there is more to read, the answer may be behind it; but not without end.
            let goes_on = connection.0.session.borrow().may_have_more() && looked < MOST_LOOKS;
            connection.0.overdue.set(goes_on.then_some(looked + 1));
            if !goes_on {
                connection.expire();
            }
        }
    }

    fn flush(self: Rc<Self>) {
        self.dirty.set(false);
        let connection = Connection(self);
        if connection.has(Flags::PULSE_DUE) {
            connection.look_at_pulse();
        }
        connection.settle();
    }

    fn stop(self: Rc<Self>) {
        let connection = Connection(self);
        let farewell = connection.0.site.roster().and_then(Roster::farewell);
        let (code, reason) = farewell.unwrap_or((CloseCode::GOING_AWAY, String::new()));
        // Only a code that must not be sent, or a long reason, could make this fail.
        let _ = connection.close_with(code, &reason);
        connection.settle();
    }

    fn abandon(self: Rc<Self>) {
        let connection = Connection(self);
        let leaves = EventLoop::current().leaves();
        let was_closing = !connection.is_open();
        // One try: nothing is polled any more.
        let _ = connection.close_with(CloseCode::GOING_AWAY, "");
        connection.write();
        if was_closing && !leaves {
            // The peer had its time.
            connection.note(Error::Timeout(TimeoutKind::Close));
            connection.0.session.borrow_mut().abort();
        } else {
            connection.0.session.borrow_mut().leave();
        }
        connection.hang_up();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("state", &self.0.session.borrow().state()).finish_non_exhaustive()
    }
}
