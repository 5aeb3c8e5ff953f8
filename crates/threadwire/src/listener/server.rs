//! Connections that others open.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::mpsc;

use threadwire_proto::handshake::{Headers, Request, Response, refuse_reserved};
use threadwire_worker::{Ended, Remote, Worker, wait_forever};

use crate::server::{Service, listen, share};
use crate::{Config, Error, Listener};

/// A server: an address that is listened on, and the workers that serve what comes. See the [crate's page](crate) for an
/// example.
#[derive(Debug)]
pub struct Server {
    socket: TcpListener,
    workers: usize,
    spread: Spread,
    config: Config,
}

/// How connections are spread over several workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// The first worker accepts, and hands connections to each worker in turn: as even as can be.
    #[default]
    RoundRobin,
    /// Every worker accepts for itself (`SO_REUSEPORT`), and the system chooses one by the peer's address: the cheapest
    /// for very many short connections, but a few may all meet on one worker. Unix only; elsewhere it is `RoundRobin`.
    ReusePort,
}

impl Server {
    /// Listens on an address, `127.0.0.1:9001` say. Port 0 has the system choose one, see
    /// [`local_addr`](Server::local_addr). A name that has several addresses is listened on at the first that works.
    pub fn bind(addr: impl ToSocketAddrs + std::fmt::Debug) -> Result<Server, Error> {
        let fail = |source| Error::Listen { addr: format!("{addr:?}").trim_matches('"').to_owned(), source };
        let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        for addr in addr.to_socket_addrs().map_err(fail)? {
            result = listen(addr, false);
            if result.is_ok() {
                break;
            }
        }
        let socket = result.map_err(fail)?;
        Ok(Server { socket, workers: 1, spread: Spread::default(), config: Config::default() })
    }

    /// How many workers, that is threads, serve the connections. 1 by default; 0 counts as 1.
    pub fn workers(mut self, count: usize) -> Server {
        self.workers = count.max(1);
        self
    }

    /// How connections are spread over the workers.
    pub fn spread(mut self, spread: Spread) -> Server {
        self.spread = spread;
        self
    }

    /// Limits and timeouts of every connection.
    pub fn config(mut self, config: Config) -> Server {
        self.config = config;
        self
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Starts the workers, and returns. `accept` is called on one of them for every request, also for one that does not
    /// ask for an upgrade, and says what becomes of it.
    pub fn serve(
        self,
        accept: impl Fn(&Request) -> Accept + Send + Sync + 'static,
    ) -> Result<Running, Error> {
        self.prepare(accept)?.spawn(0)
    }

    /// Serves until this thread's event loop is stopped, on this thread: it becomes one of the workers, and the only one
    /// unless [`workers`](Server::workers) says otherwise. Stop it through the [`Remote`] of its loop.
    ///
    /// ```
    /// use threadwire::{Accept, Connection, Message, Server, worker::EventLoop};
    ///
    /// let stopper = EventLoop::current().remote();
    /// # let stop = stopper.clone();
    /// # std::thread::spawn(move || stop.stop());
    /// Server::bind("127.0.0.1:0")?.run(|_| Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m)))?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn run(self, accept: impl Fn(&Request) -> Accept + Send + Sync + 'static) -> Result<(), Error> {
        let mut prepared = self.prepare(accept)?;
        let socket = prepared.sockets.remove(0);
        let (service, local_addr) = (prepared.service.clone(), prepared.local_addr);
        let others = prepared.spawn(1)?;
        let remotes = if others.hands_on { others.stopper().remotes } else { Vec::new() };
        let ended = Worker::builder().grace(service.grace()).run(|| {
            let served = match service.listen(socket, remotes) {
                Ok(()) => wait_forever().map(Ok),
                Err(source) => Ok(Err(Error::Listen { addr: local_addr.to_string(), source })),
            };
            // All at once, so that their times to close run side by side.
            others.stop();
            served
        });
        others.join()?;
        match ended {
            Ended::Done(result) => result,
            Ended::Stopped => Ok(()),
            Ended::Panicked(payload) => Err(Error::panicked(payload)),
        }
    }

    fn prepare(self, accept: impl Fn(&Request) -> Accept + Send + Sync + 'static) -> Result<Prepared, Error> {
        let local_addr = self.local_addr()?;
        let service = Service::new(accept, self.config);
        let sockets = match self.spread {
            Spread::ReusePort if self.workers > 1 && cfg!(unix) => share(self.socket, self.workers)
                .map_err(|source| Error::Listen { addr: local_addr.to_string(), source })?,
            _ => vec![self.socket],
        };
        Ok(Prepared { local_addr, service, workers: self.workers, sockets })
    }
}

/// A server whose workers are to be started.
struct Prepared {
    local_addr: SocketAddr,
    service: Service,
    workers: usize,
    /// One for each worker that accepts, the first worker's first.
    sockets: Vec<TcpListener>,
}

