//! Client of every face: a builder around its settings; and the types of the way to a server: proxies, cookies, TLS, sockets,
//! addresses, timeouts.

mod as_client;
mod network;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use threadwire_core::client::settings::Settings;
use threadwire_worker::EventLoop;

use crate::on_loop::dial::Attempt;
use crate::reconnect::{Backoff, Reconnect};
use crate::{Config, Connection, Error, Listener};

pub use as_client::AsClient;
pub use threadwire_core::client::{CookieJar, Proxy, Socket, Target, Timeouts};
#[cfg(feature = "tls")]
pub use threadwire_core::tls::ClientTls;
pub use threadwire_proto::handshake::Answer;

/// Opens a connection, and waits until it is open or has failed; this thread's event loop goes on meanwhile. The first
/// call to the listener may come before this returns.
///
/// It fails with [`Error::Url`], [`Error::Resolve`], [`Error::Connect`], [`Error::Proxy`], [`Error::Redirect`],
/// [`Error::Status`], [`Error::Handshake`] or [`Error::Timeout`]; with [`Error::Lost`] or [`Error::Io`] if the server goes away before it has answered; and with [`Error::Stopped`] if
/// the worker is stopped. The listener is then dropped, and not called.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use threadwire::{Connection, Message, connect, wait_until};
/// # use threadwire::{Reply, Server};
/// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
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
pub fn connect(target: impl AsClient, listener: impl Listener) -> Result<Connection, Error> {
    target.client()?.connect(listener)
}

/// A connection to be opened, with its settings. It may be opened more than once: each time is a connection of its own. All
/// faces connect by a client.
///
/// The steps: the system is asked for the addresses of the host (on threads of their own, at most 16 in a process; the loop goes
/// on); they are tried in turn, IPv6 and IPv4 by turns and each with a head start of 250 ms over the next, and the first that
/// answers is taken (RFC 8305); on the way there may be a [proxy](Client::proxy), and TLS; then the request goes out. A
/// [redirect](Client::redirects) begins anew. All of it together has [`Config::open_timeout`], and each step may have a
/// [limit](Client::timeouts).
///
/// ```
/// use std::time::Duration;
/// use threadwire::{Client, Config, Connection, Message};
/// # use threadwire::{Reply, Server};
/// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let client = Client::new(&url)?
///     .header("Authorization", "Bearer 1234")?
///     .config(Config::default().open_timeout(Duration::from_secs(2)));
/// let quiet = |_ws: &Connection, _message: Message<'_>| Ok(());
/// let (first, second) = (client.connect(quiet)?, client.connect(quiet)?);
/// assert_ne!(first.local_addr()?, second.local_addr()?);
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone)]
pub struct Client(Settings);

impl Client {
    /// With these settings.
    pub(crate) fn of(settings: Settings) -> Client {
        Client(settings)
    }

    /// A connection to this URL, as [`Target`] takes it apart: `ws://HOST[:PORT][/PATH][?QUERY]`, `wss` for TLS, `ws+unix` for a
    /// unix socket. Nothing is opened yet.
    ///
    /// Fails with [`Error::Url`] for what can't be connected to.
    ///
    /// ```
    /// use threadwire::error::UrlPart;
    /// use threadwire::{Client, Error};
    /// let result = Client::new("http://example.com/");
    /// assert!(matches!(result, Err(Error::Url(error)) if error.part == UrlPart::Scheme));
    /// ```
    pub fn new(url: impl AsRef<str>) -> Result<Client, Error> {
        Settings::new(url.as_ref()).map(Client)
    }

    /// Limits and timeouts; [`Config::default`] without this.
    pub fn config(mut self, config: Config) -> Client {
        self.0.config = config;
        self
    }

