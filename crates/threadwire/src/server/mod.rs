//! Serving: listen, accept, upgrade.

pub(crate) mod accept;
mod request;
pub(crate) mod upgrade;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

#[cfg(unix)]
use socket2::SockRef;
use socket2::{Domain, Protocol, Socket, Type};
use threadwire_worker::Remote;

pub use request::Request;

use crate::{Accept, Config, Error};

/// What says what becomes of a request.
type Hook = dyn Fn(&Request) -> Accept + Send + Sync;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Listens on an address. With `shared`, others of this process may do so too.
pub(crate) fn listen(addr: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows it would let anybody take the port over.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(shared)?;
    #[cfg(not(unix))]
    let _ = shared;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Makes `count` more sockets that listen where `socket` does. The system chooses one of them all for each connection.
pub(crate) fn share(socket: &TcpListener, count: usize) -> io::Result<Vec<TcpListener>> {
    let addr = socket.local_addr()?;
    // A socket may agree to share its address also when it listens already: connections that wait there are not lost.
    #[cfg(unix)]
    SockRef::from(socket).set_reuse_port(count > 0)?;
    (0..count).map(|_| listen(addr, true)).collect()
}

/// What every worker of a server needs to serve a connection.
#[derive(Clone)]
pub(crate) struct Service {
    hook: Arc<Hook>,
    config: Arc<Config>,
}

impl Service {
    pub(crate) fn new<R: Into<Accept>>(
        hook: impl Fn(&Request) -> R + Send + Sync + 'static,
        config: Config,
    ) -> Service {
        Service { hook: Arc::new(move |request| hook(request).into()), config: Arc::new(config) }
    }

    /// How long a worker may take to close its connections: a little longer than each of them may.
    pub(crate) fn grace(&self) -> Duration {
        self.config.close_timeout.saturating_add(Duration::from_millis(100))
    }

    /// Accepts connections on this thread, and hands them round: to this worker, and to each of the others.
    pub(crate) fn listen(&self, socket: TcpListener, others: Vec<Remote>) -> io::Result<()> {
        accept::start(self.clone(), socket, others)
    }

    /// What becomes of a request. A hook that panics answers with 500.
    fn ask(&self, request: &Request) -> Accept {
        catch_unwind(AssertUnwindSafe(|| (self.hook)(request))).unwrap_or_else(|payload| {
            tracing::error!(error = %Error::panicked(payload), "accepting a request failed");
            Accept::status(500)
        })
    }
}
