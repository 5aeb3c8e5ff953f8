//! Tests of a worker's life: start, pause, stop, end, restart.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::{PATIENCE, bounded, settle, waiting};
use threadwire_worker::{
    Ended, Event, EventLoop, Outcome, Remote, Restartable, StartError, Status, StatusChange, Stopped, Worker,
    current, join_all, later, listen, race, sleep, update, wait_event, wait_event_timeout, wait_for,
    wait_forever, wait_until, wait_worker,
};

#[derive(Clone, Debug, PartialEq)]
struct Say(&'static str);
#[derive(Clone, Debug, PartialEq)]
struct Number(usize);

fn here() -> Remote {
    EventLoop::current().remote()
}

#[test]
fn a_worker_can_be_started_again_with_other_arguments() {
    bounded(|| {
        let worker = Restartable::new(|number: u32| Ok(2 * number));
        assert_eq!(worker.status(), Status::New);
        for number in 0..100 {
            assert_eq!(worker.start(number).unwrap().join().unwrap().done(), Some(2 * number));
        }
        assert_eq!(worker.status(), Status::Ended(Outcome::Done));
    });
}

#[test]
fn starting_a_worker_that_runs_gives_the_arguments_back() {
    bounded(|| {
        let worker = Restartable::new(|_: &'static str| wait_forever());
        let run = worker.start("first").unwrap();
        let refused = worker.start("second").unwrap_err();
        assert_eq!(refused.args, "second");
        assert!(matches!(refused.reason, StartError::Running));
        let refused = worker.start_overlay("third").unwrap_err();
        assert_eq!(refused.args, "third");
        worker.stop();
        assert!(run.join().unwrap().was_stopped());
    });
}

#[test]
fn a_worker_that_does_not_run_takes_nothing_and_a_stop_then_is_not_for_the_next_run() {
    bounded(|| {
        let worker = Restartable::new(|()| sleep(Duration::ZERO));
        assert!(worker.fire(Say("x")).is_err());
        worker.stop();
        worker.pause();
        assert_eq!(worker.status(), Status::New);
        assert!(worker.start(()).unwrap().join().unwrap().done().is_some());
        worker.stop();
        assert!(worker.start(()).unwrap().join().unwrap().done().is_some());
    });
}

#[test]
fn each_run_keeps_its_own_result() {
    bounded(|| {
        let worker = Restartable::new(Ok);
        let first = worker.start(1).unwrap();
        wait_worker(&worker).unwrap();
        let second = worker.start(2).unwrap();
        assert_eq!(second.join().unwrap().done(), Some(2));
        assert_eq!(first.join().unwrap().done(), Some(1));
    });
}

#[test]
fn a_worker_that_panicked_can_be_started_again() {
    bounded(|| {
        let worker = Restartable::new(|fails: bool| if fails { panic!("boom") } else { Ok("fine") });
        assert!(matches!(worker.start(true).unwrap().join().unwrap(), Ended::Panicked(_)));
        assert_eq!(worker.status(), Status::Ended(Outcome::Panicked("boom".into())));
        assert_eq!(worker.start(false).unwrap().join().unwrap().done(), Some("fine"));
    });
}

#[test]
fn listeners_of_a_worker_stay_for_its_next_run_and_those_of_its_task_do_not() {
    bounded(|| {
        let (own, kept) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = Arc::clone(&own);
        let worker = Restartable::new(move |()| {
            let counts = Arc::clone(&counts);
            listen(move |_: &Event<Say>| {
                counts.fetch_add(1, Ordering::SeqCst);
            });
            wait_forever()
        });
        let counts = Arc::clone(&kept);
        let id = worker.listen(move |_: &Event<Say>| {
            counts.fetch_add(1, Ordering::SeqCst);
        });
        for round in 1..=3 {
            let run = worker.start(()).unwrap();
            worker.fire(Say("x")).unwrap();
            settle(&worker);
            worker.stop();
            run.join().unwrap();
            assert_eq!(kept.load(Ordering::SeqCst), round);
            assert_eq!(own.load(Ordering::SeqCst), round, "one of its own for each run");
        }
        worker.unlisten(id);
        let run = worker.start(()).unwrap();
        worker.fire(Say("x")).unwrap();
        worker.stop();
        run.join().unwrap();
        assert_eq!(kept.load(Ordering::SeqCst), 3);
        assert_eq!(Arc::strong_count(&kept), 1, "it was dropped");
    });
}

#[test]
fn an_overlay_is_the_threads_worker_until_it_ends() {
    bounded(|| {
        let (below, thread) = (here(), thread::current().id());
        let back = below.clone();
        let worker = Restartable::new(move |text: &'static str| {
            assert_eq!(thread::current().id(), thread);
            assert_ne!(here(), back);
            // What is for the one below stays there.
            back.fire(Say("for below")).unwrap();
            here().fire(Say(text)).unwrap();
            Ok(wait_event::<Say>()?.0)
        });
        assert_eq!(worker.parent(), None);
        assert_eq!(worker.start_overlay("for me").unwrap().done(), Some("for me"));
        assert_eq!(here(), below);
        assert_eq!(worker.status(), Status::Ended(Outcome::Done));
        assert_eq!(wait_event::<Say>().unwrap().data, Say("for below"));
        assert_eq!(worker.start_overlay("again").unwrap().done(), Some("again"));
    });
}

#[test]
fn an_overlay_can_be_stopped_and_the_thread_goes_on() {
    bounded(|| {
        let worker = Restartable::new(|()| wait_forever());
        let remote = worker.remote();
        remote.listen(|_: &Event<Say>| here().stop());
        let stopper = Worker::spawn(move || {
            while remote.fire(Say("stop")).is_err() {
                update()?;
            }
            Ok(())
        });
        assert!(worker.start_overlay(()).unwrap().was_stopped());
        assert!(stopper.join().unwrap().done().is_some());
        sleep(Duration::ZERO).unwrap();
    });
}

#[test]
fn status_and_its_changes_can_be_followed() {
    bounded(|| {
        let worker = Restartable::new(|()| wait_event::<Say>().map(drop));
        worker.watch();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (notes, id) = (Arc::clone(&seen), worker.id());
        listen(move |change: &Event<StatusChange>| {
            assert_eq!(change.worker.id(), id);
            notes.lock().unwrap().push(change.status.clone());
        });
        let run = worker.start(()).unwrap();
        settle(&worker);
        assert_eq!(worker.status(), Status::Running);
        worker.pause();
        assert_eq!(worker.status(), Status::Paused);
        worker.resume();
        worker.resume();
        worker.stop();
        run.join().unwrap();
        worker.unwatch();
        worker.start(()).unwrap().stop();
        wait_worker(&worker).unwrap();
        update().unwrap();
        assert_eq!(
            *seen.lock().unwrap(),
            [
                Status::Starting,
                Status::Running,
                Status::Paused,
                Status::Running,
                Status::Stopping,
                Status::Ended(Outcome::Stopped)
            ]
        );
    });
}

#[test]
fn names_are_seen_by_all() {
    bounded(|| {
        let worker = Worker::builder().name("printer").spawn(|| Ok(here().to_string())).unwrap();
        assert_eq!((worker.name(), worker.to_string().as_str()), (Some("printer"), "printer"));
        assert_eq!(worker.join().unwrap().done().as_deref(), Some("printer"));
        let nameless = Worker::spawn(|| Ok(()));
        assert_eq!((nameless.name(), nameless.to_string()), (None, nameless.id().to_string()));
    });
}

#[test]
fn pause_holds_the_task_and_not_its_listeners() {
    bounded(|| {
        let me = here();
        let worker = waiting(move || {
            let to = me.clone();
            listen(move |event: &Event<Number>| to.fire(Number(event.0)).unwrap());
            wait_event::<Say>()?;
            me.fire(Say("the task goes on")).unwrap();
            Ok(())
        });
        worker.pause();
        worker.fire(Say("what it waits for")).unwrap();
        worker.fire(Number(1)).unwrap();
        wait_event::<Number>().unwrap();
        assert!(wait_event_timeout::<Say>(Duration::from_millis(2)).unwrap().is_none());
        assert_eq!(worker.status(), Status::Paused);
        worker.resume();
        wait_event::<Say>().unwrap();
        assert!(worker.join().unwrap().done().is_some());
    });
}

#[test]
fn a_sleep_that_is_over_while_paused_returns_on_resume() {
    bounded(|| {
        let me = here();
        let worker = waiting(move || {
            current().pause();
            sleep(Duration::from_millis(1))?;
            me.fire(Say("awake")).unwrap();
            Ok(())
        });
        assert!(wait_event_timeout::<Say>(Duration::from_millis(5)).unwrap().is_none());
        worker.resume();
        wait_event::<Say>().unwrap();
        worker.join().unwrap();
    });
}

#[test]
fn an_event_that_comes_while_paused_ends_the_wait_for_it_and_only_that() {
    bounded(|| {
        let worker = waiting(|| {
            let first = wait_event_timeout::<Say>(PATIENCE)?.map(|event| event.0);
            // The same event must not satisfy another wait.
            let second = wait_event_timeout::<Say>(Duration::from_millis(1))?.map(|event| event.0);
            Ok((first, second))
        });
        worker.pause();
        worker.fire(Say("during the pause")).unwrap();
        settle(&worker);
        worker.resume();
        assert_eq!(worker.join().unwrap().done(), Some((Some("during the pause"), None)));
    });
}

#[test]
fn events_that_come_while_paused_reach_the_waits_of_the_task_one_by_one() {
    bounded(|| {
        let worker = waiting(|| {
            let mut got = Vec::new();
            while got.len() < 3 {
                got.push(wait_event::<Number>()?.0);
            }
            // What is left is for a wait that follows at once, not for one after others.
            sleep(Duration::ZERO)?;
            let late = wait_event_timeout::<Number>(Duration::ZERO)?;
            Ok((got, late.is_none()))
        });
        worker.pause();
        (0..4).for_each(|n| worker.fire(Number(n)).unwrap());
        settle(&worker);
        worker.resume();
        assert_eq!(worker.join().unwrap().done(), Some((vec![0, 1, 2], true)));
    });
}

#[test]
fn stop_works_while_paused_and_leaves_no_pause_for_the_next_run() {
    bounded(|| {
        let worker = Restartable::new(|()| wait_event::<Say>().map(|event| event.0));
        for _ in 0..3 {
            let run = worker.start(()).unwrap();
            settle(&worker);
            worker.pause();
            settle(&worker);
            worker.stop();
            assert!(run.join().unwrap().was_stopped());
            let run = worker.start(()).unwrap();
            settle(&worker);
            assert_eq!(worker.status(), Status::Running);
            // It can be paused again.
            worker.pause();
            assert_eq!(worker.status(), Status::Paused);
            worker.resume();
            worker.fire(Say("fine")).unwrap();
            assert_eq!(run.join().unwrap().done(), Some("fine"));
        }
    });
}

#[test]
fn callbacks_may_wait_while_the_task_is_held() {
    bounded(|| {
        let me = here();
        let worker = waiting(move || {
            listen(move |_: &Event<Say>| -> Result<(), Stopped> {
                sleep(Duration::ZERO)?;
                let number = wait_event::<Number>()?;
                me.fire(number.data.clone()).unwrap();
                Ok(())
            });
            wait_forever()
        });
        worker.pause();
        worker.fire(Say("x")).unwrap();
        settle(&worker);
        worker.fire(Number(5)).unwrap();
        assert_eq!(wait_event::<Number>().unwrap().data, Number(5));
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
    });
}

#[test]
fn join_waits_and_does_not_stop() {
    bounded(|| {
        let worker = waiting(|| wait_event::<Say>().map(|event| event.0));
        let Err(worker) = worker.try_join() else { panic!("it has ended") };
        let Err(worker) = worker.join_timeout(Duration::from_millis(1)).unwrap() else {
            panic!("it has ended")
        };
        assert_eq!(worker.status(), Status::Running);
        worker.fire(Say("end")).unwrap();
        assert_eq!(worker.join_timeout(PATIENCE).unwrap().unwrap().done(), Some("end"));
        let worker = Worker::spawn(|| Ok(1));
        wait_worker(&worker).unwrap();
        assert_eq!(worker.try_join().unwrap().done(), Some(1));
    });
}

#[test]
fn join_all_gives_all_results_in_order() {
    bounded(|| {
        let workers: Vec<_> = (0..8)
            .map(|number| {
                Worker::spawn(move || {
                    if number == 3 {
                        panic!("three");
                    }
                    Ok(number)
                })
            })
            .collect();
        let ended: Vec<_> = join_all(workers).unwrap().into_iter().map(Ended::done).collect();
        let expected: Vec<_> = (0..8).map(|number| (number != 3).then_some(number)).collect();
        assert_eq!(ended, expected);
    });
}

#[test]
fn race_gives_the_first_and_keeps_the_others() {
    bounded(|| {
        let workers: Vec<_> = (0..4).map(|_| waiting(|| wait_event::<Number>().map(|e| e.0))).collect();
        let second = workers[2].remote();
        later(Duration::ZERO, move || second.fire(Number(9)).unwrap());
        let winner = race(workers).unwrap();
        assert_eq!((winner.index, winner.ended.done(), winner.others.len()), (2, Some(9), 3));
        for loser in winner.others {
            assert_eq!(loser.status(), Status::Running);
            loser.stop();
            assert!(loser.join().unwrap().was_stopped());
        }
    });
}

#[test]
fn a_stop_of_the_caller_ends_join_all_and_race() {
    bounded(|| {
        let outer = waiting(|| {
            let inner = Worker::spawn(wait_forever);
            let raced = race([inner]).map(drop);
            let joined = join_all([Worker::spawn(wait_forever)]).map(drop);
            Ok((raced, joined))
        });
        outer.stop();
        assert_eq!(outer.join().unwrap().done(), Some((Err(Stopped), Err(Stopped))));
    });
}

#[test]
fn drop_guards_clean_up_when_a_worker_is_stopped() {
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
        assert_eq!(told.recv(), Ok("cleaned up"));
    });
}

