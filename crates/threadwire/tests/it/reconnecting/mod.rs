//! Tests of reconnecting.

mod callbacks;
mod everywhere;
mod memory;
