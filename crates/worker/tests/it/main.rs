//! Workers, loops, messages and pools, as programs use them.

pub mod common;
mod event_loop;
mod examples;
mod messages;
mod pools;
mod worker;
