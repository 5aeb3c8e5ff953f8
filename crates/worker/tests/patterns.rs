//! The example programs run to their ends.

pub mod common;

#[path = "../examples/echo_pool.rs"]
mod echo_pool;
#[path = "../examples/echo_queue.rs"]
mod echo_queue;
#[path = "../examples/fan_out.rs"]
mod fan_out;
#[path = "../examples/producer_consumer.rs"]
mod producer_consumer;
#[path = "../examples/stoppable.rs"]
mod stoppable;

use common::bounded;

#[test]
fn producers_and_consumers_share_a_queue() {
    bounded(|| producer_consumer::main().unwrap());
}

#[test]
fn a_job_is_fanned_out_and_joined() {
    bounded(|| fan_out::main().unwrap());
}

#[test]
fn an_echo_server_of_workers_around_a_queue_serves_its_clients() {
    bounded(|| echo_queue::main().unwrap());
}

#[test]
fn an_echo_server_of_a_pool_serves_its_clients() {
    bounded(|| echo_pool::main().unwrap());
}

#[test]
fn a_thread_in_a_loop_is_stopped_at_once() {
    bounded(|| stoppable::main().unwrap());
}
