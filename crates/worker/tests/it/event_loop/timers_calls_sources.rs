//! Tests of timers, calls, sources, and waits inside of callbacks.

use super::stalls::Logged;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Log, PATIENCE, Probe, bounded};
use threadwire_worker::{EventLoop, Ready, Source, Stopped, sleep, update, wait_forever, wait_until};

/// A few turns of the loop, without sleeping: enough for everything that is ready.
fn turn() {
    for _ in 0..3 {
        update().unwrap();
    }
}

#[test]
fn timers_run_in_the_order_in_which_they_are_due() {
    bounded(|| {
        let event_loop = EventLoop::current();
        let log = Log::new();
        let now = Instant::now();
        for (name, millis) in [("c", 3), ("a", 1), ("d", 3), ("b", 2)] {
            let log = log.clone();
            event_loop.at(now + Duration::from_millis(millis), move || log.say(name));
        }
        wait_until(None, || log.len() == 4).unwrap();
        assert_eq!(log.take(), ["a", "b", "c", "d"]);
    });
}

#[test]
fn timers_do_not_run_early() {
    bounded(|| {
        let start = Instant::now();
        let rang = Rc::new(Cell::new(None));
        let rings = Rc::clone(&rang);
        EventLoop::current().after(Duration::from_millis(5), move || rings.set(Some(Instant::now())));
        turn();
        wait_until(None, || rang.get().is_some()).unwrap();
        assert!(rang.get().unwrap() - start >= Duration::from_millis(5));
    });
}

#[test]
fn timers_that_are_past_due_run_at_the_next_turn() {
    bounded(|| {
        let log = Log::new();
        let said = log.clone();
        let past = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now);
        EventLoop::current().at(past, move || said.say("late"));
        assert!(log.is_empty(), "only a wait runs timers");
        update().unwrap();
        assert_eq!(log.take(), ["late"]);
    });
}

#[test]
fn a_cancelled_timer_does_not_run() {
    bounded(|| {
        let event_loop = EventLoop::current();
        let log = Log::new();
        let says = |text: &'static str| {
            let log = log.clone();
            move || log.say(text)
        };
        let cancelled = event_loop.after(Duration::ZERO, says("cancelled"));
        let kept = event_loop.after(Duration::ZERO, says("kept"));
        assert!(event_loop.cancel(cancelled));
        assert!(!event_loop.cancel(cancelled), "it is not there any more");
        turn();
        assert_eq!(log.take(), ["kept"]);
        assert!(!event_loop.cancel(kept), "it has run");
    });
}

#[test]
fn a_timer_may_cancel_one_that_is_due_together_with_it() {
    bounded(|| {
        let event_loop = EventLoop::current();
        let log = Log::new();
        let second = Rc::new(Cell::new(None));
        let due = Instant::now();
        let (victim, said) = (Rc::clone(&second), log.clone());
        event_loop.at(due, move || {
            said.say("first");
            assert!(EventLoop::current().cancel(victim.get().unwrap()));
        });
        let said = log.clone();
        second.set(Some(event_loop.at(due, move || said.say("second"))));
        turn();
        assert_eq!(log.take(), ["first"]);
    });
}

#[test]
fn what_a_timer_holds_is_dropped_when_it_is_cancelled() {
    bounded(|| {
        let event_loop = EventLoop::current();
        let held = Rc::new(());
        let holds = Rc::clone(&held);
        let timer = event_loop.after(PATIENCE, move || drop(holds));
        assert_eq!(Rc::strong_count(&held), 2);
        event_loop.cancel(timer);
        assert_eq!(Rc::strong_count(&held), 1);
    });
}

