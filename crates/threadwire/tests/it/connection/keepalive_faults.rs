//! What was once wrong with keepalive, round trips, events and the names in reports of stalls, and must not come back. The
//! comments say what happened then.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::keeping::{Keeper, MOMENT, await_ping, giving_up_after, pinging};
use crate::common::peer::{PONG, TEXT};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{elsewhere, pair, pair_with, serving_handles, there};
use crate::common::{SOON, bounded, ignore, patient};
use threadwire::events::Closed;
use threadwire::worker::{
    Event, EventLoop, Overflow, PromiseError, Stalled, Worker, later, listen, wait_event, wait_event_timeout,
};
use threadwire::{Config, Connection, Error, Keepalive, Listener, Message, sleep, wait_until};

/// Connection::wait_closed after a verdict: the abort is done in the flush of a turn, which then sleeps.
#[test]
fn wait_closed_returns_after_a_verdict() {
    bounded(|| {
        let (ws, _peer) = pair(giving_up_after(MOMENT), &Log::new());
        ws.wait_closed().unwrap();
    });
}

/// The same without keepalive: an abort from a timer.
#[test]
fn wait_closed_returns_after_an_abort_by_a_timer() {
    bounded(|| {
        let (ws, _peer) = pair(patient(), &Log::new());
        let same = ws.clone();
        later(MOMENT, move || same.abort());
        ws.wait_closed().unwrap();
    });
}

/// Another connection's callback blocks the thread; the pong lies in the socket since, but the timer of the same turn rings
/// before the next poll.
#[test]
fn a_pong_that_came_while_anothers_callback_held_the_loop_counts() {
    bounded(|| {
        let (ws, peer) = pair(giving_up_after(SOON), &Log::new());
        let peer = Rc::new(RefCell::new(peer));
        let theirs = Rc::clone(&peer);
        let holds = Keeper::new().message(move |_, _| {
            theirs.borrow_mut().send(PONG, b"");
            thread::sleep(2 * SOON);
            Ok(())
        });
        let (_other, mut other_peer) = pair_with(patient(), holds);
        await_ping(&mut peer.borrow_mut());
        other_peer.send(TEXT, b"hold");
        sleep(MOMENT).unwrap();
        assert!(ws.is_open(), "a false verdict");
    });
}

/// A subscription that arrives while on_close runs is lost: neither Opened nor Closed.
#[test]
fn who_subscribes_while_on_close_runs_is_told() {
    bounded(|| {
        let subscriber =
            Worker::spawn(|| Ok(wait_event_timeout::<Closed>(Duration::from_millis(500))?.is_some()));
        let remote = subscriber.remote();
        let (ws, mut peer) = pair_with(
            patient(),
            Log::new().listener(move |ws, call| {
                if let Call::Closed(_) = call {
                    let (handle, remote) = (ws.handle(), remote.clone());
                    elsewhere(move || handle.subscribe_worker(&remote));
                }
                Ok(())
            }),
        );
        let handle = ws.handle();
        peer.close(1000, "");
        peer.end();
        handle.wait_closed().unwrap();
        assert_eq!(subscriber.join().unwrap().done(), Some(true));
    });
}

/// A callback that waits for more than a second, with keepalive whose times are longer, is not told of.
#[test]
fn unread_for_knows_of_callbacks_that_waited_less_than_the_idle_timeout() {
    bounded(|| {
        let keeper = Keeper::new().message(|_, _| Ok(sleep(Duration::from_millis(1100))?));
        let (ws, mut peer) = pair_with(Config { keepalive: Some(Keepalive::default()), ..patient() }, keeper);
        peer.send(TEXT, b"wait");
        peer.close(1001, "too slow for me");
        peer.end();
        let closed = ws.handle().wait_closed().unwrap();
        assert!(closed.unread_for.is_some(), "{closed}");
    });
}

struct Spins(bool);
impl Listener for Spins {
    fn name(&self) -> &'static str {
        "the spinner"
    }
    fn on_message(&mut self, ws: &Connection, _message: Message<'_>) -> Result<(), Error> {
        thread::sleep(Duration::from_millis(5));
        if self.0 {
            sleep(MOMENT)?;
        }
        ws.close()
    }
    fn on_close(&mut self, _ws: &Connection, _closed: &threadwire::Closed) {
        thread::sleep(Duration::from_millis(5));
    }
    fn on_ping_due(&mut self, ws: &Connection) -> Result<(), Error> {
        thread::sleep(Duration::from_millis(5));
        ws.probe()
    }
}

