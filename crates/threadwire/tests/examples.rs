//! The example programs run to their ends.

pub mod common;

#[path = "../examples/nonblocking.rs"]
mod nonblocking;

use common::bounded;

#[test]
fn messages_are_received_without_being_held_up_by_it() {
    bounded(|| nonblocking::main().unwrap());
}
