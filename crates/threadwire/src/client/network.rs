//! Network settings of a client: proxy, redirects, cookies, addresses and sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use threadwire_worker::Lock;

use super::Client;
#[cfg(doc)]
use crate::Error;
use crate::app::HeaderList;
use crate::client::{CookieJar, Proxy, Socket, Target, Timeouts};

/// Its way to the server. All of it holds for each attempt of a client that [reconnects](Client::reconnect), and on every face.
///
/// What can't be heeded beside something else is refused when the connection is opened, with [`Error::Setting`], which says what to
/// do instead: where the program [opens the socket](Client::open_socket), or names a [Unix socket](Client::unix_socket), nothing is
/// [resolved](Client::resolve), [bound](Client::bind) or [prepared](Client::prepare_socket), and to a Unix socket no
/// [proxy](Client::proxy) leads.
impl Client {
    /// Through which proxy to go, if any: see [`Proxy`]. By default it is as the environment says ([`Proxy::from_env`]).
    ///
    /// ```
    /// use threadwire::client::Proxy;
    /// use threadwire::{App, Client};
    ///
    /// let client = Client::new("wss://example.com/feed")?.proxy(Proxy::new("http://proxy.example:3128")?);
    /// let app = App::new(&client)?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn proxy(mut self, proxy: Proxy) -> Client {
        self.0.options.proxy = proxy;
        self
    }

    /// How many redirects (301, 302, 303, 307 and 308 with a `Location`) are followed, one after the other; 10 by default, and
    /// none with 0: then the answer fails the attempt, as any other than 101. One more fails with [`Error::Redirect`], and so
    /// does one from `wss` to `ws`. An `http` or `https` URL is taken for one of `ws` or `wss`.
    ///
    /// Another origin (scheme, host and port) is told none of the program's headers, as any of them may be secret, but for `Accept`,
    /// `Accept-Encoding`, `Accept-Language`, `Cache-Control`, `Origin`, `Pragma`, `User-Agent`, and those that are
    /// [allowed](Client::redirected_headers); nor what the URL has of user name and password. Cookies of a [jar](Client::cookies) go where
    /// they belong. Nor is it shown a certificate (`ClientTls::identity`), and it has to have one for its host, whatever
    /// `ClientTls::server_name` says; roots and pinned keys hold for all. That stays so if it leads back to the first.
    pub fn redirects(mut self, most: u32) -> Client {
        self.0.options.redirects = most;
        self
    }

    /// Headers by their names, in either case, that a [redirect](Client::redirects) takes to another origin as well. None by default.
    /// `Host` and `Proxy-Authorization` never go there.
    ///
    /// ```
    /// use threadwire::Client;
    ///
    /// let client = Client::new("wss://example.com/feed")?
    ///     .header("X-Api-Key", "1234")? // for whoever example.com sends us to
    ///     .redirected_headers(["X-Api-Key"]);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn redirected_headers<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Client {
        self.0.options.redirected_headers = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sends the cookies of this jar, and fills it with those of the answers: see [`CookieJar`]. Without one there are no
    /// cookies, but for those that the program sets as a header, which go in front.
    pub fn cookies(mut self, jar: &CookieJar) -> Client {
        self.0.options.cookies = Some(jar.clone());
        self
    }

    /// Makes headers for each attempt, for what does not stay valid; each takes the place of others of its name. Called on the
    /// thread that connects. An error fails the attempt, and so do a panic and a header that must not be sent.
    ///
    /// ```
    /// use threadwire::{Client, Error};
    /// # fn fresh_token() -> Result<u32, Error> { Ok(1) }
    ///
    /// let client = Client::new("ws://example.com/")?.headers(|| -> Result<_, Error> {
    ///     Ok([("Authorization", format!("Bearer {}", fresh_token()?))])
    /// });
    /// # Ok::<(), Error>(())
    /// ```
    pub fn headers<H: HeaderList>(mut self, make: impl Fn() -> H + Send + Sync + 'static) -> Client {
        self.0.options.headers = Some(Arc::new(move || make().into_list()));
        self
    }

    /// How long each step may take: see [`Timeouts`].
    pub fn timeouts(mut self, timeouts: Timeouts) -> Client {
        self.0.options.timeouts = timeouts;
        self
    }

    /// Reaches a host at these addresses, instead of asking the system; tried in their order, as [happy eyeballs] has it. A port
    /// of 0 stands for that of the URL. It holds for whatever host of that name there is: the server's, a proxy's, one that
    /// a redirect leads to. The host's name stays as it is in the request, and for TLS.
    ///
    /// [happy eyeballs]: https://www.rfc-editor.org/rfc/rfc8305
    ///
    /// ```
    /// use threadwire::Client;
    /// # use threadwire::{Reply, Connection, Message, Server};
    /// # let server = Server::bind("127.0.0.1:0")?.serve(|_| Reply::with(|_: &Connection, _: Message<'_>| Ok(())))?;
    /// # let staging = server.local_addr()?;
    ///
    /// let client = Client::new("ws://feed.example/")?.resolve("feed.example", [staging]);
    /// let ws = client.connect(|_ws: &Connection, _message: Message<'_>| Ok(()))?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn resolve(mut self, host: &str, addresses: impl IntoIterator<Item = SocketAddr>) -> Client {
        self.0.options.set_addresses(host, addresses.into_iter().collect());
        self
    }

    /// Connects from this address of this machine; addresses of the server that are of the other family can't be reached then.
    ///
    /// ```
    /// use threadwire::Client;
    /// # use threadwire::{Reply, Connection, Message, Server};
    /// # let server = Server::bind("127.0.0.1:0")?.serve(|_| Reply::with(|_: &Connection, _: Message<'_>| Ok(())))?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let client = Client::new(&url)?.bind("127.0.0.1".parse().unwrap());
    /// let ws = client.connect(|_ws: &Connection, _message: Message<'_>| Ok(()))?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn bind(self, address: IpAddr) -> Client {
        self.bind_port(SocketAddr::new(address, 0))
    }

    /// Connects from this address and port: one connection at a time, then, and the system may keep the port for a minute
    /// after its end.
    pub fn bind_port(mut self, address: SocketAddr) -> Client {
        self.0.options.sockets.local = Some(address);
        self
    }

    /// Prepares each TCP socket before it is connected to an address (of the server, or of a proxy), and before it is bound: to set
    /// options that are not set here. An error, or a panic, fails that address.
    ///
    /// ```
    /// use socket2::SockRef;
    /// use threadwire::Client;
    ///
    /// let client = Client::new("ws://example.com/")?.prepare_socket(|socket, _address| {
    ///     SockRef::from(&socket).set_recv_buffer_size(1 << 20)
    /// });
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn prepare_socket(
        mut self,
        prepare: impl Fn(BorrowedFd<'_>, SocketAddr) -> io::Result<()> + Send + Sync + 'static,
    ) -> Client {
        self.0.options.sockets.prepare = Some(Arc::new(prepare));
        self
    }

    /// Whether small writes leave at once (TCP_NODELAY); true by default. What is sent together is gathered anyway, so that only
    /// programs gain by false that send much, a little at a time, and mind no delay.
    pub fn nodelay(mut self, leaves_at_once: bool) -> Client {
        self.0.options.sockets.delays = !leaves_at_once;
        self
    }

    /// Has the program connect the socket itself, to whatever it likes, for each attempt anew: it is told where the URL leads. It
    /// is called on one of the threads that resolve names (16 in a process at most), so it may block. With a [proxy](Client::proxy) that the program has named, the socket must lead
    /// to that; the environment is not asked. Redirects are not followed then, as they would lead elsewhere.
    ///
    /// An error, or a panic, fails the attempt with [`Error::Io`].
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadwire::Client;
    /// # use threadwire::{Reply, Connection, Message, Server};
    /// # let server = Server::bind("127.0.0.1:0")?.serve(|_| Reply::with(|_: &Connection, _: Message<'_>| Ok(())))?;
    /// # let tunnel = server.local_addr()?;
    ///
    /// let client = Client::new("ws://example.com/")?.open_socket(move |_target| {
    ///     Ok(TcpStream::connect(tunnel)?.into())
    /// });
    /// let ws = client.connect(|_ws: &Connection, _message: Message<'_>| Ok(()))?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn open_socket(
        mut self,
        open: impl Fn(&Target) -> io::Result<Socket> + Send + Sync + 'static,
    ) -> Client {
        self.0.options.open = Some(Arc::new(open));
        self
    }

    /// The same with a socket that is connected already: the first attempt has it, and others fail.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use threadwire::Client;
    ///
    /// let (here, there) = UnixStream::pair()?;
    /// let client = Client::new("ws://localhost/")?.over(here);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn over(self, socket: impl Into<Socket>) -> Client {
        let socket = Lock::new(Some(socket.into()));
        self.open_socket(move |_target| {
            let socket = socket.lock().take();
            socket.ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotConnected, "the socket that was given has been used")
            })
        })
    }

    /// Connects to this unix socket, whatever the URL says, which only says what is asked for there. There is no proxy then, and
    /// redirects are not followed. A URL may name the socket, too: see [`Target`].
    ///
    /// ```
    /// use threadwire::Client;
    /// let client = Client::new("ws://localhost/feed")?.unix_socket("/run/feed.sock");
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn unix_socket(mut self, path: impl AsRef<Path>) -> Client {
        self.0.options.unix = Some(path.as_ref().to_owned());
        self
    }
}
