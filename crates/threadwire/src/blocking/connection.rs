//! Blocking connection: receive, send, close, on its thread.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use threadwire_proto::deflate::Agreement;
use threadwire_proto::handshake::{self, Headers};
use threadwire_proto::{AsMessage, CloseCode, OwnedMessage, RoundTripSummary};
use threadwire_worker::{EventLoop, Remote, Stopped, checkpoint};

use super::inbox::Inbox;
use threadwire_core::session::outcome::EndOfReceiving;

use crate::error::TimeoutKind;
#[cfg(feature = "tls")]
use crate::tls::TlsInfo;
use crate::{Closed, Error, Handle, SendOptions};

/// How long replies may be gathered while there is more to receive.
const GATHERING: Duration = Duration::from_micros(200);

/// Answers that wait for others. The clock is looked at when the next message is received, then 4 and always 16 messages
/// later: a program that takes its time with every message is found out by the first one.
#[derive(Clone, Copy)]
struct Gathering {
    since: Instant,
    /// How many messages may be received until the clock is looked at.
    looks_in: u8,
    /// How many there were the last time.
    pace: u8,
}

impl Gathering {
    const SLOWEST: u8 = 16;

    fn begin() -> Gathering {
        Gathering { since: Instant::now(), looks_in: 1, pace: 1 }
    }

    /// A message is received: what is still gathered after that. `None` if it is time to leave.
    #[inline]
    fn next(self) -> Option<Gathering> {
        if self.looks_in > 1 {
            return Some(Gathering { looks_in: self.looks_in - 1, ..self });
        }
        let pace = Gathering::SLOWEST.min(self.pace * 4);
        self.may_go_on().then_some(Gathering { looks_in: pace, pace, ..self })
    }

    fn may_go_on(self) -> bool {
        self.since.elapsed() <= GATHERING
    }
}

/// Gives the loop a turn now and then where messages are received that were there already: pings of all connections are
/// answered, timers ring, and a stop is seen, however many messages wait and however long each of them takes.
#[derive(Default)]
pub(super) struct Quick(Cell<u32>);

impl Quick {
    const NOW_AND_THEN: u32 = 16;

    /// Before a message is taken that is there.
    #[inline]
    pub(super) fn count(&self) -> Result<(), Stopped> {
        let count = self.0.get() + 1;
        self.0.set(count % Quick::NOW_AND_THEN);
        if count == Quick::NOW_AND_THEN { checkpoint() } else { Ok(()) }
    }
}

/// Gives the loop a turn before something is sent that answers nothing, if a millisecond has passed since the last one: a program
/// that only sends waits for nothing that arrives, and may sleep between as any other thread, while pings and a close frame are
/// to be answered. A callback does not: the loop turns when it has returned. Nor is a stop told here, so that a farewell still leaves.
#[inline]
pub(super) fn look_around() {
    if EventLoop::current().is_outermost() {
        let _ = checkpoint();
    }
}

/// An open connection, on its thread. Dropping it closes it with 1001: the closing handshake is then completed whenever the
/// thread's loop turns. On a thread that is no worker and was stopped, where no loop turns any more, the drop itself waits for that, at most for the
/// thread's [grace](EventLoop::set_grace) (2 s, for all of its connections together).
///
/// What is sent leaves at once, unless it answers one of several messages that have arrived together: then the answers are
/// gathered until the others were received too, or until 0.2 ms have passed, so that a burst of messages is answered in one
/// write. The time is looked at by the next call: [`flush`](Connection::flush) is for programs that compute for long in the
/// middle of such a burst.
///
/// ```
/// use std::time::Duration;
/// use threadwire::{Error, blocking};
/// # let echo = || threadwire::Reply::with(|ws: &threadwire::Connection, m: threadwire::Message<'_>| ws.send(m));
/// # let server = threadwire::Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let mut ws = blocking::connect(&url)?;
/// assert!(ws.try_recv().is_err_and(|error| error.is_timeout()), "nothing is there");
/// ws.send("hello")?;
/// let answer = ws.recv_timeout(Duration::from_secs(5))?;
/// assert_eq!(answer.unwrap(), "hello");
/// ws.close()?;
/// assert!(ws.recv()?.is_none());
/// # Ok::<(), Error>(())
/// ```
pub struct Connection {
    pub(super) ws: crate::Connection,
    pub(super) inbox: Rc<Inbox>,
    /// The replies that are gathered, if any.
    gathering: Cell<Option<Gathering>>,
    /// Whether a message was received since something was last sent: what is sent next is likely its answer.
    is_asked: Cell<bool>,
    /// How many messages were received since the loop was last given a turn.
    quick: Quick,
    end: RefCell<EndOfReceiving>,
}

