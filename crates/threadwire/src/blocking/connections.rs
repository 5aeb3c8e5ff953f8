//! One connection after the other on the blocking face: an iterator that reconnects.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use threadwire_core::client::settings::Settings;
use threadwire_core::panic::catch;
use threadwire_core::reconnect::conductor::{Conductor, Effect, Event};
use threadwire_core::reconnect::retry::{is_worth_it, random};
use threadwire_guard::contain;
use threadwire_worker::sleep;

use super::{Connection, connect};
use crate::client::AsClient;
use crate::reconnect::{Attempt, Backoff, Cause, Change};
use crate::{Client, Error, Handle};

type OnChange = dyn FnMut(&Change);
type Before = dyn FnMut(&mut Attempt) -> Result<(), Error>;
type RetryIf = dyn FnMut(&Cause) -> bool;

/// Connections to one server, one after the other: [`connections`] makes it. Nothing happens before the first is asked for.
///
/// To ask for the next one is to be done with the last one: if it is open, it is closed with 1000, and where this side has ended it, by
/// closing or by dropping it, the next one is opened at once. Where the peer or the network did, that is an end as any other: the
/// [`Backoff`] says how long to wait, and whether it is worth another attempt is said by [`retry_if`](Connections::retry_if), or else by
/// this [table](crate::reconnecting). Attempts that fail are repeated likewise. All of these waits turn the thread's loop.
///
/// The iterator ends when it gives up, with what ended the last connection or attempt ([`Error::Ended`], or an error that says it in the
/// words of the [`Cause`], which can be had by `downcast_ref::<Arc<Cause>>`); and with [`Error::Stopped`] if the thread's worker is
/// stopped.
pub struct Connections {
    /// What it connects to; the error if there is no such thing, until that was told.
    settings: Result<Settings, Option<Error>>,
    conductor: Conductor,
    on_change: Option<Box<OnChange>>,
    before: Option<Box<Before>>,
    retry_if: Option<Box<RetryIf>>,
    /// The attempt that the program has allowed.
    allowed: Option<Attempt>,
    /// The connection that the program has.
    given: Option<Handle>,
    /// Until it is handed out.
    opened: Option<Connection>,
    is_over: bool,
}

/// Connections to a URL, or as a [`Client`] says, one after the other: what has to be done on each anew stands in the body of a loop.
///
/// ```
/// use std::time::Duration;
/// use threadwire::blocking;
/// use threadwire::reconnect::Backoff;
/// # use threadwire::{CloseCode, Connection, Message, Reply, Server};
/// # let price = |ws: &Connection, _: Message<'_>| {
/// #     ws.send("42")?;
/// #     ws.close_with(CloseCode::SERVICE_RESTART, "back soon")
/// # };
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| Reply::with(price))?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let mut prices = Vec::new();
/// for ws in blocking::connections(&url, Backoff::default().first(Duration::from_millis(1))) {
///     let mut ws = ws?;
///     ws.send("subscribe")?;
///     while let Ok(Some(price)) = ws.recv() {
///         prices.push(price);
///     }
///     if prices.len() == 2 {
///         break; // or go on with another connection
///     }
/// }
/// # assert_eq!(prices, ["42", "42"]);
/// # Ok::<(), threadwire::Error>(())
/// ```
pub fn connections(target: impl AsClient, backoff: Backoff) -> Connections {
    Connections {
        settings: target.client().map(|client| client.settings().clone()).map_err(Some),
        conductor: Conductor::new(backoff),
        on_change: None,
        before: None,
        retry_if: None,
        allowed: None,
        given: None,
        opened: None,
        is_over: false,
    }
}

impl Connections {
    /// Is called before each attempt, also the first: it may change the URL and headers (tokens expire), and forbid the attempt.
    /// An error gives up, with that error as the cause.
    pub fn before(mut self, hook: impl FnMut(&mut Attempt) -> Result<(), Error> + 'static) -> Connections {
        self.before = Some(Box::new(hook));
        self
    }

    /// Decides which ends are worth another attempt; without this, [`Cause::is_transient`] does. It is not asked about ends of
    /// this side's.
    pub fn retry_if(mut self, hook: impl FnMut(&Cause) -> bool + 'static) -> Connections {
        self.retry_if = Some(Box::new(hook));
        self
    }

    /// Is told of every state that is entered, in order, while a connection is asked for. One that panics is logged.
    pub fn on_change(mut self, hook: impl FnMut(&Change) + 'static) -> Connections {
        self.on_change = Some(Box::new(hook));
        self
    }

    /// Lets go of the connection that the program has, and waits for its end.
    fn let_go(&mut self) -> Result<(), Error> {
        let Some(handle) = &self.given else { return Ok(()) };
        if handle.is_open() {
            // Only one that has closed meanwhile refuses that.
            let _ = handle.close();
        }
        let closed = handle.wait_closed()?;
        self.given = None;
        self.conductor.on_asked_for_next(Instant::now(), Some(closed));
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Result<(), Error> {
        match effect {
            Effect::Tell(change) => {
                tracing::debug!(%change, "reconnecting");
                if let Some(hook) = &mut self.on_change {
                    contain("on_change", || hook(&change));
                }
            }
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
                let attempt = self.allowed.take().ok_or(Error::Lost)?;
                match connect(&Client::of(attempt.settings)) {
                    Ok(ws) => {
                        self.conductor.on(Event::Opened(Instant::now()));
                        self.opened = Some(ws);
                    }
                    Err(Error::Stopped) => return Err(Error::Stopped),
                    Err(error) => self.conductor.on(Event::Failed(error)),
                }
            }
            Effect::Judge(cause) => {
                let event = match is_worth_it(self.retry_if.as_deref_mut(), &cause) {
                    true => Event::Retry { random: random(), now: SystemTime::now() },
                    false => Event::GiveUp,
                };
                self.conductor.on(event);
            }
            Effect::Wait(delay) => {
                sleep(delay)?;
                self.conductor.on(Event::Rung);
            }
            // Nobody commands this one, no messages are held for it, and nothing is measured.
            Effect::Cancel
            | Effect::Release
            | Effect::Measure { .. }
            | Effect::Close(..)
            | Effect::DropNow
            | Effect::End => {}
        }
        Ok(())
    }

    /// The attempt, if the program allows it.
    fn ask(&mut self, number: u32, cause: Option<Arc<Cause>>) -> Result<Attempt, Error> {
        let settings = match &mut self.settings {
            Ok(settings) => settings.clone(),
            Err(error) => return Err(error.take().unwrap_or(Error::Closed)),
        };
        let mut attempt = Attempt { settings, number, cause };
        if let Some(before) = self.before.as_deref_mut() {
            catch(|| before(&mut attempt))?;
        }
        Ok(attempt)
    }

    fn advance(&mut self) -> Result<Option<Connection>, Error> {
        self.let_go()?;
        while let Some(effect) = self.conductor.next_effect() {
            self.perform(effect)?;
        }
        match self.opened.take() {
            Some(ws) => {
                self.given = Some(ws.connection().handle());
                Ok(Some(ws))
            }
            None => self.conductor.failure().map_or(Ok(None), Err),
        }
    }
}

impl Iterator for Connections {
    type Item = Result<Connection, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.advance();
        self.is_over = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("state", &self.conductor.state())
            .field("connections", &self.conductor.connections())
            .finish_non_exhaustive()
    }
}
