//! A server at work, and how it is stopped.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;

use threadwire_worker::{Ended, Worker, wait_forever};

use super::server::Sockets;
use crate::Error;
use crate::on_loop::server::{Control, Host, Service, Stopper, WorkerRemote};
use crate::server::{ListenAddr, Shutdown, ShutdownReport};

/// A server at work. Dropping it does not stop it.
///
/// ```
/// use threadwire::{Reply, Connection, Message, Server, connect};
///
/// let server = Server::bind("127.0.0.1:0")?.serve(|_| Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m)))?;
/// let url = format!("ws://{}", server.local_addr()?);
/// let ws = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?;
/// server.stop();
/// ws.wait_closed()?; // the server closed with 1001
/// server.join()?;
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Debug)]
pub struct Running {
    addrs: Vec<ListenAddr>,
    workers: Vec<Worker<()>>,
    control: Control,
}

impl Running {
    pub(super) fn new(addrs: Vec<ListenAddr>, control: Control) -> Running {
        Running { addrs, workers: Vec::new(), control }
    }

    /// Starts a worker; with sockets it accepts connections, and hands them round. If it can't, those that are at work
    /// are stopped.
    pub(super) fn start(
        &mut self,
        number: usize,
        service: &Service,
        sockets: Sockets,
    ) -> Result<WorkerRemote, Error> {
        let (tell, told) = mpsc::channel();
        let builder = Worker::builder().name(format!("threadwire {number}")).grace(service.grace());
        // A server outlives the worker that started it, until it is stopped.
        let builder = builder.no_parent();
        let service = service.clone();
        let worker = builder.spawn(move || {
            let worker = service.begin(Host::Server);
            // The other end is there: it waits for this.
            let _ = tell.send(sockets.listen(&worker).map(|()| worker.remote().clone()));
            wait_forever()
        });
        let addr = || self.addrs.first().map_or_else(String::new, ListenAddr::to_string);
        let started = match worker {
            Ok(worker) => {
                self.workers.push(worker);
                let ended = || Error::listen(addr(), io::Error::other("a worker did not start"));
                told.recv().unwrap_or_else(|_| Err(ended()))
            }
            Err(source) => Err(Error::listen(addr(), source)),
        };
        started.inspect_err(|_| self.stop())
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

    /// How many connections are open now, or have not ended yet. Handshakes under way don't count.
    ///
    /// ```
    /// use threadwire::{Reply, Connection, Message, Server, connect, wait_until};
    ///
    /// let server = Server::bind("127.0.0.1:0")?.serve(|_| Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m)))?;
    /// let ws = connect(&format!("ws://{}", server.local_addr()?), |_ws: &Connection, _m: Message<'_>| Ok(()))?;
    /// assert_eq!(server.connections(), 1);
    /// # ws.close()?;
    /// # ws.wait_closed()?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn connections(&self) -> usize {
        self.control.connections()
    }

    /// Stops: no connection is accepted any more, each one that is open is closed with 1001 and has
    /// [`Config::close_timeout`](crate::Config::close_timeout) to answer, handshakes under way are dropped, and every wait of
    /// a callback ends with [`Stopped`](crate::Stopped). Returns at once; see [`join`](Running::join). For more grace, and to
    /// be told what came of it, there is [`shutdown`](Running::shutdown).
    pub fn stop(&self) {
        for worker in &self.workers {
            worker.stop();
        }
    }

    /// Shuts down gracefully, and says who did not answer. It waits for that, at most for [`Shutdown::timeout`], while the
    /// loop of the calling thread goes on; it returns as soon as there is nothing left to wait for.
    ///
    /// - **Accepting ends.** What waits to be accepted, and handshakes that are under way, are answered with 503. After that
    ///   the listening socket is closed, and the system refuses new connections; with [`Shutdown::keep_listening`] they are
    ///   accepted and answered with 503 to the end. A peer that got its 503 has the same time to end its side.
    /// - **Every connection is closed**, behind what it was sent before, with a code and a reason. Callbacks that wait go on
    ///   to wait: what they have begun they may finish, but they can't send any more. A connection that has not completed the
    ///   closing handshake when the time has passed is dropped.
    /// - **Then the workers are stopped**, as by [`stop`](Running::stop), which also ends what callbacks still wait for, and
    ///   closes connections that they opened to other servers. [`join`](Running::join) waits for that.
    ///
    /// A worker whose thread is blocked, in a callback that waits for something else than Threadwire, can't do any of that: it is
    /// named in [`ShutdownReport::stuck`], 500 ms after the time has passed.
    ///
    /// Called again, from whatever thread, it waits for the shutdown that is under way and returns the same report; the first
    /// call's code and reason hold, and the earlier of the deadlines. A `stop` during a shutdown cuts it short.
    ///
    /// **In a callback of the server itself** it does not wait for the connection of that callback, nor for those of other
    /// callbacks on that thread that are waiting beneath it, as they can't return before. They don't appear in the report, and
    /// stay open: the callback can still send what came of it. They are closed, in the same way, when it has returned.
    ///
    /// # Errors
    ///
    /// [`Error::Send`], and nothing has happened, if the code must not be sent.
    /// [`Error::Stopped`] if the calling thread is itself asked to stop: the server is then stopped, without waiting.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::server::Shutdown;
    /// use threadwire::{CloseCode, Connection, Message, Reply, Server, connect};
    ///
    /// let server = Server::bind("127.0.0.1:0")?.serve(|_| Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m)))?;
    /// let ws = connect(&format!("ws://{}", server.local_addr()?), |_ws: &Connection, _m: Message<'_>| Ok(()))?;
    ///
    /// let timeout = Duration::from_secs(10);
    /// let report = server.shutdown(Shutdown::default().code(CloseCode::SERVICE_RESTART).timeout(timeout))?;
    /// for peer in &report.unclean {
    ///     println!("{peer}");
    /// }
    /// assert_eq!((report.connections, report.clean), (1, 1));
    /// server.join()?;
    /// # ws.wait_closed()?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn shutdown(&self, shutdown: Shutdown) -> Result<ShutdownReport, Error> {
        self.control.shutdown(shutdown)
    }

    /// What stops the server from any thread: for a signal handler, say, while this thread waits in
    /// [`join`](Running::join).
    ///
    /// ```
    /// use threadwire::{Reply, Connection, Message, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?.serve(|_| Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m)))?;
    /// let stopper = server.stopper();
    /// std::thread::spawn(move || stopper.stop());
    /// server.join()?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn stopper(&self) -> Stopper {
        Stopper::new(self.control.clone())
    }

    /// Waits until the server has been stopped and every connection has ended, which is at the latest 100 ms after
    /// [`Config::close_timeout`](crate::Config::close_timeout) has passed since the stop. The loop of the calling thread
    /// goes on meanwhile. Fails with [`Error::Panicked`] if a worker panicked, and with [`Error::Stopped`] if the
    /// calling thread is itself asked to stop; and at once on one of the server's own workers, in a callback say, as those would have to
    /// end before.
    pub fn join(self) -> Result<(), Error> {
        if self.workers.iter().any(|worker| worker.remote().is_current()) {
            return Err(Error::other(
                "a server can't be waited for on one of its own workers: stop it there",
            ));
        }
        let mut result = Ok(());
        for worker in self.workers {
            if let Ended::Panicked(payload) = worker.join()? {
                result = Err(Error::panicked(payload));
            }
        }
        result
    }
}
