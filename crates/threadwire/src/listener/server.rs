//! The server of the callback face: its settings, and the workers that it starts.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::rc::Rc;

use threadwire_worker::{Ended, EventLoop, Worker, wait_forever};

use super::running::Running;
use crate::on_loop::server::{Control, Hook, Host, ServerWorker, Service, Setup, Stopper, WorkerRemote};
use crate::server::{Admission, ListenAddr, ListenSocket};
#[cfg(feature = "tls")]
use crate::tls::ServerTls;
use crate::{Config, Error, Reply, Request};
use threadwire_core::server::settings::ServerSettings;

/// A server: what is listened on, and the workers that serve what comes.
///
/// ```
/// use std::time::Duration;
/// use threadwire::{Reply, Config, Connection, Limits, Message, Server};
///
/// let limits = Limits::default().max_message(64 << 10);
/// let server = Server::bind("127.0.0.1:0")?
///     .workers(2)
///     .config(Config::default().limits(limits).close_timeout(Duration::from_secs(1)))
///     .serve(|request| match request.path() {
///         "/echo" => Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message)),
///         _ => Reply::status(404),
///     })?;
/// assert_ne!(server.local_addr()?.port(), 0);
/// server.stop();
/// server.join()?;
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Debug)]
pub struct Server {
    sockets: Vec<ListenSocket>,
    addrs: Vec<ListenAddr>,
    workers: usize,
    spread: Spread,
    settings: ServerSettings,
    control: Control,
    setup: Setup,
}

/// How connections are spread over several workers.
///
/// ```
/// use threadwire::server::Spread;
/// use threadwire::Server;
/// let server = Server::bind("127.0.0.1:0")?.workers(2).spread(Spread::ReusePort);
/// assert_eq!(Spread::default(), Spread::RoundRobin);
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spread {
    /// The first worker accepts, and hands connections to each worker in turn: as even as can be.
    #[default]
    RoundRobin,
    /// Every worker accepts for itself (`SO_REUSEPORT`), and the system chooses one by the peer's address: the cheapest
    /// for very many short connections, but a few may all meet on one worker. Linux only; elsewhere it is `RoundRobin`, as
    /// other systems do not spread connections over such sockets. Unix sockets always are `RoundRobin`.
    ReusePort,
}

