//! The server of the blocking face: connections on the thread that accepts them, or each on a thread of a pool.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use threadwire_proto::CloseCode;
use threadwire_worker::{Ended, EventLoop, Pool, Remote, Reserve, ShutdownError, Worker};

use super::inbox::{Arrived, InboxListener};
use super::reserves::Reserves;
use super::{Connection, Detached};
use crate::on_loop::server::{Control, Hook, Host, ServerWorker, Service, Setup, Stopper};
use crate::server::{Admission, ListenAddr, ListenSocket, Shutdown, ShutdownReport};
#[cfg(feature = "tls")]
use crate::tls::ServerTls;
use crate::{Config, Error, Reply, Request};
use threadwire_core::config::setting::Way;
use threadwire_core::panic::catch;
use threadwire_core::server::settings::ServerSettings;
use threadwire_core::server::tally::Pending;

/// A server whose connections live on the thread that accepts them: one by one ([`accept`](Server::accept)), or all together in a
/// [`Select`](super::Select). [`serve`](Server::serve) gives each to a handler on a thread of its own instead.
///
/// ```
/// use threadwire::blocking::{self, Server};
/// # use std::thread;
///
/// let mut server = Server::bind("127.0.0.1:0")?;
/// let url = format!("ws://{}", server.local_addr()?);
/// # let client = thread::spawn(move || {
/// #     let mut ws = blocking::connect(&url)?;
/// #     ws.send("hello")?;
/// #     let answer = ws.recv()?;
/// #     ws.close()?;
/// #     Ok::<_, threadwire::Error>(answer)
/// # });
/// let mut ws = server.accept()?;
/// while let Some(message) = ws.recv()? {
///     ws.send(&message)?;
/// }
/// # assert_eq!(client.join().unwrap()?.unwrap(), "hello");
/// # Ok::<(), threadwire::Error>(())
/// ```
pub struct Server {
    addrs: Vec<ListenAddr>,
    /// Gone when it has begun to accept.
    sockets: RefCell<Vec<ListenSocket>>,
    settings: ServerSettings,
    hook: Hook,
    control: Control,
    /// The thread that connections are accepted on.
    host: Host,
    /// Set when it has begun to accept.
    worker: OnceCell<Rc<ServerWorker>>,
    arrived: Rc<Arrived>,
}

impl Server {
    /// Listens on an address, as [`threadwire::Server::bind`](crate::Server::bind) does. Connections are accepted while this
    /// thread waits, from the first [`accept`](Server::accept) on.
    ///
    /// Fails with [`Error::Listen`].
    pub fn bind(addr: impl ToSocketAddrs + fmt::Debug) -> Result<Server, Error> {
        ListenSocket::tcp_all([addr]).map(Server::from_sockets)
    }

    /// Listens on a Unix socket at a path, as [`threadwire::Server::bind_unix`](crate::Server::bind_unix) does.
    ///
    /// Fails with [`Error::Listen`].
    pub fn bind_unix(path: impl AsRef<Path>) -> Result<Server, Error> {
        ListenSocket::unix(path).map(Server::from_socket)
    }

    /// Listens on a socket that was made before: see [`ListenSocket`].
    pub fn from_socket(socket: ListenSocket) -> Server {
        Server::from_sockets(vec![socket])
    }

    fn from_sockets(sockets: Vec<ListenSocket>) -> Server {
        let server = Server {
            addrs: Vec::new(),
            sockets: RefCell::default(),
            settings: ServerSettings::default(),
            hook: Hook::default(),
            control: Control::default(),
            host: Host::Program,
            worker: OnceCell::new(),
            arrived: Rc::default(),
        };
        sockets.into_iter().fold(server, Server::add_socket)
    }

    /// Listens on one more socket: see [`ListenSocket`].
    pub fn add_socket(mut self, socket: ListenSocket) -> Server {
        self.addrs.push(socket.local_addr().clone());
        self.sockets.get_mut().push(socket);
        self
    }