    /// How TLS is spoken, for a `wss://` URL; without this, as [`ClientTls::new`] has it.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ClientTls) -> Client {
        self.0.tls = tls;
        self
    }

    /// Adds a header to the request; spaces and tabs around the value are left out. `Host`, `Origin` and `User-Agent` replace what is there.
    /// Fails with [`Error::Handshake`] for a name or a value that must not be sent, and for the headers that belong to the handshake
    /// itself.
    pub fn header(mut self, name: &str, value: &str) -> Result<Client, Error> {
        self.0.add_header(name, value)?;
        Ok(self)
    }

    /// Says from which origin the request comes, as `https://example.com`: browsers do, and servers may insist on it. Nothing by
    /// default. Fails as [`header`](Client::header) does.
    pub fn origin(mut self, origin: &str) -> Result<Client, Error> {
        self.0.set_header("Origin", origin)?;
        Ok(self)
    }

    /// Says what is asking, instead of `threadwire/VERSION`. Fails as [`header`](Client::header) does.
    pub fn user_agent(mut self, name: &str) -> Result<Client, Error> {
        self.0.set_header("User-Agent", name)?;
        Ok(self)
    }

    /// Asks for another host than that of the URL, which still says where to connect to. Fails with [`Error::Handshake`] for what
    /// is no `HOST` or `HOST:PORT`.
    pub fn host(mut self, host: &str) -> Result<Client, Error> {
        self.0.set_header("Host", host)?;
        Ok(self)
    }

    /// Authenticates with a user name and a password (RFC 7617), which go over the wire as they are where there is no TLS. It
    /// replaces what the URL says, and other `Authorization`. Fails with [`Error::Other`] for a colon in the name, or a control
    /// character.
    ///
    /// ```
    /// use threadwire::Client;
    /// let client = Client::new("wss://example.com/")?.basic_auth("Aladdin", "open sesame")?;
    /// assert!(!format!("{client:?}").contains("sesame"));
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn basic_auth(mut self, user: &str, password: &str) -> Result<Client, Error> {
        self.0.set_basic_auth(user, password)?;
        Ok(self)
    }

    /// Authenticates with a token (RFC 6750). It replaces other `Authorization`. Fails as [`header`](Client::header) does. For
    /// tokens that expire there is [`headers`](Client::headers).
    pub fn bearer_auth(mut self, token: &str) -> Result<Client, Error> {
        self.0.set_header("Authorization", &format!("Bearer {token}"))?;
        Ok(self)
    }

    /// Offers subprotocols, the best one first, behind those offered before. What the server chose is found at
    /// [`Connection::subprotocol`]. Fails with [`Error::Handshake`] for names that are not tokens, or that come twice.
    pub fn subprotocols<S: AsRef<str>>(
        mut self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<Client, Error> {
        self.0.add_subprotocols(names.into_iter().map(|name| name.as_ref().to_owned()))?;
        Ok(self)
    }

    /// Makes a connection of it that is opened again when it ends: see [`Reconnect`], and for which ends, this
    /// [table](crate::reconnecting).
    ///
    /// ```
    /// use threadwire::reconnect::Backoff;
    /// use threadwire::{Client, Connection, Message};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let handle = Client::new(&url)?.reconnect(Backoff::default()).hold(1 << 20).start(
    ///     |ws: &Connection, message: Message<'_>| {
    ///         println!("{message}");
    ///         ws.close() // closed on this side: it is not opened again
    ///     },
    /// );
    /// handle.send("hello")?; // leaves when it is open
    /// println!("{}", handle.wait_ended()?);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn reconnect(self, backoff: Backoff) -> Reconnect {
        Reconnect::new(self.0, backoff)
    }

    /// Opens the connection, and waits until it is open or has failed. See [`connect`].
    pub fn connect(&self, listener: impl Listener) -> Result<Connection, Error> {
        let outcome = Rc::new(RefCell::new(None));
        let tell = Rc::clone(&outcome);
        let attempt = Attempt::start(&self.0, Box::new(listener), move |result| {
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
    ///         self.0.set(matches!(error, Error::Connect(_))); // nobody listens there
    ///     }
    /// }
    ///
    /// let failed = Rc::new(Cell::new(false));
    /// Client::new(&url)?.start(Feed(Rc::clone(&failed)))?;
    /// wait_until(None, || failed.get())?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn start(&self, listener: impl Listener) -> Result<(), Error> {
        Attempt::start(&self.0, Box::new(listener), |result| {
            let Err((mut listener, error)) = result else { return };
            threadwire_guard::contain("on_failed", || listener.on_failed(&error));
            threadwire_guard::discard(listener);
            threadwire_guard::discard(error);
        })?;
        Ok(())
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0
    }

    pub(crate) fn config_mut(&mut self) -> &mut Config {
        &mut self.0.config
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
