//! Tests of spawning and joining workers.

use std::cell::RefCell;
use std::io::Read;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Log, PATIENCE, Probe, bounded, waiting};
use threadwire_worker::{
    Ended, EventLoop, Rejected, Remote, Stopped, Worker, sleep, update, wait_forever, wait_until,
};

#[test]
fn join_gives_the_result() {
    bounded(|| {
        assert_eq!(Worker::spawn(|| Ok("done".to_owned())).join().unwrap().done().as_deref(), Some("done"));
        let ended = Worker::<()>::spawn(|| Err(Stopped)).join().unwrap();
        assert!(ended.was_stopped());
        assert!(ended.done().is_none());
    });
}

#[test]
fn join_gives_the_payload_of_a_panic() {
    bounded(|| {
        let number = 1;
        let ended = Worker::<()>::spawn(move || panic!("boom {number}")).join().unwrap();
        assert!(!ended.was_stopped());
        match ended {
            Ended::Panicked(payload) => assert_eq!(payload.downcast_ref::<String>().unwrap(), "boom 1"),
            other => panic!("{other:?}"),
        }
        let ended = Worker::<()>::spawn(|| std::panic::panic_any(42)).join().unwrap();
        assert!(matches!(&ended, Ended::Panicked(payload) if payload.downcast_ref() == Some(&42)));
        assert!(ended.done().is_none());
    });
}

#[test]
fn join_serves_the_loop_of_the_caller() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let worker = Worker::spawn(move || {
            told.recv().unwrap();
            Ok(())
        });
        // The worker ends only if a timer of this thread runs.
        EventLoop::current().after(Duration::ZERO, move || tell.send(()).unwrap());
        assert!(worker.join().unwrap().done().is_some());
    });
}

#[test]
fn join_of_a_worker_that_has_ended_returns_at_once() {
    bounded(|| {
        let worker = Worker::spawn(|| Ok(1));
        while !worker.has_ended() {
            thread::yield_now();
        }
        assert_eq!(worker.join().unwrap().done(), Some(1));
    });
}

#[test]
fn a_caller_that_is_stopped_joins_no_more() {
    bounded(|| {
        let inner = Arc::new(Mutex::new(None::<Remote>));
        let kept = Arc::clone(&inner);
        let outer = waiting(move || {
            let worker = Worker::spawn(wait_forever);
            *kept.lock().unwrap() = Some(worker.remote());
            worker.join().map(|_| ())
        });
        outer.stop();
        assert!(outer.join().unwrap().was_stopped());
        inner.lock().unwrap().take().unwrap().stop();
    });
}

#[test]
fn a_worker_has_the_name_it_was_given() {
    bounded(|| {
        let name = || Ok(thread::current().name().map(str::to_owned));
        let worker = Worker::builder().name("printer").spawn(name).unwrap();
        assert_eq!(worker.join().unwrap().done().unwrap().as_deref(), Some("printer"));
        assert_eq!(Worker::spawn(name).join().unwrap().done().unwrap(), None);
    });
}

#[test]
fn stop_wakes_a_worker_that_sleeps() {
    bounded(|| {
        for _ in 0..100 {
            let worker = waiting(wait_forever);
            worker.stop();
            assert!(worker.join().unwrap().was_stopped());
        }
        let worker = waiting(|| sleep(Duration::MAX));
        worker.remote().stop();
        assert!(worker.join().unwrap().was_stopped());
    });
}

#[test]
fn a_worker_that_is_stopped_before_it_waits_does_not_wait() {
    bounded(|| {
        let (tell, told) = mpsc::channel::<()>();
        let worker = Worker::spawn(move || {
            told.recv().unwrap();
            wait_forever()
        });
        worker.stop();
        tell.send(()).unwrap();
        assert!(worker.join().unwrap().was_stopped());
    });
}

#[test]
fn a_worker_may_catch_its_stop_and_come_to_its_end() {
    bounded(|| {
        let worker = waiting(|| {
            assert_eq!(wait_forever(), Err(Stopped));
            Ok("cleaned up")
        });
        worker.stop();
        assert_eq!(worker.join().unwrap().done(), Some("cleaned up"));
    });
}

