//! Driver of reconnecting on tokio: the task that receives carries out the effects of the conductor.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant, SystemTime};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use threadwire_core::client::settings::Settings;
use threadwire_core::panic::catch;
use threadwire_core::reconnect::conductor::{Conductor, Effect, Event};
use threadwire_core::reconnect::retry::{is_worth_it, random};
use threadwire_core::reconnect::shared::SharedState;
use threadwire_core::session::outcome::EndOfReceiving;
use threadwire_core::session::round_trip::Measurement;
use threadwire_guard::contain;
use threadwire_proto::{AsMessage, CloseCode, OwnedMessage};
use tokio::time::{Sleep, sleep};

use super::client::connect_by;
use super::connection::Connection;
use super::handle::Handle;
use super::round_trip::measure;
use super::sending::Ending;
use crate::client::AsClient;
use crate::reconnect::{Attempt, Backoff, Cause, Change, State};
use crate::{Error, SendOptions};

type OnChange = dyn FnMut(&Change) + Send;
type Before = dyn FnMut(&mut Attempt) -> Result<(), Error> + Send;
type RetryIf = dyn FnMut(&Cause) -> bool + Send;
type OnOpen = dyn FnMut(&Handle) -> Result<(), Error> + Send;
type Dialing = dyn Future<Output = Result<Connection, Error>> + Send;
type Measuring = dyn Future<Output = Result<Vec<Duration>, Error>> + Send;

/// The program's callbacks.
#[derive(Default)]
struct Hooks {
    on_change: Option<Box<OnChange>>,
    before: Option<Box<Before>>,
    retry_if: Option<Box<RetryIf>>,
    on_open: Option<Box<OnOpen>>,
}

/// What is waited for.
enum UnderWay {
    Nothing,
    Attempt(Pin<Box<Dialing>>),
    Connection(Box<Connected>),
    /// The program has the connection to itself.
    Given(Handle, Pin<Box<Ending>>),
    Timer(Pin<Box<Sleep>>),
}

/// A connection that is open.
struct Connected {
    ws: Connection,
    /// Round trips that are being measured.
    measuring: Option<Pin<Box<Measuring>>>,
}

/// What there is to know of a [`Reconnecting`] connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Update {
    /// A message has arrived.
    Message(OwnedMessage),
    /// It has entered another state.
    Change(Change),
}

/// A connection that is opened again when it ends. Nothing happens before it is received from; then it receives from one
/// connection after the other, as if they were one.
///
/// What ends it, and what is worth another attempt, is said at [`Reconnect`](crate::reconnect::Reconnect), whose rules and [states](State)
/// these are. Instead of a listener's callbacks there is [`on_open`](Reconnecting::on_open), to subscribe on each connection, and
/// [`recv_update`](Reconnecting::recv_update), which tells of each change of state beside the messages.
pub struct Reconnecting {
    /// What it connects to; the error if there is no such thing, until that was told.
    settings: Result<Settings, Option<Error>>,
    conductor: Conductor,
    hooks: Hooks,
    under_way: UnderWay,
    /// The attempt that the program has allowed.
    allowed: Option<Attempt>,
    shared: Arc<SharedState<Handle>>,
    /// Who was last seen to receive.
    receiver: Option<Waker>,
    /// Those that were not told yet.
    changes: VecDeque<Change>,
    end: EndOfReceiving,
}

