//! The server of the async face: its settings, accepting, and handshakes that are under way.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::net::{ToSocketAddrs, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

use super::listening::{Accepted, Socket};
use super::pending::HandshakeTasks;
use super::reception::{Closing, receive};
use super::request::Request;
use super::shutdown::{Control, Stopper};
use super::stream::Stream;
use crate::on_loop::server::Hook;
use crate::server::{Admission, ListenAddr, ListenSocket};
#[cfg(feature = "tls")]
use crate::tls::ServerTls;
use crate::{Config, Error, Reply};
use threadwire_core::config::setting::Way;
use threadwire_core::server::accept_errors::{AfterError, Failures};
use threadwire_core::server::listen_socket;
use threadwire_core::server::settings::ServerSettings;
use threadwire_core::server::tally::ShutdownOrder;

/// A server: it listens from [`bind`](Server::bind) on, and accepts with [`accept`](Server::accept) or
/// [`serve`](Server::serve).
///
/// ```
/// use threadwire::{Error, aio};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let mut server = aio::Server::bind("127.0.0.1:0").await?;
/// let url = format!("ws://{}/", server.local_addr()?);
/// tokio::spawn(async move {
///     loop {
///         let request = server.accept().await?;
///         tokio::spawn(async move {
///             let mut ws = request.upgrade().await?;
///             while let Some(message) = ws.recv().await? {
///                 ws.send(&message).await?;
///             }
///             Ok::<(), Error>(())
///         });
///     }
///     # #[allow(unreachable_code)]
///     Ok::<(), Error>(())
/// });
/// let mut ws = aio::connect(&url).await?;
/// ws.send("hello").await?;
/// assert_eq!(ws.recv().await?.unwrap(), "hello");
/// # Ok(())
/// # }
/// ```
pub struct Server {
    addrs: Vec<ListenAddr>,
    /// Those that are not watched yet.
    unwatched: Vec<ListenSocket>,
    sockets: Vec<Socket>,
    /// Whose turn it is to be asked first.
    turn: usize,
    settings: Arc<ServerSettings>,
    hook: Option<Hook>,
    handshakes: JoinSet<Result<Option<Request>, Error>>,
    /// Set when the first socket is watched.
    pending: Option<Arc<HandshakeTasks>>,
    /// Set while the system can't give another socket, or none is to be taken.
    pause: Option<Pin<Box<Sleep>>>,
    pub(super) control: Arc<Control>,
}

impl Server {
    /// Listens at an address, `HOST:PORT` or a [`SocketAddr`]; port 0 has the system choose one, and a name is listened on at all of its
    /// addresses ([`ListenSocket::tcp_all`]). Fails with [`Error::Listen`].
    pub async fn bind(addr: impl ToSocketAddrs + fmt::Debug) -> Result<Server, Error> {
        let name = listen_socket::name(&addr);
        match lookup_host(addr).await {
            Ok(addrs) => ListenSocket::resolved(&[(name, addrs.collect())]).map(Server::from_sockets),
            Err(source) => Err(Error::listen(name, source)),
        }
    }

    /// Listens on a Unix socket at a path, as [`ListenSocket::unix`] does. Fails with [`Error::Listen`].
    pub fn bind_unix(path: impl AsRef<Path>) -> Result<Server, Error> {
        ListenSocket::unix(path).map(Server::from_socket)
    }

    /// Listens on a socket that was made before: see [`ListenSocket`]. The runtime watches it from the first [`accept`](Server::accept) or
    /// [`serve`](Server::serve) on.
    pub fn from_socket(socket: ListenSocket) -> Server {
        Server::from_sockets(vec![socket])
    }

    fn from_sockets(sockets: Vec<ListenSocket>) -> Server {
        let server = Server {
            addrs: Vec::new(),
            unwatched: Vec::new(),
            sockets: Vec::new(),
            turn: 0,
            settings: Arc::default(),
            hook: None,
            handshakes: JoinSet::new(),
            pending: None,
            pause: None,
            control: Control::new(),
        };
        sockets.into_iter().fold(server, Server::add_socket)
    }

    /// Listens on one more socket: see [`ListenSocket`].
    pub fn add_socket(mut self, socket: ListenSocket) -> Server {
        self.addrs.push(socket.local_addr().clone());
        self.unwatched.push(socket);
        self
    }