#[test]
fn a_timer_that_sets_itself_again_starves_nobody() {
    bounded(|| {
        // Due again at once, and for a time that is past.
        fn again(due: Instant, stop: Rc<Cell<bool>>, count: Rc<Cell<usize>>) {
            count.set(count.get() + 1);
            if !stop.get() {
                EventLoop::current().at(due, move || again(due, stop, count));
            }
        }
        let (stop, count) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        again(Instant::now(), Rc::clone(&stop), Rc::clone(&count));
        let called = Arc::new(AtomicBool::new(false));
        let calls = Arc::clone(&called);
        EventLoop::current().remote().post(move |_| calls.store(true, Ordering::SeqCst)).unwrap();
        let log = Log::new();
        let (_probe, mut ours) = Probe::attach("socket", &log, |probe| assert_eq!(probe.read(100), 5));
        ours.write_all(b"hello").unwrap();
        wait_until(None, || called.load(Ordering::SeqCst) && !log.is_empty()).unwrap();
        assert_eq!(log.take(), ["socket: readable"]);
        assert!(count.get() > 1, "it ran meanwhile");
        stop.set(true);
    });
}

#[test]
fn calls_of_one_thread_keep_their_order() {
    bounded(|| {
        let remote = EventLoop::current().remote();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            for number in 0..1000 {
                let tell = tell.clone();
                remote.post(move |_| tell.send(number).unwrap()).unwrap();
            }
        });
        let mut numbers = Vec::new();
        wait_until(None, || {
            numbers.extend(told.try_iter());
            numbers.len() == 1000
        })
        .unwrap();
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    });
}

#[test]
fn calls_of_many_threads_all_arrive() {
    bounded(|| {
        const THREADS: usize = 8;
        const CALLS: usize = 10_000;
        // What each thread has been heard of, in its order.
        let heard: Arc<[AtomicUsize; THREADS]> = Arc::default();
        let remote = EventLoop::current().remote();
        for thread in 0..THREADS {
            let (remote, heard) = (remote.clone(), Arc::clone(&heard));
            thread::spawn(move || {
                for number in 0..CALLS {
                    let heard = Arc::clone(&heard);
                    let hear = move |_: &EventLoop| {
                        assert_eq!(heard[thread].fetch_add(1, Ordering::SeqCst), number);
                    };
                    remote.post(hear).unwrap();
                }
            });
        }
        wait_until(None, || heard.iter().all(|count| count.load(Ordering::SeqCst) == CALLS)).unwrap();
    });
}

#[test]
fn a_wait_in_a_flush_does_not_swallow_the_wake_of_the_wait_around_it() {
    struct Waits(Rc<Cell<bool>>);
    impl Source for Waits {
        fn ready(self: Rc<Self>, _ready: Ready) {}

        fn flush(self: Rc<Self>) {
            // It looks around for itself, as often as there is something to look for.
            let (here, flag) = (EventLoop::current().remote(), Rc::clone(&self.0));
            wait_until(Some(Duration::from_millis(1)), || {
                if !flag.replace(true) {
                    here.wake();
                }
                false
            })
            .unwrap();
        }

        fn stop(self: Rc<Self>) {}
    }
    bounded(|| {
        let flag = Rc::new(Cell::new(false));
        let sets = Rc::clone(&flag);
        let event_loop = EventLoop::current();
        let token = event_loop.attach_idle(|_| Rc::new(Waits(sets)));
        event_loop.after(Duration::ZERO, move || EventLoop::current().flush_later(token));
        wait_until(None, || flag.get()).unwrap();
        EventLoop::current().detach_idle(token);
    });
}

#[test]
fn a_call_wakes_a_loop_that_sleeps() {
    bounded(|| {
        // Each answer is asked for only when the one before has come, so that the loop sleeps between them. A wake-up
        // that gets lost is never made good.
        let remote = EventLoop::current().remote();
        let done = Arc::new(AtomicBool::new(false));
        let sets = Arc::clone(&done);
        thread::spawn(move || {
            let (tell, told) = mpsc::channel();
            for number in 0..1000 {
                let tell = tell.clone();
                remote.post(move |_| tell.send(number).unwrap()).unwrap();
                assert_eq!(told.recv().unwrap(), number);
            }
            remote.post(move |_| sets.store(true, Ordering::SeqCst)).unwrap();
        });
        wait_until(None, || done.load(Ordering::SeqCst)).unwrap();
    });
}

