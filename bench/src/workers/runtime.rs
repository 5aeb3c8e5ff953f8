//! Tokio runtime of the arms that need one.

use crate::fail::Result;
use std::sync::OnceLock;
use tokio::runtime::{Builder, Runtime};

/// A runtime of two threads, started when it is first asked for; it lives as long as the process.
pub(crate) fn tokio_runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Ok(RUNTIME.get_or_init(|| runtime))
}
