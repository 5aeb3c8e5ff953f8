//! App: settings, callbacks, and a run.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use threadwire_proto::{CloseCode, Initiator, Keepalive, Message};
use threadwire_worker::EventLoop;

use super::HeaderList;
use super::Outcome;
use super::callbacks::Callbacks;
use super::handle::AppState;
use super::listener::{AppListener, CallbackSlot};
use super::{AppHandle, RequestId};
use crate::client::AsClient;
use crate::reconnect::{Attempt, Backoff, Cause, Change, Reconnect, ReconnectHandle, State};
use crate::trace::Trace;
use crate::{Client, Closed, Config, Connection, Error};
use threadwire_core::config::setting::{Setting, Way};
use threadwire_core::panic::catch;

type Before = dyn FnMut(&mut Attempt) -> Result<(), Error>;
type RetryIf = dyn FnMut(&Cause) -> bool;
type OnChange = dyn FnMut(&Change);

/// A connection with its callbacks, to be [run](App::run_forever): see [the module](super).
///
/// All callbacks are called on the thread that runs the app, one at a time. They get the connection (a
/// [`Connection`], with all that it can do), and return nothing, or a result. They may wait: then other connections, timers and
/// events of the thread go on, and what arrives for this one waits until they return.
///
/// **Errors.** A callback that returns an error, or panics, closes its connection with 1011, as everywhere (1008 for
/// [`Error::Limit`], 1001 for [`Error::Stopped`]), and [`on_error`](App::on_error) is told, as it is of everything else that goes
/// wrong. Without an `on_error`, errors are logged.
///
/// **Order.** `on_open` (or `on_reconnect`) comes first; for a message `on_data`, then `on_message`; where a connection ends
/// with an error, `on_error`, then `on_close`, which is the last. An attempt that opens nothing has an `on_error` only.
#[must_use = "nothing happens until it runs"]
pub struct App {
    client: Client,
    keepalive: Option<Keepalive>,
    trace: Option<Trace>,
    backoff: Option<Backoff>,
    callbacks: CallbackSlot,
    before: Option<Rc<RefCell<Box<Before>>>>,
    headers: Option<Rc<RefCell<Box<Before>>>>,
    retry_if: Option<Rc<RefCell<Box<RetryIf>>>>,
    on_change: Option<Rc<RefCell<Box<OnChange>>>>,
    hold: Option<usize>,
    /// The longest round trip that is good enough, and how many are measured.
    slowest: Option<(Duration, usize)>,
    handle: AppHandle,
}

/// How a run ended that did not fail.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ended {
    /// How the last connection ended; `None` if there was none.
    pub closed: Option<Arc<Closed>>,
    /// How many connections were open, one after the other.
    pub connections: u64,
}

