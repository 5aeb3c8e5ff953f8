//! Serving: listen, accept, upgrade.

pub(crate) mod accept;
mod control;
mod handshakes;
mod station;
pub(crate) mod upgrade;

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use threadwire_core::server::admission::Gate;
use threadwire_proto::Role;
use threadwire_worker::EventLoop;

pub(crate) use accept::Acceptor;
pub(crate) use control::{Control, Post};
pub(crate) use station::Station;

use crate::on_loop::stream::Stream;
use crate::server::{Admission, Listening};
#[cfg(feature = "tls")]
use crate::tls::ServerTls;
use crate::{Config, Error, Reply, Request};

/// What says what becomes of a request.
pub(crate) type Hook = dyn Fn(&Request) -> Reply + Send + Sync;

/// What every worker of a server needs to serve a connection.
#[derive(Clone)]
pub(crate) struct Service {
    hook: Arc<Hook>,
    config: Arc<Config>,
    gate: Arc<Gate>,
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
    pub(crate) fn new<R: Into<Reply>>(
        hook: impl Fn(&Request) -> R + Send + Sync + 'static,
        config: Config,
        admission: Admission,
        control: Control,
    ) -> Service {
        Service {
            hook: Arc::new(move |request| hook(request).into()),
            config: Arc::new(config),
            gate: Gate::new(admission),
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
    pub(crate) fn listen(&self, listening: Listening, others: Vec<Arc<Post>>) -> io::Result<Rc<Acceptor>> {
        accept::start(self.clone(), listening, others)
    }

    /// What becomes of a request.
    fn ask(&self, request: &Request) -> Reply {
        ask(&*self.hook, request)
    }
}

/// What becomes of a request, as the program says. A hook that panics answers with 500.
pub(crate) fn ask(hook: &Hook, request: &Request) -> Reply {
    catch_unwind(AssertUnwindSafe(|| hook(request))).unwrap_or_else(|payload| {
        tracing::error!(error = %Error::panicked(payload), "accepting a request failed");
        Reply::status(500)
    })
}
