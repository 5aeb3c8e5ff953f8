//! The integration tests of workers, loops, messages and pools, in one program.

pub mod common;
mod event_loop;
mod examples;
mod messages;
mod pools;
mod worker;
