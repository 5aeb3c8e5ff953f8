//! Tests of reconnecting.

mod callbacks;
mod commands;
mod everywhere;
mod memory;
mod offline_queue;
#[cfg(feature = "aio")]
mod one_by_one;
#[cfg(feature = "tls")]
mod table;
