//! Tests of flags that wake who waits for them, and of a wait that looks at a plain variable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use threadwire_worker::{Event, Flag, Stopped, Worker, current, listen, wait_until};

use crate::common::{bounded, waiting};

#[test]
fn a_variable_that_another_thread_changes_is_seen_without_a_wake() {
    bounded(|| {
        let flag = Arc::new(AtomicBool::new(false));
        let worker = waiting({
            let flag = Arc::clone(&flag);
            move || wait_until(None, || flag.load(Ordering::SeqCst))
        });
        flag.store(true, Ordering::SeqCst);
        assert_eq!(worker.join().unwrap().done(), Some(true));
    });
}

#[test]
fn asking_again_and_again_does_not_outlast_the_time_of_the_wait() {
    bounded(|| {
        assert!(!wait_until(Some(Duration::from_millis(120)), || false).unwrap());
    });
}

#[test]
fn a_flag_wakes_all_who_wait_for_it() {
    bounded(|| {
        let flag = Flag::new();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let flag = flag.clone();
                waiting(move || flag.wait())
            })
            .collect();
        assert!(flag.set());
        assert!(!flag.set(), "it is set");
        for worker in workers {
            assert_eq!(worker.join().unwrap().done(), Some(()));
        }
    });
}

#[test]
fn a_flag_that_is_set_is_not_waited_for() {
    bounded(|| {
        let flag = Flag::new();
        assert!(!flag.is_set());
        flag.set();
        flag.wait().unwrap();
        assert!(flag.wait_timeout(Duration::ZERO).unwrap());
        assert!(flag.clear());
        assert!(!flag.clear(), "it is not set");
        assert!(!flag.wait_timeout(Duration::from_millis(1)).unwrap());
    });
}

#[test]
fn a_wait_sees_a_flag_that_was_cleared_right_after_it_was_set() {
    bounded(|| {
        let flag = Flag::new();
        for _ in 0..100 {
            let waits = flag.clone();
            let worker = waiting(move || waits.wait());
            flag.set();
            flag.clear();
            assert_eq!(worker.join().unwrap().done(), Some(()));
        }
    });
}

#[test]
fn a_flag_is_set_by_a_thread_that_is_no_worker_and_by_a_callback() {
    bounded(|| {
        let flag = Flag::new();
        let sets = flag.clone();
        thread::spawn(move || sets.set()).join().unwrap();
        flag.wait().unwrap();
        flag.clear();
        let sets = flag.clone();
        listen(move |_: &Event<()>| assert!(sets.set()));
        current().fire(()).unwrap();
        flag.wait().unwrap();
    });
}

#[test]
fn a_stop_ends_the_wait_for_a_flag() {
    bounded(|| {
        let flag = Flag::new();
        let worker = Worker::spawn({
            let flag = flag.clone();
            move || -> Result<(), Stopped> { flag.wait() }
        });
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
        assert!(!flag.is_set());
    });
}