impl Connection {
    pub(super) fn new(ws: crate::Connection, inbox: Rc<Inbox>) -> Connection {
        Connection {
            ws,
            inbox,
            gathering: Cell::new(None),
            is_asked: Cell::new(false),
            quick: Quick::default(),
            end: RefCell::default(),
        }
    }

    /// Receives a message; the thread's loop turns while none is there. `None` after a normal close by either side (1000, 1001,
    /// or without a code), and [`Error::Ended`] once after any other end; then `None` too. What arrived before the end is received
    /// before it.
    ///
    /// Fails with [`Error::Stopped`] if the thread's worker is stopped.
    pub fn recv(&mut self) -> Result<Option<OwnedMessage>, Error> {
        self.recv_until(None)
    }

    /// As [`recv`](Connection::recv), but fails with [`TimeoutKind::Receive`] if no message comes within `timeout`: see
    /// [`Error::is_timeout`]. Nothing is lost then.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<OwnedMessage>, Error> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// As [`recv`](Connection::recv), but only takes what is there (the loop turns once), and fails with
    /// [`TimeoutKind::Receive`] if that is nothing: for programs with a loop of their own.
    ///
    /// ```
    /// use threadwire::{Error, blocking};
    ///
    /// /// One frame of a game.
    /// fn frame(ws: &mut blocking::Connection) -> Result<(), Error> {
    ///     loop {
    ///         match ws.try_recv() {
    ///             Ok(Some(message)) => println!("{message}"),
    ///             Ok(None) => return Err(Error::other("the server has left")),
    ///             Err(error) if error.is_timeout() => break, // nothing more for now
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    ///     ws.send("where I am")
    /// }
    /// ```
    pub fn try_recv(&mut self) -> Result<Option<OwnedMessage>, Error> {
        if self.inbox.is_empty() {
            EventLoop::current().update()?;
        }
        self.recv_until(Some(Instant::now()))
    }

    fn recv_until(&self, until: Option<Instant>) -> Result<Option<OwnedMessage>, Error> {
        self.catch_up();
        if !self.inbox.is_empty() {
            self.quick.count()?;
        } else if !self.has_something() {
            // The wait begins with a flush.
            self.gathering.set(None);
            if !EventLoop::current().wait(until, || self.has_something())? {
                return Err(Error::Timeout(TimeoutKind::Receive));
            }
        }
        match self.take() {
            Some(message) => Ok(Some(message)),
            None => self.end(),
        }
    }

    /// The program wants more. If that is all that was received, and answered, the peer's close frame behind it is answered, or a rule that
    /// it broke is told.
    #[inline]
    pub(super) fn catch_up(&self) {
        self.inbox.count_ask();
        if self.inbox.is_empty() {
            self.ws.defer_end(false);
            if self.ws.has_deferred_end() {
                self.ws.end_deferred();
            }
        }
    }

    /// The oldest message that is there, without a turn of the loop.
    #[inline]
    pub(super) fn take(&self) -> Option<OwnedMessage> {
        if self.inbox.is_empty() {
            return None;
        }
        if let Some(gathering) = self.gathering.get() {
            match gathering.next() {
                None => self.flush(),
                goes_on => self.gathering.set(goes_on),
            }
        }
        self.is_asked.set(true);
        self.inbox.take(&self.ws)
    }

    /// Something is about to be sent.
    #[inline]
    fn before_send(&self) {
        if !self.is_asked.get() {
            look_around();
        }
    }

    /// Something was sent: it leaves at once, unless it may be gathered.
    #[inline]
    fn after_send(&self) {
        let is_answer = self.is_asked.replace(false);
        if self.inbox.is_empty() {
            return self.flush();
        }
        match self.gathering.get() {
            None if is_answer => self.gathering.set(Some(Gathering::begin())),
            // The next receive looks at the time.
            Some(gathering) if is_answer || gathering.may_go_on() => {}
            _ => self.flush(),
        }
    }

    pub(super) fn has_something(&self) -> bool {
        !self.inbox.is_empty() || self.ws.is_reported()
    }

    /// The result of a receive after the end.
    fn end(&self) -> Result<Option<OwnedMessage>, Error> {
        match self.closed() {
            Some(closed) => self.end.borrow_mut().tell(&closed).map(|()| None),
            None => Ok(None),
        }
    }