    /// Limits and timeouts; [`Config::default`] without this.
    pub fn config(mut self, config: Config) -> Server {
        Arc::make_mut(&mut self.settings).set_config(config);
        self
    }

    /// Speaks TLS with all clients, `wss://`; without this with none.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ServerTls) -> Server {
        Arc::make_mut(&mut self.settings).tls = Some(tls);
        self
    }

    /// Whom it lets in, and how many; [`Admission::default`] without this.
    pub fn admission(mut self, admission: Admission) -> Server {
        Arc::make_mut(&mut self.settings).set_admission(admission);
        self
    }

    /// Has `accept` say what becomes of each request, before the program sees it: those that it answers otherwise are dealt with, and
    /// [`accept`](Server::accept) and [`serve`](Server::serve) bring only those that it wants to upgrade ([`Reply::upgrade`]), with the headers
    /// and the subprotocol that it gives them. This is where a [`Router`](crate::server::Router) goes. Without it, all requests are brought.
    ///
    /// It must not wait. If it panics, or gives a listener, for which there is no place on this face, the request is answered with 500.
    ///
    /// ```
    /// use threadwire::server::Router;
    /// use threadwire::{Error, Reply, Response, aio};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let well = Response::new(200)?.with_body("well\n");
    /// let router = Router::new()
    ///     .page("/healthz", move |_| well.clone())?
    ///     .route("/rooms/{id}", |_| Reply::upgrade().subprotocols(["chat.v2", "chat.v1"]))?;
    /// let server = aio::Server::bind("127.0.0.1:0").await?.on_request(router.hook());
    /// # let url = format!("ws://{}/rooms/lobby", server.local_addr()?);
    /// let serving = tokio::spawn(server.serve(|request, mut ws| async move {
    ///     ws.send(request.param("id").unwrap_or_default()).await
    /// }));
    /// # assert_eq!(aio::connect(&url).await?.recv().await?.unwrap(), "lobby");
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_request<R: Into<Reply>>(
        mut self,
        accept: impl Fn(&crate::Request) -> R + Send + Sync + 'static,
    ) -> Server {
        self.hook = Some(Hook::new(accept));
        self
    }

    /// The first address of TCP that is listened on, with the port that the system chose if port 0 was asked for. Fails with
    /// [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable) if there is none.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        ListenAddr::first_tcp(&self.addrs)
    }

    /// All that is listened on, in the order in which that was said.
    pub fn local_addrs(&self) -> &[ListenAddr] {
        &self.addrs
    }

    /// What stops the server, or shuts it down, from any task: while [`serve`](Server::serve) is at work, the connections that it has given
    /// to handlers. Those that a program [accepts](Server::accept) by itself are its own to close.
    ///
    /// ```
    /// use threadwire::server::Shutdown;
    /// use threadwire::{Error, aio};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let server = aio::Server::bind("127.0.0.1:0").await?;
    /// let url = format!("ws://{}", server.local_addr()?);
    /// let stopper = server.stopper();
    /// let serving = tokio::spawn(server.serve(|_request, mut ws| async move { ws.recv().await }));
    /// let mut ws = aio::connect(&url).await?;
    /// let client = tokio::spawn(async move { ws.recv().await });
    /// let report = stopper.shutdown(Shutdown::default()).await?;
    /// assert_eq!((report.connections, report.clean), (1, 1));
    /// serving.await.unwrap()?;
    /// # client.await.unwrap()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn stopper(&self) -> Stopper {
        Stopper::new(&self.control, self.settings.config.close_timeout)
    }

    /// The next request, as soon as all of it has arrived: a peer that is slow in sending its own holds up nobody, and is given
    /// up after [`Config::open_timeout`]. What is no request is answered and dropped.
    ///
    /// It may be dropped at any time: nothing is lost. Connections are accepted while it is awaited.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] if the runtime can't watch a socket, [`Error::Setting`] for settings that need others, and [`Error::Stopped`] once the server was [stopped](Server::stopper). What the system refuses later (too many open files) is logged and tried again.
    pub async fn accept(&mut self) -> Result<Request, Error> {
        self.watch()?;
        let mut ending = self.control.subscribe();
        let mut ending = pin!(ending.wait_for(Option::is_some));
        poll_fn(|cx| match ending.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(Err(Error::Stopped)),
            Poll::Pending => self.poll_accept(cx).map(Ok),
        })
        .await
    }

    /// Has the runtime watch the sockets.
    pub(super) fn watch(&mut self) -> Result<(), Error> {
        self.settings.config.check(&Way::TASKS)?;
        for socket in std::mem::take(&mut self.unwatched) {
            let addr = socket.local_addr().to_string();
            self.sockets.push(Socket::new(socket).map_err(|source| Error::listen(addr, source))?);
        }
        Ok(())
    }

    fn pending(&mut self) -> &Arc<HandshakeTasks> {
        self.pending.get_or_insert_with(|| HandshakeTasks::new(Arc::clone(&self.settings.gate)))
    }

    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Request> {
        let mut failures = Failures::default();
        loop {
            while let Poll::Ready(Some(request)) = self.poll_handshakes(cx) {
                if let Some(request) = request {
                    return Poll::Ready(request);
                }
            }
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.pause = None;
            }
            if let Err(wait) = self.settings.gate.take_turn(Instant::now()) {
                self.pause = Some(Box::pin(sleep(wait)));
                continue;
            }
            let Poll::Ready(accepted) = self.poll_sockets(cx) else {
                self.settings.gate.give_back();
                return Poll::Pending;
            };
            match accepted {
                Ok((stream, peer)) => self.begin(stream, peer),
                Err(error) => {
                    self.settings.gate.give_back();
                    match failures.after(&error) {
                        AfterError::GoOn => {}
                        AfterError::Rest(pause) => self.pause = Some(Box::pin(sleep(pause))),
                        AfterError::RestAndDropOldest(pause) => {
                            self.pending().drop_oldest();
                            self.pause = Some(Box::pin(sleep(pause)));
                        }
                    }
                }
            }
        }
    }

    /// The next handshake that is over, with the request if there is one for the program; nothing if none is under way.
    fn poll_handshakes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Option<Request>>> {
        self.handshakes.poll_join_next(cx).map(|done| {
            let request = match done? {
                Ok(result) => result.unwrap_or_else(|error| {
                    tracing::debug!(%error, "dropped a connection before it was open");
                    None
                }),
                Err(error) => {
                    if error.is_panic() {
                        tracing::error!(%error, "a handshake failed");
                    }
                    None
                }
            };
            Some(request)
        })
    }

    fn poll_sockets(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        for _ in 0..self.sockets.len() {
            let turn = self.turn % self.sockets.len();
            self.turn = turn + 1;
            if let Poll::Ready(accepted) = self.sockets[turn].poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }

    fn begin(&mut self, stream: Stream, peer: Option<SocketAddr>) {
        tracing::debug!(peer = peer.map(tracing::field::display), "accepted");
        let pending = self.control.expect();
        let place = self.pending().enter(pending);
        let number = place.number();
        let (settings, hook) = (Arc::clone(&self.settings), self.hook.clone());
        let closing = Some(Closing::new(&self.control));
        // In a box: the way into a task is one of copies.
        let receiving = Box::pin(receive(stream, peer, settings, hook, closing, Some(place)));
        let handshake = self.handshakes.spawn(receiving);
        self.pending().set_task(number, handshake);
    }

    /// Accepts no more: who waits to be accepted, and whose handshake is under way, is answered with 503. Returns when those have ended.
    pub(super) async fn turn_away(&mut self, order: &Arc<ShutdownOrder>) {
        let mut late = JoinSet::new();
        if order.shutdown.keep_listening {
            // To the end, which whoever awaits this decides on.
            loop {
                let request = poll_fn(|cx| self.poll_accept(cx)).await;
                self.control.count_refused();
                late.spawn(request.turn_away(Arc::clone(order)));
            }
        }
        for socket in std::mem::take(&mut self.sockets) {
            for (stream, peer) in socket.close() {
                self.begin(stream, peer);
            }
        }
        while let Some(request) = poll_fn(|cx| self.poll_handshakes(cx)).await {
            if let Some(request) = request {
                self.control.count_refused();
                late.spawn(request.turn_away(Arc::clone(order)));
            }
        }
        while late.join_next().await.is_some() {}
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addrs", &self.addrs)
            .field("handshakes", &self.handshakes.len())
            .finish_non_exhaustive()
    }
}
