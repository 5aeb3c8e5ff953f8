//! Upgrade request of a client, as hooks and checks see it.

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use threadwire_proto::handshake;

use super::proxy_protocol::Proxied;
#[cfg(feature = "tls")]
use crate::tls::{TlsInfo, session::Session};

/// A request, as it was received: everything that [`proto::handshake::Request`](handshake::Request) knows, to which this
/// dereferences; where it came from; what a [`Router`](crate::Router) has found in its path, and what checks know of it.
///
/// ```
/// use threadwire::{Reply, Connection, Message, Request};
///
/// fn accept(request: &Request) -> Reply {
///     if !request.client_ip().is_some_and(|ip| ip.is_loopback()) || request.path() != "/admin" {
///         return Reply::status(403);
///     }
///     Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message))
/// }
/// ```
pub struct Request {
    head: handshake::Request,
    caller: Caller,
    client_ip: Option<IpAddr>,
    params: OnceLock<Params>,
    attached: Mutex<Attached>,
    #[cfg(feature = "tls")]
    tls: Option<TlsInfo>,
}

/// The origin of a connection, before its request is read.
#[derive(Clone, Copy, Debug, Default)]
#[doc(hidden)]
pub struct Caller {
    /// The other end of the socket. A Unix socket has none.
    #[doc(hidden)]
    pub peer: Option<SocketAddr>,
    /// The PROXY header of a trusted proxy.
    #[doc(hidden)]
    pub proxied: Option<Proxied>,
}

impl Caller {
    /// The address of the other end: the client, or a proxy in front of it.
    #[doc(hidden)]
    pub fn ip(&self) -> Option<IpAddr> {
        let addr = self.proxied.map(|proxied| proxied.source).or(self.peer);
        addr.map(|addr| addr.ip().to_canonical())
    }
}

/// The parameters of a path, by name, in their order.
#[doc(hidden)]
pub type Params = Vec<(Box<str>, Box<str>)>;

/// Values that a program attaches to a request, and so to its connection: at most one of each type.
#[derive(Clone, Default)]
#[doc(hidden)]
pub struct Attached(Vec<Arc<dyn Any + Send + Sync>>);

impl Attached {
    #[doc(hidden)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn set(&mut self, value: Arc<dyn Any + Send + Sync>) {
        let kind = (*value).type_id();
        match self.0.iter_mut().find(|old| (***old).type_id() == kind) {
            Some(old) => *old = value,
            None => self.0.push(value),
        }
    }

    #[doc(hidden)]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.iter().find_map(|value| Arc::clone(value).downcast().ok())
    }
}

impl Request {
    #[doc(hidden)]
    pub fn new(head: handshake::Request, caller: Caller, client_ip: Option<IpAddr>) -> Request {
        Request {
            head,
            caller,
            client_ip,
            params: OnceLock::new(),
            attached: Mutex::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Where it came by TLS, this is what that has come to.
    #[cfg(feature = "tls")]
    #[doc(hidden)]
    pub fn set_tls(&mut self, tls: Option<&Session>) {
        self.tls = tls.map(Session::info);
    }

    /// What the TLS handshake came to, with the client's certificates, if the request came by TLS to this server; TLS that ends
    /// at a proxy in front is none.
    ///
    /// ```no_run
    /// use threadwire::server::ServerTls;
    /// use threadwire::{Connection, Message, Reply, Request, Server};
    /// use threadwire::tls::{ClientCertificates, Pem};
    ///
    /// fn accept(request: &Request) -> Reply {
    ///     let shown = request.tls().and_then(|tls| tls.peer_certificates.first());
    ///     match shown.map(|certificate| certificate.as_ref()) {
    ///         Some(der) => Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message)),
    ///         None => Reply::status(403),
    ///     }
    /// }
    ///
    /// let tls = ServerTls::new(Pem::file("example.pem"), Pem::file("example.key"))?
    ///     .client_certificates(ClientCertificates::Optional(Pem::file("our-ca.pem")))?;
    /// Server::bind("0.0.0.0:443")?.tls(tls).run(accept)?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_ref()
    }

    /// The address at the other end of the socket: that of a proxy, if there is one in between. `None` if that is no address of
    /// IP: on a Unix socket, and on a stream of the program's own that has none.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.caller.peer
    }

    /// The address of the other end: the client, or the last proxy in front of it.
    #[doc(hidden)]
    pub fn hop(&self) -> Option<IpAddr> {
        self.caller.ip()
    }

