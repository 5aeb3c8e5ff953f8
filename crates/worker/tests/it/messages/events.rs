//! Tests of events: delivery, order, and undeliverable ones.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use crate::common::{Log, PATIENCE, bounded, settle, waiting};
use threadwire_worker::{
    Event, EventLoop, Listen, ListenerFailed, Named, Overflow, Reject, Remote, Stopped, Undeliverable,
    Worker, listen, listen_named, sleep, unlisten, update, wait_event, wait_for, wait_forever, wait_until,
};

#[derive(Clone, Debug, PartialEq)]
struct Say(&'static str);
#[derive(Clone, Debug, PartialEq)]
struct Number(usize);

fn here() -> Remote {
    EventLoop::current().remote()
}

/// Fires at this thread, and delivers.
fn fire_here<T: Send + 'static>(data: T) {
    here().fire(data).unwrap();
    update().unwrap();
}

/// A listener's closure that writes down its name.
fn says(log: &Log, name: &'static str) -> impl FnMut(&Event<Say>) + 'static {
    let log = log.clone();
    move |event| log.say(format!("{name}: {}", event.0))
}

#[test]
fn an_event_knows_its_sender() {
    bounded(|| {
        let me = here();
        let echo = waiting(move || {
            listen(move |event: &Event<Say>| me.fire(Say(event.0)).unwrap());
            wait_forever()
        });
        let (told, sees) = (Arc::new(Mutex::new(None)), wait_for::<Say>());
        let tells = Arc::clone(&told);
        echo.listen(move |event: &Event<Say>| *tells.lock().unwrap() = Some(event.sender));
        echo.fire(Say("hello")).unwrap();
        let answer = sees.timeout(PATIENCE).wait().unwrap().unwrap();
        assert_eq!(answer.sender, Some(echo.id()));
        settle(&echo);
        assert_eq!(*told.lock().unwrap(), Some(Some(here().id())));

        // A thread without a loop has no name to give.
        let remote = here();
        thread::spawn(move || remote.fire(Number(1)).unwrap()).join().unwrap();
        assert_eq!(wait_event::<Number>().unwrap().sender, None);
        echo.stop();
        echo.join().unwrap();
    });
}

#[test]
fn listeners_run_on_the_owners_thread_within_its_waits() {
    bounded(|| {
        let (thread, ran) = (thread::current().id(), Rc::new(Cell::new(false)));
        let runs = Rc::clone(&ran);
        listen(move |_: &Event<Say>| {
            assert_eq!(thread::current().id(), thread);
            runs.set(true);
        });
        let remote = here();
        thread::spawn(move || remote.fire(Say("x")).unwrap()).join().unwrap();
        assert!(!ran.get(), "not before a wait");
        update().unwrap();
        assert!(ran.get());
    });
}

#[test]
fn higher_priority_comes_first_and_equal_in_the_order_of_registration() {
    bounded(|| {
        let log = Log::new();
        Listen::new().on(says(&log, "zero a"));
        Listen::new().priority(-1).on(says(&log, "low"));
        Listen::new().priority(5).on(says(&log, "high a"));
        Listen::new().on(says(&log, "zero b"));
        Listen::new().priority(5).on(says(&log, "high b"));
        fire_here(Say("x"));
        assert_eq!(log.take(), ["high a: x", "high b: x", "zero a: x", "zero b: x", "low: x"]);
    });
}

#[test]
fn a_listener_may_want_one_sender_only() {
    bounded(|| {
        let log = Log::new();
        let (me, other) = (here(), waiting(wait_forever));
        Listen::new().from(&other).on(says(&log, "from other"));
        Listen::new().from(&me).on(says(&log, "from me"));
        fire_here(Say("mine"));
        let to = me.clone();
        other.post(move |_| to.fire(Say("other's")).unwrap()).unwrap();
        wait_until(None, || log.len() == 2).unwrap();
        assert_eq!(log.take(), ["from me: mine", "from other: other's"]);
        other.stop();
    });
}

#[test]
fn once_is_for_the_first_event_that_fits_even_if_the_listener_fails() {
    bounded(|| {
        let log = Log::new();
        let other = waiting(wait_forever);
        let said = log.clone();
        Listen::new().from(&other).once().on(move |event: &Event<Say>| {
            said.say(event.0);
            Err("on purpose")
        });
        fire_here(Say("from the wrong one"));
        for text in ["first", "second"] {
            here().fire_event(Event::from(Say(text), other.id())).unwrap();
        }
        update().unwrap();
        assert_eq!(log.take(), ["first"]);
        other.stop();
    });
}

#[test]
fn unlisten_ends_it_and_tells_whether_it_was_there() {
    bounded(|| {
        let log = Log::new();
        let id = listen(says(&log, "a"));
        fire_here(Say("1"));
        assert!(unlisten(id));
        assert!(!unlisten(id));
        fire_here(Say("2"));
        assert_eq!(log.take(), ["a: 1"]);
        assert!(!unlisten(listen_after_end()));
    });
    fn listen_after_end() -> threadwire_worker::ListenerId {
        // Of another thread.
        thread::spawn(|| listen(|_: &Event<Say>| ())).join().unwrap()
    }
}

#[test]
fn what_a_listener_holds_is_dropped_when_it_is_removed() {
    bounded(|| {
        let held = Rc::new(());
        let holds = Rc::clone(&held);
        let id = listen(move |_: &Event<Say>| drop(Rc::clone(&holds)));
        fire_here(Say("x"));
        assert_eq!(Rc::strong_count(&held), 2);
        unlisten(id);
        assert_eq!(Rc::strong_count(&held), 1);
        // One that removes itself is dropped when it returns.
        let (holds, own) = (Rc::clone(&held), Rc::new(Cell::new(None)));
        let mine = Rc::clone(&own);
        own.set(Some(listen(move |_: &Event<Say>| {
            assert!(unlisten(mine.get().unwrap()));
            assert_eq!(Rc::strong_count(&holds), 2);
        })));
        fire_here(Say("x"));
        assert_eq!(Rc::strong_count(&held), 1);
    });
}

#[test]
fn listeners_may_change_listeners_and_that_counts_from_the_next_event_on() {
    bounded(|| {
        let log = Log::new();
        let victim = Rc::new(Cell::new(None));
        let (said, hit) = (log.clone(), Rc::clone(&victim));
        listen(move |event: &Event<Say>| {
            said.say(format!("first: {}", event.0));
            if event.0 == "1" {
                listen(says(&said, "new"));
                unlisten(hit.get().unwrap());
            }
        });
        victim.set(Some(listen(says(&log, "victim"))));
        fire_here(Say("1"));
        assert_eq!(log.take(), ["first: 1"], "what is removed is not called any more");
        fire_here(Say("2"));
        assert_eq!(log.take(), ["first: 2", "new: 2"]);
    });
}

#[test]
fn a_listener_that_waits_gets_what_came_meanwhile_when_it_returns_and_in_order() {
    bounded(|| {
        let log = Log::new();
        let (said, depth) = (log.clone(), Rc::new(Cell::new(0)));
        listen(move |event: &Event<Say>| {
            depth.set(depth.get() + 1);
            assert_eq!(depth.get(), 1, "it was entered again");
            said.say(event.0);
            if event.0 == "1" {
                here().fire(Say("2")).unwrap();
                here().fire(Say("3")).unwrap();
                let seen = said.clone();
                wait_until(None, || seen.len() == 3).unwrap();
                said.say("returns");
            }
            depth.set(depth.get() - 1);
        });
        // Others get them at once.
        let said = log.clone();
        Listen::new().priority(-1).on(move |event: &Event<Say>| said.say(format!("other: {}", event.0)));
        fire_here(Say("1"));
        assert_eq!(log.take(), ["1", "other: 2", "other: 3", "returns", "2", "3", "other: 1"]);
    });
}

#[test]
fn an_error_of_a_listener_is_reported_and_bubbles_and_the_worker_goes_on() {
    bounded(|| {
        let reports = Rc::new(RefCell::new(Vec::new()));
        let notes = Rc::clone(&reports);
        listen(move |event: &Event<ListenerFailed>| notes.borrow_mut().push(event.data.clone()));
        let own = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&own);
        let worker = Worker::builder().name("clumsy").spawn(wait_forever).unwrap();
        worker.listen(move |_: &Event<ListenerFailed>| {
            counts.fetch_add(1, Ordering::SeqCst);
        });
        let id = worker.listen(|event: &Event<Say>| match event.0 {
            "fine" => Ok(()),
            "panic" => panic!("boom"),
            other => Err(other),
        });
        for text in ["broken", "fine", "panic"] {
            worker.fire(Say(text)).unwrap();
        }
        wait_until(None, || reports.borrow().len() == 2).unwrap();
        settle(&worker);
        let reports = reports.take();
        assert_eq!((reports[0].error.as_str(), reports[1].error.as_str()), ("broken", "boom"));
        assert!(reports.iter().all(|report| report.listener == id && report.worker == worker.remote()));
        assert!(reports[0].event.ends_with("Say"));
        assert_eq!(own.load(Ordering::SeqCst), 2, "its own listeners are told too");
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
    });
}