impl Server {
    /// Listens on an address, `127.0.0.1:9001` say. Port 0 has the system choose one, see
    /// [`local_addr`](Server::local_addr). A name is listened on at all of its addresses ([`ListenSocket::tcp_all`]);
    /// it is resolved on this thread, whose loop has to wait for that.
    ///
    /// Fails with [`Error::Listen`].
    ///
    /// ```
    /// use threadwire::{Error, Server};
    /// let first = Server::bind("127.0.0.1:0")?;
    /// assert!(matches!(Server::bind(first.local_addr()?), Err(Error::Listen(_))), "the port is taken");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn bind(addr: impl ToSocketAddrs + std::fmt::Debug) -> Result<Server, Error> {
        ListenSocket::tcp_all([addr]).map(Server::from_sockets)
    }

    /// Listens on a Unix socket at a path, as [`ListenSocket::unix`] does.
    ///
    /// Fails with [`Error::Listen`].
    ///
    /// ```
    /// use threadwire::{Reply, Connection, Message, Server};
    ///
    /// # let dir = std::env::temp_dir().join(format!("threadwire-bind-unix-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir)?;
    /// # let path = dir.join("feed.sock");
    /// let server = Server::bind_unix(&path)?.serve(|request| {
    ///     assert_eq!(request.peer_addr(), None, "a Unix socket has no address of IP");
    ///     Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message))
    /// })?;
    /// # server.stop();
    /// # server.join()?;
    /// assert!(!path.exists(), "it is removed at the end");
    /// # std::fs::remove_dir(&dir)?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn bind_unix(path: impl AsRef<Path>) -> Result<Server, Error> {
        ListenSocket::unix(path).map(Server::from_socket)
    }

    /// Listens on a socket that was made before: see [`ListenSocket`].
    pub fn from_socket(socket: ListenSocket) -> Server {
        Server::from_sockets(vec![socket])
    }

    fn from_sockets(sockets: Vec<ListenSocket>) -> Server {
        let server = Server {
            sockets: Vec::new(),
            addrs: Vec::new(),
            workers: 1,
            spread: Spread::default(),
            settings: ServerSettings::default(),
            control: Control::default(),
            setup: Setup::default(),
        };
        sockets.into_iter().fold(server, Server::add_socket)
    }

    /// Listens on one more socket: see [`ListenSocket`].
    pub fn add_socket(mut self, socket: ListenSocket) -> Server {
        self.addrs.push(socket.local_addr().clone());
        self.sockets.push(socket);
        self
    }

    /// How many workers, that is threads, serve the connections. 1 by default; 0 counts as 1.
    pub fn workers(mut self, count: usize) -> Server {
        self.workers = count.max(1);
        self
    }

    /// How connections are spread over the workers; [`Spread::RoundRobin`] by default.
    pub fn spread(mut self, spread: Spread) -> Server {
        self.spread = spread;
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

    /// Has `setup` called on each worker before it serves, with the worker's loop: to poll busily, to have stalls reported, to
    /// listen for events, or to bind the thread to a core. Without this nothing is set up.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::{Reply, Connection, Message, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?
    ///     .workers(2)
    ///     .on_worker(|event_loop| event_loop.set_stall_limit(Some(Duration::from_millis(100))))
    ///     .serve(|_| Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m)))?;
    /// # server.stop();
    /// # server.join()?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn on_worker(mut self, setup: impl Fn(&EventLoop) + Send + Sync + 'static) -> Server {
        self.setup = Setup::new(setup);
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

    /// What stops the server, or shuts it down, from any thread: for [`run`](Server::run), which does not return before.
    /// A server that is stopped before it serves ends as soon as it begins.
    ///
    /// ```
    /// use threadwire::server::Shutdown;
    /// use threadwire::{Connection, Message, Reply, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let stopper = server.stopper();
    /// let signals = std::thread::spawn(move || stopper.shutdown(Shutdown::default())); // when one has come
    /// server.run(|_| Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m)))?;
    /// println!("{}", signals.join().expect("it does not panic")?);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn stopper(&self) -> Stopper {
        Stopper::new(self.control.clone())
    }

    /// Starts the workers, and returns. `accept` is called on one of them for every request, also for one that does not
    /// ask for an upgrade, and says what becomes of it. If it panics, the request is answered with 500.
    ///
    /// Fails with [`Error::Listen`] if a worker can't be started or can't listen, and with [`Error::Setting`] for settings that need others.
    pub fn serve<R: Into<Reply>>(
        self,
        accept: impl Fn(&Request) -> R + Send + Sync + 'static,
    ) -> Result<Running, Error> {
        let mut plan = self.plan(accept)?;
        let (mut running, first) = plan.start_others()?;
        running.start(0, &plan.service, first)?;
        Ok(running)
    }

    /// Serves until this thread's event loop is stopped, on this thread: it becomes one of the workers, and the only one
    /// unless [`workers`](Server::workers) says otherwise. Stop it through a [`stopper`](Server::stopper), or the
    /// [`Remote`](crate::worker::Remote) of its loop.
    ///
    /// Fails with [`Error::Listen`] as [`serve`](Server::serve) does, and with [`Error::Panicked`] if a worker panicked.
    /// A stop is no failure here.
    ///
    /// ```
    /// use threadwire::{Reply, Connection, Message, Server, worker::EventLoop};
    ///
    /// let stopper = EventLoop::current().remote();
    /// # let stop = stopper.clone();
    /// # std::thread::spawn(move || stop.stop());
    /// Server::bind("127.0.0.1:0")?.run(|_| Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m)))?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn run<R: Into<Reply>>(
        self,
        accept: impl Fn(&Request) -> R + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let mut plan = self.plan(accept)?;
        let (others, first) = plan.start_others()?;
        let Plan { service, .. } = plan;
        let mut begun = None;
        let ended = Worker::builder().grace(service.grace()).run(|| {
            let worker = begun.insert(service.begin(Host::Server));
            let served = match first.listen(worker) {
                Ok(()) => wait_forever().map(Ok),
                Err(error) => Ok(Err(error)),
            };
            // All at once, so that their times to close run side by side.
            others.stop();
            served
        });
        // The thread goes on after that.
        if let Some(worker) = begun {
            worker.close();
        }
        // The workers are stopped even if the closure above did not run to its end.
        others.stop();
        others.join()?;
        match ended {
            Ended::Done(result) => result,
            Ended::Stopped => Ok(()),
            Ended::Failed(error) => Err(Error::of_program(error)),
            Ended::Panicked(payload) => Err(Error::panicked(payload)),
        }
    }

    fn plan<R: Into<Reply>>(
        self,
        accept: impl Fn(&Request) -> R + Send + Sync + 'static,
    ) -> Result<Plan, Error> {
        let others = self.workers - 1;
        let is_shared =
            self.spread == Spread::ReusePort && cfg!(any(target_os = "linux", target_os = "android"));
        let mut sockets = Vec::new();
        for socket in self.sockets {
            let shared = if is_shared { socket.share(others) } else { Ok(None) };
            let shared = shared.map_err(|source| Error::listen(socket.local_addr().to_string(), source))?;
            sockets.push((socket, shared));
        }
        let service = Service::new(self.settings, Hook::new(accept), self.control.clone(), self.setup);
        Ok(Plan { addrs: self.addrs, service, control: self.control, sockets, others })
    }
}

/// The sockets of each worker.
struct Plan {
    addrs: Vec<ListenAddr>,
    service: Service,
    control: Control,
    /// The first worker's sockets, each with those of the others if all of them are to accept for themselves.
    sockets: Vec<(ListenSocket, Option<Vec<ListenSocket>>)>,
    /// How many others there are.
    others: usize,
}

/// The sockets of one worker, and the workers to which it hands on accepted connections.
#[derive(Default)]
pub(super) struct Sockets(Vec<(ListenSocket, Vec<WorkerRemote>)>);

impl Sockets {
    /// Begins to accept, on the thread of the worker.
    pub(super) fn listen(self, worker: &Rc<ServerWorker>) -> Result<(), Error> {
        for (socket, others) in self.0 {
            let addr = socket.local_addr().to_string();
            worker.listen(socket, others).map_err(|source| Error::listen(addr, source))?;
        }
        Ok(())
    }
}

impl Plan {
    /// Starts all workers but the first. Returns them, and what the first is to listen on.
    fn start_others(&mut self) -> Result<(Running, Sockets), Error> {
        let mut running = Running::new(std::mem::take(&mut self.addrs), self.control.clone());
        let mut workers = Vec::new();
        for number in 1..=self.others {
            let shared = self.sockets.iter_mut().filter_map(|(_, shared)| shared.as_mut()?.pop());
            let own = Sockets(shared.map(|socket| (socket, Vec::new())).collect());
            workers.push(running.start(number, &self.service, own)?);
        }
        let first = std::mem::take(&mut self.sockets).into_iter();
        let first = first.map(|(socket, shared)| match shared {
            Some(_) => (socket, Vec::new()),
            None => (socket, workers.clone()),
        });
        Ok((running, Sockets(first.collect())))
    }
}
