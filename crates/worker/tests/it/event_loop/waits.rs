//! Tests of waits: their ends, and the turns of the loop meanwhile.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Log, PATIENCE, bounded, settle, waiting};
use threadwire_worker::{
    Event, EventLoop, Remote, Stopped, Worker, cancel, checkpoint, later, listen, sleep, update, wait_event,
    wait_event_from, wait_event_timeout, wait_for, wait_forever, wait_until, wait_worker,
};

#[derive(Clone, Debug, PartialEq)]
struct Say(&'static str);

fn here() -> Remote {
    EventLoop::current().remote()
}

#[test]
fn wait_event_gives_the_event_also_on_a_thread_that_is_no_worker() {
    bounded(|| {
        let me = here();
        thread::spawn(move || me.fire(Say("x")).unwrap());
        assert_eq!(wait_event::<Say>().unwrap().data, Say("x"));
    });
}

#[test]
fn each_wait_gets_the_next_of_the_queued_events() {
    bounded(|| {
        for text in ["1", "2", "3"] {
            here().fire(Say(text)).unwrap();
        }
        for text in ["1", "2", "3"] {
            assert_eq!(wait_event::<Say>().unwrap().data, Say(text));
        }
        assert!(wait_event_timeout::<Say>(Duration::ZERO).unwrap().is_none());
    });
}

#[test]
fn events_between_waits_for_others_are_for_listeners_only() {
    bounded(|| {
        here().fire(Say("unseen")).unwrap();
        here().fire(1u8).unwrap();
        here().fire(Say("seen")).unwrap();
        wait_event::<u8>().unwrap();
        assert_eq!(wait_event::<Say>().unwrap().data, Say("seen"));
    });
}

#[test]
fn listeners_see_an_event_before_the_wait_for_it_returns() {
    bounded(|| {
        let log = Log::new();
        let said = log.clone();
        listen(move |event: &Event<Say>| said.say(event.0));
        here().fire(Say("x")).unwrap();
        wait_event::<Say>().unwrap();
        assert_eq!(log.take(), ["x"]);
    });
}

#[test]
fn wait_event_may_have_a_timeout_a_sender_and_a_condition() {
    bounded(|| {
        assert!(wait_event_timeout::<Say>(Duration::from_millis(1)).unwrap().is_none());
        let other = waiting(wait_forever);
        here().fire(Say("mine")).unwrap();
        let to = here();
        other.post(move |_| to.fire(Say("other's")).unwrap()).unwrap();
        assert_eq!(wait_event_from::<Say>(&other).unwrap().data, Say("other's"));
        for text in ["a", "b"] {
            here().fire(Say(text)).unwrap();
        }
        let found = wait_for().matching(|event: &Event<Say>| event.0 == "b").timeout(PATIENCE).wait();
        assert_eq!(found.unwrap().unwrap().data, Say("b"));
        other.stop();
    });
}

#[test]
fn nested_waits_for_the_same_event_all_get_it() {
    bounded(|| {
        let inner = Rc::new(RefCell::new(None));
        let got = Rc::clone(&inner);
        later(Duration::ZERO, move || {
            later(Duration::ZERO, || here().fire(Say("both")).unwrap());
            *got.borrow_mut() = Some(wait_event::<Say>().unwrap());
        });
        let outer = wait_event::<Say>().unwrap();
        assert!(Rc::ptr_eq(&outer, inner.borrow().as_ref().unwrap()), "it is the same one");
    });
}

#[test]
fn a_timeout_of_nothing_still_sees_what_is_there() {
    bounded(|| {
        here().fire(Say("x")).unwrap();
        update().unwrap();
        assert!(wait_event_timeout::<Say>(Duration::ZERO).unwrap().is_none(), "it came before the wait");
        assert_eq!(wait_until(Some(Duration::ZERO), || true), Ok(true));
    });
}

#[test]
fn update_drains_without_waiting() {
    bounded(|| {
        let log = Log::new();
        let said = log.clone();
        listen(move |event: &Event<Say>| said.say(event.0));
        here().fire(Say("1")).unwrap();
        here().fire(Say("2")).unwrap();
        update().unwrap();
        assert_eq!(log.take(), ["1", "2"]);
    });
}

#[test]
fn wait_worker_returns_when_it_has_ended_and_at_once_if_it_had() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let worker = Worker::spawn(move || {
            told.recv().unwrap();
            Ok(())
        });
        later(Duration::ZERO, move || tell.send(()).unwrap());
        wait_worker(&worker).unwrap();
        assert!(worker.has_ended());
        wait_worker(&worker).unwrap();
    });
}

