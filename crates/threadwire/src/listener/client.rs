//! Connections that this side opens.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use threadwire_proto::handshake::RequestBuilder;
use threadwire_worker::EventLoop;

use crate::dial::{Attempt, Target};
use crate::{Config, Connection, Error, Listener};

/// Opens a connection, and waits until it is open or has failed; this thread's event loop goes on meanwhile. The first
/// call to the listener may come before this returns.
///
/// It fails with [`Error::Url`], [`Error::Resolve`], [`Error::Connect`], [`Error::Handshake`] or [`Error::Timeout`], or with
/// [`Error::Stopped`] if the worker is stopped.
///
/// ```no_run
/// use threadwire::{Connection, Message, connect, wait_forever};
///
/// let ws = connect("ws://127.0.0.1:9001/", |_ws: &Connection, message: Message<'_>| {
///     println!("{message}");
///     Ok(())
/// })?;
/// ws.send("hello")?;
/// wait_forever()?;
/// # Ok::<(), threadwire::Error>(())
/// ```
pub fn connect(url: &str, listener: impl Listener) -> Result<Connection, Error> {
    Client::new(url)?.connect(listener)
}

/// A connection to be opened, with its settings. It may be opened more than once.
///
/// ```no_run
/// use threadwire::{Client, Config, Connection, Message};
///
/// let ws = Client::new("ws://127.0.0.1:9001/feed")?
///     .header("Authorization", "Bearer 1234")?
///     .connect(|_ws: &Connection, message: Message<'_>| {
///         println!("{message}");
///         Ok(())
///     })?;
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    target: Target,
    request: RequestBuilder,
    config: Config,
}

impl Client {
    /// A connection to this URL, `ws://HOST[:PORT][/PATH][?QUERY]`.
    pub fn new(url: &str) -> Result<Client, Error> {
        let target = Target::parse(url)?;
        let request = RequestBuilder::new(&target.authority(), target.resource())?;
        Ok(Client { target, request, config: Config::default() })
    }

    /// Limits and timeouts.
    pub fn config(mut self, config: Config) -> Client {
        self.config = config;
        self
    }

    /// Adds a header to the request. `Host`, `Origin` and `User-Agent` replace what is there. Fails for a name or a value
    /// that must not be sent, and for the headers that belong to the handshake itself.
    pub fn header(mut self, name: &str, value: &str) -> Result<Client, Error> {
        self.request.header(name, value)?;
        Ok(self)
    }

    /// Offers subprotocols, the best one first. Fails for names that are not tokens.
    pub fn subprotocols<S: AsRef<str>>(
        mut self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<Client, Error> {
        self.request.subprotocols(names)?;
        Ok(self)
    }

    /// Opens the connection, and waits until it is open or has failed. See [`connect`].
    pub fn connect(&self, listener: impl Listener) -> Result<Connection, Error> {
        let outcome = Rc::new(RefCell::new(None));
        let tell = Rc::clone(&outcome);
        let attempt = self.attempt(Box::new(listener), move |result| {
            *tell.borrow_mut() = Some(result.map_err(|(_, error)| error));
        })?;
        let waited = EventLoop::current().wait(None, || outcome.borrow().is_some());
        if waited.is_err() {
            attempt.fail(Error::Stopped);
        }
        let outcome = outcome.borrow_mut().take();
        outcome.unwrap_or(Err(Error::Stopped))
    }

    /// Begins to open the connection, and returns. The listener hears how it goes on: [`Listener::on_open`] or
    /// [`Listener::on_failed`], from within a later wait of this thread.
    pub fn start(&self, listener: impl Listener) -> Result<(), Error> {
        self.attempt(Box::new(listener), |result| {
            let Err((mut listener, error)) = result else { return };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| listener.on_failed(&error))) {
                tracing::error!(error = %Error::panicked(payload), "on_failed failed");
            }
        })?;
        Ok(())
    }

    fn attempt(
        &self,
        listener: Box<dyn Listener>,
        done: impl FnOnce(Result<Connection, (Box<dyn Listener>, Error)>) + 'static,
    ) -> Result<Rc<Attempt>, Error> {
        let request = self.request.build()?;
        let config = Arc::new(self.config.clone());
        Ok(Attempt::start(self.target.clone(), request, config, listener, Box::new(done)))
    }
}