#[test]
fn a_worker_may_stop_itself() {
    bounded(|| {
        let worker = Worker::spawn(|| {
            EventLoop::current().remote().stop();
            wait_forever()
        });
        assert!(worker.join().unwrap().was_stopped());
    });
}

#[test]
fn stop_goes_ahead_of_queued_calls_which_are_still_done_before_the_end() {
    bounded(|| {
        let ran = Arc::new(AtomicUsize::new(0));
        let (reached, reaches) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let at_stop = Arc::clone(&ran);
        let worker = Worker::spawn(move || {
            let waited = wait_forever();
            Ok((waited, at_stop.load(Ordering::SeqCst)))
        });
        let remote = worker.remote();
        // The loop is held up in a call; behind it lie many others, and then the stop.
        remote
            .post(move |_| {
                reached.send(()).unwrap();
                goes.recv().unwrap();
            })
            .unwrap();
        reaches.recv().unwrap();
        for _ in 0..1000 {
            let ran = Arc::clone(&ran);
            let count = move |_: &EventLoop| {
                ran.fetch_add(1, Ordering::SeqCst);
            };
            remote.post(count).unwrap();
        }
        worker.stop();
        go.send(()).unwrap();
        assert_eq!(worker.join().unwrap().done(), Some((Err(Stopped), 0)));
        assert_eq!(ran.load(Ordering::SeqCst), 1000);
    });
}

#[test]
fn what_was_posted_before_the_end_is_still_done() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let worker = Worker::spawn(move || {
            // It never waits.
            goes.recv().unwrap();
            Ok(())
        });
        for number in 0..1000 {
            let tell = tell.clone();
            worker.remote().post(move |_| tell.send(number).unwrap()).unwrap();
        }
        drop(tell);
        go.send(()).unwrap();
        assert_eq!(told.iter().collect::<Vec<_>>(), (0..1000).collect::<Vec<_>>());
        worker.join().unwrap();
    });
}

#[test]
fn calls_that_are_done_at_the_end_may_post_and_do_not_wait() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let worker = Worker::spawn(move || {
            goes.recv().unwrap();
            Ok(())
        });
        worker
            .remote()
            .post(move |event_loop| {
                assert_eq!(wait_forever(), Err(Stopped));
                event_loop.remote().post(move |_| tell.send("from the last call").unwrap()).unwrap();
            })
            .unwrap();
        go.send(()).unwrap();
        assert_eq!(told.recv().unwrap(), "from the last call");
        worker.join().unwrap();
    });
}

#[test]
fn a_call_that_comes_after_the_end_is_rejected() {
    bounded(|| {
        let worker = Worker::spawn(|| Ok(()));
        let remote = worker.remote();
        worker.join().unwrap();
        let dropped = Arc::new(());
        let held = Arc::clone(&dropped);
        assert_eq!(remote.post(move |_| drop(held)), Err(Rejected));
        assert_eq!(Arc::strong_count(&dropped), 1, "what it held is dropped");
        // Stopping what has ended is no mistake.
        remote.stop();
    });
}

#[test]
fn every_call_is_run_or_rejected_or_dropped() {
    bounded(|| {
        for _ in 0..50 {
            let worker = Worker::spawn(|| Ok(()));
            let remote = worker.remote();
            let (ran, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
            let mut rejected = 0;
            for _ in 0..200 {
                let (runs, holds) = (Arc::clone(&ran), Arc::clone(&held));
                let posted = remote.post(move |_| {
                    runs.fetch_add(1, Ordering::SeqCst);
                    drop(holds);
                });
                rejected += usize::from(posted.is_err());
            }
            worker.join().unwrap();
            assert!(ran.load(Ordering::SeqCst) + rejected <= 200);
            assert_eq!(Arc::strong_count(&held), 1, "a call was kept");
        }
    });
}

#[test]
fn a_panic_in_a_timer_leaves_the_worker_alive() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let worker = Worker::spawn(move || {
            EventLoop::current().after(Duration::ZERO, || panic!("boom"));
            EventLoop::current().after(Duration::ZERO, move || tell.send("still done").unwrap());
            wait_forever()
        });
        assert_eq!(told.recv(), Ok("still done"));
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
    });
}

