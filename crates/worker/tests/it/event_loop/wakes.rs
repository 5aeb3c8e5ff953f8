//! Tests of wake-ups, and of the identity of a loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::common::{bounded, waiting};
use threadwire_worker::{Event, Restartable, Worker, current, wait_forever, wait_until};

#[test]
fn a_wake_has_a_sleeping_wait_ask_again() {
    bounded(|| {
        let flag = Arc::new(AtomicBool::new(false));
        let worker = waiting({
            let flag = Arc::clone(&flag);
            move || wait_until(None, || flag.load(Ordering::SeqCst))
        });
        flag.store(true, Ordering::SeqCst);
        worker.wake();
        assert_eq!(worker.join().unwrap().done(), Some(true));
    });
}

#[test]
fn a_wake_before_the_loop_sleeps_is_not_lost() {
    bounded(|| {
        let here = current();
        let mut asked = 0;
        wait_until(None, || {
            asked += 1;
            // The first time it is about to sleep for good.
            here.wake();
            asked == 3
        })
        .unwrap();
        assert_eq!(asked, 3);
    });
}

#[test]
fn wakes_are_no_mail_and_leave_nothing_in_the_inbox() {
    bounded(|| {
        let here = current();
        (0..10).for_each(|_| here.wake());
        assert_eq!(here.queued(), 0);
    });
}

#[test]
fn each_of_many_changes_that_is_followed_by_a_wake_is_seen() {
    bounded(|| {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = Arc::new(AtomicUsize::new(0));
        let worker = Worker::spawn({
            let (count, seen) = (Arc::clone(&count), Arc::clone(&seen));
            move || {
                wait_until(None, || {
                    seen.store(count.load(Ordering::SeqCst), Ordering::SeqCst);
                    seen.load(Ordering::SeqCst) == 1000
                })
            }
        });
        for number in 1..=1000 {
            count.store(number, Ordering::SeqCst);
            worker.wake();
            while seen.load(Ordering::SeqCst) < number {
                thread::yield_now();
            }
        }
        assert_eq!(worker.join().unwrap().done(), Some(true));
    });
}

#[test]
fn a_worker_that_has_ended_or_has_not_begun_is_not_disturbed_by_a_wake() {
    bounded(|| {
        let worker = Restartable::new(|()| Ok(7));
        worker.wake();
        assert_eq!(worker.start(()).unwrap().join().unwrap().done(), Some(7));
        worker.wake();
        assert_eq!(worker.start(()).unwrap().join().unwrap().done(), Some(7));
    });
}

#[test]
fn a_remote_knows_whether_it_is_that_of_the_calling_thread() {
    bounded(|| {
        let worker = waiting(wait_forever);
        assert!(current().is_current());
        assert!(!worker.is_current());
        let other = Worker::spawn(|| Ok(current().is_current()));
        assert_eq!(other.join().unwrap().done(), Some(true));
        worker.stop();
    });
}

#[test]
fn while_another_worker_runs_on_top_of_it_a_worker_is_not_the_current_one() {
    bounded(|| {
        let below = current();
        let asks = below.clone();
        let worker = Restartable::new(move |()| Ok((asks.is_current(), current().is_current())));
        assert_eq!(worker.start_overlay(()).unwrap().done(), Some((false, true)));
        assert!(below.is_current());
    });
}

#[test]
fn asking_whether_it_is_the_current_one_gives_no_loop_to_a_thread_that_has_none() {
    bounded(|| {
        let here = current();
        let sender = thread::spawn(move || {
            assert!(!here.is_current());
            Event::new(()).sender
        });
        assert_eq!(sender.join().unwrap(), None);
    });
}