    /// Limits and timeouts of every connection; [`Config::default`] without this.
    pub fn config(mut self, config: Config) -> Server {
        self.settings.set_config(config);
        self
    }

    /// Speaks TLS with all clients, `wss://`; without this with none.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ServerTls) -> Server {
        self.settings.tls = Some(tls);
        self
    }

    /// The limits for clients; [`Admission::default`] without this.
    pub fn admission(mut self, admission: Admission) -> Server {
        self.settings.set_admission(admission);
        self
    }

    /// Has `accept` say what becomes of each request; without it, all are upgraded.
    ///
    /// ```
    /// use threadwire::{Reply, blocking::Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?.on_request(|request| match request.path() {
    ///     "/feed" => Reply::upgrade(),
    ///     _ => Reply::status(404),
    /// });
    /// # let _ = server;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn on_request<R: Into<Reply>>(
        mut self,
        accept: impl Fn(&Request) -> R + Send + Sync + 'static,
    ) -> Server {
        self.hook = Hook::new(accept);
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

    /// What stops the server, or shuts it down, from any thread: see [`Stopper`]. Stopped, it accepts no more, and its connections on this
    /// thread are closed with 1001; the thread goes on. Connections that were [given away](Connection::detach) are no longer the server's.
    ///
    /// ```
    /// use threadwire::{Error, blocking::Server};
    ///
    /// let mut server = Server::bind("127.0.0.1:0")?;
    /// let stopper = server.stopper();
    /// std::thread::spawn(move || stopper.stop());
    /// assert!(matches!(server.accept(), Err(Error::Stopped)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn stopper(&self) -> Stopper {
        Stopper::new(self.control.clone())
    }

    /// As [`Running::stop`](crate::Running::stop): nothing is accepted any more, and connections on this thread are closed with 1001.
    pub fn stop(&self) {
        self.control.stop();
    }

    /// Shuts down gracefully, and says who did not answer, as [`Running::shutdown`](crate::Running::shutdown) does, the connections on this
    /// thread. The thread's loop turns meanwhile, and the thread goes on after it. What has arrived on a connection, and was not
    /// received, can be received then.
    ///
    /// ```
    /// use threadwire::server::Shutdown;
    /// use threadwire::blocking::{self, Server};
    ///
    /// let mut server = Server::bind("127.0.0.1:0")?;
    /// let url = format!("ws://{}", server.local_addr()?);
    /// let client = std::thread::spawn(move || blocking::connect(&url)?.recv());
    /// let ws = server.accept()?;
    /// assert_eq!(server.connections(), 1);
    /// let report = server.shutdown(Shutdown::default())?;
    /// assert_eq!((report.connections, report.clean), (1, 1));
    /// assert!(!ws.is_open());
    /// # client.join().unwrap()?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn shutdown(&self, shutdown: Shutdown) -> Result<ShutdownReport, Error> {
        self.control.shutdown(shutdown)
    }

    /// How many connections of this server are open on this thread, or have not ended yet; those that were not accepted count.
    pub fn connections(&self) -> usize {
        self.control.connections()
    }

    /// Waits for the next connection, which is open then; the thread's loop turns meanwhile, and other peers' handshakes go on.
    ///
    /// Fails with [`Error::Listen`] if the system can't watch the socket, with [`Error::Setting`] where [`Config::auto_pong`] is off, as
    /// pings would never be answered, and with [`Error::Stopped`] if the thread's worker is
    /// stopped, or the server is, and no connection is left that has come before.
    pub fn accept(&mut self) -> Result<Connection, Error> {
        self.start(None)?;
        EventLoop::current().wait(None, || self.has_some() || self.control.is_ending())?;
        self.take().ok_or(Error::Stopped)
    }

    /// Begins to accept. With reserves, the connections go to other threads.
    pub(super) fn start(&self, reserves: Option<Reserves>) -> Result<(), Error> {
        if self.worker.get().is_some() {
            return Ok(());
        }
        self.settings.config.check(&Way::BLOCKING)?;
        let sockets = self.sockets.take();
        if sockets.is_empty() {
            return Err(Error::other("this server could not begin to accept"));
        }
        let worker = self.service().begin(self.host);
        let arrived = Rc::downgrade(&self.arrived);
        worker.listen_with(move || {
            let promise = reserves.as_ref().map(Reserves::promise).transpose()?;
            Ok(Box::new(InboxListener::of_server(arrived.clone(), promise)))
        });
        for socket in sockets {
            let addr = socket.local_addr().to_string();
            if let Err(source) = worker.listen(socket, Vec::new()) {
                worker.stop_accepting();
                self.control.dismiss(&worker);
                return Err(Error::listen(addr, source));
            }
        }
        // The cell was empty: checked above.
        let _ = self.worker.set(worker);
        Ok(())
    }

    pub(super) fn service(&self) -> Service {
        Service::new(self.settings.clone(), self.hook.clone(), self.control.clone(), Setup::default())
    }

    /// Whether a connection has come.
    #[inline]
    pub(super) fn has_some(&self) -> bool {
        !self.arrived.0.borrow().is_empty()
    }

    #[inline]
    pub(super) fn take(&self) -> Option<Connection> {
        self.arrived.0.borrow_mut().pop_front()
    }

    /// Whether one of them can be given to another thread.
    fn has_settled(&self) -> bool {
        self.arrived.0.borrow().iter().any(is_settled)
    }

    /// The first of those. One that is closing stays where it is, and holds up nobody.
    fn take_settled(&self) -> Option<Connection> {
        let mut arrived = self.arrived.0.borrow_mut();
        let place = arrived.iter().position(is_settled)?;
        arrived.remove(place)
    }

    /// Serves each connection by a call to `handler`, on one of `threads` threads, and returns. With as many connections as
    /// threads, others stay open and wait; one more thread accepts them, and answers their pings.
    ///
    /// When the handler returns, its connection is closed: with 1000, with 1001 if it was stopped, or with 1011 if it failed or
    /// panicked, which is logged. Fails with [`Error::Io`] if a thread can't be started, with [`Error::Setting`] as
    /// [`accept`](Server::accept) does, and with [`Error::Other`] if this server
    /// accepts on this thread already.
    ///
    /// ```
    /// use threadwire::blocking::{self, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?.serve(4, |ws| {
    ///     while let Some(message) = ws.recv()? {
    ///         ws.send(&message)?;
    ///     }
    ///     Ok(())
    /// })?;
    /// let mut ws = blocking::connect(&format!("ws://{}", server.local_addr()?))?;
    /// ws.send("hello")?;
    /// assert_eq!(ws.recv()?.unwrap(), "hello");
    /// server.stop();
    /// server.join()?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn serve(
        self,
        threads: usize,
        handler: impl Fn(&mut Connection) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Result<Serving, Error> {
        self.settings.config.check(&Way::BLOCKING)?;
        let sockets = self.sockets.take();
        if sockets.is_empty() {
            return Err(Error::other("a server that accepts on a thread can't be served by others"));
        }
        let pool = Pool::builder().name("threadwire handler").threads(threads.max(1)).capacity(1).build()?;
        let pool = Arc::new(pool);
        let handlers = Arc::clone(&pool);
        let (addrs, control) = (self.addrs.clone(), self.control.clone());
        let (settings, hook, server_addrs) = (self.settings.clone(), self.hook.clone(), addrs.clone());
        let service = self.service();
        let builder = Worker::builder().name("threadwire accept").grace(service.grace()).no_parent();
        let handler = Arc::new(handler);
        let serving = control.clone();
        let worker = builder.spawn(move || {
            let mut server = Server {
                addrs: server_addrs,
                sockets: RefCell::new(sockets),
                settings,
                hook,
                control,
                host: Host::Server,
                worker: OnceCell::new(),
                arrived: Rc::default(),
            };
            let ended = hand_out(&mut server, &service, &pool, handler);
            drop(server);
            // The handlers' waits end, and then their connections are closed. This thread was stopped, and does not wait for
            // that; who joins does.
            let _ = pool.shutdown_now();
            match ended {
                Error::Stopped => Err(threadwire_worker::Stopped),
                error => Ok(error),
            }
        })?;
        Ok(Serving { addrs, worker, handlers, control: serving })
    }
}