#[test]
fn a_worker_may_be_stopped_while_it_starts() {
    bounded(|| {
        for _ in 0..200 {
            let worker = Worker::spawn(wait_forever);
            worker.stop();
            assert!(worker.join().unwrap().was_stopped());
        }
    });
}

#[test]
fn starts_pauses_and_stops_from_many_threads_leave_it_in_order() {
    bounded(|| {
        let worker = Arc::new(Restartable::new(|()| wait_forever()));
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let worker = Arc::clone(&worker);
                thread::spawn(move || {
                    for round in 0..50 {
                        match (number + round) % 4 {
                            0 => drop(worker.start(())),
                            1 => worker.pause(),
                            2 => worker.resume(),
                            _ => worker.stop(),
                        }
                    }
                    // A root that ends stops its children.
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        worker.stop();
        wait_worker(&worker).unwrap();
        let run = worker.start(()).unwrap();
        settle(&worker);
        assert_eq!(worker.status(), Status::Running);
        worker.stop();
        assert!(run.join().unwrap().was_stopped());
    });
}

#[test]
fn the_increaser_of_pythreadworker() {
    bounded(|| {
        struct Set(i32);
        struct Tick;
        struct Shows(i32);
        let me = here();
        let increaser = Restartable::new(move |()| {
            let number = std::rc::Rc::new(std::cell::Cell::new(0));
            let sets = std::rc::Rc::clone(&number);
            listen(move |event: &Event<Set>| sets.set(event.0));
            loop {
                wait_event::<Tick>()?;
                number.set(number.get() + 1);
                me.fire(Shows(number.get())).unwrap();
            }
            #[allow(unreachable_code, reason = "it says what the closure returns")]
            Ok(())
        });
        let tick = || {
            increaser.fire(Tick).unwrap();
            wait_for::<Shows>().wait().unwrap().unwrap().0
        };
        let run = increaser.start(()).unwrap();
        settle(&increaser);
        assert_eq!((tick(), tick()), (1, 2));
        increaser.pause();
        increaser.fire(Set(10)).unwrap();
        settle(&increaser);
        increaser.resume();
        assert_eq!(tick(), 11);
        increaser.stop();
        assert!(run.join().unwrap().was_stopped());
        let run = increaser.start(()).unwrap();
        settle(&increaser);
        assert_eq!(tick(), 1);
        increaser.stop();
        run.join().unwrap();
        assert_eq!(wait_until(None, || true), Ok(true));
    });
}

#[test]
fn a_worker_that_has_ended_for_good_keeps_no_listeners() {
    bounded(|| {
        let held = Arc::new(());
        let worker = waiting(wait_forever);
        let remote = worker.remote();
        for _ in 0..2 {
            let (holds, itself) = (Arc::clone(&held), remote.clone());
            remote.listen(move |_: &Event<Say>| drop((Arc::clone(&holds), itself.clone())));
            remote.stop();
            wait_worker(&remote).unwrap();
            assert_eq!(Arc::strong_count(&held), 1);
        }
    });
}

#[test]
fn what_comes_for_the_task_while_a_callback_waits_is_there_for_its_next_waits() {
    bounded(|| {
        let worker = waiting(|| {
            listen(|_: &Event<Say>| wait_event::<u8>().map(drop));
            Ok([wait_event::<Number>()?.0, wait_event::<Number>()?.0, wait_event::<Number>()?.0])
        });
        worker.fire(Say("wait")).unwrap();
        (0..3).for_each(|n| worker.fire(Number(n)).unwrap());
        settle(&worker);
        worker.fire(0u8).unwrap();
        assert_eq!(worker.join().unwrap().done(), Some([0, 1, 2]));
    });
}
