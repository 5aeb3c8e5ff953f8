//! Connections that this side opens.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use threadwire_proto::handshake::{ClientRequest, Headers, RequestBuilder};
use threadwire_worker::EventLoop;

use crate::dial::{Attempt, Target};
#[cfg(feature = "tls")]
use crate::tls::ClientTls;
use crate::{Backoff, Config, Connection, Error, Listener, Reconnect};

/// Opens a connection, and waits until it is open or has failed; this thread's event loop goes on meanwhile. The first
/// call to the listener may come before this returns.
///
/// It fails with [`Error::Url`], [`Error::Resolve`], [`Error::Connect`], [`Error::Handshake`] or [`Error::Timeout`];
/// with [`Error::Lost`] or [`Error::Io`] if the server goes away before it has answered; and with [`Error::Stopped`] if
/// the worker is stopped. The listener is then dropped, and not called.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use threadwire::{Connection, Message, connect, wait_until};
/// # use threadwire::{Accept, Server};
/// # let echo = || Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr());
///
/// let answers = Rc::new(Cell::new(0));
/// let count = Rc::clone(&answers);
/// let ws = connect(&url, move |_ws: &Connection, _message: Message<'_>| {
///     count.set(count.get() + 1);
///     Ok(())
/// })?;
/// ws.send("one")?;
/// ws.send("two")?;
/// wait_until(None, || answers.get() == 2)?;
/// # Ok::<(), threadwire::Error>(())
/// ```
pub fn connect(url: &str, listener: impl Listener) -> Result<Connection, Error> {
    Client::new(url)?.connect(listener)
}

/// A connection to be opened, with its settings. It may be opened more than once: each time is a connection of its own.
///
/// ```
/// use std::time::Duration;
/// use threadwire::{Client, Config, Connection, Message};
/// # use threadwire::{Accept, Server};
/// # let echo = || Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr());
///
/// let client = Client::new(&url)?
///     .header("Authorization", "Bearer 1234")?
///     .config(Config { open_timeout: Duration::from_secs(2), ..Config::default() });
/// let quiet = |_ws: &Connection, _message: Message<'_>| Ok(());
/// let (first, second) = (client.connect(quiet)?, client.connect(quiet)?);
/// assert_ne!(first.local_addr()?, second.local_addr()?);
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    target: Target,
    request: RequestBuilder,
    /// What was added to the request, for one to another URL.
    headers: Headers,
    subprotocols: Vec<String>,
    config: Config,
    #[cfg(feature = "tls")]
    tls: ClientTls,
}

impl Client {
    /// A connection to this URL, `ws://HOST[:PORT][/PATH][?QUERY]`, or `wss` for TLS; the port is 80 or 443 by
    /// default. Nothing is opened yet.
    ///
    /// Fails with [`Error::Url`] for what can't be connected to.
    ///
    /// ```
    /// use threadwire::{Client, Error, UrlPart};
    /// let result = Client::new("http://example.com/");
    /// assert!(matches!(result, Err(Error::Url { part: UrlPart::Scheme, .. })));
    /// ```
    pub fn new(url: &str) -> Result<Client, Error> {
        let target = Target::parse(url)?;
        let request = RequestBuilder::new(&target.authority(), target.resource())?;
        let (headers, subprotocols) = (Headers::new(), Vec::new());
        Ok(Client {
            target,
            request,
            headers,
            subprotocols,
            config: Config::default(),
            #[cfg(feature = "tls")]
            tls: ClientTls::shared(),
        })
    }

    /// Limits and timeouts; [`Config::default`] without this.
    pub fn config(mut self, config: Config) -> Client {
        self.config = config;
        self
    }

