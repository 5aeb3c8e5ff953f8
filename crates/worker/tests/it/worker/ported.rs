//! What programs rely on that were written for a worker library of Python: the behaviour of its own nineteen tests, without their sleeps.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use threadwire_worker::{
    Async, Channel, Defer, Event, Flag, Listen, ListenerId, Named, Remote, Restartable, Stopped, Worker,
    WorkerId, cancel, current, is_main, later, listen, sleep, update, wait_forever, wait_worker,
};

use crate::common::{bounded, settle, waiting};

fn count(by: &Arc<AtomicU32>) -> u32 {
    by.load(Ordering::SeqCst)
}

/// A worker without a task of its own, which can be started again.
fn idle() -> Restartable<(), ()> {
    Restartable::new(|()| wait_forever())
}

fn end(worker: &Remote) {
    worker.stop();
    wait_worker(worker).unwrap();
}

#[test]
fn a_task_is_started_paused_set_by_an_event_resumed_and_stopped() {
    bounded(|| {
        let number = Arc::new(AtomicU32::new(0));
        let (sets, adds) = (Arc::clone(&number), Arc::clone(&number));
        let increaser = Async::run(move || -> Result<(), Stopped> {
            listen(move |set: &Event<u32>| sets.store(set.data, Ordering::SeqCst));
            loop {
                sleep(Duration::from_millis(1))?;
                adds.fetch_add(1, Ordering::SeqCst);
            }
        });
        let worker = increaser.worker().unwrap();
        let grows = |from: u32| {
            while count(&number) <= from {
                thread::yield_now();
            }
        };
        grows(4);
        worker.pause();
        settle(worker);
        let held = count(&number);
        sleep(Duration::from_millis(20)).unwrap();
        assert_eq!(count(&number), held, "it is paused");
        worker.fire(1_000_000u32).unwrap();
        settle(worker);
        assert_eq!(count(&number), 1_000_000, "events are served meanwhile");
        worker.resume();
        grows(1_000_004);
        end(worker);
        let last = count(&number);
        sleep(Duration::from_millis(20)).unwrap();
        assert_eq!(count(&number), last);
        assert!(increaser.get().is_err());
    });
}

#[test]
fn a_parent_that_is_stopped_and_joined_leaves_no_child_at_work() {
    bounded(|| {
        let parent = Worker::spawn(wait_forever);
        let child = Worker::builder().parent(&parent).spawn(wait_forever).unwrap();
        parent.stop();
        assert!(parent.join().unwrap().was_stopped());
        assert!(child.has_ended());
    });
}

#[test]
fn daemons_are_inherited_and_not_waited_for() {
    bounded(|| {
        assert!(!current().is_daemon());
        let parent = Worker::spawn(wait_forever);
        assert!(!parent.is_daemon());
        let daemon = Worker::builder().daemon(true).spawn(wait_forever).unwrap();
        assert!(Worker::builder().parent(&daemon).spawn(wait_forever).unwrap().is_daemon());
        end(&daemon);

        let waited_for = Worker::builder().parent(&parent).spawn(wait_forever).unwrap();
        let (release, released) = mpsc::channel::<()>();
        let blocks = move || Ok(released.recv().is_err());
        let left = Worker::builder().parent(&parent).daemon(true).spawn(blocks).unwrap();
        end(&parent);
        assert!(waited_for.has_ended());
        assert!(!left.has_ended());
        drop(release);
        assert_eq!(left.join().unwrap().done(), Some(true));
    });
}

#[test]
fn a_child_that_has_ended_is_among_its_parents_children_no_more() {
    bounded(|| {
        let parent = Worker::spawn(wait_forever);
        let child = Worker::builder().parent(&parent).spawn(wait_forever).unwrap();
        assert_eq!(parent.children(), [child.remote()]);
        end(&child);
        assert_eq!(parent.children(), []);
        parent.stop();
    });
}

