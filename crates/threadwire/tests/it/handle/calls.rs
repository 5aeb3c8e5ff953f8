//! Calls to a connection's thread (`Handle::run`): nesting, order, and turns of others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::peer::TEXT;
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{Halt, elsewhere, pair, serving_handles};
use crate::common::{Serving, bind, bounded, echo, ignore, patient};
use threadwire::worker::EventLoop;
use threadwire::{Client, Connection, Reply, sleep, wait_until};

/// An echo server, and a connection of this thread's with it.
fn open() -> (Serving, Connection) {
    let serving = Serving::with(bind().config(patient()), |_| Reply::with(echo));
    let client = Client::new(&serving.url("/")).unwrap().config(patient());
    let ws = client.connect(Log::new().listener(ignore)).unwrap();
    (serving, ws)
}

#[test]
fn calls_that_wait_do_not_nest_past_the_limit() {
    const CALLS: usize = 300;
    bounded(|| {
        let (_serving, ws) = open();
        let handle = ws.handle();
        let [depth, deepest, done] = std::array::from_fn(|_| Arc::new(AtomicUsize::new(0)));
        let counts = (depth, Arc::clone(&deepest), Arc::clone(&done));
        elsewhere(move || {
            for _ in 0..CALLS {
                let (depth, deepest, done) = counts.clone();
                handle.run(move |_| {
                    let now = depth.fetch_add(1, Ordering::SeqCst) + 1;
                    deepest.fetch_max(now, Ordering::SeqCst);
                    sleep(Duration::from_micros(10)).unwrap();
                    depth.fetch_sub(1, Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        wait_until(None, || done.load(Ordering::SeqCst) == CALLS).unwrap();
        let deepest = deepest.load(Ordering::SeqCst);
        assert!(deepest <= EventLoop::MAX_NESTING + 1, "nested {deepest} deep");
    });
}

/// If each were called within the one before, the stack would overflow.
#[test]
fn calls_that_use_their_handle_do_not_nest() {
    const CALLS: usize = 20_000;
    bounded(|| {
        let (_serving, ws) = open();
        let handle = ws.handle();
        let done = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&done);
        elsewhere(move || {
            for _ in 0..CALLS {
                let (own, count) = (handle.clone(), Arc::clone(&count));
                handle.run(move |_| {
                    own.send("x").unwrap();
                    count.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        wait_until(None, || done.load(Ordering::SeqCst) == CALLS).unwrap();
    });
}

/// Rings in every turn, and writes down how many calls were done by then.
fn ring(seen: Arc<Mutex<Vec<usize>>>, done: Arc<AtomicUsize>, calls: usize) {
    let count = done.load(Ordering::SeqCst);
    seen.lock().unwrap().push(count);
    if count < calls {
        EventLoop::current().after(Duration::ZERO, move || ring(seen, done, calls));
    }
}

#[test]
fn a_backlog_of_calls_leaves_others_their_turn() {
    const CALLS: usize = 10_000;
    bounded(|| {
        let (_serving, ws) = open();
        let handle = ws.handle();
        let done = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&done);
        elsewhere(move || {
            for _ in 0..CALLS {
                let count = Arc::clone(&count);
                handle.run(move |_| {
                    count.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        let turns = Arc::new(Mutex::new(Vec::new()));
        let (seen, count) = (Arc::clone(&turns), Arc::clone(&done));
        EventLoop::current().after(Duration::ZERO, move || ring(seen, count, CALLS));
        wait_until(None, || done.load(Ordering::SeqCst) == CALLS).unwrap();
        let turns = turns.lock().unwrap();
        let most = turns.windows(2).map(|turn| turn[1] - turn[0]).max().unwrap_or(CALLS);
        assert!(most <= 1000, "a timer waited for {most} calls: {turns:?}");
    });
}

/// F: what comes while a call waits that has something behind it is never looked at.
#[test]
fn what_is_sent_while_a_call_waits_leaves_though_something_lay_behind_the_call() {
    bounded(|| {
        let (halt, reached, go) = Halt::new();
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, move |_, call| {
            if let Call::Text(_) = call {
                halt.here();
            }
            Ok(())
        });
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        peer.send(TEXT, b"halt");
        reached.recv().unwrap();
        let (waiting, waits) = mpsc::channel();
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        handle.run(move |_| {
            waiting.send(()).unwrap();
            wait_until(None, || is_done.load(Ordering::SeqCst)).unwrap();
        });
        handle.send("behind the call").unwrap();
        go.send(()).unwrap();
        waits.recv().unwrap();
        handle.send("while it waits").unwrap();
        assert_eq!(peer.text(), "behind the call");
        assert_eq!(peer.text(), "while it waits");
        done.store(true, Ordering::SeqCst);
        handle.worker().unwrap().wake();
        handle.send("after it").unwrap();
        assert_eq!(peer.text(), "after it");
    });
}

/// Order of one handle: a send within a call comes after messages that were left before the call ran.
#[test]
fn a_send_on_the_own_thread_within_a_call_does_not_overtake_what_lies_behind_the_call() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        let (inside, outside) = (handle.clone(), handle.clone());
        elsewhere(move || {
            outside.run(move |_| inside.send("second").unwrap());
            outside.send("first").unwrap();
        });
        handle.wait_drained().unwrap();
        assert_eq!(peer.text(), "first");
        assert_eq!(peer.text(), "second");
    });
}

/// A call that waits lets messages behind it leave meanwhile, without another event.
#[test]
fn what_lies_behind_a_call_that_waits_is_done_meanwhile() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        let (inside, outside) = (handle.clone(), handle.clone());
        elsewhere(move || {
            outside.run(move |_| inside.wait_drained().unwrap());
            outside.send("behind").unwrap();
        });
        handle.wait_drained().unwrap();
        assert_eq!(peer.text(), "behind");
    });
}
