//! Stalls on tokio: who holds a runtime's thread, and whether a runtime comes round.

mod runtime;
mod task;

pub use runtime::{RuntimeWatch, watch_runtime};
pub(crate) use task::last_stall;
pub use task::{Watched, watch};