#[test]
fn a_flood_of_calls_leaves_room_for_sockets_and_timers() {
    bounded(|| {
        let event_loop = EventLoop::current();
        let remote = event_loop.remote();
        let ran = Arc::new(AtomicUsize::new(0));
        const CALLS: usize = 10_000;
        for _ in 0..CALLS {
            let ran = Arc::clone(&ran);
            let count = move |_: &EventLoop| {
                ran.fetch_add(1, Ordering::SeqCst);
            };
            remote.post(count).unwrap();
        }
        let at = Rc::new(Cell::new(None));
        let log = Log::new();
        let (seen, count) = (Rc::clone(&at), Arc::clone(&ran));
        let (_probe, mut ours) = Probe::attach("socket", &log, move |probe| {
            probe.read(100);
            seen.set(Some(count.load(Ordering::SeqCst)));
        });
        ours.write_all(b"hello").unwrap();
        wait_until(None, || ran.load(Ordering::SeqCst) == CALLS).unwrap();
        assert!(at.get().unwrap() < CALLS, "the socket came last");
    });
}

#[test]
fn a_call_gets_the_loop_it_runs_on() {
    bounded(|| {
        let done = Arc::new(AtomicBool::new(false));
        let sets = Arc::clone(&done);
        let posted = EventLoop::current().remote().post(move |event_loop| {
            assert!(std::ptr::eq(event_loop, &*EventLoop::current()));
            sets.store(true, Ordering::SeqCst);
        });
        posted.unwrap();
        assert!(!done.load(Ordering::SeqCst), "not before a wait");
        turn();
        assert!(done.load(Ordering::SeqCst));
    });
}

#[test]
fn update_does_what_there_is_and_does_not_wait() {
    bounded(|| {
        let log = Log::new();
        let said = log.clone();
        update().unwrap();
        let far = EventLoop::current().after(PATIENCE, || panic!("not due"));
        EventLoop::current().after(Duration::ZERO, move || said.say("due"));
        update().unwrap();
        assert_eq!(log.take(), ["due"]);
        assert!(EventLoop::current().cancel(far));
        EventLoop::current().remote().stop();
        assert_eq!(update(), Err(Stopped));
    });
}

#[test]
fn wait_until_tells_whether_it_was_in_time() {
    bounded(|| {
        assert_eq!(wait_until(None, || true), Ok(true));
        assert_eq!(wait_until(Some(Duration::ZERO), || true), Ok(true), "what is done counts more");
        assert_eq!(wait_until(Some(Duration::ZERO), || false), Ok(false));
        let start = Instant::now();
        assert_eq!(wait_until(Some(Duration::from_millis(5)), || false), Ok(false));
        assert!(start.elapsed() >= Duration::from_millis(5));
        // A time that no clock counts to is no time at all.
        let count = Cell::new(0);
        let done = || {
            count.set(count.get() + 1);
            EventLoop::current().after(Duration::ZERO, || {});
            count.get() == 3
        };
        assert_eq!(wait_until(Some(Duration::MAX), done), Ok(true));
    });
}

#[test]
fn sleep_takes_as_long_as_it_is_told() {
    bounded(|| {
        let start = Instant::now();
        sleep(Duration::from_millis(5)).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(5));
        sleep(Duration::ZERO).unwrap();
    });
}

#[test]
fn an_endless_sleep_ends_with_a_stop() {
    bounded(|| {
        let remote = EventLoop::current().remote();
        EventLoop::current().after(Duration::from_millis(1), move || remote.stop());
        assert_eq!(sleep(Duration::MAX), Err(Stopped));
    });
}

