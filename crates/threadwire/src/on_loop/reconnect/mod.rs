//! Connections that come back: a state machine around [`Client`](crate::Client), driven by the loop of the thread that started it.

mod driver;
mod handle;
mod lent_listener;

pub use handle::ReconnectHandle;
pub use threadwire_core::reconnect::{Attempt, Backoff, Cause, Change, State};

use std::fmt;
use std::time::Duration;

use threadwire_core::client::settings::Settings;

use crate::{Error, Listener};
use driver::Driver;

type OnChange = dyn FnMut(&Change);
type Before = dyn FnMut(&mut Attempt) -> Result<(), Error>;
type RetryIf = dyn FnMut(&Cause) -> bool;

/// The program's callbacks. One that is running is out of its place.
#[derive(Default)]
struct Hooks {
    on_change: Option<Box<OnChange>>,
    before: Option<Box<Before>>,
    retry_if: Option<Box<RetryIf>>,
}

/// A connection that is opened again when it ends, to be set up and [started](Reconnect::start). Made by
/// [`Client::reconnect`](crate::Client::reconnect).
///
/// It goes through the states of [`State`], one after the other, on the loop of its thread: there is no further thread, and
/// no number of re-connections uses up a stack. The first connection is opened in the same way as the others: it waits and
/// tries again if it can't be.
///
/// **What ends it** (then the last state is [`State::Stopped`]): the program closes on this side
/// ([`Connection::close`](crate::Connection::close) in the listener, or [`ReconnectHandle::close`]), stops it ([`ReconnectHandle::stop`]), or the
/// worker is stopped, which interrupts an attempt and a wait at once and closes an open connection as any other. Or it gives up
/// ([`State::GaveUp`]): what ended the connection or the attempt is not worth another one
/// ([`retry_if`](Reconnect::retry_if)), there were too many failures ([`Backoff::max_attempts`]), or
/// [`before`](Reconnect::before) does not allow it. [`Connection::abort`](crate::Connection::abort) does not end it: to abort is
/// to ask for another connection, after the usual wait ([`ReconnectHandle::reconnect`] does not wait). A callback of the listener that
/// fails closes the connection, as ever, and then its error is asked about: by default it gives up, unless that error is
/// transient.
///
/// The callbacks set here are called on its thread, never two at a time, and may wait. One that panics is logged;
/// `before` then gives up with [`Error::Panicked`], and `retry_if` counts as false.
///
/// ```
/// use std::{cell::RefCell, rc::Rc, time::Duration};
/// use threadwire::reconnect::{Backoff, Change, State};
/// use threadwire::{Client, CloseCode, Connection, Error, Listener, Message};
/// # use threadwire::{Reply, Server};
/// # use std::sync::atomic::{AtomicBool, Ordering};
/// # let has_been_here = AtomicBool::new(false);
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| {
/// #     let is_first = !has_been_here.swap(true, Ordering::SeqCst);
/// #     Reply::with(move |ws: &Connection, _: Message<'_>| match is_first {
/// #         true => ws.close_with(CloseCode::SERVICE_RESTART, "back soon"),
/// #         false => ws.send("42"),
/// #     })
/// # })?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// struct Prices;
///
/// impl Listener for Prices {
///     fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
///         ws.send("subscribe") // for each connection anew
///     }
///
///     fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
///         println!("{message}");
///         ws.close() // that was all
///     }
/// }
///
/// let states = Rc::new(RefCell::new(Vec::new()));
/// let notes = Rc::clone(&states);
/// let handle = Client::new(&url)?
///     .reconnect(Backoff::default().first(Duration::from_millis(20)))
///     .on_change(move |change: &Change| {
///         println!("{change}");
///         notes.borrow_mut().push(change.state);
///     })
///     .start(Prices);
/// let end = handle.wait_ended()?;
/// assert_eq!((end.state, end.connections), (State::Stopped, 2));
/// assert!(states.borrow().contains(&State::Closed));
/// # Ok::<(), Error>(())
/// ```
#[must_use = "nothing happens until it is started"]
pub struct Reconnect {
    settings: Settings,
    backoff: Backoff,
    hooks: Hooks,
    hold: Option<usize>,
    /// The longest round trip that is good enough, and how many are measured.
    slowest: Option<(Duration, usize)>,
}

impl Reconnect {
    pub(crate) fn new(settings: Settings, backoff: Backoff) -> Reconnect {
        Reconnect { settings, backoff, hooks: Hooks::default(), hold: None, slowest: None }
    }

    /// Is told of every state that is entered, in order. There is an example at [`Change`].
    ///
    /// [`State::Open`] is told before [`Listener::on_open`], [`State::Closed`] after [`Listener::on_close`], and
    /// [`State::Connecting`] before [`before`](Reconnect::before) is called.
    pub fn on_change(mut self, hook: impl FnMut(&Change) + 'static) -> Reconnect {
        self.hooks.on_change = Some(Box::new(hook));
        self
    }

    /// Is called before each attempt, also the first: it may change the URL and headers (tokens expire), and forbid the attempt.
    /// An error gives up, with that error as the cause. There is an example at [`Attempt`].
    pub fn before(mut self, hook: impl FnMut(&mut Attempt) -> Result<(), Error> + 'static) -> Reconnect {
        self.hooks.before = Some(Box::new(hook));
        self
    }

    /// Measures the round trip of each connection when it is open, by `rounds` pings, and opens another one instead, after the
    /// usual wait, if their median is longer than `slowest` ([`Cause::TooSlow`]): behind one name there are often many servers,
    /// some of them nearer than others (the guide of picows does so by hand). It is measured beside the program's own
    /// messages; a measurement that comes to nothing changes nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::reconnect::{Backoff, State};
    /// use threadwire::{Client, Connection, Message};
    /// # use threadwire::{Reply, Server};
    /// # let server = Server::bind("127.0.0.1:0")?.serve(|_| Reply::with(|_: &Connection, _: Message<'_>| Ok(())))?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// // Nothing is that near.
    /// let backoff = Backoff::default().first(Duration::from_millis(1)).max_attempts(3);
    /// let handle = Client::new(&url)?
    ///     .reconnect(backoff)
    ///     .slower_than(Duration::from_nanos(1), 5)
    ///     .start(|_ws: &Connection, _message: Message<'_>| Ok(()));
    /// assert_eq!(handle.wait_ended()?.state, State::GaveUp);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn slower_than(mut self, slowest: Duration, rounds: usize) -> Reconnect {
        self.slowest = Some((slowest, rounds));
        self
    }

    /// Decides which ends are worth another attempt; without this, [`Cause::is_transient`] does, by this [table](crate::reconnecting). It is
    /// not asked about ends that this side wanted, nor about those for which [`ReconnectHandle::reconnect`] asked.
    ///
    /// ```
    /// use threadwire::reconnect::{Backoff, Cause, State};
    /// use threadwire::{Client, Connection, Error, Message};
    /// # let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// # let url = format!("ws://{nobody}");
    ///
    /// let handle = Client::new(&url)?
    ///     .reconnect(Backoff::default())
    ///     .retry_if(|cause: &Cause| cause.is_transient() && !matches!(cause.error(), Some(Error::Connect(_))))
    ///     .start(|_ws: &Connection, _message: Message<'_>| Ok(()));
    /// assert_eq!(handle.wait_ended()?.state, State::GaveUp); // nobody listens there
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn retry_if(mut self, hook: impl FnMut(&Cause) -> bool + 'static) -> Reconnect {
        self.hooks.retry_if = Some(Box::new(hook));
        self
    }

    /// Holds what is sent by a [`ReconnectHandle`] while no connection is open, up to this many bytes, instead of refusing it with
    /// [`Error::Closed`]. Whole messages are held, and leave in their order when the next [`Listener::on_open`] has
    /// returned, so that what that sends goes first. Past the bound, sending fails with [`Error::Limit`]. What is held at the
    /// end is dropped.
    ///
    /// ```
    /// use threadwire::error::LimitKind;
    /// use threadwire::reconnect::Backoff;
    /// use threadwire::{Client, Connection, Error, Message};
    ///
    /// let handle = Client::new("ws://127.0.0.1:9/")?
    ///     .reconnect(Backoff::default())
    ///     .hold(8)
    ///     .start(|_ws: &Connection, _message: Message<'_>| Ok(()));
    /// handle.send("5 byte")?;
    /// assert!(matches!(handle.send("more"), Err(Error::Limit(error)) if error.kind == LimitKind::Held));
    /// assert_eq!(handle.held(), 6);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn hold(mut self, bytes: usize) -> Reconnect {
        self.hold = Some(bytes);
        self
    }

    /// Begins, and returns at once; the first attempt is made when the loop of this thread turns. The listener lives over all
    /// connections: it is called for each as for any other, [`Listener::on_open`] first and [`Listener::on_close`] last and
    /// once, and [`Listener::on_failed`] for each attempt that fails (with [`Error::Closed`] for one that this side does not want
    /// any more). It is dropped at the end.
    pub fn start(self, listener: impl Listener) -> ReconnectHandle {
        self.start_with(|_| listener)
    }

    /// As [`start`](Reconnect::start), with a listener that is made with the handle: to know
    /// [which connection](ReconnectHandle::connections) it hears, say, or to give the handle to others. There is an example at
    /// [`ReconnectHandle`].
    pub fn start_with<L: Listener>(self, make: impl FnOnce(&ReconnectHandle) -> L) -> ReconnectHandle {
        Driver::start(self, make)
    }
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("client", &self.settings)
            .field("backoff", &self.backoff)
            .field("hold", &self.hold)
            .finish_non_exhaustive()
    }
}
