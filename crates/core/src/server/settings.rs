//! Settings of a server, the same on every face: limits and timeouts, admission, and TLS.

use std::fmt;
use std::sync::Arc;

use super::admission::{Admission, Gate};
use crate::config::Config;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;

#[derive(Clone, Default)]
pub struct ServerSettings {
    pub config: Arc<Config>,
    pub gate: Arc<Gate>,
    #[cfg(feature = "tls")]
    pub tls: Option<ServerTls>,
}

impl ServerSettings {
    pub fn set_config(&mut self, config: Config) {
        self.config = Arc::new(config);
    }

    pub fn set_admission(&mut self, admission: Admission) {
        self.gate = Gate::new(admission);
    }
}

impl fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSettings").field("config", &self.config).finish_non_exhaustive()
    }
}
