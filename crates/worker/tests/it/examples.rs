//! Tests that run the example programs to their ends.

#[path = "../../examples/async_task.rs"]
mod async_task;
#[path = "../../examples/cleanup.rs"]
mod cleanup;
#[path = "../../examples/daemon.rs"]
mod daemon;
#[path = "../../examples/echo_pool.rs"]
mod echo_pool;
#[path = "../../examples/echo_queue.rs"]
mod echo_queue;
#[path = "../../examples/family.rs"]
mod family;
#[path = "../../examples/fan_out.rs"]
mod fan_out;
#[path = "../../examples/increaser.rs"]
mod increaser;
#[path = "../../examples/news.rs"]
mod news;
#[path = "../../examples/print_worker.rs"]
mod print_worker;
#[path = "../../examples/producer_consumer.rs"]
mod producer_consumer;
#[path = "../../examples/sleepy.rs"]
mod sleepy;
#[path = "../../examples/stoppable.rs"]
mod stoppable;
#[path = "../../examples/thread.rs"]
mod thread;

use crate::common::bounded;

#[test]
fn threads_are_started_and_a_list_of_them_is_joined() {
    bounded(|| thread::main().unwrap());
}

#[test]
fn a_type_may_be_a_kind_of_thread() {
    bounded(|| sleepy::main().unwrap());
}

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

#[test]
fn an_increaser_is_started_set_paused_resumed_and_stopped() {
    bounded(|| increaser::main().unwrap());
}

#[test]
fn a_main_thread_waits_for_slow_work_and_serves_its_events() {
    bounded(|| async_task::main().unwrap());
}

#[test]
fn a_channel_brings_news_to_all_who_have_subscribed() {
    bounded(|| news::main().unwrap());
}

#[test]
fn events_bubble_up_and_are_broadcast_down_a_tree() {
    bounded(|| family::main().unwrap());
}

#[test]
fn a_worker_prints_what_is_fired_at_it_before_it_ends() {
    bounded(|| print_worker::main().unwrap());
}

#[test]
fn a_guard_cleans_up_when_its_worker_is_stopped() {
    bounded(|| cleanup::main().unwrap());
}

#[test]
fn a_daemon_is_stopped_and_not_waited_for_and_its_end_is_told() {
    bounded(|| daemon::main().unwrap());
}