#[test]
fn every_wait_ends_with_a_stop_also_those_that_begin_after_it() {
    bounded(|| {
        let remote = EventLoop::current().remote();
        thread::spawn(move || remote.stop());
        assert_eq!(wait_forever(), Err(Stopped));
        assert!(EventLoop::current().is_stopping());
        assert_eq!(wait_forever(), Err(Stopped));
        assert_eq!(sleep(Duration::ZERO), Err(Stopped));
        assert_eq!(wait_until(None, || true), Err(Stopped));
        assert_eq!(update(), Err(Stopped));
        assert_eq!(EventLoop::current().wait(None, || true), Err(Stopped));
    });
}

#[test]
fn nested_waits_end_last_in_first_out() {
    bounded(|| {
        let event_loop = EventLoop::current();
        let log = Log::new();
        let gates: [Rc<Cell<bool>>; 2] = Default::default();
        let (said, opened) = (log.clone(), gates.clone());
        event_loop.after(Duration::ZERO, move || {
            said.say("outer waits");
            let (inner_said, inner_opened) = (said.clone(), opened.clone());
            EventLoop::current().after(Duration::ZERO, move || {
                inner_said.say("inner waits");
                let (opens, said) = (inner_opened.clone(), inner_said.clone());
                EventLoop::current().after(Duration::ZERO, move || {
                    opens[0].set(true);
                    said.say("outer is due");
                    EventLoop::current().after(Duration::from_millis(1), move || opens[1].set(true));
                });
                wait_until(None, || inner_opened[1].get()).unwrap();
                inner_said.say("inner returns");
            });
            wait_until(None, || opened[0].get()).unwrap();
            said.say("outer returns");
        });
        wait_until(None, || log.len() == 5).unwrap();
        let expected = ["outer waits", "inner waits", "outer is due", "inner returns", "outer returns"];
        assert_eq!(log.take(), expected);
    });
}

#[test]
fn what_is_due_beside_a_timer_that_waits_runs_inside_of_it() {
    bounded(|| {
        let event_loop = EventLoop::current();
        let log = Log::new();
        let due = Instant::now();
        let said = log.clone();
        event_loop.at(due, move || {
            said.say("first waits");
            let inner = said.clone();
            wait_until(None, || inner.len() == 2).unwrap();
            said.say("first returns");
        });
        let said = log.clone();
        event_loop.at(due, move || said.say("second"));
        wait_until(None, || log.len() == 3).unwrap();
        assert_eq!(log.take(), ["first waits", "second", "first returns"]);
    });
}

#[test]
fn waits_nest_to_the_limit_and_no_deeper() {
    bounded(|| {
        thread_local! {
            static DEPTH: Cell<usize> = const { Cell::new(0) };
            static MOST: Cell<usize> = const { Cell::new(0) };
        }
        fn deeper() {
            DEPTH.set(DEPTH.get() + 1);
            MOST.set(MOST.get().max(DEPTH.get()));
            EventLoop::current().after(Duration::ZERO, deeper);
            // At the bottom nothing is called, and time still passes.
            let fell_asleep = sleep(Duration::from_millis(1));
            DEPTH.set(DEPTH.get() - 1);
            fell_asleep.unwrap();
        }
        EventLoop::current().after(Duration::ZERO, deeper);
        wait_until(None, || MOST.get() > 0 && DEPTH.get() == 0).unwrap();
        assert_eq!(MOST.get(), EventLoop::MAX_NESTING);
        // Nothing is left of it.
        let log = Log::new();
        let said = log.clone();
        EventLoop::current().after(Duration::ZERO, move || said.say("still there"));
        wait_until(None, || !log.is_empty()).unwrap();
    });
}