#[test]
fn the_result_of_a_task_is_waited_for_or_is_there_already_and_a_failure_is_told() {
    bounded(|| {
        assert_eq!(Async::run(|| sleep(Duration::from_millis(1)).map(|()| "done")).get().unwrap(), "done");
        let early = Async::run(|| Ok("done"));
        wait_worker(early.worker().unwrap()).unwrap();
        assert_eq!(early.try_get().unwrap().unwrap(), "done");
        let failed = Async::<()>::run(|| panic!("an error"));
        assert_eq!(failed.get().unwrap_err().to_string(), "panicked: an error");
    });
}

#[test]
fn a_deferred_result_is_brought_before_or_after_it_is_waited_for_while_the_loop_turns() {
    bounded(|| {
        let before = Defer::new();
        before.resolve("FOO").unwrap();
        assert_eq!(before.get().unwrap(), "FOO");
        let rejected = Defer::<()>::new();
        rejected.reject("BAR");
        assert_eq!(rejected.get().unwrap_err().to_string(), "rejected: BAR");

        let (answer, here) = (Defer::new(), current());
        let was_called = Flag::new();
        Worker::spawn({
            let (answer, was_called) = (answer.clone(), was_called.clone());
            move || {
                let sets = was_called.clone();
                here.post(move |_| assert!(sets.set())).unwrap();
                was_called.wait()?;
                answer.resolve("OK").unwrap();
                Ok(())
            }
        });
        assert_eq!(answer.get().unwrap(), "OK");
        assert!(was_called.is_set());
    });
}

