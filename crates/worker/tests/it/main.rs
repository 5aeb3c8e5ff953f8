//! The worker crate's integration tests, in one program.

pub mod common;
mod event_loop;
mod examples;
mod messages;
mod pools;
mod worker;