impl Prepared {
    /// Starts the workers from number `first` on.
    fn spawn(mut self, first: usize) -> Result<Running, Error> {
        let hands_on = self.sockets.len() + first.min(1) < self.workers;
        let mut running = Running { local_addr: self.local_addr, workers: Vec::new(), hands_on };
        // The first worker comes last, when the others are there that it may hand connections to.
        for number in (first..self.workers).rev() {
            let socket = if self.sockets.len() > number - first { self.sockets.pop() } else { None };
            let others = if hands_on && number == 0 { running.stopper().remotes } else { Vec::new() };
            let service = self.service.clone();
            let (tell, told) = mpsc::channel();
            // A server outlives the worker that started it, until it is stopped.
            let builder =
                Worker::builder().name(format!("threadwire {number}")).grace(service.grace()).no_parent();
            let worker = builder.spawn(move || {
                // The other end is there: it waits for this.
                let _ = tell.send(socket.map_or(Ok(()), |socket| service.listen(socket, others)));
                wait_forever()
            });
            let started = worker.and_then(|worker| {
                running.workers.push(worker);
                told.recv().unwrap_or_else(|_| Err(io::Error::other("a worker did not start")))
            });
            if let Err(source) = started {
                running.stop();
                return Err(Error::Listen { addr: self.local_addr.to_string(), source });
            }
        }
        Ok(running)
    }
}

/// A server at work. Dropping it does not stop it.
#[derive(Debug)]
pub struct Running {
    local_addr: SocketAddr,
    workers: Vec<Worker<()>>,
    /// Whether the first worker hands connections to the others.
    hands_on: bool,
}

impl Running {
    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops: no connection is accepted any more, and each one that is open is closed with 1001. Returns at once; see
    /// [`join`](Running::join).
    pub fn stop(&self) {
        for worker in &self.workers {
            worker.stop();
        }
    }

    /// Stops the server, from any thread: for a signal handler, say, while this thread waits in [`join`](Running::join).
    ///
    /// ```
    /// use threadwire::{Accept, Connection, Message, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?.serve(|_| Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m)))?;
    /// let stopper = server.stopper();
    /// std::thread::spawn(move || stopper.stop());
    /// server.join()?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn stopper(&self) -> Stopper {
        Stopper { remotes: self.workers.iter().map(|worker| worker.remote()).collect() }
    }

    /// Waits until the server has been stopped and every connection has ended, at the latest after
    /// [`Config::close_timeout`]. The loop of the calling thread goes on meanwhile. Fails if a worker panicked.
    pub fn join(self) -> Result<(), Error> {
        let mut result = Ok(());
        for worker in self.workers {
            if let Ended::Panicked(payload) = worker.join()? {
                result = Err(Error::panicked(payload));
            }
        }
        result
    }
}

/// Stops a [`Running`] server from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    remotes: Vec<Remote>,
}

impl Stopper {
    /// As [`Running::stop`].
    pub fn stop(&self) {
        for remote in &self.remotes {
            remote.stop();
        }
    }
}

/// What becomes of a request.
pub struct Accept(pub(crate) Answer);

pub(crate) enum Answer {
    /// It is upgraded to a connection, if it asks for that as it must.
    Upgrade { listener: Box<dyn Listener>, headers: Headers, subprotocol: Option<String> },
    /// It is answered, and that is all.
    Respond(Response),
}

impl Accept {
    /// Upgrades to a connection that `listener` listens to. A request that does not ask for that as RFC 6455 wants it is
    /// answered with what is wrong with it.
    pub fn with(listener: impl Listener) -> Accept {
        Accept(Answer::Upgrade { listener: Box::new(listener), headers: Headers::new(), subprotocol: None })
    }

    /// Answers with a status: 403 to refuse, 404 for a path that is not there, 200 for a health check.
    ///
    /// ```
    /// use threadwire::{Accept, Connection, Message, Request};
    ///
    /// fn accept(request: &Request) -> Accept {
    ///     match request.path() {
    ///         "/echo" => Accept::with(|ws: &Connection, message: Message<'_>| ws.send(message)),
    ///         _ => Accept::status(404),
    ///     }
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// If the status is not from 200 to 599.
    pub fn status(status: u16) -> Accept {
        match Response::new(status) {
            Ok(response) => Accept::respond(response),
            Err(error) => panic!("{error}"),
        }
    }

    /// Answers with a response of your own.
    pub fn respond(response: Response) -> Accept {
        Accept(Answer::Respond(response))
    }

    /// Adds a header to the 101 response. Fails for a name or a value that must not be sent, and for the headers that belong
    /// to the handshake itself. Has no effect on an answer that is no upgrade: put headers into the [`Response`].
    pub fn header(mut self, name: &str, value: &str) -> Result<Accept, Error> {
        if let Answer::Upgrade { headers, .. } = &mut self.0 {
            refuse_reserved(name)?;
            headers.append(name, value)?;
        }
        Ok(self)
    }

    /// Chooses a subprotocol, one of those that the request offers; otherwise the request is answered with 500.
    pub fn subprotocol(mut self, name: &str) -> Accept {
        if let Answer::Upgrade { subprotocol, .. } = &mut self.0 {
            *subprotocol = Some(name.to_owned());
        }
        self
    }
}

impl std::fmt::Debug for Accept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Answer::Upgrade { headers, subprotocol, .. } => {
                f.debug_struct("Upgrade").field("headers", headers).field("subprotocol", subprotocol).finish()
            }
            Answer::Respond(response) => f.debug_tuple("Respond").field(response).finish(),
        }
    }
}