/// Gives every connection to a thread of the pool, until that ends. As long as there is none for it, a connection stays here,
/// where its pings are answered.
fn hand_out(
    server: &mut Server,
    service: &Service,
    pool: &Pool,
    handler: Arc<impl Fn(&mut Connection) -> Result<(), Error> + Send + Sync + 'static>,
) -> Error {
    let event_loop = EventLoop::current();
    let busy = Arc::new(AtomicUsize::new(0));
    let reserves = Reserves::default();
    if let Err(error) = server.start(Some(reserves.clone())) {
        return error;
    }
    loop {
        // While the server shuts down, those that nobody handles are closed where they are.
        let can_go_on = || {
            busy.load(Ordering::Acquire) < pool.threads()
                && server.has_settled()
                && !server.control.is_ending()
        };
        if event_loop.wait(None, can_go_on).is_err() {
            return Error::Stopped;
        }
        let (Some(connection), Some(worker)) = (server.take_settled(), server.worker.get()) else { continue };
        let pending = worker.tally().expect();
        let reserve = reserves.take();
        let Ok(detached) = connection.detach() else {
            reserve.into_iter().for_each(|reserve| reserves.give_back(reserve));
            continue;
        };
        let handler = Arc::clone(&handler);
        let seat = Seat::take(&busy, event_loop.remote());
        let waiting = Waiting {
            detached: Some(detached),
            service: service.clone(),
            reserves: reserves.clone(),
            reserve,
            _pending: pending,
        };
        let task = move || {
            if let Some(mut connection) = waiting.take() {
                handle(&mut connection, &*handler);
            }
            drop(seat);
            Ok(())
        };
        if pool.submit(task).is_err() {
            return Error::Stopped;
        }
    }
}

