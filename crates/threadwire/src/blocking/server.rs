//! Connections that others open.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use threadwire_proto::CloseCode;
use threadwire_worker::{Ended, EventLoop, Pool, Remote, Worker};

use super::mailbox::{Mailbox, Receiver};
use super::{Connection, Detached};
use crate::on_loop::server::{Acceptor, Control, Service};
use crate::server::{Admission, ListenAddr, Listening};
#[cfg(feature = "tls")]
use crate::tls::ServerTls;
use crate::{Config, Error, Reply, Request};

static SERVERS: AtomicU64 = AtomicU64::new(0);

/// The connections of a server that have opened and were not accepted.
type Arrived = Rc<RefCell<VecDeque<Connection>>>;

thread_local! {
    /// Those of each server of this thread.
    static ARRIVED: RefCell<HashMap<u64, Arrived>> = RefCell::default();
}

type Hook = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server whose connections live on the thread that accepts them: one by one ([`accept`](Server::accept)), or all together in a
/// [`Select`](super::Select). [`serve`](Server::serve) gives each to a handler on a thread of its own instead.
///
/// ```
/// use threadwire::blocking::{self, Server};
/// # use std::thread;
///
/// let mut server = Server::bind("127.0.0.1:0")?;
/// let url = format!("ws://{}", server.local_addr());
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
    number: u64,
    addrs: Vec<ListenAddr>,
    /// Gone when it has begun to accept.
    listening: RefCell<Vec<Listening>>,
    config: Config,
    admission: Admission,
    hook: Arc<Hook>,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
    acceptors: OnceCell<Vec<Rc<Acceptor>>>,
    arrived: Arrived,
}

impl Server {
    /// Listens on an address, as [`threadwire::Server::bind`](crate::Server::bind) does. Connections are accepted while this
    /// thread waits, from the first [`accept`](Server::accept) on.
    ///
    /// Fails with [`Error::Listen`].
    pub fn bind(addr: impl ToSocketAddrs + fmt::Debug) -> Result<Server, Error> {
        Listening::tcp(addr).map(Server::on)
    }

    /// Listens on a Unix socket at a path, as [`threadwire::Server::bind_unix`](crate::Server::bind_unix) does.
    ///
    /// Fails with [`Error::Listen`].
    pub fn bind_unix(path: impl AsRef<Path>) -> Result<Server, Error> {
        Listening::unix(path).map(Server::on)
    }

    /// Listens on a socket that was made before: see [`Listening`].
    pub fn on(listening: Listening) -> Server {
        Server {
            number: SERVERS.fetch_add(1, Ordering::Relaxed),
            addrs: vec![listening.local_addr().clone()],
            listening: RefCell::new(vec![listening]),
            config: Config::default(),
            admission: Admission::default(),
            hook: Arc::new(|_| Reply::upgrade()),
            #[cfg(feature = "tls")]
            tls: None,
            acceptors: OnceCell::new(),
            arrived: Arrived::default(),
        }
    }

    /// Listens on one more socket: see [`Listening`].
    pub fn listen_also(mut self, listening: Listening) -> Server {
        self.addrs.push(listening.local_addr().clone());
        self.listening.get_mut().push(listening);
        self
    }

    /// Limits and timeouts of every connection; [`Config::default`] without this.
    pub fn config(mut self, config: Config) -> Server {
        self.config = config;
        self
    }

