//! Reconnecting as a state machine: states, backoff, and what waits meanwhile, without a clock or a loop.

mod attempt;
mod backoff;
#[doc(hidden)]
pub mod command;
#[doc(hidden)]
pub mod conductor;
#[doc(hidden)]
pub mod machine;
#[doc(hidden)]
pub mod offline_queue;
#[doc(hidden)]
pub mod retry;
#[doc(hidden)]
pub mod shared;
mod state;

pub use attempt::Attempt;
pub use backoff::Backoff;
pub use state::{Cause, Change, State};
