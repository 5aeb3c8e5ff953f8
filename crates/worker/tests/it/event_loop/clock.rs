//! Tests of the time of a turn.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::common::bounded;
use threadwire_worker::{EventLoop, Worker, update, wait_until};

/// Lets the clock move on, without the loop.
fn pass() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(100) {}
}

#[test]
fn time_stands_still_between_turns_while_it_is_kept() {
    bounded(|| {
        let event_loop = EventLoop::current();
        let before = Instant::now();
        let _keeper = event_loop.keep_time();
        let first = event_loop.turned_at();
        assert!(first >= before);
        pass();
        assert_eq!(event_loop.turned_at(), first);
        let before = Instant::now();
        update().unwrap();
        let second = event_loop.turned_at();
        assert!(second >= before && second <= Instant::now());
    });
}

#[test]
fn time_that_nobody_keeps_is_the_present() {
    bounded(|| {
        let event_loop = EventLoop::current();
        let before = Instant::now();
        let told = event_loop.turned_at();
        assert!(told >= before && told <= Instant::now());
        drop(event_loop.keep_time());
        pass();
        let before = Instant::now();
        assert!(event_loop.turned_at() >= before);
    });
}

#[test]
fn time_is_kept_until_the_last_keeper_is_gone() {
    bounded(|| {
        let event_loop = EventLoop::current();
        let (one, other) = (event_loop.keep_time(), event_loop.keep_time());
        let told = event_loop.turned_at();
        drop(one);
        pass();
        assert_eq!(event_loop.turned_at(), told);
        drop(other);
        assert!(event_loop.turned_at() > told);
    });
}

#[test]
fn a_keeper_that_comes_later_is_not_told_an_old_time() {
    bounded(|| {
        let event_loop = EventLoop::current();
        drop(event_loop.keep_time());
        pass();
        let before = Instant::now();
        let _keeper = event_loop.keep_time();
        assert!(event_loop.turned_at() >= before);
    });
}

#[test]
fn all_that_one_turn_calls_has_one_time_and_a_nested_turn_has_its_own() {
    bounded(|| {
        let event_loop = EventLoop::current();
        let _keeper = event_loop.keep_time();
        let (told, calls) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(0)));
        let due = Instant::now();
        for _ in 0..2 {
            let (told, calls) = (Rc::clone(&told), Rc::clone(&calls));
            event_loop.at(due, move || {
                let now = EventLoop::current().turned_at();
                assert_eq!(told.replace(Some(now)).unwrap_or(now), now);
                calls.set(calls.get() + 1);
                pass();
            });
        }
        let (last, all) = (Rc::clone(&told), Rc::clone(&calls));
        event_loop.at(due, move || {
            let outer = EventLoop::current().turned_at();
            assert_eq!(last.get(), Some(outer));
            pass();
            let before = Instant::now();
            update().unwrap();
            assert!(EventLoop::current().turned_at() >= before);
            all.set(all.get() + 1);
        });
        wait_until(None, || calls.get() == 3).unwrap();
    });
}

#[test]
fn a_keeper_may_outlive_its_loop() {
    bounded(|| {
        let mut keeper = None;
        Worker::<()>::builder().run(|| {
            keeper = Some(EventLoop::current().keep_time());
            Ok(())
        });
        drop(keeper);
    });
}