    /// Speaks TLS with all clients, `wss://`; without this with none.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ServerTls) -> Server {
        self.tls = Some(tls);
        self
    }

    /// Whom it lets in, and how many; [`Admission::default`] without this.
    pub fn admission(mut self, admission: Admission) -> Server {
        self.admission = admission;
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
        self.hook = Arc::new(move |request| accept(request).into());
        self
    }

    /// The first address of TCP that is listened on, with the port that the system chose if port 0 was asked for.
    ///
    /// # Panics
    ///
    /// If there is none, as the server only has Unix sockets: [`local_addrs`](Server::local_addrs) says where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        ListenAddr::first_tcp(&self.addrs)
    }

    /// All that is listened on, in the order in which that was said.
    pub fn local_addrs(&self) -> &[ListenAddr] {
        &self.addrs
    }

    /// Waits for the next connection, which is open then; the thread's loop turns meanwhile, and other peers' handshakes go on.
    ///
    /// Fails with [`Error::Listen`] if the system can't watch the socket, and with [`Error::Stopped`] if the thread's worker is
    /// stopped.
    pub fn accept(&mut self) -> Result<Connection, Error> {
        self.start()?;
        EventLoop::current().wait(None, || self.has_some())?;
        self.take().ok_or(Error::Stopped)
    }

    /// Begins to accept.
    pub(super) fn start(&self) -> Result<(), Error> {
        if self.acceptors.get().is_some() {
            return Ok(());
        }
        let listening = self.listening.take();
        if listening.is_empty() {
            return Err(Error::other("this server could not begin to accept"));
        }
        let (number, hook) = (self.number, Arc::clone(&self.hook));
        let answer = move |request: &Request| {
            hook(request).or_listener(|| {
                let mailbox = Rc::new(Mailbox::default());
                Box::new(Receiver::of_server(mailbox, number))
            })
        };
        let service = Service::new(answer, self.config.clone(), self.admission.clone(), Control::default());
        #[cfg(feature = "tls")]
        let service = service.with_tls(self.tls.clone());
        let mut acceptors = Vec::new();
        for listening in listening {
            let addr = listening.local_addr().to_string();
            match service.listen(listening, Vec::new()) {
                Ok(acceptor) => acceptors.push(acceptor),
                Err(source) => {
                    acceptors.iter().for_each(|acceptor| acceptor.close());
                    return Err(Error::Listen { addr, source });
                }
            }
        }
        ARRIVED.with_borrow_mut(|arrived| arrived.insert(self.number, Rc::clone(&self.arrived)));
        // It was empty: nothing has begun before.
        let _ = self.acceptors.set(acceptors);
        Ok(())
    }

    /// Whether a connection has come.
    #[inline]
    pub(super) fn has_some(&self) -> bool {
        !self.arrived.borrow().is_empty()
    }

    #[inline]
    pub(super) fn take(&self) -> Option<Connection> {
        self.arrived.borrow_mut().pop_front()
    }

    /// Whether one of them can be given to another thread.
    fn has_settled(&self) -> bool {
        self.arrived.borrow().iter().any(is_settled)
    }

    /// The first of those. One that is closing stays where it is, and holds up nobody.
    fn take_settled(&self) -> Option<Connection> {
        let mut arrived = self.arrived.borrow_mut();
        let place = arrived.iter().position(is_settled)?;
        arrived.remove(place)
    }

    /// Serves each connection by a call to `handler`, on one of `threads` threads, and returns. With as many connections as
    /// threads, others stay open and wait; one more thread accepts them, and answers their pings.
    ///
    /// When the handler returns, its connection is closed: with 1000, with 1001 if it was stopped, or with 1011 if it failed or
    /// panicked, which is logged. Fails with [`Error::Io`] if a thread can't be started, and with [`Error::Other`] if this server
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
    /// let mut ws = blocking::connect(&format!("ws://{}", server.local_addr()))?;
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
        let listening = self.listening.take();
        if listening.is_empty() {
            return Err(Error::other("a server that accepts on a thread can't be served by others"));
        }
        let pool = Pool::builder().name("threadwire handler").threads(threads.max(1)).capacity(1).build()?;
        let pool = Arc::new(pool);
        let handlers = Arc::clone(&pool);
        let addrs = self.addrs.clone();
        let (config, hook) = (self.config.clone(), Arc::clone(&self.hook));
        let (admission, server_addrs) = (self.admission.clone(), addrs.clone());
        #[cfg(feature = "tls")]
        let tls = self.tls.clone();
        let number = self.number;
        let grace = config.close_timeout.saturating_add(Duration::from_millis(100));
        let builder = Worker::builder().name("threadwire accept").grace(grace).no_parent();
        let handler = Arc::new(handler);
        let worker = builder.spawn(move || {
            let mut server = Server {
                number,
                addrs: server_addrs,
                listening: RefCell::new(listening),
                config,
                admission,
                hook,
                #[cfg(feature = "tls")]
                tls,
                acceptors: OnceCell::new(),
                arrived: Arrived::default(),
            };
            let ended = hand_out(&mut server, &pool, handler);
            drop(server);
            // The handlers' waits end, and then their connections are closed. This thread was stopped, and does not wait for
            // that; who joins does.
            let _ = pool.shutdown_now();
            match ended {
                Error::Stopped => Err(threadwire_worker::Stopped),
                error => Ok(error),
            }
        })?;
        Ok(Serving { addrs, worker, handlers })
    }
}