fn stalls() -> Rc<RefCell<Vec<String>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sees = Rc::clone(&seen);
    listen(move |stall: &Event<Stalled>| sees.borrow_mut().push(stall.what.clone()));
    EventLoop::current().set_stall_limit(Some(Duration::from_millis(2)));
    seen
}

/// A callback that holds the loop and then waits: the listener is out of its cell when it is asked for its name.
#[test]
fn a_callback_that_holds_the_loop_before_it_waits_is_named() {
    bounded(|| {
        let (_ws, mut peer) = pair_with(patient(), Spins(true));
        let seen = stalls();
        peer.send(TEXT, b"spin");
        sleep(SOON).unwrap();
        named(&seen, "the spinner");
    });
}

/// On_ping_due is a timer of keeping.rs.
#[test]
fn on_ping_due_is_named() {
    bounded(|| {
        let (_ws, _peer) = pair_with(pinging(), Spins(false));
        let seen = stalls();
        sleep(SOON).unwrap();
        named(&seen, "the spinner");
    });
}

/// On_close: "a connection that has ended (a listener)".
#[test]
fn on_close_is_named() {
    bounded(|| {
        let (ws, mut peer) = pair_with(patient(), Spins(false));
        let seen = stalls();
        peer.close(1000, "");
        peer.end();
        ws.handle().wait_closed().unwrap();
        sleep(SOON).unwrap();
        named(&seen, "the spinner");
    });
}

fn named(seen: &Rc<RefCell<Vec<String>>>, name: &str) {
    let seen = seen.take();
    assert!(!seen.is_empty() && seen.iter().all(|what| what.contains(name)), "{seen:?}");
}

/// The same as it happens by itself: subscribers on other threads while the connection ends.
#[test]
fn subscribers_of_many_threads_hear_of_each_end_once() {
    bounded(|| {
        for round in 0..100 {
            let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
            let mut peer = serving.peer();
            let handle = handles.recv().unwrap();
            let counts: Vec<_> = (0..4)
                .map(|_| {
                    let (give, given) = mpsc::channel();
                    let worker = Worker::spawn(move || {
                        listen(move |event: &Event<Closed>| give.send(event.data.handle.id()).unwrap());
                        threadwire::wait_forever()
                    });
                    (worker, given)
                })
                .collect();
            let threads: Vec<_> = counts
                .iter()
                .map(|(worker, _)| {
                    let (handle, remote) = (handle.clone(), worker.remote());
                    thread::spawn(move || handle.subscribe_worker(&remote))
                })
                .collect();
            peer.close(1000, "");
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            handle.wait_closed().unwrap();
            for (_, given) in &counts {
                assert!(
                    given.recv_timeout(Duration::from_secs(1)).is_ok(),
                    "round {round}: subscribed, and never told of the end"
                );
            }
        }
    });
}

/// A measurement that a handle asks for after the end.
#[test]
fn a_handles_measurement_after_the_end_says_closed() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        peer.close(1000, "");
        peer.end();
        handle.wait_closed().unwrap();
        match handle.measure_roundtrip(1).get() {
            Err(PromiseError::Rejected(error)) => assert!(error.to_string().contains("closed")),
            other => panic!("{other:?}"),
        }
    });
}

/// A measurement that lies in the lane when the connection ends.
#[test]
fn a_handles_measurement_that_is_overtaken_by_the_end_says_closed() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        let far = handle.clone();
        let promise = elsewhere(move || far.measure_roundtrip(1));
        peer.close(1000, "");
        peer.end();
        handle.wait_closed().unwrap();
        match promise.get() {
            Err(PromiseError::Rejected(error)) => assert!(error.to_string().contains("closed")),
            other => panic!("{other:?}"),
        }
    });
}