#[test]
fn an_error_about_an_error_ends_there() {
    bounded(|| {
        let count = Rc::new(Cell::new(0));
        let counts = Rc::clone(&count);
        listen(move |_: &Event<ListenerFailed>| {
            counts.set(counts.get() + 1);
            Err("again")
        });
        listen(|_: &Event<Say>| Err("once"));
        fire_here(Say("x"));
        for _ in 0..5 {
            update().unwrap();
        }
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn a_stop_that_a_listener_passes_on_is_no_failure() {
    bounded(|| {
        let failed = Arc::new(AtomicBool::new(false));
        let notes = Arc::clone(&failed);
        let worker = waiting(move || {
            listen(move |_: &Event<ListenerFailed>| notes.store(true, Ordering::SeqCst));
            listen(|_: &Event<Say>| -> Result<(), Stopped> {
                here().stop();
                wait_forever()
            });
            wait_forever()
        });
        worker.fire(Say("x")).unwrap();
        assert!(worker.join().unwrap().was_stopped());
        assert!(!failed.load(Ordering::SeqCst));
    });
}

#[test]
fn an_event_for_a_worker_that_does_not_run_comes_back() {
    bounded(|| {
        let worker = Worker::spawn(|| Ok(()));
        let remote = worker.remote();
        worker.join().unwrap();
        let back = remote.fire(Say("x")).unwrap_err();
        assert_eq!((back.data, back.reason), (Say("x"), Undeliverable::NotRunning));
        // And as an event, for who wants that.
        remote.fire_or_reject(Number(7));
        let reject = wait_event::<Reject<Number>>().unwrap();
        assert_eq!((reject.data.data.0, reject.worker.id()), (7, remote.id()));
    });
}

#[test]
fn an_event_that_was_queued_for_a_worker_that_ends_comes_back_too() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let worker = Worker::spawn(move || {
            goes.recv().unwrap();
            wait_forever()
        });
        worker.fire_or_reject(Number(7));
        worker.stop_now();
        go.send(()).unwrap();
        assert_eq!(wait_event::<Reject<Number>>().unwrap().data.data, Number(7));
        worker.join().unwrap();
    });
}

