//! Tests of busy polling.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Log, PATIENCE, Probe, bounded, settle};
use threadwire_worker::{
    EventLoop, Overflow, Status, Stopped, Worker, current, sleep, wait_event, wait_forever, wait_until,
};

/// A loop that never sleeps, and one that does so after a while that is about as long as what it waits for.
const SPINS: [Duration; 2] = [Duration::MAX, Duration::from_micros(20)];

/// How often something is asked of it. Where cores are scarce, each round waits until those who spin have had their turn.
const ROUNDS: usize = 60;

/// A test on a thread whose loop spins, for each way to do so, without sockets and with one.
fn spinning(test: impl Fn() + Send + Clone + 'static) {
    for (spin, has_socket) in SPINS.into_iter().flat_map(|spin| [(spin, false), (spin, true)]) {
        let test = test.clone();
        bounded(move || {
            EventLoop::current().set_busy_poll(Some(spin));
            let _idle = has_socket.then(|| Probe::attach("idle", &Log::new(), |_| {}));
            test();
        });
    }
}

#[test]
fn calls_reach_a_loop_that_spins() {
    spinning(|| {
        // Each call is made only when the one before has run, so that the loop has nothing to do between them. One that
        // is not noticed at the edge between spinning and sleeping is never made good.
        let here = current();
        let done = Arc::new(AtomicBool::new(false));
        let sets = Arc::clone(&done);
        thread::spawn(move || {
            let (tell, told) = mpsc::channel();
            for number in 0..ROUNDS {
                let tell = tell.clone();
                here.post(move |_| tell.send(number).unwrap()).unwrap();
                assert_eq!(told.recv().unwrap(), number);
                // About as long as it spins.
                let until = Instant::now() + Duration::from_micros(number as u64 % 40);
                while Instant::now() < until {}
            }
            here.post(move |_| sets.store(true, Ordering::SeqCst)).unwrap();
        });
        wait_until(None, || done.load(Ordering::SeqCst)).unwrap();
    });
}

#[test]
fn wakes_reach_a_loop_that_spins() {
    spinning(|| {
        let here = current();
        let (count, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counts, sees) = (Arc::clone(&count), Arc::clone(&seen));
        thread::spawn(move || {
            for number in 1..=ROUNDS {
                counts.store(number, Ordering::SeqCst);
                here.wake();
                while sees.load(Ordering::SeqCst) < number {
                    thread::yield_now();
                }
            }
        });
        wait_until(None, || {
            seen.store(count.load(Ordering::SeqCst), Ordering::SeqCst);
            seen.load(Ordering::SeqCst) == ROUNDS
        })
        .unwrap();
    });
}

#[test]
fn sockets_reach_a_loop_that_spins() {
    spinning(|| {
        let log = Log::new();
        let (_probe, mut ours) = Probe::attach("socket", &log, |probe| assert_eq!(probe.read(100), 5));
        let writer = thread::spawn(move || {
            ours.write_all(b"hello").unwrap();
            ours
        });
        wait_until(None, || !log.is_empty()).unwrap();
        assert_eq!(log.take(), ["socket: readable"]);
        drop(writer.join().unwrap());
    });
}

