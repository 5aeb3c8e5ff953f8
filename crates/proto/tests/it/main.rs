//! The integration tests of the protocol, in one program: rule by rule, and at random.

mod chunking;
mod close_handshake;
mod common;
mod deflate;
mod frame_rules;
mod handshake;
mod keepalive;
mod round_trips;