    /// How TLS is spoken, for a `wss://` URL; without this, as [`ClientTls::new`] has it.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ClientTls) -> Client {
        self.tls = tls;
        self
    }

    /// Adds a header to the request. `Host`, `Origin` and `User-Agent` replace what is there. Fails with
    /// [`Error::Handshake`] for a name or a value that must not be sent, and for the headers that belong to the handshake
    /// itself.
    pub fn header(mut self, name: &str, value: &str) -> Result<Client, Error> {
        self.add_header(name, value)?;
        Ok(self)
    }

    /// Offers subprotocols, the best one first, behind those offered before. What the server chose is found at
    /// [`Connection::subprotocol`]. Fails with [`Error::Handshake`] for names that are not tokens, or that come twice.
    pub fn subprotocols<S: AsRef<str>>(
        mut self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<Client, Error> {
        for name in names {
            self.request.subprotocols([&name])?;
            self.subprotocols.push(name.as_ref().to_owned());
        }
        Ok(self)
    }

    /// Makes a connection of it that is opened again when it ends: see [`Reconnect`].
    ///
    /// ```
    /// use threadwire::{Backoff, Client, Connection, Message};
    /// # use threadwire::{Accept, Server};
    /// # let echo = || Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr());
    ///
    /// let link = Client::new(&url)?.reconnect(Backoff::default()).hold(1 << 20).start(
    ///     |ws: &Connection, message: Message<'_>| {
    ///         println!("{message}");
    ///         ws.close() // closed on this side: it is not opened again
    ///     },
    /// );
    /// link.send("hello")?; // leaves when it is open
    /// println!("{}", link.wait_ended()?);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn reconnect(self, backoff: Backoff) -> Reconnect {
        Reconnect::new(self, backoff)
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
    ///
    /// ```
    /// use std::{cell::Cell, rc::Rc};
    /// use threadwire::{Client, Error, Listener, wait_until};
    /// # let unused = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// # let url = format!("ws://{unused}");
    ///
    /// struct Feed(Rc<Cell<bool>>);
    ///
    /// impl Listener for Feed {
    ///     fn on_failed(&mut self, error: &Error) {
    ///         self.0.set(matches!(error, Error::Connect { .. })); // nobody listens there
    ///     }
    /// }
    ///
    /// let failed = Rc::new(Cell::new(false));
    /// Client::new(&url)?.start(Feed(Rc::clone(&failed)))?;
    /// wait_until(None, || failed.get())?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn start(&self, listener: impl Listener) -> Result<(), Error> {
        self.attempt(Box::new(listener), |result| {
            let Err((mut listener, error)) = result else { return };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| listener.on_failed(&error))) {
                tracing::error!(error = %Error::panicked(payload), "on_failed failed");
            }
        })?;
        Ok(())
    }

    /// What another face needs: where it leads, the request of one attempt, the settings.
    #[cfg(feature = "aio")]
    pub(crate) fn parts(&self) -> Result<(&Target, ClientRequest, &Config), Error> {
        Ok((&self.target, self.request()?, &self.config))
    }

    /// The request for one attempt.
    fn request(&self) -> Result<ClientRequest, Error> {
        let Some(deflate) = &self.config.deflate else { return Ok(self.request.build()?) };
        let mut request = self.request.clone();
        request.extension(deflate.offer());
        Ok(request.build()?)
    }

    /// How another face speaks TLS.
    #[cfg(all(feature = "aio", feature = "tls"))]
    pub(crate) fn tls_settings(&self) -> &ClientTls {
        &self.tls
    }

    pub(crate) fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn add_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.request.header(name, &value)?;
        self.headers.append(name, value)?;
        Ok(())
    }

    /// Sets a header, in place of those of that name.
    pub(crate) fn set_header(&mut self, name: &str, value: &str) -> Result<(), Error> {
        self.request.remove_header(name);
        self.headers.remove(name);
        self.add_header(name, value)
    }

    /// The same for another URL.
    pub(crate) fn set_url(&mut self, url: &str) -> Result<(), Error> {
        let mut other = Client::new(url)?;
        for (name, value) in self.headers.iter() {
            other.add_header(name, value)?;
        }
        let other = other.subprotocols(&self.subprotocols)?;
        let config = std::mem::take(&mut self.config);
        #[cfg(feature = "tls")]
        let other = Client { tls: self.tls.clone(), ..other };
        *self = Client { config, ..other };
        Ok(())
    }

    pub(crate) fn attempt(
        &self,
        listener: Box<dyn Listener>,
        done: impl FnOnce(Result<Connection, (Box<dyn Listener>, Error)>) + 'static,
    ) -> Result<Rc<Attempt>, Error> {
        let request = self.request()?;
        let config = Arc::new(self.config.clone());
        Ok(Attempt::start(
            self.target.clone(),
            request,
            config,
            #[cfg(feature = "tls")]
            self.tls.clone(),
            listener,
            Box::new(done),
        ))
    }
}
