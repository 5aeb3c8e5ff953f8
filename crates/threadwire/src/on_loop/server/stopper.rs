//! Stopping and shutting down a server from any thread, for its users.

use super::Control;
use crate::Error;
use crate::server::{Shutdown, ShutdownReport};

/// Stops a server from any thread: see [`Running::stopper`](crate::server::Running::stopper) and [`Server::stopper`](crate::Server::stopper), with examples.
#[derive(Clone, Debug)]
pub struct Stopper {
    control: Control,
}

impl Stopper {
    pub(crate) fn new(control: Control) -> Stopper {
        Stopper { control }
    }

    /// As [`Running::stop`](crate::server::Running::stop).
    pub fn stop(&self) {
        self.control.stop();
    }

    /// As [`Running::shutdown`](crate::server::Running::shutdown). Of a server that does not serve yet, or has ended, nothing is left to report.
    pub fn shutdown(&self, shutdown: Shutdown) -> Result<ShutdownReport, Error> {
        self.control.shutdown(shutdown)
    }

    /// As [`Running::connections`](crate::server::Running::connections).
    pub fn connections(&self) -> usize {
        self.control.connections()
    }
}