/// Whether a connection is open, or has ended; one that is closing can't be given away. What it has said before is for a handler too, when it
/// has ended.
fn is_settled(connection: &Connection) -> bool {
    connection.is_open() || connection.closed().is_some()
}

/// A thread that has something to do, until this is dropped.
struct Seat {
    busy: Arc<AtomicUsize>,
    /// The workers that may wait for it.
    accepting: Remote,
}

impl Seat {
    fn take(busy: &Arc<AtomicUsize>, accepting: Remote) -> Seat {
        busy.fetch_add(1, Ordering::Relaxed);
        Seat { busy: Arc::clone(busy), accepting }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Ordering::Release);
        self.accepting.wake();
    }
}

/// A connection that waits for a thread. Dropped, it is closed with 1001.
struct Waiting {
    detached: Option<Detached>,
    service: Service,
    reserves: Reserves,
    /// What the loop of the thread needs, if it has no poll yet.
    reserve: Option<Reserve>,
    /// A shutdown waits for it meanwhile.
    _pending: Pending,
}

impl Waiting {
    fn take(mut self) -> Option<Connection> {
        self.attach()
    }

    fn attach(&mut self) -> Option<Connection> {
        self.reserves.equip(self.reserve.take());
        let worker = self.service.begin_once();
        let attached = self.detached.take()?.attach_to(Some(&worker));
        attached.inspect_err(|error| tracing::warn!(%error, "can't serve a connection")).ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // To be dropped itself, which closes it.
        self.attach();
    }
}

