//! A server at work, and how it is stopped.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;

use threadwire_worker::{Ended, Remote, Worker, wait_forever};

use crate::Error;
use crate::server::Service;

/// A server at work. Dropping it does not stop it.
///
/// ```
/// use threadwire::{Accept, Connection, Message, Server, connect};
///
/// let server = Server::bind("127.0.0.1:0")?.serve(|_| Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m)))?;
/// let url = format!("ws://{}", server.local_addr());
/// let ws = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?;
/// server.stop();
/// ws.wait_closed()?; // the server closed with 1001
/// server.join()?;
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Debug)]
pub struct Running {
    local_addr: SocketAddr,
    workers: Vec<Worker<()>>,
}

impl Running {
    pub(super) fn new(local_addr: SocketAddr) -> Running {
        Running { local_addr, workers: Vec::new() }
    }

    /// Starts a worker; with a socket it accepts connections, and hands them round. If it can't, those that are at work
    /// are stopped.
    pub(super) fn start(
        &mut self,
        number: usize,
        service: &Service,
        socket: Option<TcpListener>,
        hand_to: Vec<Remote>,
    ) -> Result<(), Error> {
        let (tell, told) = mpsc::channel();
        let builder = Worker::builder().name(format!("threadwire {number}")).grace(service.grace());
        // A server outlives the worker that started it, until it is stopped.
        let builder = builder.no_parent();
        let service = service.clone();
        let worker = builder.spawn(move || {
            // The other end is there: it waits for this.
            let _ = tell.send(socket.map_or(Ok(()), |socket| service.listen(socket, hand_to)));
            wait_forever()
        });
        let started = worker.and_then(|worker| {
            self.workers.push(worker);
            told.recv().unwrap_or_else(|_| Err(io::Error::other("a worker did not start")))
        });
        started.map_err(|source| {
            self.stop();
            Error::Listen { addr: self.local_addr.to_string(), source }
        })
    }

    pub(super) fn remotes(&self) -> Vec<Remote> {
        self.workers.iter().map(|worker| worker.remote()).collect()
    }

    /// The address that is listened on, with the port that the system chose if port 0 was asked for.
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

    /// What stops the server from any thread: for a signal handler, say, while this thread waits in
    /// [`join`](Running::join).
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
        Stopper { remotes: self.remotes() }
    }

    /// Waits until the server has been stopped and every connection has ended, which is at the latest 100 ms after
    /// [`Config::close_timeout`](crate::Config::close_timeout) has passed since the stop. The loop of the calling thread
    /// goes on meanwhile. Fails with [`Error::Panicked`] if a worker panicked, and with [`Error::Stopped`] if the
    /// calling thread is itself asked to stop.
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

/// Stops a [`Running`] server from any thread: see [`Running::stopper`], with an example.
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
