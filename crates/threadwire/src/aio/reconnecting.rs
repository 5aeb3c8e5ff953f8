//! Connections that come back: the machine of [`Reconnect`](crate::Reconnect), driven by whoever receives.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use threadwire_proto::{CloseCode, Message, OwnedMessage};
use tokio::time::{Sleep, sleep};

use super::client::connect_by;
use super::connection::Connection;
use super::handle::Handle;
use super::link::{Link, Shared};
use crate::{Attempt, Backoff, Cause, Change, Error, IntoClient, State};
use threadwire_core::client::settings::Settings;
use threadwire_core::reconnect::command::Wish;
use threadwire_core::reconnect::hooks::{ask_before, ask_whether_to_retry, random, retry_after};
use threadwire_core::reconnect::machine::{Machine, Verdict, is_wanted};

type Before = dyn FnMut(&mut Attempt) -> Result<(), Error> + Send;
type RetryIf = dyn FnMut(&Cause) -> bool + Send;
type OnOpen = dyn FnMut(&Handle) -> Result<(), Error> + Send;
type Dialing = dyn Future<Output = Result<Connection, Error>> + Send;

/// The program's callbacks.
#[derive(Default)]
struct Hooks {
    before: Option<Box<Before>>,
    retry_if: Option<Box<RetryIf>>,
    on_open: Option<Box<OnOpen>>,
}

/// What it is at.
enum Step {
    /// The next attempt is due.
    Due,
    /// An attempt is under way.
    Dialing(Pin<Box<Dialing>>),
    Connected(Box<Connection>),
    Waiting(Pin<Box<Sleep>>),
    Over,
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
/// What ends it, and what is worth another attempt, is said at [`Reconnect`](crate::Reconnect), whose rules and [states](State)
/// these are. Instead of a listener's callbacks there is [`on_open`](Reconnecting::on_open), to subscribe on each connection, and
/// [`recv_update`](Reconnecting::recv_update), which tells of each change of state beside the messages.
pub struct Reconnecting {
    /// What it connects to; the error if there is no such thing, until that was told.
    settings: Result<Settings, Option<Error>>,
    machine: Machine,
    hooks: Hooks,
    step: Step,
    shared: Arc<Shared>,
    /// Those that were not told yet.
    changes: VecDeque<Change>,
    /// Whether this side wants the end.
    is_ending: bool,
    /// Whether this side wants another connection.
    is_renewing: bool,
    /// What a callback has failed with, for which the connection was closed.
    failure: Option<Error>,
    /// Whether the end was told as an error.
    told: bool,
}

/// A connection to a URL, or as a [`Client`] says, that is opened again when it ends.
///
/// ```
/// use std::time::Duration;
/// use threadwire::{Backoff, CloseCode, Error, aio};
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
/// let backoff = Backoff { first: Duration::from_millis(1), ..Backoff::default() };
/// let mut feed = aio::reconnect(&url, backoff).on_open(|ws| ws.send("subscribe"));
/// while let Some(price) = feed.recv().await? {
///     println!("{price}"); // from one connection, and then from the next
///     if price == "42" {
///         feed.link().close()?;
///     }
/// }
/// assert_eq!(feed.link().connections(), 2);
/// # Ok(())
/// # }
/// ```
pub fn reconnect(target: impl IntoClient, backoff: Backoff) -> Reconnecting {
    let machine = Machine::new(backoff);
    Reconnecting {
        settings: target.client().map(|client| client.settings().clone()).map_err(Some),
        shared: Shared::new(machine.state()),
        machine,
        hooks: Hooks::default(),
        step: Step::Due,
        changes: VecDeque::new(),
        is_ending: false,
        is_renewing: false,
        failure: None,
        told: false,
    }
}

/// Setting it up.
impl Reconnecting {
    /// Is called before each attempt, also the first: it may change the URL and headers (tokens expire), and forbid the attempt.
    /// An error gives up, with that error as the cause.
    ///
    /// ```
    /// use threadwire::{Backoff, Error, aio};
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