#[test]
fn later_runs_on_this_thread_or_by_post_on_another_and_can_be_cancelled() {
    bounded(|| {
        let ran = Rc::new(Cell::new(false));
        let (runs, me) = (Rc::clone(&ran), thread::current().id());
        later(Duration::ZERO, move || {
            assert_eq!(thread::current().id(), me);
            runs.set(true);
        });
        let cancelled = later(Duration::ZERO, || panic!("it was cancelled"));
        assert!(cancel(cancelled));
        assert!(!cancel(cancelled));
        wait_until(None, || ran.get()).unwrap();

        let worker = waiting(wait_forever);
        let to = here();
        let call = move |event_loop: &EventLoop| {
            event_loop.after(Duration::ZERO, move || to.fire(Say("later")).unwrap());
        };
        worker.post(call).unwrap();
        assert_eq!(wait_event::<Say>().unwrap().sender, Some(worker.id()));
        worker.stop();
    });
}

#[test]
fn checkpoint_stops_a_task_that_computes() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let worker = Worker::spawn(move || -> Result<(), Stopped> {
            tell.send(()).unwrap();
            loop {
                checkpoint()?;
            }
        });
        told.recv().unwrap();
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
    });
}

#[test]
fn checkpoint_delivers_events_and_rings_timers() {
    bounded(|| {
        let log = Log::new();
        let (said, rings) = (log.clone(), log.clone());
        listen(move |event: &Event<Say>| said.say(event.0));
        later(Duration::ZERO, move || rings.say("timer"));
        checkpoint().unwrap();
        here().fire(Say("event")).unwrap();
        checkpoint().unwrap();
        assert!(log.take().contains(&"event".to_owned()));
        let rings = log.clone();
        later(Duration::ZERO, move || rings.say("another timer"));
        let start = Instant::now();
        while log.is_empty() {
            checkpoint().unwrap();
        }
        assert!(start.elapsed() < PATIENCE);
    });
}

#[test]
fn checkpoint_holds_a_task_that_is_paused() {
    bounded(|| {
        let me = here();
        let worker = Worker::spawn(move || {
            wait_event::<Say>()?;
            me.fire(Say("computes")).unwrap();
            while me.fire(0u8).is_ok() {
                checkpoint()?;
            }
            Ok(())
        });
        worker.fire(Say("go")).unwrap();
        wait_event::<Say>().unwrap();
        worker.pause();
        // Its loop answers once the task is held.
        settle(&worker);
        while here().queued() > 0 {
            update().unwrap();
        }
        assert!(wait_event_timeout::<u8>(Duration::from_millis(2)).unwrap().is_none());
        worker.resume();
        wait_event::<u8>().unwrap();
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
    });
}

#[test]
fn every_wait_returns_at_once_after_a_stop() {
    bounded(|| {
        let other = waiting(wait_forever);
        let remote = other.remote();
        let worker = Worker::spawn(move || {
            here().stop();
            assert_eq!(wait_event::<Say>().unwrap_err(), Stopped);
            assert_eq!(wait_event_timeout::<Say>(PATIENCE).unwrap_err(), Stopped);
            assert_eq!(wait_event_from::<Say>(&remote).unwrap_err(), Stopped);
            assert_eq!(wait_worker(&remote), Err(Stopped));
            assert_eq!(wait_until(None, || true), Err(Stopped));
            assert_eq!(sleep(PATIENCE), Err(Stopped));
            assert_eq!(update(), Err(Stopped));
            assert_eq!(checkpoint(), Err(Stopped));
            Ok(())
        });
        assert!(worker.join().unwrap().done().is_some());
        other.stop();
    });
}

#[test]
fn a_stop_of_a_sleeping_worker_takes_effect_at_once() {
    bounded(|| {
        let mut times: Vec<_> = (0..20)
            .map(|_| {
                let worker = waiting(|| sleep(PATIENCE));
                let start = Instant::now();
                worker.stop();
                worker.join().unwrap();
                start.elapsed()
            })
            .collect();
        times.sort();
        // The goal is 1 ms; the rest is for machines that are busy with other tests.
        assert!(times[10] < Duration::from_millis(20), "{times:?}");
    });
}