#[test]
fn waits_that_are_nested_too_deep_are_named_once() {
    bounded(|| {
        thread_local! {
            static DEPTH: Cell<usize> = const { Cell::new(0) };
            static IS_OVER: Cell<bool> = const { Cell::new(false) };
        }
        fn deeper() {
            DEPTH.set(DEPTH.get() + 1);
            if DEPTH.get() < EventLoop::MAX_NESTING {
                EventLoop::current().after(Duration::ZERO, deeper);
                wait_until(None, || IS_OVER.get()).unwrap();
            } else {
                // Again and again as deep as that: it is one and the same case.
                (0..8).for_each(|_| sleep(Duration::from_millis(1)).unwrap());
                IS_OVER.set(true);
            }
        }
        let logged = Logged::while_running(|| {
            EventLoop::current().after(Duration::ZERO, deeper);
            wait_until(None, || IS_OVER.get()).unwrap();
        });
        assert_eq!(logged.matches("waits=").count(), 1, "{logged}");
        assert_eq!(logged.matches("the timer set at ").count(), EventLoop::MAX_NESTING, "{logged}");
        assert!(logged.contains("timers_calls_sources.rs"), "{logged}");
    });
}

#[test]
fn a_panic_in_a_wait_leaves_the_depth_as_it_was() {
    bounded(|| {
        for _ in 0..2 * EventLoop::MAX_NESTING {
            let caught = std::panic::catch_unwind(|| wait_until(None, || panic!("boom")));
            assert!(caught.is_err());
        }
        let log = Log::new();
        let said = log.clone();
        EventLoop::current().after(Duration::ZERO, move || said.say("called"));
        wait_until(None, || !log.is_empty()).unwrap();
    });
}

#[test]
fn a_source_is_told_when_its_socket_is_ready() {
    bounded(|| {
        let log = Log::new();
        let (probe, mut ours) = Probe::attach("a", &log, |probe| while probe.read(100) > 0 {});
        assert_eq!(EventLoop::current().source_count(), 1);
        turn();
        assert!(log.is_empty());
        ours.write_all(b"hello").unwrap();
        turn();
        assert_eq!(log.take(), ["a: readable"]);
        turn();
        assert!(log.is_empty(), "it is told once");
        drop(ours);
        turn();
        assert_eq!(log.take(), ["a: ended"]);
        probe.detach();
        assert_eq!(EventLoop::current().source_count(), 0);
    });
}

#[test]
fn a_source_may_remove_itself() {
    bounded(|| {
        let log = Log::new();
        let (probe, mut ours) = Probe::attach("a", &log, |probe| probe.detach());
        let token = probe.token.get().unwrap();
        drop(probe);
        ours.write_all(b"hello").unwrap();
        turn();
        assert_eq!(log.take(), ["a: readable", "a: dropped"]);
        assert_eq!(EventLoop::current().source_count(), 0);
        // What is left in its name reaches nobody.
        EventLoop::current().requeue(token, Ready::READABLE);
        EventLoop::current().flush_later(token);
        turn();
        assert!(log.is_empty());
    });
}

#[test]
fn what_is_left_for_a_source_does_not_reach_the_next_one_in_its_place() {
    bounded(|| {
        let event_loop = EventLoop::current();
        let log = Log::new();
        let (old, _ours) = Probe::attach("old", &log, |_| {});
        let token = old.token.get().unwrap();
        event_loop.requeue(token, Ready::READABLE);
        event_loop.flush_later(token);
        old.detach();
        let (new, _ours) = Probe::attach("new", &log, |_| {});
        assert_ne!(new.token.get(), Some(token));
        turn();
        event_loop.replace(token, Probe::detached("stray", &log));
        drop(old);
        assert_eq!(log.take(), ["stray: dropped", "old: dropped"]);
        assert_eq!(event_loop.source_count(), 1);
    });
}

#[test]
fn a_source_may_remove_another_that_is_ready_too() {
    bounded(|| {
        let log = Log::new();
        let other: Rc<RefCell<Option<Rc<Probe>>>> = Rc::default();
        let removes = |other: &Rc<RefCell<Option<Rc<Probe>>>>| {
            let other = Rc::clone(other);
            move |_: &Rc<Probe>| {
                if let Some(other) = other.take() {
                    other.detach();
                }
            }
        };
        let (_first, mut to_first) = Probe::attach("first", &log, removes(&other));
        let (second, mut to_second) = Probe::attach("second", &log, |_| {});
        *other.borrow_mut() = Some(second);
        to_first.write_all(b"1").unwrap();
        to_second.write_all(b"2").unwrap();
        turn();
        assert_eq!(log.take(), ["first: readable", "second: dropped"]);
    });
}

