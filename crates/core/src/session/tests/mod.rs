//! Sessions in virtual time: a simulated pair over pipes that take and give as little as they like, replayable by its seed.

mod closing;
mod flow;
mod keepalive;
mod memory;
mod pair;
mod progress;
