//! Tests of reconnecting.

mod callbacks;
mod commands;
mod memory;
mod offline_queue;