fn handle(connection: &mut Connection, handler: &dyn Fn(&mut Connection) -> Result<(), Error>) {
    let code = match catch(|| handler(connection)) {
        Ok(()) => CloseCode::NORMAL,
        Err(Error::Stopped) => CloseCode::GOING_AWAY,
        // The end of the connection is known to the handler.
        Err(Error::Closed | Error::Ended(_)) if !connection.is_open() => return,
        Err(error) => {
            tracing::error!(%error, "the handler of a connection failed");
            threadwire_guard::discard(error);
            CloseCode::INTERNAL_ERROR
        }
    };
    // The connection may be closed already. If this thread is stopped, its end waits for the peer's answer.
    let _ = connection.close_with(code, "");
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.get() {
            worker.stop_accepting();
            self.control.dismiss(worker);
        }
        // Connections that were not accepted are closed.
        let left = self.arrived.0.take();
        left.iter().for_each(Connection::say_goodbye);
        drop(left);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addrs", &self.addrs).finish_non_exhaustive()
    }
}

/// A server at work: see [`Server::serve`]. Dropping it does not stop it.
#[derive(Debug)]
pub struct Serving {
    addrs: Vec<ListenAddr>,
    worker: Worker<Error>,
    handlers: Arc<Pool>,
    control: Control,
}

impl Serving {
    /// The first address of TCP that is listened on. Fails with [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable) if there is none.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        ListenAddr::first_tcp(&self.addrs)
    }

    /// All that is listened on, in the order in which that was said.
    pub fn local_addrs(&self) -> &[ListenAddr] {
        &self.addrs
    }

    /// How many connections are open now, or have not ended yet, with a handler or waiting for one.
    pub fn connections(&self) -> usize {
        self.control.connections()
    }

    /// The means to stop the server, or to shut it down, from any thread.
    pub fn stopper(&self) -> Stopper {
        Stopper::new(self.control.clone())
    }

    /// Stops, from any thread: no connection is accepted any more, and every wait of a handler ends with [`Error::Stopped`].
    /// Returns at once; see [`join`](Serving::join).
    pub fn stop(&self) {
        self.control.stop();
        self.worker.stop();
    }

    /// Shuts down gracefully, and says who did not answer, as [`Running::shutdown`](crate::Running::shutdown) does: connections are closed,
    /// with handlers or without, and handlers can receive what has come before. When all have ended, or the time has passed, the server is
    /// [stopped](Serving::stop). A handler that computes, and does not come to wait in one of Threadwire's calls, keeps its connection
    /// from closing; its thread is named in [`ShutdownReport::stuck`].
    ///
    /// ```
    /// use threadwire::server::Shutdown;
    /// use threadwire::blocking::{self, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?.serve(4, |ws| {
    ///     while let Some(message) = ws.recv()? {
    ///         ws.send(&message)?;
    ///     }
    ///     Ok(())
    /// })?;
    /// let mut ws = blocking::connect(&format!("ws://{}", server.local_addr()?))?;
    /// let shutdown = std::thread::spawn(move || {
    ///     let report = server.shutdown(Shutdown::default())?;
    ///     server.join()?;
    ///     Ok::<_, threadwire::Error>(report)
    /// });
    /// assert_eq!(ws.recv()?, None); // closed with 1001
    /// println!("{}", shutdown.join().unwrap()?);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn shutdown(&self, shutdown: Shutdown) -> Result<ShutdownReport, Error> {
        self.control.shutdown(shutdown)
    }

    /// Waits until the server was stopped, every handler has returned, and its connection has ended.
    ///
    /// Fails with [`Error::Panicked`] if accepting panicked, and with [`Error::Stopped`] if this thread's worker is stopped.
    pub fn join(self) -> Result<(), Error> {
        let ended = self.worker.join()?;
        self.handlers.shutdown_now().map_err(|error| match error {
            ShutdownError::Stopped(stopped) => Error::from(stopped),
            // A handler that waits for its own server.
            error => Error::other(error),
        })?;
        match ended {
            Ended::Done(error) => Err(error),
            Ended::Stopped => Ok(()),
            Ended::Failed(error) => Err(Error::of_program(error)),
            Ended::Panicked(payload) => Err(Error::panicked(payload)),
        }
    }
}
