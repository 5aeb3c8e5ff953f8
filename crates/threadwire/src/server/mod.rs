//! Serving: listen, accept, upgrade.

pub(crate) mod accept;
mod control;
mod request;
mod shutdown;
mod station;
pub(crate) mod upgrade;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

#[cfg(unix)]
use socket2::SockRef;
use socket2::{Domain, Protocol, Socket, Type};
use threadwire_proto::Role;
use threadwire_worker::EventLoop;

pub(crate) use accept::Acceptor;
pub(crate) use control::{Control, Post};
pub use request::Request;
pub use shutdown::{Shutdown, ShutdownReport, Standing, StuckWorker, Unanswered};
pub(crate) use station::Station;

use crate::stream::Stream;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;
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

/// Listens on the first address that works, of those that a name has.
pub(crate) fn bind(addr: impl ToSocketAddrs + fmt::Debug) -> Result<TcpListener, Error> {
    let fail = |source| Error::Listen { addr: format!("{addr:?}").trim_matches('"').to_owned(), source };
    let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for addr in addr.to_socket_addrs().map_err(fail)? {
        result = listen(addr, false);
        if result.is_ok() {
            break;
        }
    }
    result.map_err(fail)
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
    control: Control,
    setup: Setup,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
}

/// What is done on each worker before it serves.
#[derive(Clone, Default)]
pub(crate) struct Setup(Option<Arc<SetupFn>>);

type SetupFn = dyn Fn(&EventLoop) + Send + Sync;

impl Setup {
    pub(crate) fn new(setup: impl Fn(&EventLoop) + Send + Sync + 'static) -> Setup {
        Setup(Some(Arc::new(setup)))
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a closure" } else { "none" })
    }
}

impl Service {
    pub(crate) fn new<R: Into<Accept>>(
        hook: impl Fn(&Request) -> R + Send + Sync + 'static,
        config: Config,
        control: Control,
    ) -> Service {
        Service {
            hook: Arc::new(move |request| hook(request).into()),
            config: Arc::new(config),
            control,
            setup: Setup::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn with_tls(self, tls: Option<ServerTls>) -> Service {
        Service { tls, ..self }
    }

    /// An accepted stream as it is to be talked through: in TLS, if that is wanted, and traced.
    fn prepare(&self, stream: Stream) -> io::Result<Stream> {
        #[cfg(feature = "tls")]
        let stream = match &self.tls {
            Some(tls) => Stream::tls_server(stream, tls.current())?,
            None => stream,
        };
        Ok(stream.traced(self.config.trace.as_ref(), Role::Server))
    }

    pub(crate) fn with_setup(self, setup: Setup) -> Service {
        Service { setup, ..self }
    }

    /// How long a worker may take to close its connections: a little longer than each of them may.
    pub(crate) fn grace(&self) -> Duration {
        self.config.close_timeout.saturating_add(Duration::from_millis(100))
    }

    /// Makes this thread one of the server's workers. The worker is stopped if the server has been.
    pub(crate) fn begin(&self) -> Arc<Post> {
        if let Some(setup) = &self.setup.0 {
            setup(&EventLoop::current());
        }
        let post = self.control.enrol();
        Station::open(&self.config, Arc::clone(&post));
        post
    }

    /// What remains on a thread that goes on after [`begin`](Service::begin).
    pub(crate) fn end(&self) {
        Station::close(&self.config);
    }

    /// Accepts connections on this thread, and hands them round: to this worker, and to each of the others.
    pub(crate) fn listen(&self, socket: TcpListener, others: Vec<Arc<Post>>) -> io::Result<Rc<Acceptor>> {
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