    /// The address of the client, if known: behind proxies that the server trusts
    /// ([`Admission::proxy_protocol`](crate::Admission::proxy_protocol), [`Admission::forwarded`](crate::Admission::forwarded)) what
    /// they say, otherwise that of [`peer_addr`](Request::peer_addr). An IPv4 address that was mapped to IPv6 is an IPv4 address
    /// here. `None` on a Unix socket without such a proxy, and where a proxy says that it does not know.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.client_ip
    }

    /// The addresses of the connection that a trusted proxy has accepted, if it says so by the
    /// [PROXY protocol](crate::ProxyProtocol).
    pub fn proxied(&self) -> Option<Proxied> {
        self.caller.proxied
    }

    /// The value of a parameter of the path, percent-decoded, if the request came through a [`Router`](crate::Router) whose
    /// route has one of that name.
    pub fn param(&self, name: &str) -> Option<&str> {
        let (_, value) = self.params.get()?.iter().find(|(param, _)| **param == *name)?;
        Some(value)
    }

    /// All of them, in the order of the path.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.params.get().into_iter().flatten().map(|(name, value)| (&**name, &**value))
    }

    /// The first router that a request comes through says.
    pub(super) fn set_params(&self, params: Params) {
        let _ = self.params.set(params);
    }

    /// Attaches a value, in place of one of the same type: who the client is, say. It stays with the connection, if this
    /// becomes one, where `Connection::attached` has it, on every face.
    ///
    /// ```
    /// use threadwire::server::Router;
    /// use threadwire::{Connection, Message, Reply, Request, Response};
    ///
    /// struct User(String);
    ///
    /// let known = |request: &Request| match request.header("X-Api-Key") {
    ///     Some("1234") => Ok(request.attach(User("ann".to_owned()))),
    ///     _ => Err(Response::new(401).expect("a final status")),
    /// };
    /// let router = Router::new().check(known).route("/whoami", |_| {
    ///     Reply::with(|ws: &Connection, _: Message<'_>| match ws.attached::<User>() {
    ///         Some(user) => ws.send(&user.0),
    ///         None => ws.close(),
    ///     })
    /// })?;
    /// # let server = threadwire::Server::bind("127.0.0.1:0")?.serve(router.hook())?;
    /// # let url = format!("ws://{}/whoami", server.local_addr()?);
    /// # assert!(threadwire::blocking::connect(&url).is_err());
    /// # let client = threadwire::Client::new(&url)?.header("X-Api-Key", "1234")?;
    /// # let mut ws = threadwire::blocking::connect(&client)?;
    /// # ws.send("who am I?")?;
    /// # assert_eq!(ws.recv()?.unwrap(), "ann");
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn attach<T: Send + Sync + 'static>(&self, value: T) {
        self.lock().set(Arc::new(value));
    }

    /// Keeps the request for the connection that comes of it: what it asked for and its headers are then found by
    /// `Connection::request`, on every face. By itself a connection keeps nothing of its request, as many
    /// connections would hold much that is looked at once.
    ///
    /// ```
    /// use threadwire::{Reply, Request, on_message};
    ///
    /// fn accept(request: &Request) -> Reply {
    ///     request.keep();
    ///     Reply::with(on_message(|ws, _message| {
    ///         let request = ws.request().expect("it was kept");
    ///         ws.send(format!("you asked for {}", request.path()))
    ///     }))
    /// }
    /// # let server = threadwire::Server::bind("127.0.0.1:0")?.serve(accept)?;
    /// # let mut ws = threadwire::blocking::connect(format!("ws://{}/here", server.local_addr()?))?;
    /// # ws.send("?")?;
    /// # assert_eq!(ws.recv()?.unwrap(), "you asked for /here");
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn keep(&self) {
        self.attach(self.head.clone());
    }

    /// The attached value of that type.
    pub fn attached<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.lock().get()
    }

    /// All that was attached, for the connection.
    #[doc(hidden)]
    pub fn all_attached(&self) -> Attached {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Attached> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Request {
    type Target = handshake::Request;

    fn deref(&self) -> &handshake::Request {
        &self.head
    }
}

/// Hides what the head hides; what was attached, and the parameters of the path, are not shown.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("head", &self.head)
            .field("peer_addr", &self.caller.peer)
            .field("client_ip", &self.client_ip)
            .finish_non_exhaustive()
    }
}