#[test]
fn a_flood_of_calls_does_not_hide_the_sockets_of_a_loop_that_spins() {
    spinning(|| {
        // There is always a call.
        fn again(event_loop: &EventLoop, stop: Arc<AtomicBool>) {
            if !stop.load(Ordering::SeqCst) {
                event_loop.remote().post(move |event_loop| again(event_loop, stop)).unwrap();
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        again(&EventLoop::current(), Arc::clone(&stop));
        let log = Log::new();
        let (_probe, mut ours) = Probe::attach("socket", &log, |probe| assert_eq!(probe.read(100), 5));
        ours.write_all(b"hello").unwrap();
        wait_until(None, || !log.is_empty()).unwrap();
        stop.store(true, Ordering::SeqCst);
        assert_eq!(log.take(), ["socket: readable"]);
    });
}

#[test]
fn a_stop_ends_the_waits_of_a_loop_that_spins() {
    spinning(|| {
        let here = current();
        let stopper = thread::spawn(move || here.stop());
        assert_eq!(wait_forever(), Err(Stopped));
        stopper.join().unwrap();
    });
}

#[test]
fn timers_and_timeouts_of_a_loop_that_spins_come_in_order_and_not_early() {
    spinning(|| {
        let event_loop = EventLoop::current();
        let log = Log::new();
        let start = Instant::now();
        for (name, millis) in [("c", 3), ("a", 1), ("b", 2)] {
            let log = log.clone();
            let due = start + Duration::from_millis(millis);
            event_loop.at(due, move || {
                assert!(Instant::now() >= due);
                log.say(name);
            });
        }
        assert_eq!(wait_until(None, || log.len() == 3), Ok(true));
        assert_eq!(log.take(), ["a", "b", "c"]);
        let start = Instant::now();
        assert_eq!(wait_until(Some(Duration::from_millis(2)), || false), Ok(false));
        assert!(start.elapsed() >= Duration::from_millis(2));
    });
}

#[test]
fn waits_nest_in_a_loop_that_spins() {
    spinning(|| {
        let inner_is_over = Rc::new(Cell::new(false));
        let sets = Rc::clone(&inner_is_over);
        let event_loop = EventLoop::current();
        event_loop.after(Duration::ZERO, move || {
            let here = current();
            let sender = thread::spawn(move || here.fire("inner").unwrap());
            assert_eq!(wait_event::<&str>().unwrap().data, "inner");
            sender.join().unwrap();
            sets.set(true);
        });
        wait_until(None, || inner_is_over.get()).unwrap();
    });
}

#[test]
fn a_worker_that_spins_can_be_paused_resumed_and_stopped() {
    bounded(|| {
        for spin in SPINS {
            let worker = Worker::builder().busy_poll(spin).spawn(wait_forever).unwrap();
            settle(&worker);
            worker.pause();
            settle(&worker);
            assert_eq!(worker.status(), Status::Paused);
            worker.resume();
            settle(&worker);
            assert_eq!(worker.status(), Status::Running);
            worker.stop();
            assert!(worker.join().unwrap().was_stopped());
        }
    });
}

#[test]
fn a_worker_that_spins_waits_for_its_children_and_delivers_what_was_left() {
    bounded(|| {
        let worker = Worker::builder().busy_poll(Duration::MAX).spawn(|| {
            let child = Worker::spawn(wait_forever);
            let told = Arc::new(AtomicBool::new(false));
            let tells = Arc::clone(&told);
            current().post(move |_| tells.store(true, Ordering::SeqCst)).unwrap();
            Ok((child.remote(), told))
        });
        let (child, told) = worker.unwrap().join().unwrap().done().unwrap();
        assert!(!child.status().is_alive());
        assert!(told.load(Ordering::SeqCst));
    });
}

#[test]
fn a_limited_inbox_of_a_loop_that_spins_makes_room_for_those_who_wait() {
    bounded(|| {
        let builder = Worker::builder().inbox(1, Overflow::Wait).busy_poll(Duration::MAX);
        let worker = builder.spawn(|| {
            let mut sum = 0;
            while sum < 5050 {
                sum += wait_event::<u32>()?.data;
            }
            Ok(sum)
        });
        let worker = worker.unwrap();
        for number in 1..=100u32 {
            worker.fire(number).unwrap();
        }
        assert_eq!(worker.join().unwrap().done(), Some(5050));
    });
}

#[test]
fn a_loop_that_no_longer_spins_is_woken_as_before() {
    bounded(|| {
        let event_loop = EventLoop::current();
        event_loop.set_busy_poll(Some(Duration::MAX));
        sleep(Duration::from_millis(1)).unwrap();
        event_loop.set_busy_poll(None);
        let here = current();
        thread::spawn(move || here.fire("hello").unwrap());
        assert_eq!(wait_event::<&str>().unwrap().data, "hello");
    });
}

/// How often the system has put this thread to sleep because it asked for that.
#[cfg(target_os = "linux")]
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("Linux counts them").trim().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_loop_sleeps_only_when_nothing_has_happened_for_as_long_as_it_spins() {
    // Something else may put the thread to sleep (a page that has to be read), and it may be kept from running until there
    // is nothing left to wait for: but neither happens each time.
    let ever = |is_asleep: bool, spin: Option<Duration>, has_socket: bool| {
        (0..50).any(|_| {
            let (tell, told) = mpsc::channel();
            bounded(move || {
                EventLoop::current().set_busy_poll(spin);
                let _idle = has_socket.then(|| Probe::attach("idle", &Log::new(), |_| {}));
                let before = sleeps();
                sleep(Duration::from_millis(1)).unwrap();
                tell.send(sleeps() > before).unwrap();
            });
            told.recv().unwrap() == is_asleep
        })
    };
    for has_socket in [false, true] {
        for spin in [Duration::MAX, PATIENCE] {
            assert!(ever(false, Some(spin), has_socket), "{spin:?}");
        }
        for spin in [None, Some(Duration::ZERO), Some(Duration::from_micros(10))] {
            assert!(ever(true, spin, has_socket), "{spin:?}");
        }
    }
}