/// A [`ReconnectHandle`](crate::reconnect::ReconnectHandle) of the async face. [`Reconnecting::handle`] makes one. It keeps nothing open, and
/// nothing happens while nobody receives, but for closing.
///
/// ```
/// use threadwire::reconnect::{Backoff, State};
/// use threadwire::{Error, aio};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let server = aio::Server::bind("127.0.0.1:0").await?;
/// # let url = format!("ws://{}", server.local_addr()?);
/// # tokio::spawn(server.serve(|_, mut ws| async move { while let Ok(Some(_)) = ws.recv().await {} }));
///
/// let mut feed = aio::reconnect(&url, Backoff::default());
/// let handle = feed.handle();
/// let thread = std::thread::spawn(move || {
///     while handle.send("from a thread").is_err() {
///         std::thread::yield_now(); // no connection is open yet
///     }
///     handle.close()
/// });
/// while let Some(message) = feed.recv().await? {
///     println!("{message}");
/// }
/// assert_eq!(feed.handle().state(), State::Stopped);
/// thread.join().unwrap()?;
/// # Ok(())
/// # }
/// ```
pub type ReconnectHandle = crate::reconnect::ReconnectHandle<Handle>;

/// A connection to a URL, or as a [`Client`](crate::Client) says, that is opened again when it ends.
///
/// ```
/// use std::time::Duration;
/// use threadwire::reconnect::Backoff;
/// use threadwire::{CloseCode, Error, aio};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let mut server = aio::Server::bind("127.0.0.1:0").await?;
/// # let url = format!("ws://{}", server.local_addr()?);
/// # tokio::spawn(async move {
/// #     let mut price = 41;
/// #     while let Ok(request) = server.accept().await {
/// #         let mut ws = request.upgrade().await.unwrap();
/// #         assert_eq!(ws.recv().await.unwrap().unwrap(), "subscribe");
/// #         ws.send(&price.to_string()).await.unwrap();
/// #         price += 1;
/// #         ws.close_with(CloseCode::SERVICE_RESTART, "back soon").await.unwrap();
/// #     }
/// # });
///
/// let backoff = Backoff::default().first(Duration::from_millis(1));
/// let mut feed = aio::reconnect(&url, backoff).on_open(|ws| ws.send("subscribe"));
/// while let Some(price) = feed.recv().await? {
///     println!("{price}"); // from one connection, and then from the next
///     if price == "42" {
///         feed.handle().close()?;
///     }
/// }
/// assert_eq!(feed.handle().connections(), 2);
/// # Ok(())
/// # }
/// ```
pub fn reconnect(target: impl AsClient, backoff: Backoff) -> Reconnecting {
    let conductor = Conductor::new(backoff);
    Reconnecting {
        settings: target.client().map(|client| client.settings().clone()).map_err(Some),
        shared: SharedState::new((), conductor.state()),
        conductor,
        hooks: Hooks::default(),
        under_way: UnderWay::Nothing,
        allowed: None,
        receiver: None,
        changes: VecDeque::new(),
        end: EndOfReceiving::default(),
    }
}

/// Setting it up.
impl Reconnecting {
    /// Is called before each attempt, also the first: it may change the URL and headers (tokens expire), and forbid the attempt.
    /// An error gives up, with that error as the cause.
    ///
    /// ```
    /// use threadwire::reconnect::Backoff;
    /// use threadwire::{Error, aio};
    /// # fn fresh_token() -> Result<u32, Error> { Ok(1) }
    ///
    /// let feed = aio::reconnect("ws://example.com/feed", Backoff::default()).before(|attempt| {
    ///     let token = fresh_token()?;
    ///     attempt.header("Authorization", &format!("Bearer {token}"))
    /// });
    /// # let _ = feed;
    /// ```
    pub fn before(
        mut self,
        hook: impl FnMut(&mut Attempt) -> Result<(), Error> + Send + 'static,
    ) -> Reconnecting {
        self.hooks.before = Some(Box::new(hook));
        self
    }

    /// Decides which ends are worth another attempt; without this, [`Cause::is_transient`] does, by this [table](crate::reconnecting). It is
    /// not asked about ends that this side wanted, nor about those for which [`ReconnectHandle::reconnect`] asked.
    pub fn retry_if(mut self, hook: impl FnMut(&Cause) -> bool + Send + 'static) -> Reconnecting {
        self.hooks.retry_if = Some(Box::new(hook));
        self
    }

