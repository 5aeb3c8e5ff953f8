//! Tests of reconnecting.

mod callbacks;
mod memory;