#[test]
fn each_senders_events_keep_their_order() {
    bounded(|| {
        const EACH: usize = 500;
        let got = Arc::new(Mutex::new(Vec::new()));
        let worker = waiting(wait_forever);
        let notes = Arc::clone(&got);
        worker.listen(move |event: &Event<(usize, Number)>| {
            notes.lock().unwrap().push((event.data.0, event.data.1.0));
        });
        let senders: Vec<_> = (0..4usize)
            .map(|sender| {
                let to = worker.remote();
                thread::spawn(move || (0..EACH).for_each(|n| to.fire((sender, Number(n))).unwrap()))
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        settle(&worker);
        let got = got.lock().unwrap();
        assert_eq!(got.len(), 4 * EACH);
        for sender in 0..4 {
            let numbers: Vec<_> = got.iter().filter(|(from, _)| *from == sender).map(|(_, n)| *n).collect();
            assert_eq!(numbers, (0..EACH).collect::<Vec<_>>());
        }
        worker.stop();
    });
}

#[test]
fn events_fired_before_a_stop_are_delivered_before_the_end() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let log = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&log);
        let worker = Worker::spawn(move || {
            listen(move |event: &Event<Number>| notes.lock().unwrap().push(event.0));
            goes.recv().unwrap();
            wait_forever()
        });
        (0..1000).for_each(|n| worker.fire(Number(n)).unwrap());
        worker.stop();
        go.send(()).unwrap();
        assert!(worker.join().unwrap().was_stopped());
        assert_eq!(*log.lock().unwrap(), (0..1000).collect::<Vec<_>>());
    });
}