/// Setting up.
impl App {
    /// An app for this URL, or for a [`Client`] with its settings. Fails as [`Client::new`] does.
    ///
    /// ```
    /// use threadwire::{App, Client};
    /// let app = App::new("ws://example.com/reconnect")?;
    /// let app = App::new(&Client::new("ws://example.com/reconnect")?.subprotocols(["prices.v2"])?)?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn new(target: impl AsClient) -> Result<App, Error> {
        Ok(App {
            client: target.client()?.into_owned(),
            keepalive: None,
            trace: None,
            backoff: None,
            callbacks: Rc::new(RefCell::new(Some(Callbacks::default()))),
            before: None,
            headers: None,
            retry_if: None,
            on_change: None,
            hold: None,
            slowest: None,
            handle: AppHandle::new(),
        })
    }

    /// Limits and timeouts, in place of those of the client.
    pub fn config(mut self, config: Config) -> App {
        self.client = self.client.config(config);
        self
    }

    /// Has a silent peer pinged, and given up: what [`Config::keepalive`] is, whatever that says.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::{App, Keepalive};
    /// let app = App::new("ws://example.com/")?
    ///     .ping(Keepalive::default().idle_timeout(Duration::from_secs(10)));
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn ping(mut self, keepalive: Keepalive) -> App {
        self.keepalive = Some(keepalive);
        self
    }

    /// Shows what goes over the wire: what [`Config::trace`] is, whatever that says. See [`trace`](crate::trace).
    ///
    /// ```
    /// use threadwire::trace::Trace;
    /// use threadwire::App;
    /// let app = App::new("ws://example.com/")?.trace(Trace::to(|line| eprintln!("{line}")));
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn trace(mut self, trace: Trace) -> App {
        self.trace = Some(trace);
        self
    }

    /// Opens another connection when one ends, or can't be opened, unless it was this side that closed it: see
    /// [`Reconnect`](crate::reconnect::Reconnect), and for which ends, this [table](crate::reconnecting). Without this, the first end is
    /// the end of the run.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::reconnect::Backoff;
    /// use threadwire::App;
    /// # let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// # let url = format!("ws://{nobody}");
    ///
    /// let backoff = Backoff::default().first(Duration::from_millis(1)).max_attempts(3);
    /// let result = App::new(&url)? // where nobody listens
    ///     .reconnect(backoff)
    ///     .on_error(|_ws, error| println!("{error:#}")) // three times
    ///     .run_forever();
    /// assert!(matches!(result, Err(threadwire::Error::Connect { .. })));
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn reconnect(mut self, backoff: Backoff) -> App {
        self.backoff = Some(backoff);
        self
    }

    /// Decides which ends are worth another attempt, where the app [reconnects](App::reconnect): see
    /// [`Reconnect::retry_if`](crate::reconnect::Reconnect::retry_if).
    pub fn retry_if(mut self, hook: impl FnMut(&Cause) -> bool + 'static) -> App {
        self.retry_if = Some(Rc::new(RefCell::new(Box::new(hook))));
        self
    }

    /// Is told of every state of the run that is entered, in order: see [`Reconnect::on_change`]. Nobody else knows of waits,
    /// and why there are any.
    ///
    /// ```
    /// use threadwire::reconnect::Backoff;
    /// use threadwire::App;
    ///
    /// let app = App::new("ws://example.com/feed")?
    ///     .reconnect(Backoff::default())
    ///     .on_change(|change| eprintln!("{change}"));
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn on_change(mut self, hook: impl FnMut(&Change) + 'static) -> App {
        self.on_change = Some(Rc::new(RefCell::new(Box::new(hook))));
        self
    }

    /// Holds what is sent by an [`AppHandle`] while the app runs and no connection is open, up to this many bytes, instead of
    /// refusing it with [`Error::Closed`]: see [`Reconnect::hold`]. It leaves when the next [`on_open`](App::on_open) or
    /// [`on_reconnect`](App::on_reconnect) has returned. [Requests](AppHandle::request) are not held.
    ///
    /// ```
    /// use threadwire::reconnect::Backoff;
    /// use threadwire::App;
    ///
    /// let app = App::new("ws://example.com/feed")?.reconnect(Backoff::default()).hold(1 << 20);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn hold(mut self, bytes: usize) -> App {
        self.hold = Some(bytes);
        self
    }

    /// Measures the round trip of each connection when it is open, by `rounds` pings, and opens another one instead if their
    /// median is longer than `slowest`, where the app [reconnects](App::reconnect): see [`Reconnect::slower_than`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::reconnect::Backoff;
    /// use threadwire::App;
    ///
    /// let app = App::new("ws://example.com/feed")?
    ///     .reconnect(Backoff::default())
    ///     .slower_than(Duration::from_millis(30), 5);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn slower_than(mut self, slowest: Duration, rounds: usize) -> App {
        self.slowest = Some((slowest, rounds));
        self
    }

    /// Is called before each attempt, also the first: it may change the URL and headers, and forbid the attempt, which ends
    /// the run with its error. See [`Reconnect::before`](crate::reconnect::Reconnect::before).
    pub fn before<R: Outcome>(mut self, mut hook: impl FnMut(&mut Attempt) -> R + 'static) -> App {
        self.before = Some(Rc::new(RefCell::new(Box::new(move |attempt| hook(attempt).into_result()))));
        self
    }

    /// Makes headers for each attempt, for what does not stay valid; each takes the place of others of its name. Those that
    /// stay are [the client's](Client::header). An error ends the run, and so does a header that must not be sent.
    ///
    /// ```
    /// use threadwire::{App, Error};
    /// # fn fresh_token() -> Result<u32, Error> { Ok(1) }
    ///
    /// let app = App::new("ws://example.com/")?.headers(|| -> Result<_, Error> {
    ///     Ok([("Authorization", format!("Bearer {}", fresh_token()?))])
    /// });
    /// # Ok::<(), Error>(())
    /// ```
    pub fn headers<H: HeaderList>(mut self, mut make: impl FnMut() -> H + 'static) -> App {
        let set = move |attempt: &mut Attempt| {
            make().into_list()?.iter().try_for_each(|(name, value)| attempt.header(name, value))
        };
        self.headers = Some(Rc::new(RefCell::new(Box::new(set))));
        self
    }

    /// A connection is open, the first of a run; all of them, where [`on_reconnect`](App::on_reconnect) is not set.
    pub fn on_open<R: Outcome>(self, mut call: impl FnMut(&Connection) -> R + 'static) -> App {
        self.set(|callbacks| callbacks.on_open = Some(Box::new(move |ws| call(ws).into_result())))
    }

    /// Another connection is open, after one that has ended: instead of [`on_open`](App::on_open).
    ///
    /// ```
    /// use threadwire::reconnect::Backoff;
    /// use threadwire::App;
    ///
    /// let app = App::new("ws://example.com/reconnect")?
    ///     .reconnect(Backoff::default())
    ///     .on_open(|ws| ws.send("subscribe"))
    ///     .on_reconnect(|ws| ws.send("subscribe, and send what I have missed"));
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn on_reconnect<R: Outcome>(self, mut call: impl FnMut(&Connection) -> R + 'static) -> App {
        self.set(|callbacks| callbacks.on_reconnect = Some(Box::new(move |ws| call(ws).into_result())))
    }

    /// A message has arrived: called for each, before it is known whether it [answers a request](App::id) and before
    /// [`on_message`](App::on_message). To be called for fragments as they come, use a [`Listener`](crate::Listener) for
    /// [frames](crate::frame::Level::Frames).
    pub fn on_data<R: Outcome>(self, mut call: impl FnMut(&Connection, Message<'_>) -> R + 'static) -> App {
        self.set(|callbacks| {
            callbacks.on_data = Some(Box::new(move |ws, message| call(ws, message).into_result()));
        })
    }

    /// A message has arrived that is no answer to a request. It lies in the receive buffer: what is to be kept must be
    /// copied.
    pub fn on_message<R: Outcome>(
        self,
        mut call: impl FnMut(&Connection, Message<'_>) -> R + 'static,
    ) -> App {
        self.set(|callbacks| {
            callbacks.on_message = Some(Box::new(move |ws, message| call(ws, message).into_result()));
        })
    }

    /// A ping has arrived, and was answered (unless [`Config::auto_pong`] is off).
    pub fn on_ping<R: Outcome>(self, mut call: impl FnMut(&Connection, &[u8]) -> R + 'static) -> App {
        self.set(|callbacks| {
            callbacks.on_ping = Some(Box::new(move |ws, payload| call(ws, payload).into_result()));
        })
    }

    /// A pong has arrived.
    pub fn on_pong<R: Outcome>(self, mut call: impl FnMut(&Connection, &[u8]) -> R + 'static) -> App {
        self.set(|callbacks| {
            callbacks.on_pong = Some(Box::new(move |ws, payload| call(ws, payload).into_result()));
        })
    }

    /// Something went wrong: an attempt has failed (then there is no connection), a connection ends with an error, the peer
    /// closed it with a code that is [not normal](Closed::is_normal) ([`Error::Ended`]), or a callback failed. Once for each,
    /// also between re-connections. A normal close is no error, and nor are a close or a stop on this side. That it fails
    /// itself can only be logged.
    ///
    /// ```
    /// use threadwire::App;
    /// # use threadwire::{Reply, CloseCode, Connection, Server};
    /// # let full = |ws: &Connection, _: threadwire::Message<'_>| ws.close_with(CloseCode::TRY_AGAIN_LATER, "full");
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| Reply::with(full))?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let result = App::new(&url)?
    ///     .on_open(|ws| ws.send("let me in"))
    ///     .on_error(|ws, error| match ws {
    ///         Some(_) => println!("it ends: {error:#}"), // closed by the peer with 1013 (try again later): full
    ///         None => println!("it can't be opened: {error:#}"),
    ///     })
    ///     .run_forever();
    /// assert!(matches!(result, Err(threadwire::Error::Ended(_))));
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn on_error<R: Outcome>(
        self,
        mut call: impl FnMut(Option<&Connection>, &Error) -> R + 'static,
    ) -> App {
        self.set(|callbacks| {
            callbacks.on_error = Some(Box::new(move |ws, error| call(ws, error).into_result()));
        })
    }

    /// A connection has ended: exactly once for each that was open, however it ended, and also between re-connections.
    pub fn on_close<R: Outcome>(self, mut call: impl FnMut(&Connection, &Closed) -> R + 'static) -> App {
        self.set(|callbacks| {
            callbacks.on_close = Some(Box::new(move |ws, closed| call(ws, closed).into_result()));
        })
    }

    /// Tells the id of an answer; `None` for messages that are none. It is only asked while a
    /// [request](AppHandle::request) waits. A message with the id of one is its answer, and is not given to
    /// [`on_message`](App::on_message); all others are.
    pub fn id<I: Into<RequestId>>(self, mut identify: impl FnMut(Message<'_>) -> Option<I> + 'static) -> App {
        self.set(|callbacks| {
            callbacks.identify = Some(Box::new(move |message| identify(message).map(Into::into)));
        })
    }

    fn set(self, set: impl FnOnce(&mut Callbacks)) -> App {
        if let Some(callbacks) = &mut *self.callbacks.borrow_mut() {
            set(callbacks);
        }
        self
    }

    /// The app from any thread, also before it runs.
    pub fn handle(&self) -> AppHandle {
        self.handle.clone()
    }

    pub(super) fn with_handle(mut self, handle: AppHandle) -> App {
        self.handle = handle;
        self
    }
}

/// Running.
impl App {
    /// Connects, and runs until it is over; the loop of this thread goes on meanwhile, with all else that lives there.
    ///
    /// It returns when this side has closed ([`Connection::close`] in a callback, [`AppHandle::close`] anywhere), or when the
    /// peer has closed normally and the app does not reconnect. It may be called again then.
    ///
    /// It fails with what the last attempt failed with, or with [`Error::Ended`] where a connection ended, if that was no normal
    /// close, and the app does not reconnect or gives up; with the error of [`before`](App::before) or
    /// [`headers`](App::headers); with [`Error::Setting`], before anything else, where [`retry_if`](App::retry_if) or
    /// [`slower_than`](App::slower_than) is set without [`reconnect`](App::reconnect); and with [`Error::Stopped`] if the worker of this thread is stopped: at once, so that the
    /// connection is closed with 1001, and `on_close` called, when the worker ends.
    pub fn run_forever(&mut self) -> Result<Ended, Error> {
        self.check()?;
        // A run that was stopped may still have them.
        let Some(callbacks) = self.callbacks.borrow_mut().take() else { return Err(Error::Stopped) };
        let (shared, has_ids) = (Arc::clone(&self.handle.0), callbacks.identify.is_some());
        let has_told = Rc::new(Cell::new(false));
        let listener = AppListener::new(Rc::clone(&self.callbacks), callbacks, shared, Rc::clone(&has_told));
        let reconnect = self.set_up(&has_told).start(listener);
        self.handle.0.begin(&reconnect, has_ids);

        let (change, closed) =
            Run { reconnect: Some(reconnect), shared: Arc::clone(&self.handle.0) }.wait()?;
        let ended = Ended { closed, connections: change.connections };
        let Change { state: State::GaveUp, cause: Some(cause), .. } = change else { return Ok(ended) };
        match &*cause {
            Cause::Closed(closed) => {
                let was_wanted = closed.initiator == Initiator::Local && closed.error.is_none();
                if was_wanted || closed.is_normal() {
                    Ok(ended)
                } else {
                    Err(Error::Ended(Arc::clone(closed)))
                }
            }
            Cause::Error(error) => {
                if !has_told.get()
                    && let Some(callbacks) = &mut *self.callbacks.borrow_mut()
                {
                    callbacks.tell(None, error);
                }
                Err(own(cause))
            }
            _ => Ok(ended),
        }
    }

    /// Fails if something is set that is about connections which will not come.
    fn check(&self) -> Result<(), Error> {
        if self.backoff.is_some() {
            return Ok(());
        }
        Way::ONE_RUN.check(|setting| match setting {
            Setting::RetryIf => self.retry_if.is_some(),
            Setting::SlowerThan => self.slowest.is_some(),
            _ => false,
        })
    }

    /// The client and its reconnecting, as they are set up.
    fn set_up(&self, has_told: &Rc<Cell<bool>>) -> Reconnect {
        let mut client = self.client.clone();
        let config = client.config_mut();
        config.keepalive = self.keepalive.or(config.keepalive);
        config.trace = self.trace.clone().or(config.trace.take());
        let hooks: Vec<_> = self.before.iter().chain(&self.headers).map(Rc::clone).collect();
        let has_told = Rc::clone(has_told);
        let mut reconnect =
            client.reconnect(self.backoff.clone().unwrap_or_default()).before(move |attempt| {
                has_told.set(false);
                hooks.iter().try_for_each(|hook| catch(|| hook.borrow_mut()(attempt)))
            });
        if let Some(on_change) = &self.on_change {
            let on_change = Rc::clone(on_change);
            reconnect = reconnect.on_change(move |change| on_change.borrow_mut()(change));
        }
        if let Some(bytes) = self.hold {
            reconnect = reconnect.hold(bytes);
        }
        if let Some((slowest, rounds)) = self.slowest {
            reconnect = reconnect.slower_than(slowest, rounds);
        }
        match (&self.backoff, &self.retry_if) {
            (None, _) => reconnect.retry_if(|_| false),
            (Some(_), Some(retry_if)) => {
                let retry_if = Rc::clone(retry_if);
                reconnect.retry_if(move |cause| retry_if.borrow_mut()(cause))
            }
            (Some(_), None) => reconnect,
        }
    }
}

/// A run, which does not go on when nobody waits for its end any more.
struct Run {
    /// There until the end.
    reconnect: Option<ReconnectHandle>,
    shared: Arc<AppState>,
}

impl Run {
    /// Waits for the end; the last connection's is returned with it.
    fn wait(mut self) -> Result<(Change, Option<Arc<Closed>>), Error> {
        let Some(reconnect) = &self.reconnect else { return Err(Error::Stopped) };
        let change = reconnect.wait_ended()?;
        self.reconnect = None;
        Ok((change, self.shared.end()))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(reconnect) = self.reconnect.take() {
            // The code 1001 is valid, so this can't fail.
            let _ = reconnect.close_with(CloseCode::GOING_AWAY, "");
            // Where the thread was stopped, and its loop does not turn by itself, nothing else would bring what waits to the peer.
            EventLoop::current().wind_down(|| reconnect.state().is_final());
            self.shared.end();
        }
    }
}

/// The error out of a cause that nobody else has any more.
fn own(cause: Arc<Cause>) -> Error {
    let text = cause.to_string();
    Arc::into_inner(cause).and_then(Cause::into_error).unwrap_or_else(|| Error::other(text))
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("client", &self.client)
            .field("backoff", &self.backoff)
            .field("state", &self.handle.state())
            .finish_non_exhaustive()
    }
}
