//! Tests of the blocking face.

mod detaching;
mod foreign_loops;
mod partial_messages;
mod quick_clients;
mod receiving;
mod select;
mod sending;
mod server;
mod stopped_threads;
