//! Integration tests of all faces, in one program: against scripted peers, and against the library itself.

#[cfg(feature = "aio")]
mod aio;
mod app;
mod blocking;
mod client;
pub mod common;
mod connection;
pub mod examples;
#[cfg(all(feature = "aio", feature = "tls"))]
mod faces;
mod handle;
mod panicking_drops;
mod reconnecting;
mod rooms;
mod server;
mod thread_guide;
#[cfg(feature = "aio")]
mod threads_and_tasks;
#[cfg(feature = "tls")]
mod tls;