#[test]
fn stop_now_discards_events_and_still_runs_calls() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let (listened, called) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (listens, calls) = (Arc::clone(&listened), Arc::clone(&called));
        let worker = Worker::spawn(move || {
            listen(move |_: &Event<Say>| listens.store(true, Ordering::SeqCst));
            goes.recv().unwrap();
            wait_forever()
        });
        worker.fire(Say("x")).unwrap();
        worker.post(move |_| calls.store(true, Ordering::SeqCst)).unwrap();
        worker.stop_now();
        go.send(()).unwrap();
        assert!(worker.join().unwrap().was_stopped());
        assert!(!listened.load(Ordering::SeqCst));
        assert!(called.load(Ordering::SeqCst));
    });
}

#[test]
fn a_full_inbox_refuses_and_tells_how_full_it_is() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let worker = Worker::builder()
            .inbox(2, Overflow::Error)
            .spawn(move || {
                goes.recv().unwrap();
                wait_forever()
            })
            .unwrap();
        worker.fire(Number(0)).unwrap();
        worker.fire(Number(1)).unwrap();
        let back = worker.fire(Number(2)).unwrap_err();
        assert_eq!((back.data, back.reason), (Number(2), Undeliverable::Full));
        worker.post(|_| ()).unwrap();
        assert_eq!(worker.queued(), 3);
        go.send(()).unwrap();
        settle(&worker);
        assert_eq!(worker.queued(), 0);
        worker.fire(Number(3)).unwrap();
        worker.stop();
    });
}

#[test]
fn a_full_inbox_may_drop_the_oldest_which_goes_back_to_who_wants_it() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let got = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&got);
        let worker = Worker::builder()
            .inbox(2, Overflow::DropOldest)
            .spawn(move || {
                listen(move |event: &Event<Number>| notes.lock().unwrap().push(event.0));
                goes.recv().unwrap();
                wait_forever()
            })
            .unwrap();
        worker.fire_or_reject(Number(0));
        (1..4).for_each(|n| worker.fire(Number(n)).unwrap());
        assert_eq!(wait_event::<Reject<Number>>().unwrap().data.data, Number(0));
        go.send(()).unwrap();
        settle(&worker);
        assert_eq!(*got.lock().unwrap(), [2, 3]);
        worker.stop();
    });
}

#[test]
fn a_sender_that_waits_for_room_turns_its_own_loop() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let worker = Worker::builder()
            .inbox(1, Overflow::Wait)
            .spawn(move || {
                goes.recv().unwrap();
                wait_forever()
            })
            .unwrap();
        worker.fire(Number(0)).unwrap();
        // The worker makes room only if a timer of this thread runs.
        EventLoop::current().after(std::time::Duration::ZERO, move || go.send(()).unwrap());
        worker.fire(Number(1)).unwrap();
        (2..100).for_each(|n| worker.fire(Number(n)).unwrap());
        worker.stop();
        worker.join().unwrap();
    });
}

