//! Serving on event loops: sockets that listen, handshakes, workers, and shutting down.

mod accept;
mod control;
mod hook;
mod opening_handshake;
mod stopper;
mod worker;

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use threadwire_core::server::settings::ServerSettings;
use threadwire_worker::EventLoop;

pub(crate) use control::{Control, Host, WorkerRemote};
pub(crate) use hook::Hook;
pub use stopper::Stopper;
pub(crate) use worker::ServerWorker;

use crate::server::ListenSocket;

/// What every worker of a server needs to serve connections.
#[derive(Clone)]
pub(crate) struct Service {
    settings: Arc<ServerSettings>,
    hook: Hook,
    control: Control,
    setup: Setup,
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
    pub(crate) fn new(settings: ServerSettings, hook: Hook, control: Control, setup: Setup) -> Service {
        Service { settings: Arc::new(settings), hook, control, setup }
    }

    /// How long a worker may take to close its connections: a little longer than each of them may.
    pub(crate) fn grace(&self) -> Duration {
        self.settings.config.close_timeout.saturating_add(Duration::from_millis(100))
    }

    /// Makes this thread one of the server's workers. If it is there for the server alone, it is stopped when the server is.
    pub(crate) fn begin(&self, host: Host) -> Rc<ServerWorker> {
        if let Some(setup) = &self.setup.0 {
            setup(&EventLoop::current());
        }
        self.control.enrol(&self.settings, &self.hook, host)
    }

    /// The same on a thread of a pool, which may be one already. Nothing is set up there.
    pub(crate) fn begin_once(&self) -> Rc<ServerWorker> {
        self.control.enrol_once(&self.settings, &self.hook)
    }
}

impl ServerWorker {
    /// Accepts connections on this thread, and hands them round: to this worker, and to each of the others.
    pub(crate) fn listen(self: &Rc<Self>, socket: ListenSocket, others: Vec<WorkerRemote>) -> io::Result<()> {
        accept::start(self, socket, others)
    }
}
