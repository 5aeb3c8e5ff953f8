//! Example programs, run to their ends.

#[path = "../../examples/echoapp.rs"]
pub mod echoapp;
#[path = "../../examples/nonblocking.rs"]
mod nonblocking;

use crate::common::bounded;

#[test]
fn messages_are_received_without_being_held_up_by_it() {
    bounded(|| nonblocking::main().unwrap());
}