#[test]
fn events_that_bubble_or_are_broadcast_have_the_worker_as_sender_on_which_that_was_called() {
    bounded(|| {
        let top = waiting(wait_forever);
        let middle = Worker::builder().parent(&top).spawn(wait_forever).unwrap();
        let bottom = Worker::builder().parent(&middle).spawn(wait_forever).unwrap();
        let (tell, told) = mpsc::channel::<(&str, Option<WorkerId>)>();
        let tells = tell.clone();
        top.listen(move |event: &Event<&'static str>| tells.send((event.data, event.sender)).unwrap());
        bottom.listen(move |event: &Event<&'static str>| tell.send((event.data, event.sender)).unwrap());
        assert_eq!(top.broadcast("down"), 2);
        assert_eq!(told.recv().unwrap(), ("down", Some(top.id())));
        assert!(bottom.bubble("up") >= 2);
        assert_eq!(told.recv().unwrap(), ("up", Some(bottom.id())));
        end(&top);
    });
}

#[test]
fn listeners_are_called_once_or_stay_for_the_next_run_or_end_with_this_one() {
    fn in_two_runs(listen: impl FnOnce(&Remote, Arc<AtomicU32>) -> ListenerId) -> u32 {
        let (worker, calls) = (idle(), Arc::new(AtomicU32::new(0)));
        let run = worker.start(()).unwrap();
        listen(&worker, Arc::clone(&calls));
        worker.fire(()).unwrap();
        worker.stop();
        run.join().unwrap();
        let run = worker.start(()).unwrap();
        worker.fire(()).unwrap();
        worker.stop();
        run.join().unwrap();
        count(&calls)
    }
    fn counting(calls: Arc<AtomicU32>) -> impl FnMut(&Event<()>) + Send + 'static {
        move |_| assert!(calls.fetch_add(1, Ordering::SeqCst) < 10)
    }
    bounded(|| {
        assert_eq!(in_two_runs(|worker, calls| worker.listen(counting(calls))), 2);
        let for_one_run = Listen::new().for_one_run();
        assert_eq!(in_two_runs(|worker, calls| for_one_run.on_worker(worker, counting(calls))), 1);
        let once = Listen::new().once();
        assert_eq!(in_two_runs(|worker, calls| once.on_worker(worker, counting(calls))), 1);

        let calls = Arc::new(AtomicU32::new(0));
        let counts = Arc::clone(&calls);
        let worker = Restartable::new(move |()| {
            listen(counting(Arc::clone(&counts)));
            wait_forever()
        });
        for _ in 0..2 {
            let run = worker.start(()).unwrap();
            settle(&worker);
            worker.fire(()).unwrap();
            worker.stop();
            run.join().unwrap();
        }
        assert_eq!(count(&calls), 2, "each run has added one of its own");
    });
}

#[test]
fn a_listener_for_one_run_that_is_added_before_the_start_is_there_for_that_run() {
    bounded(|| {
        let (worker, calls) = (idle(), Arc::new(AtomicU32::new(0)));
        let counts = Arc::clone(&calls);
        let add = move |_: &Event<()>| assert!(counts.fetch_add(1, Ordering::SeqCst) < 2);
        Listen::new().for_one_run().on_worker(&worker, add);
        for _ in 0..2 {
            let run = worker.start(()).unwrap();
            worker.fire(()).unwrap();
            worker.stop();
            run.join().unwrap();
        }
        assert_eq!(count(&calls), 1);
    });
}

#[test]
fn a_worker_on_top_of_the_main_thread_is_main_and_one_on_a_thread_of_its_own_is_not() {
    fn on_a_thread_called_main(test: impl FnOnce() + Send + 'static) {
        thread::Builder::new().name("main".to_owned()).spawn(test).unwrap().join().unwrap();
    }
    bounded(|| {
        assert!(!is_main());
        on_a_thread_called_main(|| {
            let overlay = Restartable::new(|()| Ok((is_main(), current().is_main())));
            assert_eq!(overlay.start_overlay(()).unwrap().done(), Some((true, true)));
            assert!(!overlay.is_main(), "it does not run");
            assert_eq!(overlay.start(()).unwrap().join().unwrap().done(), Some((false, false)));
            assert!(is_main());
        });
        on_a_thread_called_main(|| {
            let free = Worker::builder().no_parent().restartable(|()| Ok(is_main()));
            assert_eq!(free.start_overlay(()).unwrap().done(), Some(true), "the thread had no loop before");
        });
        let named = Worker::builder().name("main").spawn(|| Ok(is_main())).unwrap();
        assert_eq!(named.join().unwrap().done(), Some(false));
    });
}

#[test]
fn a_listener_may_remove_itself_and_add_others_while_it_is_called() {
    bounded(|| {
        let (worker, calls) = (idle(), Arc::new(AtomicU32::new(0)));
        let own = Arc::new(Mutex::new(None::<ListenerId>));
        let (counts, own_id) = (Arc::clone(&calls), Arc::clone(&own));
        let removes_itself = worker.listen(move |_: &Event<()>| {
            counts.fetch_add(1, Ordering::SeqCst);
            current().unlisten(own_id.lock().unwrap().unwrap());
        });
        *own.lock().unwrap() = Some(removes_itself);

        let (adding, others) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
        let called = Arc::clone(&others);
        worker.listen(move |_: &Event<()>| {
            called.fetch_add(1, Ordering::SeqCst);
            if adding.swap(false, Ordering::SeqCst) {
                let called = Arc::clone(&called);
                current().listen(move |_: &Event<()>| assert!(called.fetch_add(1, Ordering::SeqCst) < 3));
            }
        });
        for (removed, added) in [(1, 1), (1, 3)] {
            let run = worker.start(()).unwrap();
            worker.fire(()).unwrap();
            worker.stop();
            run.join().unwrap();
            assert_eq!((count(&calls), count(&others)), (removed, added));
        }
    });
}

#[test]
fn the_parent_is_by_default_the_worker_that_starts_another_and_is_known_after_the_end() {
    bounded(|| {
        let here = current();
        let (tell, told) = mpsc::channel();
        let parent = Worker::spawn(move || {
            tell.send(Worker::spawn(wait_forever).remote()).unwrap();
            wait_forever()
        });
        let child = told.recv().unwrap();
        assert_eq!(child.parent(), Some(parent.remote()));
        end(&parent);
        wait_worker(&child).unwrap();
        assert_eq!(child.parent(), Some(parent.remote()));
        assert_eq!(parent.parent(), Some(here));
        let free = Worker::builder().no_parent().spawn(|| Ok(())).unwrap();
        wait_worker(&free).unwrap();
        assert_eq!(free.parent(), None);
    });
}

#[test]
fn a_parent_that_nobody_can_reach_is_not_kept_by_its_children_that_have_ended() {
    bounded(|| {
        let child = thread::spawn(|| {
            let child = Worker::spawn(|| Ok(())).remote();
            wait_worker(&child).unwrap();
            assert_eq!(child.parent(), Some(current()));
            child
        });
        assert_eq!(child.join().unwrap().parent(), None);
    });
}

#[test]
fn a_channel_reaches_all_subscribers_and_forgets_those_that_have_ended() {
    bounded(|| {
        let channel = Channel::new();
        let (tell, told) = mpsc::channel();
        let workers: Vec<_> = (0..10).map(|_| waiting(wait_forever)).collect();
        for worker in &workers {
            let tell = tell.clone();
            worker.listen(move |_: &Event<&'static str>| tell.send(current().id()).unwrap());
            channel.add(worker, None);
        }
        assert_eq!(channel.publish("news"), 10);
        let reached: BTreeSet<_> = told.iter().take(10).collect();
        assert_eq!(reached, workers.iter().map(|worker| worker.id()).collect());
        workers.iter().for_each(|worker| end(worker));
        assert_eq!((channel.publish("late"), channel.subscribers()), (0, 0));
    });
}

#[test]
fn listeners_are_called_by_priority_and_then_by_age() {
    bounded(|| {
        let worker = waiting(wait_forever);
        let (tell, told): (_, Receiver<usize>) = mpsc::channel();
        for (number, priority) in [1, 3, 3, 1, 2].into_iter().enumerate() {
            let tell = tell.clone();
            Listen::new()
                .priority(priority)
                .on_worker(&worker, move |_: &Event<Named>| tell.send(number).unwrap());
        }
        worker.fire(Named::new("MY_EVENT", ())).unwrap();
        end(&worker);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [1, 2, 4, 0, 3]);
    });
}

#[test]
fn a_later_call_runs_on_the_worker_that_it_was_left_for_and_not_before_its_time() {
    bounded(|| {
        let called = Arc::new(AtomicBool::new(false));
        let (calls, here) = (Arc::clone(&called), current());
        later(Duration::from_millis(30), move || {
            assert!(here.is_current());
            calls.store(true, Ordering::SeqCst);
        });
        update().unwrap();
        assert!(!called.load(Ordering::SeqCst));
        sleep(Duration::from_millis(60)).unwrap();
        assert!(called.load(Ordering::SeqCst));
    });
}

#[test]
fn a_later_call_that_was_cancelled_is_not_made() {
    bounded(|| {
        let pending = later(Duration::from_millis(1), || panic!("it was cancelled"));
        assert!(cancel(pending));
        sleep(Duration::from_millis(10)).unwrap();
        assert!(!cancel(pending));
    });
}

#[test]
fn waiting_for_what_blocks_elsewhere_serves_the_loop_here() {
    bounded(|| {
        let served = Flag::new();
        let sets = served.clone();
        later(Duration::ZERO, move || assert!(sets.set()));
        let waits = served.clone();
        Async::run(move || waits.wait()).get().unwrap();
        assert!(served.is_set());
    });
}

#[test]
fn a_worker_is_started_at_once_and_has_ended_when_its_task_has() {
    bounded(|| {
        let done = Flag::new();
        let (go, goes) = mpsc::channel::<()>();
        let sets = done.clone();
        let worker = Worker::spawn(move || {
            goes.recv().unwrap();
            Ok(sets.set())
        });
        assert!(!done.is_set());
        go.send(()).unwrap();
        done.wait().unwrap();
        wait_worker(&worker).unwrap();
        assert!(worker.has_ended());
        assert_eq!(worker.join().unwrap().done(), Some(true));
    });
}

#[test]
fn a_thread_that_is_no_worker_waits_as_one() {
    bounded(|| {
        let slept = thread::spawn(|| sleep(Duration::from_millis(1)));
        assert_eq!(slept.join().unwrap(), Ok(()));
    });
}
