//! Tests of listeners: options, listeners from other threads, changes to others from within a call.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::{Log, bounded, settle, waiting};
use threadwire_worker::{
    Event, EventLoop, Listen, Named, Remote, Restartable, Worker, current, listen, listen_named, unlisten,
    update, wait_event, wait_for, wait_forever,
};

#[derive(Clone, Debug, PartialEq)]
struct Say(&'static str);

fn here() -> Remote {
    EventLoop::current().remote()
}

fn fire_here<T: Send + 'static>(data: T) {
    here().fire(data).unwrap();
    update().unwrap();
}

#[test]
fn listeners_of_a_name_have_a_priority_a_sender_and_an_end_too() {
    bounded(|| {
        let log = Log::new();
        let says = |name: &'static str| {
            let log = log.clone();
            move |event: &Event<Named>| log.say(format!("{name} {}", event.data.data::<u8>().unwrap()))
        };
        let stranger = Worker::spawn(|| Ok(()));
        Listen::new().priority(-1).on_named("A", says("low"));
        Listen::new().once().on_named("A", says("once"));
        Listen::new().from(&stranger).on_named("A", says("of a stranger"));
        Listen::new().priority(1).on_named("A", says("high"));
        listen_named("B", says("another"));
        fire_here(Named::new("B", 0u8));
        fire_here(Named::new("A", 1u8));
        fire_here(Named::new("A", 2u8));
        assert_eq!(log.take(), ["another 0", "high 1", "once 1", "low 1", "high 2", "low 2"]);
        here().fire_event(Event::from(Named::new("A", 3u8), stranger.id())).unwrap();
        update().unwrap();
        assert_eq!(log.take(), ["high 3", "of a stranger 3", "low 3"]);
        stranger.join().unwrap();
    });
}

#[test]
fn one_that_is_for_once_is_not_there_in_the_next_run_and_the_others_are_in_their_order() {
    bounded(|| {
        let told = Arc::new(Mutex::new(Vec::new()));
        let worker = Restartable::new(|()| wait_forever());
        let says = |name: &'static str| {
            let told = Arc::clone(&told);
            move |event: &Event<Say>| told.lock().unwrap().push(format!("{name} {}", event.0))
        };
        Listen::new().on_worker(&worker, says("a"));
        Listen::new().once().priority(-1).on_worker(&worker, says("once"));
        Listen::new().on_worker(&worker, says("b"));
        Listen::new().priority(1).on_worker(&worker, says("high"));
        Listen::new().from(&worker).on_worker(&worker, says("own"));
        let rounds: [(_, &[&str]); 2] =
            [("1", &["high 1", "a 1", "b 1", "once 1"]), ("2", &["high 2", "a 2", "b 2"])];
        for (round, expected) in rounds {
            let run = worker.start(()).unwrap();
            worker.fire(Say(round)).unwrap();
            settle(&worker);
            assert_eq!(std::mem::take(&mut *told.lock().unwrap()), expected);
            worker.stop();
            run.join().unwrap();
        }
    });
}

#[test]
fn one_that_fails_leaves_the_event_to_the_others_and_stays() {
    bounded(|| {
        let log = Log::new();
        let (first, second) = (log.clone(), log.clone());
        listen(move |event: &Event<Say>| {
            first.say(event.0);
            if event.0 == "panic" { panic!("boom") } else { Err("on purpose") }
        });
        listen(move |event: &Event<Say>| second.say(format!("second {}", event.0)));
        fire_here(Say("panic"));
        fire_here(Say("error"));
        assert_eq!(log.take(), ["panic", "second panic", "error", "second error"]);
    });
}

#[test]
fn one_may_wait_for_other_events_and_the_task_waits_on() {
    bounded(|| {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let hears = Rc::clone(&heard);
        listen(move |question: &Event<Say>| {
            // Ordinary code in a listener: its answer comes later.
            let answer = wait_event::<u8>().unwrap().data;
            hears.borrow_mut().push((question.0, answer));
        });
        let me = here();
        let asker = Worker::spawn(move || {
            me.fire(Say("how many?")).unwrap();
            me.fire(7u8).unwrap();
            me.fire("the end").unwrap();
            Ok(())
        });
        wait_event::<&str>().unwrap();
        assert_eq!(*heard.borrow(), [("how many?", 7)]);
        asker.join().unwrap();
    });
}