    /// Sends a message. Where more than [`Config::high_watermark`](crate::Config::high_watermark) bytes wait because the peer does
    /// not read them, this waits until there are less, while the thread's loop turns. With a
    /// [`Config::when_full`](crate::Config::when_full) of the program's own it does what that says instead.
    ///
    /// Fails with [`Error::Closed`] if the connection is not open, or closes while this waits, and with [`Error::Stopped`] if the
    /// thread's worker is stopped; in both cases what was taken before may still leave.
    #[inline]
    pub fn send(&mut self, message: impl AsMessage) -> Result<(), Error> {
        self.send_with(message, SendOptions::default())
    }

    /// Sends a message, and chooses what is to happen if there is no room for it, or whether it is compressed: see
    /// [`SendOptions`]. Where no policy is chosen, it does as [`send`](Connection::send).
    #[inline]
    pub fn send_with(
        &mut self,
        message: impl AsMessage,
        options: impl Into<SendOptions>,
    ) -> Result<(), Error> {
        let (message, options) = (message.as_message(), options.into());
        self.before_send();
        self.inbox.window.while_sending(&self.ws, options.when_full, |when_full| {
            self.ws.send_with(message, options.when_full(when_full))?;
            self.after_send();
            Ok(())
        })
    }

    /// Sends a message whose parts an iterator makes, each a fragment, while it makes them; each waits for room as
    /// [`send`](Connection::send) does. An error of the iterator, once a part was sent, closes the connection with 1011: see
    /// [`Handle::send_parts`].
    ///
    /// ```
    /// use std::io::{BufRead, BufReader, Read};
    /// use threadwire::{Error, blocking};
    ///
    /// /// A long text, line by line.
    /// fn send_lines(ws: &mut blocking::Connection, text: impl Read) -> Result<(), Error> {
    ///     ws.send_parts(BufReader::new(text).lines().map(|line| Ok(line? + "\n")))
    /// }
    /// ```
    pub fn send_parts<P: Into<OwnedMessage>>(
        &mut self,
        parts: impl IntoIterator<Item = Result<P, Error>>,
    ) -> Result<(), Error> {
        self.before_send();
        self.handle().send_each_part(parts, |send| {
            self.inbox.window.while_sending(&self.ws, None, |when_full| {
                send(when_full)?;
                self.flush();
                Ok(())
            })
        })
    }

