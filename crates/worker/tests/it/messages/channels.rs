//! Tests of channels: published and missed events.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::{bounded, settle, waiting};
use threadwire_worker::{
    Channel, Event, EventLoop, Overflow, Restartable, Worker, later, listen, update, wait_event,
    wait_event_timeout, wait_forever,
};

#[derive(Clone, Debug, PartialEq)]
struct News(usize);

#[test]
fn all_subscribers_get_what_is_published_with_its_sender_and_in_order() {
    bounded(|| {
        let channel = Channel::new();
        let got = Arc::new(Mutex::new(Vec::new()));
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let (channel, notes) = (channel.clone(), Arc::clone(&got));
                waiting(move || {
                    channel.subscribe();
                    let id = EventLoop::current().remote().id();
                    listen(move |event: &Event<News>| {
                        notes.lock().unwrap().push((id, event.0, event.sender.unwrap()));
                    });
                    wait_forever()
                })
            })
            .collect();
        let me = EventLoop::current().remote().id();
        for number in 0..5 {
            assert_eq!(channel.publish(News(number)), 3);
        }
        workers.iter().for_each(|worker| settle(worker));
        let got = got.lock().unwrap();
        for worker in &workers {
            let mine = got.iter().filter(|(id, ..)| *id == worker.id());
            assert!(mine.map(|(_, number, from)| (*number, *from)).eq((0..5).map(|number| (number, me))));
            worker.stop();
        }
    });
}

#[test]
fn any_thread_may_publish() {
    bounded(|| {
        let channel = Channel::new();
        channel.subscribe();
        let publisher = channel.clone();
        thread::spawn(move || publisher.publish(News(1))).join().unwrap();
        assert_eq!(wait_event::<News>().unwrap().data, News(1));
    });
}

#[test]
fn who_unsubscribes_gets_no_more() {
    bounded(|| {
        let channel = Channel::new();
        let subscription = channel.subscribe();
        assert_eq!(channel.publish(News(1)), 1);
        subscription.unsubscribe();
        assert_eq!((channel.publish(News(2)), channel.subscribers()), (0, 0));
        assert!(wait_event_timeout::<News>(Duration::ZERO).unwrap().is_none());
    });
}

#[test]
fn a_worker_that_ended_is_dropped_from_the_list() {
    bounded(|| {
        let channel = Channel::new();
        let subscribes = channel.clone();
        let worker = Restartable::new(move |()| {
            subscribes.subscribe();
            wait_event::<News>().map(|event| event.0)
        });
        for round in 1..4 {
            let run = worker.start(()).unwrap();
            settle(&worker);
            assert_eq!(channel.subscribers(), 1);
            assert_eq!(channel.publish(News(round)), 1, "once, not once for each run");
            assert_eq!(run.join().unwrap().done(), Some(round));
            assert_eq!(channel.publish(News(0)), 0);
            assert_eq!(channel.subscribers(), 0);
        }
    });
}

#[test]
fn a_subscription_keeps_no_worker_alive() {
    bounded(|| {
        let channel = Channel::<News>::new();
        let held = Arc::new(());
        let (subscribes, holds) = (channel.clone(), Arc::clone(&held));
        let worker = Worker::spawn(move || {
            subscribes.subscribe();
            listen(move |_: &Event<News>| drop(Arc::clone(&holds)));
            Ok(())
        });
        worker.join().unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(channel.publish(News(1)), 0);
    });
}

#[test]
fn a_slow_subscriber_misses_what_does_not_fit_and_only_that_one() {
    bounded(|| {
        let channel = Channel::new();
        let refuses = channel.subscribe_within(2, Overflow::Error);
        let all = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&all);
        let other = waiting(wait_forever);
        other.listen(move |_: &Event<News>| {
            counts.fetch_add(1, Ordering::SeqCst);
        });
        channel.add(&other, None);
        for number in 0..10 {
            assert_eq!(channel.publish(News(number)), if number < 2 { 2 } else { 1 });
        }
        assert_eq!((refuses.missed(), refuses.queued()), (8, 2));
        settle(&other);
        assert_eq!(all.load(Ordering::SeqCst), 10);
        assert_eq!(wait_event::<News>().unwrap().data, News(0));
        assert_eq!(wait_event::<News>().unwrap().data, News(1));
        assert_eq!(refuses.queued(), 0);
        channel.publish(News(10));
        assert_eq!(wait_event::<News>().unwrap().data, News(10));
        other.stop();
    });
}

#[test]
fn the_newest_are_kept_where_the_oldest_are_dropped() {
    bounded(|| {
        let channel = Channel::new();
        let subscription = channel.subscribe_within(3, Overflow::DropOldest);
        (0..10).for_each(|number| assert_eq!(channel.publish(News(number)), 1));
        assert_eq!(subscription.missed(), 7);
        assert_eq!(EventLoop::current().remote().queued(), 3, "nothing else piles up");
        for number in 7..10 {
            assert_eq!(wait_event::<News>().unwrap().data, News(number));
        }
        let none = channel.subscribe_within(0, Overflow::DropOldest);
        channel.publish(News(10));
        assert_eq!(none.missed(), 1);
    });
}

#[test]
fn a_publisher_may_wait_for_a_slow_subscriber_while_its_own_loop_goes_on() {
    bounded(|| {
        let channel = Channel::new();
        let (go, goes) = mpsc::channel::<()>();
        let got = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&got);
        let worker = Worker::spawn(move || {
            listen(move |event: &Event<News>| assert_eq!(event.0, counts.fetch_add(1, Ordering::SeqCst)));
            goes.recv().unwrap();
            wait_forever()
        });
        let subscription = channel.add(&worker, Some((1, Overflow::Wait)));
        later(Duration::ZERO, move || go.send(()).unwrap());
        (0..100).for_each(|number| assert_eq!(channel.publish(News(number)), 1));
        settle(&worker);
        assert_eq!((got.load(Ordering::SeqCst), subscription.missed()), (100, 0));
        worker.stop();
        worker.join().unwrap();
    });
}

#[test]
fn a_publisher_that_waits_goes_on_when_the_subscriber_ends() {
    bounded(|| {
        let channel = Channel::new();
        let (go, goes) = mpsc::channel::<()>();
        let worker = Worker::spawn(move || {
            goes.recv().unwrap();
            Ok(())
        });
        channel.add(&worker, Some((1, Overflow::Wait)));
        assert_eq!(channel.publish(News(0)), 1);
        worker.stop_now();
        later(Duration::ZERO, move || go.send(()).unwrap());
        assert!(channel.publish(News(1)) <= 1);
        worker.join().unwrap();
    });
}

#[test]
fn listeners_may_publish_and_subscribe() {
    bounded(|| {
        let channel = Channel::new();
        let again = channel.clone();
        channel.subscribe_within(1, Overflow::Wait);
        listen(move |event: &Event<News>| {
            if event.0 < 3 {
                again.publish(News(event.0 + 1));
                drop(again.subscribe());
            }
        });
        channel.publish(News(0));
        (0..5).for_each(|_| update().unwrap());
        // One more for each event: one 0, one 1, and two 2s since there were two subscriptions by then.
        assert_eq!(channel.subscribers(), 1 + 1 + 1 + 2);
    });
}
