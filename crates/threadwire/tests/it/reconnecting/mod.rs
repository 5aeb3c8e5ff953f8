//! Connections that come back.

mod callbacks;
mod memory;
