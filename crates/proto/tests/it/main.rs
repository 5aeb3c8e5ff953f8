//! The protocol's integration tests, in one program: its rules one by one, and at random.

mod chunking;
mod close_handshake;
mod common;
mod deflate;
mod frame_rules;
mod handshake;
mod keepalive;
mod round_trips;
