//! The protocol by its rules and at random, as a program and a peer see it.

mod chunking;
mod close_handshake;
mod common;
mod deflate;
mod frame_rules;
mod handshake;
mod keepalive;
mod round_trips;
