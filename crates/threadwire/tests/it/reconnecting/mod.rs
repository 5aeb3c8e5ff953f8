//! Tests of reconnecting.

mod callbacks;
mod commands;
mod everywhere;
mod memory;
mod offline_queue;
mod table;