    /// Is called with each connection when it is open, before anything is received of it: to subscribe. What it sends goes ahead
    /// of what others send. An error, or a panic, closes the connection with 1011, and is asked about as other ends are.
    pub fn on_open(
        mut self,
        hook: impl FnMut(&Handle) -> Result<(), Error> + Send + 'static,
    ) -> Reconnecting {
        self.hooks.on_open = Some(Box::new(hook));
        self
    }

    /// Is told of every state that is entered, in order, while somebody receives: beside
    /// [`recv_update`](Reconnecting::recv_update), and for programs that only [`recv`](Reconnecting::recv). One that panics is
    /// logged.
    ///
    /// ```
    /// use threadwire::aio;
    /// use threadwire::reconnect::Backoff;
    ///
    /// let feed = aio::reconnect("ws://example.com/feed", Backoff::default())
    ///     .on_change(|change| eprintln!("{change}"));
    /// # let _ = feed;
    /// ```
    pub fn on_change(mut self, hook: impl FnMut(&Change) + Send + 'static) -> Reconnecting {
        self.hooks.on_change = Some(Box::new(hook));
        self
    }

    /// Holds what is sent while no connection is open, up to this many bytes, instead of refusing it with [`Error::Closed`]: as
    /// [`Reconnect::hold`](crate::reconnect::Reconnect::hold) does. Whole messages are held, and leave in their order when the next
    /// [`on_open`](Reconnecting::on_open) has returned, while somebody receives. Past the bound, sending fails with
    /// [`Error::Limit`]. What is held at the end is dropped.
    ///
    /// ```
    /// use threadwire::error::LimitKind;
    /// use threadwire::reconnect::Backoff;
    /// use threadwire::{Error, aio};
    ///
    /// let feed = aio::reconnect("ws://127.0.0.1:9/", Backoff::default()).hold(8);
    /// let handle = feed.handle();
    /// handle.send("5 byte")?;
    /// assert!(matches!(handle.send("more"), Err(Error::Limit(error)) if error.kind == LimitKind::Held));
    /// assert_eq!(handle.held(), 6);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn hold(self, bytes: usize) -> Reconnecting {
        self.shared.hold(bytes);
        self
    }

    /// Measures the round trip of each connection when it is open, by `rounds` pings, while somebody receives, and opens another
    /// one instead, after the usual wait, if their median is longer than `slowest` ([`Cause::TooSlow`]): as
    /// [`Reconnect::slower_than`](crate::reconnect::Reconnect::slower_than) does. A measurement that comes to nothing changes nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::aio;
    /// use threadwire::reconnect::Backoff;
    ///
    /// let feed = aio::reconnect("ws://example.com/feed", Backoff::default()).slower_than(Duration::from_millis(30), 5);
    /// # let _ = feed;
    /// ```
    pub fn slower_than(mut self, slowest: Duration, rounds: usize) -> Reconnecting {
        self.conductor.slower_than(slowest, rounds);
        self
    }
}