    /// Sends a ping, with a payload of at most 125 bytes. Its pong only counts as a sign of life; see
    /// [`measure_roundtrip`](Connection::measure_roundtrip).
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.before_send();
        self.ws.ping(payload)?;
        self.flush();
        Ok(())
    }

    /// Sends a pong that nobody has asked for, with a payload of at most 125 bytes. Pings are answered by themselves.
    pub fn pong(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.before_send();
        self.ws.pong(payload)?;
        self.flush();
        Ok(())
    }

    /// How many bytes wait to be written.
    pub fn buffered(&self) -> usize {
        self.ws.buffered()
    }

    /// How many messages were dropped because there was no room for them, as [`WhenFull`](crate::WhenFull) had it.
    pub fn dropped(&self) -> u64 {
        self.ws.dropped()
    }

    /// How long the pings of keepalive took to come back: see [`Connection::round_trips`](crate::Connection::round_trips).
    pub fn round_trips(&self) -> Option<RoundTripSummary> {
        self.ws.round_trips()
    }

    /// Breaks the connection off, without a close frame: see [`Connection::abort`](crate::Connection::abort).
    pub fn abort(&self) {
        self.ws.abort();
    }

    /// Has a worker hear of this connection by [events](crate::events): see [`Handle::subscribe_worker`].
    pub fn subscribe_worker(&self, worker: &Remote) {
        self.ws.subscribe_worker(worker);
    }

    /// Measures how long a ping takes to come back, this many times: see
    /// [`Connection::measure_roundtrip`](crate::Connection::measure_roundtrip).
    pub fn measure_roundtrip(&mut self, rounds: usize) -> Result<Vec<Duration>, Error> {
        self.ws.measure_roundtrip(rounds)
    }

    /// Sends a ping, and waits for its pong: how long that took. See [`Connection::roundtrip`](crate::Connection::roundtrip).
    pub fn roundtrip(&mut self, payload: &[u8]) -> Result<Duration, Error> {
        self.ws.roundtrip(payload)
    }

    /// Writes gathered replies until the system takes no more.
    pub fn flush(&self) {
        self.gathering.set(None);
        self.ws.flush();
    }

    /// Closes with 1000, and waits until the connection has ended: at most [`Config::close_timeout`](crate::Config::close_timeout).
    /// See [`close_with`](Connection::close_with).
    pub fn close(&mut self) -> Result<Arc<Closed>, Error> {
        self.close_with(CloseCode::NORMAL, "")
    }

    /// Closes, and waits until the connection has ended: at most [`Config::close_timeout`](crate::Config::close_timeout). Returns
    /// how it ended, which may have been the peer's doing. Messages that arrived before can still be received; those that arrive
    /// meanwhile are dropped.
    ///
    /// Of a reason longer than 123 bytes as much is sent as [fits](crate::proto::close::fit_reason), and a warning is logged.
    ///
    /// Fails with [`Error::Send`], and does nothing, for a code that must not be sent; and with [`Error::Stopped`] if the thread's worker is
    /// stopped.
    pub fn close_with(&mut self, code: CloseCode, reason: &str) -> Result<Arc<Closed>, Error> {
        self.ws.close_with(code, reason)?;
        EventLoop::current().wait(None, || self.ws.is_reported())?;
        self.closed().ok_or(Error::Stopped)
    }

    /// How the connection ended, if it has.
    pub fn closed(&self) -> Option<Arc<Closed>> {
        self.ws.closed()
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        self.ws.is_open()
    }

    /// A handle, to send and to close from other threads.
    pub fn handle(&self) -> Handle {
        self.ws.handle()
    }

    /// The connection as callbacks know it: for a timer or an event listener of this thread that is to send on it.
    pub fn connection(&self) -> &crate::Connection {
        &self.ws
    }

    /// All messages until the end: [`recv`](Connection::recv) as an iterator.
    ///
    /// ```
    /// use threadwire::{Error, blocking};
    ///
    /// fn print_all(ws: &mut blocking::Connection) -> Result<(), Error> {
    ///     for message in ws {
    ///         println!("{}", message?);
    ///     }
    ///     Ok(()) // it was closed as it should be
    /// }
    /// ```
    pub fn iter(&mut self) -> Iter<'_> {
        Iter(self)
    }

    /// The negotiated compression: see [`Connection::deflate`](crate::Connection::deflate).
    pub fn deflate(&self) -> Option<Agreement> {
        self.ws.deflate()
    }

    /// The subprotocol that was agreed on, if one was.
    pub fn subprotocol(&self) -> Option<&str> {
        self.ws.subprotocol()
    }

    /// The headers of the server's answer to the handshake: see
    /// [`Connection::response_headers`](crate::Connection::response_headers).
    pub fn response_headers(&self) -> Option<&Headers> {
        self.ws.response_headers()
    }

    /// The result of the TLS handshake: see [`Connection::tls`](crate::Connection::tls).
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<TlsInfo> {
        self.ws.tls()
    }

    /// What the program has attached to the request that this connection began with, of this type: see
    /// [`Connection::attached`](crate::Connection::attached).
    pub fn attached<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.ws.attached()
    }

    /// The request that this connection began with, if the program has [kept](crate::Request::keep) it. `None` on a client.
    pub fn request(&self) -> Option<Arc<handshake::Request>> {
        self.attached()
    }

    /// The peer's address. Fails once TCP has ended, and on a Unix socket, which has none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.ws.peer_addr()
    }

    /// This end's address. Fails once TCP has ended, and on a Unix socket, which has none.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.ws.local_addr()
    }
}

/// The messages of a connection: see [`Connection::iter`].
#[derive(Debug)]
pub struct Iter<'a>(&'a mut Connection);

impl Iterator for Iter<'_> {
    type Item = Result<OwnedMessage, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv().transpose()
    }
}

impl<'a> IntoIterator for &'a mut Connection {
    type Item = Result<OwnedMessage, Error>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Connection {
    /// Begins to close with 1001, if it is open.
    pub(super) fn say_goodbye(&self) {
        if self.ws.is_open() {
            // The code 1001 is valid, so this can't fail.
            let _ = self.ws.close_with(CloseCode::GOING_AWAY, "");
            self.flush();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.say_goodbye();
        // Messages that still arrive wake no `Select`.
        self.inbox.set_select_slot(None);
        // Where the thread was stopped, and its loop does not turn by itself, nothing else would bring what waits to the peer.
        EventLoop::current().wind_down(|| self.ws.has_ended());
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}