    /// Decides which ends are worth another attempt; without this, [`Cause::is_transient`] does. It is not asked about ends that
    /// this side wanted, nor about those for which [`Link::reconnect`] asked.
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
}

/// Receiving.
impl Reconnecting {
    /// Receives a message, from whichever connection is open; connects, and waits to connect again, as that takes. `None` at the
    /// end, if this side wanted that ([`State::Stopped`]). Where it gives up, it fails once with what ended the last connection or
    /// attempt: [`Error::Ended`], or an error that says it in the same words as the [`Cause`], which can be had by
    /// `downcast_ref::<Arc<Cause>>`, and from [`Link::last_change`].
    ///
    /// Dropped before it is ready, it has lost nothing, and an attempt or a wait that is under way goes on with the next call.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<OwnedMessage>, Error>> + Send + '_ {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// Receives a message, or learns of a change: of each, in order.
    ///
    /// ```
    /// use threadwire::aio::Update;
    /// use threadwire::{Backoff, Error, aio};
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

    /// Sends a message over the connection that is open, as [`Connection::send`] does. Fails with [`Error::Closed`] while none is.
    pub fn send<'a>(
        &'a mut self,
        message: impl Into<Message<'a>>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        let message = message.into();
        async move {
            match &self.step {
                Step::Connected(ws) => ws.send(message).await,
                _ => Err(Error::Closed),
            }
        }
    }

    /// A link, for other tasks and threads: to send, to close, and to see where it stands.
    pub fn link(&self) -> Link {
        Link(Arc::clone(&self.shared))
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
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Poll::Ready(Ok(Some(Update::Change(change))));
            }
            self.heed(cx);
            match &mut self.step {
                Step::Due => self.begin(),
                Step::Dialing(dialing) => match ready!(dialing.as_mut().poll(cx)) {
                    Ok(ws) => self.opened(ws),
                    Err(error) => self.failed(error),
                },
                Step::Connected(ws) => match ready!(Pin::new(&mut **ws).poll_next(cx)) {
                    Some(Ok(message)) => return Poll::Ready(Ok(Some(Update::Message(message)))),
                    // Its end says how it ended.
                    Some(Err(_)) | None => self.ended(cx),
                },
                Step::Waiting(timer) => {
                    ready!(timer.as_mut().poll(cx));
                    self.step = Step::Due;
                }
                Step::Over if self.changes.is_empty() => return Poll::Ready(self.end()),
                Step::Over => {}
            }
        }
    }

    /// What a receive ends with.
    fn end(&mut self) -> Result<Option<Update>, Error> {
        if self.machine.state() != State::GaveUp || std::mem::replace(&mut self.told, true) {
            return Ok(None);
        }
        match self.shared.cause() {
            Some(cause) => Err(match &*cause {
                Cause::Closed(closed) => Error::Ended(Arc::clone(closed)),
                _ => Error::other(cause),
            }),
            None => Ok(None),
        }
    }
}

/// Its steps.
impl Reconnecting {
    /// Does what others have wished for.
    fn heed(&mut self, cx: &mut Context<'_>) {
        let wish = self.shared.take_wish(cx);
        self.is_ending |= wish.is_end();
        self.is_renewing |= matches!(wish, Wish::Renew);
        let is_interrupted = self.is_ending || self.is_renewing;
        match &self.step {
            Step::Connected(ws) => match wish {
                Wish::Close(code, reason) => {
                    // It was checked.
                    let _ = ws.handle().close_with(code, &reason);
                }
                Wish::Renew | Wish::Stop => ws.handle().drop_now(),
                Wish::Nothing => {}
            },
            Step::Over => {}
            _ if !is_interrupted => {}
            Step::Dialing(_) => {
                self.machine.failed();
                self.follow(self.wanted(), self.shared.cause());
            }
            Step::Due | Step::Waiting(_) => self.follow(self.wanted(), self.shared.cause()),
        }
    }

    /// What the wishes of this side make of an end.
    fn wanted(&self) -> Verdict {
        if self.is_ending { Verdict::Stop } else { Verdict::Renew }
    }

    /// Begins an attempt.
    fn begin(&mut self) {
        let (state, cause) = (self.machine.connecting(), self.shared.cause());
        self.announce(state, cause.clone());
        let State::Connecting { attempt: number } = state else { return };
        let allowed = match &mut self.settings {
            Ok(settings) => {
                let mut attempt = Attempt { settings: settings.clone(), number, cause };
                let before = self.hooks.before.as_deref_mut();
                before.map_or(Ok(()), |before| ask_before(before, &mut attempt)).map(|()| attempt)
            }
            Err(error) => Err(error.take().unwrap_or(Error::Closed)),
        };
        match allowed {
            Ok(attempt) => self.step = Step::Dialing(Box::pin(connect_by(&attempt.settings))),
            Err(error) => self.follow(Verdict::GiveUp, Some(Arc::new(Cause::Error(error)))),
        }
    }