/// Receiving.
impl Reconnecting {
    /// Receives a message, from whichever connection is open; connects, and waits to connect again, as that takes. `None` at the
    /// end, if this side wanted that ([`State::Stopped`]). Where it gives up, it fails once with what ended the last connection or
    /// attempt: [`Error::Ended`], or an error that says it in the same words as the [`Cause`], which can be had by
    /// `downcast_ref::<Arc<Cause>>`, and from [`ReconnectHandle::last_change`].
    ///
    /// Dropped before it is ready, it has lost nothing, and an attempt or a wait that is under way goes on with the next call.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<OwnedMessage>, Error>> + Send + '_ {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// Receives a message, or learns of a change: of each, in order.
    ///
    /// ```
    /// use threadwire::aio::Update;
    /// use threadwire::reconnect::Backoff;
    /// use threadwire::{Error, aio};
    ///
    /// async fn log() -> Result<(), Error> {
    ///     let mut feed = aio::reconnect("ws://example.com/feed", Backoff::default());
    ///     while let Some(update) = feed.recv_update().await? {
    ///         match update {
    ///             Update::Message(message) => println!("{message}"),
    ///             Update::Change(change) => eprintln!("{change}"),
    ///             _ => {}
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn recv_update(&mut self) -> impl Future<Output = Result<Option<Update>, Error>> + Send + '_ {
        poll_fn(|cx| self.poll_update(cx))
    }

    /// Sends a message over the connection that is open, as [`Connection::send`] does. While none is, it fails with
    /// [`Error::Closed`], or takes the message to be sent later where [`hold`](Reconnecting::hold) is set.
    pub fn send<'a>(
        &'a mut self,
        message: impl AsMessage + Send + Unpin + 'a,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        self.send_with(message, SendOptions::default())
    }

    /// Sends a message, and chooses what is to happen if there is no room for it, or whether it is compressed: see
    /// [`Connection::send_with`], and [`send`](Reconnecting::send). What is held is not concerned by the first.
    pub fn send_with<'a>(
        &'a mut self,
        message: impl AsMessage + Send + Unpin + 'a,
        options: impl Into<SendOptions>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        let options = options.into();
        async move {
            let message = message.as_message();
            if let UnderWay::Connection(connected) = &self.under_way
                && self.shared.is_direct()
            {
                match connected.ws.send_with(message, options).await {
                    Err(Error::Closed) => {}
                    sent => return sent,
                }
            }
            self.shared.send(message, options)
        }
    }

    /// A handle for other tasks and threads: to send, to close, and to see where it stands.
    pub fn handle(&self) -> ReconnectHandle {
        crate::reconnect::ReconnectHandle(Arc::clone(&self.shared))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<OwnedMessage>, Error>> {
        loop {
            match ready!(self.poll_update(cx))? {
                Some(Update::Message(message)) => return Poll::Ready(Ok(Some(message))),
                Some(Update::Change(_)) => {}
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn poll_update(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Update>, Error>> {
        self.note_receiver(cx);
        loop {
            self.take_news();
            while let Some(effect) = self.conductor.next_effect() {
                self.perform(effect);
                self.take_news();
            }
            if let Some(change) = self.changes.pop_front() {
                return Poll::Ready(Ok(Some(Update::Change(change))));
            }
            match &mut self.under_way {
                UnderWay::Attempt(dialing) => match ready!(dialing.as_mut().poll(cx)) {
                    Ok(ws) => self.opened(ws),
                    Err(error) => {
                        self.under_way = UnderWay::Nothing;
                        self.conductor.on(Event::Failed(error));
                    }
                },
                UnderWay::Connection(connected) => {
                    let received = connected.ws.receiver().poll_recv(cx);
                    // After the receive, which may have brought the pong.
                    if let Some(times) = connected.poll_measured(cx) {
                        self.conductor.on(Event::Measured(times));
                        if received.is_pending() {
                            continue;
                        }
                    }
                    match ready!(received) {
                        Ok(Some(message)) => return Poll::Ready(Ok(Some(Update::Message(message)))),
                        // The error is reported with the end of the connection.
                        Ok(None) | Err(_) => self.ended(),
                    }
                }
                // Only one who receives connections is given them.
                UnderWay::Given(..) => ready!(self.poll_given(cx)),
                UnderWay::Timer(timer) => {
                    ready!(timer.as_mut().poll(cx));
                    self.under_way = UnderWay::Nothing;
                    self.conductor.on(Event::Rung);
                }
                UnderWay::Nothing => return Poll::Ready(self.tell_end()),
            }
        }
    }

    /// The next connection, for the program to have to itself.
    pub(super) fn poll_connection(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Connection>, Error>> {
        self.note_receiver(cx);
        loop {
            self.take_news();
            while let Some(effect) = self.conductor.next_effect() {
                self.perform(effect);
                self.take_news();
            }
            self.changes.clear();
            match &mut self.under_way {
                UnderWay::Attempt(dialing) => match ready!(dialing.as_mut().poll(cx)) {
                    Ok(ws) => self.opened(ws),
                    Err(error) => {
                        self.under_way = UnderWay::Nothing;
                        self.conductor.on(Event::Failed(error));
                    }
                },
                UnderWay::Connection(_) => {
                    let under_way = std::mem::replace(&mut self.under_way, UnderWay::Nothing);
                    if let UnderWay::Connection(connected) = under_way {
                        let ending = Box::pin(Ending::new(connected.ws.core()));
                        self.under_way = UnderWay::Given(connected.ws.handle(), ending);
                        return Poll::Ready(Ok(Some(connected.ws)));
                    }
                }
                UnderWay::Given(..) => ready!(self.poll_given(cx)),
                UnderWay::Timer(timer) => {
                    ready!(timer.as_mut().poll(cx));
                    self.under_way = UnderWay::Nothing;
                    self.conductor.on(Event::Rung);
                }
                UnderWay::Nothing => return Poll::Ready(self.tell_end().map(|_| None)),
            }
        }
    }

    /// Closes the connection that was given away, and waits for its end.
    fn poll_given(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let UnderWay::Given(handle, ending) = &mut self.under_way else { return Poll::Ready(()) };
        if handle.is_open() {
            // Only one that has closed meanwhile refuses that.
            let _ = handle.close();
        }
        let closed = ready!(ending.as_mut().poll(cx));
        self.under_way = UnderWay::Nothing;
        // A command may have come just before.
        self.take_news();
        self.shared.closed();
        self.conductor.on_asked_for_next(Instant::now(), Some(closed));
        Poll::Ready(())
    }

    /// What a receive ends with.
    fn tell_end(&mut self) -> Result<Option<Update>, Error> {
        if self.conductor.state() != State::GaveUp || !self.end.tell_once() {
            return Ok(None);
        }
        self.conductor.failure().map_or(Ok(None), Err)
    }
}

/// Its steps.
impl Reconnecting {
    /// Has this task woken when a handle has asked for something.
    fn note_receiver(&mut self, cx: &Context<'_>) {
        let is_known = self.receiver.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
        if !is_known {
            self.receiver = Some(cx.waker().clone());
            self.shared.set_driver(cx.waker().clone());
        }
    }

    /// Commands, first of all.
    fn take_news(&mut self) {
        if let Some((command, has_room)) = self.shared.take_news() {
            self.conductor.on(Event::Commanded(command));
            if has_room {
                self.conductor.on(Event::Room);
            }
        }
    }

    /// The attempt has opened a connection.
    fn opened(&mut self, ws: Connection) {
        let handle = ws.handle();
        self.under_way = UnderWay::Connection(Box::new(Connected { ws, measuring: None }));
        self.conductor.on(Event::Opened(Instant::now()));
        while let Some(effect) = self.conductor.next_effect() {
            self.perform(effect);
        }
        let begun = self.hooks.on_open.as_deref_mut().map_or(Ok(()), |hook| catch(|| hook(&handle)));
        match begun {
            // Sending on a closed connection is no failure.
            Err(Error::Closed) if !handle.is_open() => {}
            Err(error) => {
                let _ = handle.close_with(CloseCode::INTERNAL_ERROR, "");
                self.conductor.on(Event::CallbackFailed(Some(error)));
            }
            Ok(()) => self.conductor.on(Event::Ready),
        }
        self.shared.opened(handle);
    }

    /// The connection has ended.
    fn ended(&mut self) {
        // A command for that may have come just before.
        self.take_news();
        let under_way = std::mem::replace(&mut self.under_way, UnderWay::Nothing);
        if let UnderWay::Connection(connected) = under_way {
            self.shared.closed();
            let closed = connected.ws.closed();
            self.conductor.on(Event::Ended { now: Instant::now(), closed });
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Tell(change) => self.announce(change),
            Effect::Ask { number, cause } => {
                let event = match self.ask(number, cause) {
                    Ok(attempt) => {
                        self.allowed = Some(attempt);
                        Event::Allowed
                    }
                    Err(error) => Event::Forbidden(error),
                };
                self.conductor.on(event);
            }
            Effect::Dial => {
                if let Some(attempt) = self.allowed.take() {
                    self.under_way = UnderWay::Attempt(Box::pin(connect_by(&attempt.settings)));
                }
            }
            Effect::Cancel => {
                self.under_way = UnderWay::Nothing;
                self.conductor.on(Event::Failed(Error::Closed));
            }
            Effect::Release => self.shared.release(),
            Effect::Measure { rounds } => self.with_connection(|connected| connected.measure(rounds)),
            Effect::Close(code, reason) => self.with_handle(|handle| {
                // The handle that asked for it has checked it.
                let _ = handle.close_with(code, &reason);
            }),
            Effect::DropNow => self.with_handle(|handle| handle.core().close_now()),
            Effect::Judge(cause) => {
                let event = match is_worth_it(self.hooks.retry_if.as_deref_mut(), &cause) {
                    true => Event::Retry { random: random(), now: SystemTime::now() },
                    false => Event::GiveUp,
                };
                self.conductor.on(event);
            }
            Effect::Wait(delay) => self.under_way = UnderWay::Timer(Box::pin(sleep(delay))),
            Effect::End => {
                self.under_way = UnderWay::Nothing;
                self.hooks = Hooks::default();
                self.shared.end();
            }
        }
    }

    fn with_connection(&mut self, call: impl FnOnce(&mut Connected)) {
        if let UnderWay::Connection(connected) = &mut self.under_way {
            call(connected);
        }
    }

    fn with_handle(&self, call: impl FnOnce(&Handle)) {
        match &self.under_way {
            UnderWay::Connection(connected) => call(&connected.ws.handle()),
            UnderWay::Given(handle, _) => call(handle),
            _ => {}
        }
    }

    /// The attempt, if the program allows it.
    fn ask(&mut self, number: u32, cause: Option<Arc<Cause>>) -> Result<Attempt, Error> {
        let settings = match &mut self.settings {
            Ok(settings) => settings.clone(),
            Err(error) => return Err(error.take().unwrap_or(Error::Closed)),
        };
        let mut attempt = Attempt { settings, number, cause };
        if let Some(before) = self.hooks.before.as_deref_mut() {
            catch(|| before(&mut attempt))?;
        }
        Ok(attempt)
    }

    fn announce(&mut self, change: Change) {
        tracing::debug!(%change, "reconnecting");
        self.shared.change(change.clone());
        if let Some(hook) = &mut self.hooks.on_change {
            contain("on_change", || hook(&change));
        }
        self.changes.push_back(change);
    }
}

impl Connected {
    fn measure(&mut self, rounds: usize) {
        if rounds > 0 {
            self.measuring = Some(Box::pin(measure(Arc::clone(self.ws.core()), Measurement::new(rounds))));
        }
    }

    /// The times, when all rounds are measured. Nothing comes of a measurement that fails.
    fn poll_measured(&mut self, cx: &mut Context<'_>) -> Option<Vec<Duration>> {
        match self.measuring.as_mut()?.as_mut().poll(cx) {
            Poll::Ready(measured) => {
                self.measuring = None;
                measured.ok()
            }
            Poll::Pending => None,
        }
    }
}

/// The messages of one connection after the other: as [`Reconnecting::recv`].
impl Stream for Reconnecting {
    type Item = Result<OwnedMessage, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(cx).map(Result::transpose)
    }
}

impl FusedStream for Reconnecting {
    fn is_terminated(&self) -> bool {
        self.conductor.is_over()
            && self.changes.is_empty()
            && (self.end.was_told() || self.conductor.state() != State::GaveUp)
    }
}

/// An attempt, or a wait, is dropped; a connection that is open closes with 1001.
impl Drop for Reconnecting {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl fmt::Debug for Reconnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnecting")
            .field("state", &self.conductor.state())
            .field("connections", &self.conductor.connections())
            .finish_non_exhaustive()
    }
}
