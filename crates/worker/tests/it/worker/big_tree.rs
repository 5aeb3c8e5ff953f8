//! A tree of a thousand workers, and the threads that are left of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::common::process::alone;
use crate::common::{PATIENCE, bounded};
use threadwire_worker::{
    Event, EventLoop, Remote, Status, Stopped, Worker, bubble, listen, wait_event, wait_forever,
};

const SIZE: usize = 1000;
/// `BIG_TREE_ROUNDS` asks for more.
const ROUNDS: usize = 4;

/// How many threads the process has.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[cfg(not(target_os = "linux"))]
fn threads() -> usize {
    0
}

#[derive(Clone)]
struct Ping;

/// Ten children, with ten each, with nine (or eight) each: 1 + 10 + 100 + 889 is a thousand.
/// Each holds `kept`, in its task and in a listener.
fn grow(depth: usize, count: Arc<AtomicUsize>, ready: Remote, kept: Arc<()>) -> Result<(), Stopped> {
    if depth < 3 {
        for _ in 0..if depth == 2 { 9 } else { 10 } {
            if depth == 2 && count.fetch_add(1, Ordering::SeqCst) >= SIZE - 111 {
                break;
            }
            let (count, ready, kept) = (Arc::clone(&count), ready.clone(), Arc::clone(&kept));
            Worker::spawn(move || grow(depth + 1, count, ready, kept));
        }
    }
    let held = Arc::clone(&kept);
    listen(move |_: &Event<Ping>| assert!(Arc::strong_count(&held) > 1));
    ready.fire(EventLoop::current().remote()).unwrap();
    // Load: every pair of relatives has events on its way when the stop comes.
    bubble(Ping);
    wait_forever()
}

#[test]
fn a_tree_of_a_thousand_workers_stopped_at_the_root_under_load_ends_completely() {
    alone(|| {
        let before = threads();
        let rounds = std::env::var("BIG_TREE_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
        for _ in 0..rounds {
            bounded(|| {
                let here = EventLoop::current().remote();
                let count = Arc::new(AtomicUsize::new(0));
                let kept = Arc::new(());
                let root = Worker::spawn({
                    let (here, count, kept) = (here.clone(), Arc::clone(&count), Arc::clone(&kept));
                    move || grow(0, count, here, kept)
                });
                let members: Vec<Remote> =
                    (0..SIZE).map(|_| wait_event::<Remote>().unwrap().data.clone()).collect();
                let over = Arc::new(AtomicBool::new(false));
                let load = thread::spawn({
                    let (root, over) = (root.remote(), Arc::clone(&over));
                    move || {
                        while !over.load(Ordering::SeqCst) {
                            root.broadcast(Ping);
                        }
                    }
                });
                root.stop_within(PATIENCE).unwrap();
                over.store(true, Ordering::SeqCst);
                assert!(root.join().unwrap().was_stopped());
                assert!(members.iter().all(|member| matches!(member.status(), Status::Ended(_))));
                assert!(members.iter().all(|member| member.children().is_empty() && member.queued() == 0));
                assert!(here.children().is_empty());
                load.join().unwrap();
                assert_eq!(Arc::strong_count(&kept), 1, "what a worker held is still held");
            });
        }
        let patience = std::time::Instant::now() + PATIENCE;
        while threads() > before {
            assert!(std::time::Instant::now() < patience, "{} threads are left", threads() - before);
            thread::yield_now();
        }
    });
}