#[test]
fn a_panic_in_a_call_leaves_the_worker_alive() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let worker = Worker::spawn(move || {
            goes.recv().unwrap();
            wait_forever()
        });
        worker.remote().post(|_| panic!("boom")).unwrap();
        worker.remote().post(move |_| tell.send("still done").unwrap()).unwrap();
        go.send(()).unwrap();
        assert_eq!(told.recv(), Ok("still done"));
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
    });
}

#[test]
fn sources_are_told_to_stop_and_may_finish() {
    bounded(|| {
        let log = Log::new();
        let mut kept = Vec::new();
        let ended = Worker::<()>::builder().grace(PATIENCE).run(|| {
            for name in ["a", "b"] {
                kept.push(Probe::attach(name, &log, |_| {}).1);
            }
            Err::<(), _>(Stopped)
        });
        assert!(ended.was_stopped());
        assert_eq!(log.take(), ["a: stop", "a: dropped", "b: stop", "b: dropped"]);
        for socket in &mut kept {
            assert_eq!(socket.read(&mut [0]).unwrap(), 0, "its socket is closed");
        }
    });
}

#[test]
fn a_source_that_finishes_late_has_its_time() {
    bounded(|| {
        let log = Log::new();
        let theirs = log.clone();
        let start = Instant::now();
        let mut kept = None;
        let ended = Worker::<()>::builder().grace(PATIENCE).run(|| {
            let (probe, ours) = Probe::attach_stubborn("a", &theirs);
            kept = Some(ours);
            let log = theirs.clone();
            EventLoop::current().after(Duration::from_millis(5), move || {
                log.say("timers run at the end too");
                probe.detach();
            });
            Ok(())
        });
        assert!(ended.done().is_some());
        assert_eq!(log.take(), ["a: stop", "timers run at the end too", "a: dropped"]);
        assert!(start.elapsed() >= Duration::from_millis(5));
    });
}

#[test]
fn a_source_that_never_finishes_is_abandoned_once() {
    bounded(|| {
        let log = Log::new();
        let theirs = log.clone();
        let grace = Duration::from_millis(5);
        let start = Instant::now();
        let mut kept = Vec::new();
        let ended = Worker::<()>::builder().grace(grace).run(|| {
            kept.push(Probe::attach_stubborn("stubborn", &theirs).1);
            kept.push(Probe::attach("good", &theirs, |_| {}).1);
            Ok(())
        });
        assert!(ended.done().is_some());
        assert!(start.elapsed() >= grace, "it had its time");
        let expected =
            ["stubborn: stop", "good: stop", "good: dropped", "stubborn: abandon", "stubborn: dropped"];
        assert_eq!(log.take(), expected);
    });
}

#[test]
fn no_grace_is_no_time() {
    bounded(|| {
        let log = Log::new();
        let theirs = log.clone();
        let mut kept = None;
        let ended = Worker::<()>::builder().grace(Duration::ZERO).run(|| {
            kept = Some(Probe::attach_stubborn("a", &theirs).1);
            Ok(())
        });
        assert!(ended.done().is_some());
        assert_eq!(log.take(), ["a: stop", "a: abandon", "a: dropped"]);
    });
}