#[test]
fn a_sender_that_waits_for_room_obeys_its_own_stop() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let busy = Worker::builder()
            .inbox(0, Overflow::Wait)
            .spawn(move || {
                goes.recv().unwrap();
                Ok(())
            })
            .unwrap();
        let to = busy.remote();
        let sender = waiting(move || {
            wait_event::<Say>()?;
            Ok(to.fire(Number(1)).unwrap_err())
        });
        sender.fire(Say("go")).unwrap();
        sender.stop();
        let back = sender.join().unwrap();
        if let Some(back) = back.done() {
            assert_eq!((back.data, back.reason), (Number(1), Undeliverable::Stopped));
        }
        go.send(()).unwrap();
        busy.join().unwrap();
    });
}

#[test]
fn a_worker_does_not_wait_for_room_in_its_own_inbox() {
    bounded(|| {
        let worker = Worker::builder()
            .inbox(1, Overflow::Wait)
            .spawn(|| {
                (0..3).for_each(|n| here().fire(Number(n)).unwrap());
                (0..3).map(|_| wait_event::<Number>().map(|event| event.0)).collect::<Result<Vec<_>, _>>()
            })
            .unwrap();
        assert_eq!(worker.join().unwrap().done().unwrap(), [0, 1, 2]);
    });
}

#[test]
fn named_events_reach_the_listeners_of_their_name() {
    bounded(|| {
        let log = Log::new();
        let said = log.clone();
        let id = listen_named("PRINT", move |event| said.say(*event.data::<&str>().unwrap()));
        let said = log.clone();
        listen(move |event: &Event<Named>| said.say(format!("any: {}", event.name())));
        fire_here(Named::new("PRINT", "foo"));
        fire_here(Named::new("OTHER".to_owned(), 7));
        unlisten(id);
        fire_here(Named::new("PRINT", "bar"));
        assert_eq!(log.take(), ["foo", "any: PRINT", "any: OTHER", "any: PRINT"]);
    });
}

#[test]
fn any_thread_may_fire_post_stop_pause_and_watch() {
    bounded(|| {
        let worker = waiting(|| wait_event::<Say>().map(|event| event.0));
        let remote = worker.remote();
        thread::spawn(move || {
            remote.pause();
            remote.resume();
            remote.watch();
            remote.unwatch();
            remote.post(|_| ()).unwrap();
            assert_eq!((remote.children().len(), remote.broadcast(1)), (0, 0));
            remote.fire(Say("from nowhere")).unwrap();
        })
        .join()
        .unwrap();
        assert_eq!(worker.join().unwrap().done(), Some("from nowhere"));
        let worker = waiting(wait_forever);
        let remote = worker.remote();
        thread::spawn(move || remote.stop_within(PATIENCE)).join().unwrap().unwrap();
        assert!(worker.join().unwrap().was_stopped());
    });
}

#[test]
fn listeners_that_are_added_to_a_worker_see_what_is_fired_after() {
    bounded(|| {
        let worker = waiting(wait_forever);
        let count = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&count);
        let id = worker.listen(move |_: &Event<Say>| {
            counts.fetch_add(1, Ordering::SeqCst);
        });
        worker.fire(Say("x")).unwrap();
        settle(&worker);
        worker.unlisten(id);
        worker.fire(Say("x")).unwrap();
        settle(&worker);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        worker.stop();
    });
}

#[test]
fn a_flood_of_events_leaves_room_for_timers() {
    bounded(|| {
        let rang = Rc::new(Cell::new(false));
        let (rings, me) = (Rc::clone(&rang), here());
        listen(move |event: &Event<Number>| me.fire(Number(event.0 + 1)).unwrap());
        here().fire(Number(0)).unwrap();
        EventLoop::current().after(std::time::Duration::ZERO, move || rings.set(true));
        wait_until(None, || rang.get()).unwrap();
        sleep(std::time::Duration::ZERO).unwrap();
    });
}
