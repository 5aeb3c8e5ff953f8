//! Settings of a server, the same on every face: limits and timeouts, admission, TLS, and the hook that answers requests.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Admission, Gate, Request};
#[cfg(feature = "tls")]
use crate::tls::ServerTls;
use crate::{Accept, Config, Error};

/// What says what becomes of a request.
pub(crate) type Hook = dyn Fn(&Request) -> Accept + Send + Sync;

#[derive(Clone, Default)]
pub(crate) struct ServerSettings {
    pub(crate) config: Arc<Config>,
    pub(crate) gate: Arc<Gate>,
    /// Without a hook every request is upgraded, or is the program's to answer.
    pub(crate) hook: Option<Arc<Hook>>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<ServerTls>,
}

impl ServerSettings {
    pub(crate) fn set_config(&mut self, config: Config) {
        self.config = Arc::new(config);
    }

    pub(crate) fn set_admission(&mut self, admission: Admission) {
        self.gate = Gate::new(admission);
    }

    pub(crate) fn set_hook<R: Into<Accept>>(&mut self, hook: impl Fn(&Request) -> R + Send + Sync + 'static) {
        self.hook = Some(Arc::new(move |request| hook(request).into()));
    }

    /// What the hook answers to a request; an upgrade, if there is no hook. A hook that panics answers with 500.
    pub(crate) fn ask(&self, request: &Request) -> Accept {
        let Some(hook) = &self.hook else { return Accept::upgrade() };
        catch_unwind(AssertUnwindSafe(|| hook(request))).unwrap_or_else(|payload| {
            tracing::error!(error = %Error::panicked(payload), "accepting a request failed");
            Accept::status(500)
        })
    }
}

impl fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSettings").field("config", &self.config).finish_non_exhaustive()
    }
}