/// Gives every connection to a thread of the pool, until that ends. As long as there is none for it, a connection stays here,
/// where its pings are answered.
fn hand_out(
    server: &mut Server,
    pool: &Pool,
    handler: Arc<impl Fn(&mut Connection) -> Result<(), Error> + Send + Sync + 'static>,
) -> Error {
    let event_loop = EventLoop::current();
    let busy = Arc::new(AtomicUsize::new(0));
    if let Err(error) = server.start() {
        return error;
    }
    loop {
        let can_go_on = || busy.load(Ordering::Acquire) < pool.threads() && server.has_settled();
        if event_loop.wait(None, can_go_on).is_err() {
            return Error::Stopped;
        }
        let Some(connection) = server.take_settled() else { continue };
        let Ok(detached) = connection.detach() else { continue };
        let handler = Arc::clone(&handler);
        let seat = Seat::take(&busy, event_loop.remote());
        let waiting = Waiting(Some(detached));
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
    /// Who may wait for it.
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
struct Waiting(Option<Detached>);

impl Waiting {
    fn take(mut self) -> Option<Connection> {
        self.attach()
    }

    fn attach(&mut self) -> Option<Connection> {
        let attached = self.0.take()?.attach();
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
    let result = catch_unwind(AssertUnwindSafe(|| handler(connection)));
    let code = match result.unwrap_or_else(|payload| Err(Error::panicked(payload))) {
        Ok(()) => CloseCode::NORMAL,
        Err(Error::Stopped) => CloseCode::GOING_AWAY,
        // What the connection had to say was told, or would have been.
        Err(Error::Closed | Error::Ended(_)) if !connection.is_open() => return,
        Err(error) => {
            tracing::error!(%error, "the handler of a connection failed");
            CloseCode::INTERNAL_ERROR
        }
    };
    // It may be closed already; and if this thread is stopped, its end waits for the peer's answer.
    let _ = connection.close_with(code, "");
}

impl Receiver {
    fn of_server(mailbox: Rc<Mailbox>, number: u64) -> Receiver {
        Receiver { mailbox, server: Some(number) }
    }

    /// The connection is open: it is there to be accepted.
    pub(super) fn arrive(&self, ws: &crate::Connection) {
        let Some(number) = self.server else { return };
        let connection = Connection::new(ws.clone(), Rc::clone(&self.mailbox));
        let arrived = ARRIVED.with_borrow(|arrived| arrived.get(&number).cloned());
        match arrived {
            Some(arrived) => arrived.borrow_mut().push_back(connection),
            // The server was dropped while this was on its way: so is it.
            None => drop(connection),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for acceptor in self.acceptors.get().into_iter().flatten() {
            acceptor.close();
        }
        // Only where the thread is ending it is gone already. Those that nobody has accepted are closed.
        let _ = ARRIVED.try_with(|arrived| arrived.borrow_mut().remove(&self.number));
        let left = self.arrived.take();
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
}

impl Serving {
    /// The first address of TCP that is listened on.
    ///
    /// # Panics
    ///
    /// If there is none, as the server only has Unix sockets: [`local_addrs`](Serving::local_addrs) says where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        ListenAddr::first_tcp(&self.addrs)
    }

    /// All that is listened on, in the order in which that was said.
    pub fn local_addrs(&self) -> &[ListenAddr] {
        &self.addrs
    }

    /// Stops, from any thread: no connection is accepted any more, and every wait of a handler ends with [`Error::Stopped`].
    /// Returns at once; see [`join`](Serving::join).
    pub fn stop(&self) {
        self.worker.stop();
    }

    /// Waits until the server was stopped, every handler has returned, and its connection has ended.
    ///
    /// Fails with [`Error::Panicked`] if accepting panicked, and with [`Error::Stopped`] if this thread's worker is stopped.
    pub fn join(self) -> Result<(), Error> {
        let ended = self.worker.join()?;
        self.handlers.shutdown_now()?;
        match ended {
            Ended::Done(error) => Err(error),
            Ended::Stopped => Ok(()),
            Ended::Panicked(payload) => Err(Error::panicked(payload)),
        }
    }
}