#[test]
fn another_source_may_take_the_place_of_one() {
    bounded(|| {
        let log = Log::new();
        let (first, mut ours) = Probe::attach("first", &log, |_| {});
        let token = first.token.get().unwrap();
        let second = Probe::detached("second", &log);
        EventLoop::current().replace(token, second.clone());
        assert_eq!(EventLoop::current().source_count(), 1);
        ours.write_all(b"hello").unwrap();
        turn();
        assert_eq!(log.take(), ["second: readable"]);
        first.detach();
        assert_eq!(EventLoop::current().source_count(), 0);
        assert_eq!(Rc::strong_count(&second), 1, "the loop has let go of it");
    });
}

#[test]
fn what_is_requeued_waits_behind_what_is_ready_already() {
    bounded(|| {
        let log = Log::new();
        // Reads a byte at a time, and asks for another turn while there is more.
        let greedy = |probe: &Rc<Probe>| {
            if probe.read(1) == 1 {
                EventLoop::current().requeue(probe.token.get().unwrap(), Ready::READABLE);
            }
        };
        let (_a, mut to_a) = Probe::attach("a", &log, greedy);
        let (_b, mut to_b) = Probe::attach("b", &log, greedy);
        to_a.write_all(b"123").unwrap();
        to_b.write_all(b"123").unwrap();
        wait_until(None, || log.len() == 8).unwrap();
        assert_eq!(log.take().concat(), "a: readableb: readable".repeat(4));
        turn();
        assert!(log.is_empty());
    });
}