/// To subscribe again after the end tells of it again.
#[test]
fn closed_is_told_once_also_to_who_subscribes_again_after_it() {
    bounded(|| {
        let count = Rc::new(Cell::new(0));
        let counts = Rc::clone(&count);
        listen(move |_: &Event<Closed>| counts.set(counts.get() + 1));
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        handle.subscribe();
        peer.close(1000, "");
        peer.end();
        handle.wait_closed().unwrap();
        handle.subscribe();
        handle.subscribe();
        EventLoop::current().update().unwrap();
        assert_eq!(count.get(), 1);
    });
}

/// When Closed arrives, has_ended is not yet true.
#[test]
fn a_handle_has_ended_when_closed_is_told() {
    bounded(|| {
        let first = Worker::spawn(|| {
            let event = wait_event::<Closed>()?;
            Ok((event.data.handle.has_ended(), event.data.handle.closed().is_some()))
        });
        let (go, goes) = mpsc::channel::<()>();
        // The second one's full inbox is waited for, after the first was told.
        let second = Worker::builder()
            .inbox(1, Overflow::Wait)
            .spawn(move || {
                let _ = goes.recv();
                threadwire::wait_forever()
            })
            .unwrap();
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        handle.subscribe_worker(&first.remote());
        handle.subscribe_worker(&second.remote());
        there(&handle, |_| ());
        peer.close(1000, "");
        let ended = first.join().unwrap().done();
        drop(go);
        assert_eq!(ended, Some((true, true)));
    });
}

/// A handle that is made after the end knows less than on_close was told.
#[test]
fn a_handle_made_after_the_end_says_why() {
    bounded(|| {
        let log = Log::new();
        let (ws, _peer) = pair(giving_up_after(MOMENT), &log);
        wait_until(Some(SOON), || ws.has_ended()).unwrap();
        assert!(log.end().unwrap().error.is_some());
        assert!(ws.handle().closed().unwrap().error.is_some(), "{}", ws.handle().closed().unwrap());
    });
}

/// And a measurement that is waited for.
#[test]
fn a_measurement_ends_with_an_abort_by_a_timer() {
    bounded(|| {
        let (ws, _peer) = pair(patient(), &Log::new());
        let same = ws.clone();
        later(MOMENT, move || same.abort());
        assert!(ws.measure_roundtrip(1).is_err());
    });
}

/// A measurement fails for a pong that lies unread, as another connection's callback holds the loop.
#[test]
fn a_pong_that_came_while_anothers_callback_held_the_loop_is_measured() {
    bounded(|| {
        let keepalive = Keepalive { reply_timeout: SOON, ..Keepalive::default() };
        let (ws, mut peer) = pair(Config { keepalive: Some(keepalive), ..patient() }, &Log::new());
        let result = Rc::new(RefCell::new(None));
        let leave = Rc::clone(&result);
        ws.measure_roundtrip_then(1, move |times| *leave.borrow_mut() = Some(times));
        let payload = peer.frame().1;
        let holds = Keeper::new().message(move |_, _| {
            peer.send(PONG, &payload);
            thread::sleep(2 * SOON);
            Ok(())
        });
        let (_other, mut other_peer) = pair_with(patient(), holds);
        other_peer.send(TEXT, b"hold");
        wait_until(None, || result.borrow().is_some()).unwrap();
        assert!(matches!(&*result.borrow(), Some(Ok(_))), "{result:?}");
    });
}

/// The same as the connection's own callback waits.
#[test]
fn a_pong_that_came_while_the_own_callback_waited_is_measured() {
    bounded(|| {
        let keepalive = Keepalive { reply_timeout: SOON, ..Keepalive::default() };
        let keeper = Keeper::new().message(|_, _| Ok(sleep(3 * SOON)?));
        let (ws, mut peer) = pair_with(Config { keepalive: Some(keepalive), ..patient() }, keeper);
        let result = Rc::new(RefCell::new(None));
        let leave = Rc::clone(&result);
        ws.measure_roundtrip_then(1, move |times| *leave.borrow_mut() = Some(times));
        let payload = peer.frame().1;
        peer.send(TEXT, b"wait");
        peer.send(PONG, &payload);
        wait_until(None, || result.borrow().is_some()).unwrap();
        assert!(matches!(&*result.borrow(), Some(Ok(_))), "{result:?}");
    });
}