    /// The attempt has opened a connection.
    fn opened(&mut self, ws: Connection) {
        let handle = ws.handle();
        let state = self.machine.opened(Instant::now());
        self.announce(state, self.shared.cause());
        if let Some(hook) = &mut self.hooks.on_open {
            let begun = catch_unwind(AssertUnwindSafe(|| hook(&handle)));
            match begun.unwrap_or_else(|payload| Err(Error::panicked(payload))) {
                // It is no failure then.
                Err(Error::Closed) if !handle.is_open() => {}
                Err(error) => {
                    let _ = handle.close_with(CloseCode::INTERNAL_ERROR, "");
                    self.failure = Some(error);
                }
                Ok(()) => {}
            }
        }
        self.step = Step::Connected(Box::new(ws));
        self.shared.set_handle(Some(handle));
    }

    /// The attempt has opened no connection.
    fn failed(&mut self, error: Error) {
        self.machine.failed();
        let cause = Cause::Error(error);
        let verdict = self.ask_whether_to_retry(&cause);
        self.follow(verdict, Some(Arc::new(cause)));
    }

    /// The connection has ended.
    fn ended(&mut self, cx: &mut Context<'_>) {
        // The wish for that may have come just before.
        let wish = self.shared.take_wish(cx);
        self.is_ending |= wish.is_end();
        self.is_renewing |= matches!(wish, Wish::Renew);
        let Step::Connected(ws) = std::mem::replace(&mut self.step, Step::Due) else { return };
        self.shared.set_handle(None);
        let state = self.machine.closed(Instant::now());
        let closed = ws.closed();
        let is_failure = self.failure.is_some();
        let wanted = closed.as_ref().is_none_or(|closed| is_wanted(closed, is_failure));
        let cause = match self.failure.take() {
            _ if self.is_renewing && !self.is_ending => Some(Cause::Requested),
            Some(error) => Some(Cause::Error(error)),
            None => closed.map(Cause::Closed),
        };
        let cause = cause.map(Arc::new);
        self.announce(state, cause.clone());
        let verdict = match cause.as_deref() {
            _ if self.is_ending || self.is_renewing => self.wanted(),
            Some(cause) if !wanted => self.ask_whether_to_retry(cause),
            _ => Verdict::Stop,
        };
        self.follow(verdict, cause);
    }

    fn ask_whether_to_retry(&mut self, cause: &Cause) -> Verdict {
        ask_whether_to_retry(self.hooks.retry_if.as_deref_mut(), cause)
    }

    /// Goes on from an end.
    fn follow(&mut self, verdict: Verdict, cause: Option<Arc<Cause>>) {
        self.is_renewing = false;
        let random = if verdict == Verdict::Retry { random() } else { 0.0 };
        let at_least = retry_after(cause.as_deref(), SystemTime::now());
        let state = self.machine.next(verdict, random, at_least);
        self.step = match state {
            State::Waiting { delay, .. } => Step::Waiting(Box::pin(sleep(delay))),
            State::GaveUp | State::Stopped => Step::Over,
            _ => Step::Due,
        };
        if !matches!(state, State::Connecting { .. }) {
            self.announce(state, cause);
        }
    }

    fn announce(&mut self, state: State, cause: Option<Arc<Cause>>) {
        let change = Change::new(state, self.machine.connections(), cause);
        tracing::debug!(%change, "reconnecting");
        self.shared.change(change.clone());
        self.changes.push_back(change);
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
        matches!(self.step, Step::Over) && (self.told || self.machine.state() != State::GaveUp)
    }
}

/// An attempt, or a wait, is dropped; a connection that is open closes with 1001.
impl Drop for Reconnecting {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

impl fmt::Debug for Reconnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnecting")
            .field("state", &self.machine.state())
            .field("connections", &self.machine.connections())
            .finish_non_exhaustive()
    }
}