#[test]
fn timers_that_are_left_are_dropped_without_being_run() {
    bounded(|| {
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let worker = Worker::spawn(move || {
            EventLoop::current().after(PATIENCE, move || {
                drop(holds);
                panic!("it ran");
            });
            Ok(())
        });
        assert!(worker.join().unwrap().done().is_some());
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

#[test]
fn runs_on_the_calling_thread() {
    bounded(|| {
        let here = thread::current().id();
        let mut borrowed = Vec::new();
        let ended = Worker::<()>::builder().run(|| {
            borrowed.push(thread::current().id());
            let remote = EventLoop::current().remote();
            thread::spawn(move || remote.stop());
            wait_forever()
        });
        assert!(ended.was_stopped());
        assert_eq!(borrowed, [here]);
        let ended = Worker::<()>::builder().run(|| -> Result<(), Stopped> { panic!("boom") });
        assert!(matches!(ended, Ended::Panicked(_)));
        // The thread goes on with a fresh loop.
        update().unwrap();
        assert_eq!(wait_until(None, || true), Ok(true));
    });
}

#[test]
fn workers_call_each_other() {
    bounded(|| {
        const ROUNDS: usize = 1000;
        fn pass(from: Remote, to: Remote, left: usize, done: mpsc::Sender<()>) {
            if left == 0 {
                return done.send(()).unwrap();
            }
            let (back, next) = (from.clone(), to.clone());
            to.post(move |_| pass(next, back, left - 1, done)).unwrap();
        }
        let (one, two) = (Worker::spawn(wait_forever), Worker::spawn(wait_forever));
        let (tell, told) = mpsc::channel();
        pass(one.remote(), two.remote(), ROUNDS, tell);
        told.recv().unwrap();
        for worker in [one, two] {
            worker.stop();
            assert!(worker.join().unwrap().was_stopped());
        }
    });
}

#[test]
fn a_worker_outlives_its_handle() {
    bounded(|| {
        let stopped = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stopped);
        let (tell, told) = mpsc::channel();
        let worker = waiting(move || {
            let waited = wait_forever();
            stops.store(true, Ordering::SeqCst);
            drop(tell);
            waited
        });
        let remote = worker.remote();
        drop(worker);
        let (answer, answered) = mpsc::channel();
        remote.post(move |_| answer.send(()).unwrap()).unwrap();
        answered.recv().unwrap();
        assert!(!stopped.load(Ordering::SeqCst));
        remote.stop();
        let nothing: Result<(), _> = told.recv();
        assert!(nothing.is_err());
        assert!(stopped.load(Ordering::SeqCst));
    });
}

#[test]
fn drop_guards_run_at_a_stop() {
    bounded(|| {
        struct Guard(mpsc::Sender<&'static str>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.send("cleaned up").unwrap();
            }
        }
        let (tell, told) = mpsc::channel();
        let worker = waiting(move || {
            let _guard = Guard(tell);
            wait_forever()
        });
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
        assert_eq!(told.iter().collect::<Vec<_>>(), ["cleaned up"]);
    });
}

#[test]
fn an_endless_delay_and_an_endless_grace_are_allowed() {
    bounded(|| {
        let ended = Worker::<()>::builder().grace(Duration::MAX).run(|| Ok(1));
        assert_eq!(ended.done(), Some(1));
        let timer = EventLoop::current().after(Duration::MAX, || {});
        update().unwrap();
        assert!(EventLoop::current().cancel(timer));
    });
}

/// Runs `act` once the loop's sources have been told to stop, which they write down.
fn once_told(log: Log, act: impl FnOnce() + 'static) {
    let look = move || if log.is_empty() { once_told(log, act) } else { act() };
    EventLoop::current().after(Duration::from_millis(1), look);
}

#[test]
fn a_source_attached_while_the_worker_ends_is_told_to_stop() {
    bounded(|| {
        let log = Log::new();
        let mut kept = None;
        let (theirs, late) = (log.clone(), Rc::new(RefCell::new(None)));
        let keeps = Rc::clone(&late);
        let ended = Worker::<()>::builder().grace(PATIENCE).run(|| {
            let (first, ours) = Probe::attach_stubborn("first", &theirs);
            kept = Some(ours);
            let log = theirs.clone();
            once_told(log.clone(), move || {
                *keeps.borrow_mut() = Some(Probe::attach("late", &log, |_| {}).1);
                first.detach();
            });
            Ok(())
        });
        assert!(ended.done().is_some());
        assert_eq!(log.take(), ["first: stop", "first: dropped", "late: stop", "late: dropped"]);
    });
}

#[test]
fn a_panic_in_a_last_call_is_contained() {
    bounded(|| {
        let log = Log::new();
        let mut kept = None;
        let ended = Worker::<()>::builder().grace(PATIENCE).run(|| {
            kept = Some(Probe::attach("a", &log, |_| {}).1);
            EventLoop::current().remote().post(|_| panic!("boom")).unwrap();
            Ok("the result")
        });
        assert_eq!(ended.done(), Some("the result"));
        assert_eq!(log.take(), ["a: stop", "a: dropped"]);
    });
}

#[test]
fn a_run_within_a_worker_ends_with_it() {
    bounded(|| {
        let worker = waiting(|| {
            let ended = Worker::<()>::builder().run(wait_forever);
            assert!(ended.was_stopped());
            assert_eq!(wait_forever(), Err(Stopped));
            Ok("cleaned up")
        });
        worker.stop();
        assert_eq!(worker.join().unwrap().done(), Some("cleaned up"));
    });
}