#[test]
fn what_interrupts_every_turn_leaves_room_for_the_others() {
    bounded(|| {
        let log = Log::new();
        let hasty = |probe: &Rc<Probe>| {
            EventLoop::current().requeue(probe.token.get().unwrap(), Ready::READABLE);
            EventLoop::current().interrupt();
        };
        let (_a, mut to_a) = Probe::attach("a", &log, hasty);
        let (_b, mut to_b) = Probe::attach("b", &log, hasty);
        to_a.write_all(b"1").unwrap();
        to_b.write_all(b"1").unwrap();
        let called = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let called = Arc::clone(&called);
            EventLoop::current().remote().post(move |_| _ = called.fetch_add(1, Ordering::SeqCst)).unwrap();
        }
        wait_until(None, || log.len() == 2).unwrap();
        log.take();
        for _ in 0..3 {
            let before = log.len();
            update().unwrap();
            assert_eq!(log.len(), before + 1, "one a turn");
        }
        let served = log.take();
        assert!(served[0] != served[1] && served[0] == served[2], "in turns: {served:?}");
        assert_eq!(called.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn what_requeues_itself_leaves_room_for_timers_and_calls() {
    bounded(|| {
        let log = Log::new();
        let (probe, mut ours) = Probe::attach("a", &log, |probe| {
            EventLoop::current().requeue(probe.token.get().unwrap(), Ready::READABLE);
        });
        ours.write_all(b"1").unwrap();
        turn();
        let (timer, call) = (Rc::new(Cell::new(false)), Arc::new(AtomicBool::new(false)));
        let (timed, called) = (Rc::clone(&timer), Arc::clone(&call));
        EventLoop::current().after(Duration::ZERO, move || timed.set(true));
        EventLoop::current().remote().post(move |_| called.store(true, Ordering::SeqCst)).unwrap();
        turn();
        assert!(timer.get() && call.load(Ordering::SeqCst));
        probe.detach();
    });
}

#[test]
fn what_asks_for_it_is_flushed_once_before_the_next_poll() {
    bounded(|| {
        let log = Log::new();
        let (probe, _ours) = Probe::attach("a", &log, |_| {});
        let token = probe.token.get().unwrap();
        EventLoop::current().flush_later(token);
        assert!(log.is_empty());
        update().unwrap();
        assert_eq!(log.take(), ["a: flush"]);
        update().unwrap();
        assert!(log.is_empty());
        let said = log.clone();
        EventLoop::current().after(Duration::ZERO, move || {
            EventLoop::current().flush_later(token);
            said.say("asked");
            // A wait is a turn like any other.
            sleep(Duration::ZERO).unwrap();
            update().unwrap();
            said.say("waited");
        });
        update().unwrap();
        assert_eq!(log.take(), ["asked", "a: flush", "waited"]);
        probe.detach();
    });
}

#[test]
fn a_source_may_wait_and_is_then_called_again() {
    bounded(|| {
        let log = Log::new();
        let inside = Rc::new(Cell::new(0));
        let depth = Rc::clone(&inside);
        let (probe, mut ours) = Probe::attach("a", &log, move |probe| {
            depth.set(depth.get() + 1);
            if probe.read(1) == 1 && depth.get() == 1 {
                EventLoop::current().requeue(probe.token.get().unwrap(), Ready::READABLE);
                let deep = Rc::clone(&depth);
                wait_until(None, || deep.get() == 2).unwrap();
            }
        });
        ours.write_all(b"12").unwrap();
        wait_until(None, || inside.get() == 2).unwrap();
        assert_eq!(log.take(), ["a: readable", "a: readable"]);
        probe.detach();
    });
}

#[test]
fn each_thread_has_one_loop_and_another_after_its_end() {
    bounded(|| {
        let here = EventLoop::current();
        assert!(Rc::ptr_eq(&here, &EventLoop::current()));
        let ended = threadwire_worker::Worker::<()>::builder().run(|| {
            assert!(Rc::ptr_eq(&here, &EventLoop::current()));
            Ok(())
        });
        assert!(ended.done().is_some());
        assert!(!Rc::ptr_eq(&here, &EventLoop::current()));
        assert!(here.is_stopping() && !EventLoop::current().is_stopping());
        sleep(Duration::ZERO).unwrap();
    });
}

#[test]
fn a_thread_that_ends_abandons_its_sources() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        struct Abandoned(mpsc::Sender<&'static str>);
        impl Source for Abandoned {
            fn ready(self: Rc<Self>, _ready: Ready) {}
            fn stop(self: Rc<Self>) {
                self.0.send("stop").unwrap();
            }
            fn abandon(self: Rc<Self>) {
                self.0.send("abandon").unwrap();
            }
        }
        thread::spawn(move || {
            let (theirs, _ours) = crate::common::sockets();
            let attached = EventLoop::current()
                .attach(theirs, mio::Interest::READABLE, |_socket, _token| Rc::new(Abandoned(tell)));
            attached.unwrap();
        });
        assert_eq!(told.iter().collect::<Vec<_>>(), ["abandon"]);
    });
}

#[test]
fn a_source_that_is_ready_again_and_again_is_queued_once() {
    bounded(|| {
        let log = Log::new();
        let (probe, _ours) = Probe::attach("a", &log, |_| {});
        for _ in 0..10 {
            EventLoop::current().requeue(probe.token.get().unwrap(), Ready::READABLE);
        }
        turn();
        assert_eq!(log.take(), ["a: readable"]);
        turn();
        assert!(log.is_empty());
    });
}

#[test]
fn what_is_there_already_does_not_starve_the_loop() {
    bounded(|| {
        let log = Log::new();
        let said = log.clone();
        EventLoop::current().after(Duration::ZERO, move || said.say("called"));
        let mut waits = 0;
        while log.is_empty() {
            wait_until(None, || true).unwrap();
            waits += 1;
        }
        assert!(waits <= 16, "{waits}");
    });
}