#[test]
fn one_of_the_task_can_be_removed_from_elsewhere() {
    bounded(|| {
        let count = Arc::new(AtomicUsize::new(0));
        let (counts, to) = (Arc::clone(&count), here());
        let worker = waiting(move || {
            let id = listen(move |_: &Event<Say>| {
                counts.fetch_add(1, Ordering::SeqCst);
            });
            to.fire(id).unwrap();
            wait_forever()
        });
        let id = wait_event::<threadwire_worker::ListenerId>().unwrap().data;
        worker.fire(Say("heard")).unwrap();
        worker.unlisten(id);
        worker.fire(Say("unheard")).unwrap();
        settle(&worker);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert_eq!(Arc::strong_count(&count), 1, "it was dropped");
        worker.stop();
    });
}

#[test]
fn an_event_that_is_passed_on_keeps_its_sender() {
    bounded(|| {
        let to = here();
        let relay = waiting(move || {
            listen(move |event: &Event<Say>| to.fire_event(Event { data: event.data.clone(), ..*event }));
            wait_forever()
        });
        relay.fire(Say("round")).unwrap();
        assert_eq!(wait_event::<Say>().unwrap().sender, Some(here().id()));
        relay.stop();
    });
}

#[test]
fn they_are_called_while_the_task_is_held_and_not_again_when_it_goes_on() {
    bounded(|| {
        let count = Arc::new(AtomicUsize::new(0));
        let (counts, to) = (Arc::clone(&count), here());
        let worker = waiting(move || {
            listen(move |_: &Event<Say>| {
                counts.fetch_add(1, Ordering::SeqCst);
            });
            wait_event::<u8>()?;
            // What came while it was held, and it did not wait for, is gone.
            let missed = wait_for::<Say>().timeout(std::time::Duration::ZERO).wait()?.is_none();
            to.fire(missed).unwrap();
            wait_forever()
        });
        worker.pause();
        worker.fire(Say("x")).unwrap();
        worker.fire(1u8).unwrap();
        settle(&worker);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        worker.resume();
        assert!(wait_event::<bool>().unwrap().data);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        worker.stop();
        worker.join().unwrap();
    });
}

#[test]
fn a_type_is_no_name_for_another() {
    bounded(|| {
        let heard = Rc::new(Cell::new(0));
        let hears = Rc::clone(&heard);
        listen(move |event: &Event<u64>| hears.set(event.data));
        fire_here(1i32);
        assert_eq!(heard.get(), 0);
        fire_here(2u64);
        assert_eq!(heard.get(), 2);
    });
}

#[test]
fn unlisten_on_the_own_thread_acts_at_once() {
    bounded(|| {
        let me = current();
        let heard = Rc::new(Cell::new(0));
        for by_remote in [false, true] {
            let hears = Rc::clone(&heard);
            let listener = match by_remote {
                // This one is attached when the loop turns.
                true => {
                    let id = me.listen(|event: &Event<u8>| assert_eq!(event.data, 0, "it was removed"));
                    update().unwrap();
                    id
                }
                false => listen(move |_: &Event<u8>| hears.set(hears.get() + 1)),
            };
            me.fire(1u8).unwrap();
            me.unlisten(listener);
            update().unwrap();
            assert!(!unlisten(listener), "it is gone");
        }
        assert_eq!(heard.get(), 0);
        // In the middle of a call, too.
        let id = Rc::new(Cell::new(None));
        let (own, hears, remote) = (Rc::clone(&id), Rc::clone(&heard), me.clone());
        id.set(Some(listen(move |_: &Event<u8>| {
            hears.set(hears.get() + 1);
            remote.unlisten(own.get().unwrap());
        })));
        me.fire(1u8).unwrap();
        me.fire(2u8).unwrap();
        update().unwrap();
        assert_eq!(heard.get(), 1);
    });
}

#[test]
fn events_that_nobody_listens_or_waits_for_are_counted() {
    bounded(|| {
        let me = current();
        let listener = listen(|_: &Event<String>| ());
        listen_named("SET", |_| ());
        me.fire("a &str").unwrap();
        me.fire(String::from("a String")).unwrap();
        me.fire(Named::new("SET", 1)).unwrap();
        me.fire(Named::new("GET", 1)).unwrap();
        update().unwrap();
        assert_eq!(me.unheard(), 2);
        me.unlisten(listener);
        me.fire(String::from("nobody is left")).unwrap();
        me.fire(7u32).unwrap();
        assert_eq!(wait_event::<u32>().unwrap().data, 7);
        me.fire(8u32).unwrap();
        update().unwrap();
        assert_eq!(me.unheard(), 4);
        // What the library tells by itself does not count.
        let worker = Worker::spawn(|| Ok(()));
        worker.watch();
        worker.join().unwrap();
        update().unwrap();
        assert_eq!(me.unheard(), 4);
    });
}
