//! Reconnect attempt that is about to begin, and may still be changed.

use std::sync::Arc;

use super::Cause;
use crate::client::settings::Settings;
use crate::error::Error;

/// An attempt that is about to begin, as `Reconnect::before` is given it. Each starts out from
/// the `Client` as it was set up: what is changed here is changed for this attempt alone.
///
/// ```
/// use threadwire::reconnect::{Attempt, Backoff};
/// use threadwire::{Client, Connection, Error, Message};
/// # use threadwire::{Reply, Server};
/// # let server = Server::bind("127.0.0.1:0")?.serve(|request| match request.header("Authorization") {
/// #     Some("Bearer 1") => Reply::with(|_: &Connection, _: Message<'_>| Ok(())),
/// #     _ => Reply::status(401),
/// # })?;
/// # let url = format!("ws://{}", server.local_addr()?);
/// # fn fresh_token() -> Result<u32, Error> { Ok(1) }
///
/// let handle = Client::new(&url)?
///     .reconnect(Backoff::default())
///     .before(|attempt: &mut Attempt| {
///         let token = fresh_token()?; // an error gives up
///         attempt.header("Authorization", &format!("Bearer {token}"))
///     })
///     .start(|_ws: &Connection, _message: Message<'_>| Ok(()));
/// # threadwire::wait_until(None, || handle.connection().is_some())?;
/// handle.close()?;
/// handle.wait_ended()?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Attempt {
    #[doc(hidden)]
    pub settings: Settings,
    #[doc(hidden)]
    pub number: u32,
    #[doc(hidden)]
    pub cause: Option<Arc<Cause>>,
}

impl Attempt {
    /// Which attempt it is, in the row that began when a connection was last stable; from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The end of the last connection or attempt; `None` for the very first.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_deref()
    }

    /// Connects to another URL. Headers and subprotocols stay. Fails as `Client::new` does.
    ///
    /// ```
    /// use threadwire::reconnect::Attempt;
    /// use threadwire::Error;
    ///
    /// /// Takes turns.
    /// fn choose(attempt: &mut Attempt) -> Result<(), Error> {
    ///     let hosts = ["ws://one.example/feed", "ws://two.example/feed"];
    ///     attempt.url(hosts[(attempt.number() as usize - 1) % hosts.len()])
    /// }
    /// ```
    pub fn url(&mut self, url: &str) -> Result<(), Error> {
        self.settings.set_url(url)
    }

    /// Sets a header, in place of those of that name. Fails as `Client::header` does.
    pub fn header(&mut self, name: &str, value: &str) -> Result<(), Error> {
        self.settings.set_header(name, value)
    }
}
