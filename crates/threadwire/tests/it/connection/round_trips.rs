//! Round trips on demand, from this thread and from others.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::keeping::{MOMENT, await_frame, await_ping, await_verdict, giving_up_after, pinging};
use crate::common::neighbour::Neighbour;
use crate::common::peer::{CLOSE, Host, PING, PONG, Peer, TEXT};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{elsewhere, pair, pair_with, serving_handles, there};
use crate::common::{PATIENCE, Serving, bounded, echo, ignore, patient};
use threadwire::error::TimeoutKind;
use threadwire::keepalive::PingStrategy;
use threadwire::worker::{PromiseError, Worker, block_on, later, wait_forever};
use threadwire::{Client, Config, Connection, Error, Handle, Keepalive, Message, sleep, wait_until};

/// The result of a measurement, once there is one.
type Result = std::result::Result<Vec<Duration>, Error>;

/// A measurement that is under way on this thread.
#[derive(Clone, Default)]
struct Measured(Rc<RefCell<Option<Result>>>);

impl Measured {
    /// Begins one.
    fn begin(ws: &Connection, rounds: usize) -> Measured {
        let measured = Measured::default();
        let leave = measured.clone();
        ws.measure_roundtrip_then(rounds, move |times| leave.set(times));
        measured
    }

    fn set(&self, times: Result) {
        assert!(self.0.replace(Some(times)).is_none(), "it has ended twice");
    }

    fn is_over(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Lets this thread's loop turn until it is over.
    fn wait(&self) -> Result {
        wait_until(None, || self.is_over()).unwrap();
        self.0.take().unwrap()
    }
}

/// A connection and its peer, both on this thread.
fn open(config: Config) -> (Connection, Peer) {
    pair(config, &Log::new())
}

/// A server that echoes, and a connection of this thread's with it.
fn with_server(config: Config) -> (Serving, Connection) {
    let serving = Serving::recording(patient(), &Log::new(), ignore);
    let ws = Client::new(&serving.url("/echo")).unwrap().config(config).connect(echo).unwrap();
    (serving, ws)
}

fn is_closed(result: &Result) -> bool {
    matches!(result, Err(Error::Closed))
}

fn is_late(result: &Result) -> bool {
    matches!(result, Err(Error::Timeout(TimeoutKind::Pong)))
}

/// Why a promise failed, which must be an error of a connection's.
fn rejected(result: std::result::Result<Vec<Duration>, PromiseError>) -> String {
    match result {
        Err(PromiseError::Rejected(error)) => error.downcast_ref::<Error>().unwrap().to_string(),
        other => panic!("{other:?}"),
    }
}

// --- On the connection's own thread ---

#[test]
fn measures_as_often_as_asked() {
    bounded(|| {
        let (_serving, ws) = with_server(patient());
        for rounds in [0, 1, 2, 50] {
            assert_eq!(ws.measure_roundtrip(rounds).unwrap().len(), rounds);
        }
        assert!(ws.is_open());
    });
}

#[test]
fn sends_one_ping_after_the_other() {
    bounded(|| {
        let (ws, mut peer) = open(patient());
        let measured = Measured::begin(&ws, 3);
        let mut payloads = Vec::new();
        for round in 1..=3 {
            let payload = await_ping(&mut peer);
            assert!(!payloads.contains(&payload));
            // The next one waits for this one's pong.
            sleep(round * MOMENT).unwrap();
            assert!(peer.is_silent() && !measured.is_over());
            peer.send(PONG, &payload);
            payloads.push(payload);
        }
        let times = measured.wait().unwrap();
        assert_eq!(times.len(), 3);
        assert!(times.iter().zip(1..).all(|(time, round)| *time >= round * MOMENT), "{times:?}");
        sleep(MOMENT).unwrap();
        assert!(peer.is_silent());
    });
}

#[test]
fn the_ping_leaves_at_once() {
    bounded(|| {
        let (ws, mut peer) = open(patient());
        let measured = Measured::begin(&ws, 1);
        // The loop has not turned.
        let (first, payload) = peer.frame();
        assert_eq!(first, PING);
        peer.send(PONG, &payload);
        measured.wait().unwrap();
    });
}

#[test]
fn measurements_wait_for_each_other_in_order() {
    bounded(|| {
        let (ws, mut peer) = open(patient());
        let order = Rc::new(RefCell::new(Vec::new()));
        for rounds in [2, 0, 1, 3] {
            let order = Rc::clone(&order);
            ws.measure_roundtrip_then(rounds, move |times| {
                assert_eq!(times.unwrap().len(), rounds);
                order.borrow_mut().push(rounds);
            });
        }
        for count in 0..6 {
            let payload = await_ping(&mut peer);
            assert!(peer.is_silent(), "two pings under way after {count} rounds");
            peer.send(PONG, &payload);
        }
        wait_until(None, || order.borrow().len() == 4).unwrap();
        // For no rounds nobody need be waited for.
        assert_eq!(*order.borrow(), [0, 2, 1, 3]);
    });
}

#[test]
fn what_is_called_at_the_end_may_measure_again() {
    bounded(|| {
        let (_serving, ws) = with_server(patient());
        let result = Measured::default();
        let (leave, same) = (result.clone(), ws.clone());
        ws.measure_roundtrip_then(1, move |first| {
            let first = first.unwrap();
            // In a pong's own callback there can be no waiting for another.
            assert!(same.measure_roundtrip(1).is_err());
            same.measure_roundtrip_then(2, move |times| {
                leave.set(times.map(|times| [first, times].concat()));
            });
        });
        assert_eq!(result.wait().unwrap().len(), 3);
    });
}

#[test]
fn fails_at_once_in_a_callback_of_the_same_connection() {
    bounded(|| {
        let log = Log::new();
        let results = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::clone(&results);
        let listener = log.listener(move |ws, call| {
            heard.borrow_mut().push((call.clone(), ws.measure_roundtrip(1)));
            Ok(())
        });
        let (ws, mut peer) = pair_with(patient(), listener);
        peer.send(TEXT, b"now");
        peer.send(PING, b"and");
        peer.send(PONG, b"then");
        peer.close(1000, "");
        peer.end();
        ws.handle().wait_closed().unwrap();
        let results = results.take();
        assert_eq!(results.len(), 5);
        for (call, result) in results {
            match call {
                Call::Closed(_) => assert!(is_closed(&result), "{result:?}"),
                _ => {
                    assert!(result.unwrap_err().to_string().contains("in a callback of the same connection"))
                }
            }
        }
        // Nothing was sent for it.
        assert_eq!(peer.frame(), (PONG, b"and".to_vec()));
        assert_eq!(peer.code(), 1000);
    });
}

#[test]
fn a_callback_has_itself_told_later() {
    bounded(|| {
        let results = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::clone(&results);
        let listener = Log::new().listener(move |ws, call| {
            if matches!(call, Call::Open | Call::Text(_)) {
                let heard = Rc::clone(&heard);
                ws.measure_roundtrip_then(2, move |times| heard.borrow_mut().push(times.unwrap().len()));
            }
            Ok(())
        });
        let serving = Serving::recording(patient(), &Log::new(), ignore);
        let ws = Client::new(&serving.url("/echo")).unwrap().config(patient()).connect(listener).unwrap();
        ws.send("again").unwrap();
        wait_until(None, || results.borrow().len() == 2).unwrap();
        assert_eq!(*results.borrow(), [2, 2]);
    });
}

#[test]
fn a_callback_of_another_connection_may_wait() {
    bounded(|| {
        let (serving, measured) = with_server(patient());
        let result = Measured::default();
        let leave = result.clone();
        let callback = move |_: &Connection, _: Message<'_>| {
            leave.set(measured.measure_roundtrip(3));
            Ok(())
        };
        let ws = Client::new(&serving.url("/echo")).unwrap().config(patient()).connect(callback).unwrap();
        ws.send("go").unwrap();
        assert_eq!(result.wait().unwrap().len(), 3);
    });
}

#[test]
fn measures_while_messages_arrive() {
    bounded(|| {
        let (ws, mut peer) = open(patient());
        let measured = Measured::begin(&ws, 3);
        for _ in 0..3 {
            let payload = await_ping(&mut peer);
            peer.send(TEXT, b"before");
            peer.send(PONG, &payload);
            peer.send(TEXT, b"after");
        }
        assert_eq!(measured.wait().unwrap().len(), 3);
    });
}

#[test]
fn the_listener_hears_the_pongs_too() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        let measured = Measured::begin(&ws, 1);
        let payload = await_ping(&mut peer);
        peer.send(PONG, &payload);
        measured.wait().unwrap();
        sleep(Duration::ZERO).unwrap();
        assert_eq!(log.calls(), [Call::Open, Call::Pong(payload)]);
    });
}

#[test]
fn works_for_frames_and_with_a_program_that_does_not_answer_pings() {
    bounded(|| {
        let config = patient().auto_pong(false);
        let (ws, mut peer) = pair_with(config, Log::new().frames(ignore));
        let measured = Measured::begin(&ws, 2);
        for _ in 0..2 {
            let payload = await_ping(&mut peer);
            peer.send(PONG, &payload);
        }
        assert_eq!(measured.wait().unwrap().len(), 2);
    });
}

// --- Pongs that are none ---

#[test]
fn pongs_that_nobody_asked_for_are_no_answers() {
    bounded(|| {
        let (ws, mut peer) = open(patient());
        peer.send(PONG, b"");
        let measured = Measured::begin(&ws, 1);
        let payload = await_ping(&mut peer);
        let mut other = payload.clone();
        other[0] ^= 1;
        peer.send(PONG, b"");
        peer.send(PONG, &other);
        peer.send(PONG, &payload[..7]);
        peer.send(PONG, &[&payload[..], b"!"].concat());
        sleep(2 * MOMENT).unwrap();
        assert!(!measured.is_over());
        peer.send(PONG, &payload);
        let times = measured.wait().unwrap();
        assert!(times[0] >= 2 * MOMENT, "{times:?}");
    });
}

#[test]
fn a_pong_counts_once() {
    bounded(|| {
        let (ws, mut peer) = open(patient());
        let measured = Measured::begin(&ws, 2);
        let first = await_ping(&mut peer);
        peer.send(PONG, &first);
        let second = await_ping(&mut peer);
        peer.send(PONG, &first);
        sleep(2 * MOMENT).unwrap();
        assert!(!measured.is_over());
        peer.send(PONG, &second);
        assert_eq!(measured.wait().unwrap().len(), 2);
    });
}

#[test]
fn pings_of_others_do_not_disturb() {
    bounded(|| {
        let (ws, mut peer) = open(patient().keep_round_trips(true));
        ws.probe().unwrap();
        ws.flush();
        let (_, probe) = peer.frame();
        let measured = Measured::begin(&ws, 1);
        let payload = await_ping(&mut peer);
        peer.send(PONG, &probe);
        wait_until(None, || ws.round_trips().is_some()).unwrap();
        assert!(!measured.is_over());
        peer.send(PONG, &payload);
        measured.wait().unwrap();
        assert_eq!(ws.round_trips().unwrap().count, 1, "what was measured is not kept with the others");
    });
}

// --- Time ---

#[test]
fn a_pong_that_does_not_come_is_given_up() {
    bounded(|| {
        let keepalive = Keepalive::default().idle_timeout(PATIENCE).reply_timeout(MOMENT);
        let (ws, mut peer) = open(patient().keepalive(keepalive));
        assert!(is_late(&ws.measure_roundtrip(3)));
        assert!(ws.is_open(), "it is no verdict");
        let (first, late) = peer.frame();
        assert_eq!(first, PING);
        assert!(peer.is_silent());
        // The late pong disturbs nothing.
        let measured = Measured::begin(&ws, 1);
        peer.send(PONG, &late);
        assert!(is_late(&measured.wait()));
    });
}

#[test]
fn a_pong_has_all_the_time_where_patience_has_no_end() {
    bounded(|| {
        let (ws, mut peer) = open(giving_up_after(Duration::MAX));
        let measured = Measured::begin(&ws, 1);
        let payload = await_ping(&mut peer);
        sleep(2 * MOMENT).unwrap();
        assert!(!measured.is_over());
        peer.send(PONG, &payload);
        assert!(measured.wait().unwrap()[0] >= 2 * MOMENT);
    });
}

#[test]
fn all_that_waited_fail_with_the_one_that_was_late() {
    bounded(|| {
        let keepalive = Keepalive::default().idle_timeout(PATIENCE).reply_timeout(MOMENT);
        let (ws, _peer) = open(patient().keepalive(keepalive));
        let measured: Vec<_> = (1..4).map(|rounds| Measured::begin(&ws, rounds)).collect();
        assert!(measured.iter().all(|measured| is_late(&measured.wait())));
    });
}

#[test]
fn every_round_has_the_time() {
    bounded(|| {
        const REPLY: Duration = Duration::from_millis(400);
        let keepalive = Keepalive::default().idle_timeout(PATIENCE).reply_timeout(REPLY);
        let (ws, mut peer) = open(patient().keepalive(keepalive));
        let measured = Measured::begin(&ws, 4);
        let begun = Instant::now();
        for _ in 0..4 {
            let payload = await_ping(&mut peer);
            sleep(REPLY * 3 / 10).unwrap();
            peer.send(PONG, &payload);
        }
        assert_eq!(measured.wait().unwrap().len(), 4);
        assert!(begun.elapsed() > REPLY);
    });
}

#[test]
fn a_silent_peer_is_noticed_after_a_measurement_that_failed() {
    bounded(|| {
        let (ws, mut peer) = open(giving_up_after(4 * MOMENT));
        let measured = Measured::begin(&ws, 1);
        assert!(is_late(&measured.wait()));
        await_verdict(&ws.handle());
        // The measurement's ping, and keepalive's.
        assert_eq!(peer.frame().0, PING);
        assert_eq!(peer.frame(), (PING, Vec::new()));
        assert_eq!(peer.code(), 1001);
    });
}

#[test]
fn keepalive_is_held_while_it_is_measured() {
    bounded(|| {
        for strategy in [PingStrategy::WhenIdle, PingStrategy::Periodically] {
            let keepalive =
                Keepalive::default().idle_timeout(MOMENT).reply_timeout(PATIENCE).strategy(strategy);
            let (ws, mut peer) = open(patient().keepalive(keepalive));
            let measured = Measured::begin(&ws, 2);
            for _ in 0..2 {
                let payload = await_ping(&mut peer);
                assert_eq!(payload.len(), 8);
                sleep(4 * MOMENT).unwrap();
                assert!(peer.is_silent(), "a ping of keepalive's came between");
                peer.send(PONG, &payload);
            }
            measured.wait().unwrap();
            // And it goes on.
            for _ in 0..2 {
                assert_eq!(await_ping(&mut peer), []);
                peer.send(PONG, b"");
            }
        }
    });
}

#[test]
fn keepalive_goes_on_only_after_the_last_measurement() {
    bounded(|| {
        let (ws, mut peer) = open(pinging());
        let measured: Vec<_> = (0..2).map(|_| Measured::begin(&ws, 1)).collect();
        for measured in measured {
            let payload = await_ping(&mut peer);
            assert_eq!(payload.len(), 8);
            sleep(4 * MOMENT).unwrap();
            assert!(peer.is_silent(), "a ping of keepalive's came between");
            peer.send(PONG, &payload);
            measured.wait().unwrap();
        }
        assert_eq!(await_ping(&mut peer), []);
    });
}

// --- The end of the connection ---

#[test]
fn the_end_of_the_connection_ends_all_measurements() {
    bounded(|| {
        type End = fn(&Connection, Peer);
        let ends: [End; 4] = [
            |_, mut peer| {
                peer.close(1000, "");
                peer.end();
            },
            |_, peer| drop(peer),
            |_, peer| peer.reset(),
            |ws, _| ws.abort(),
        ];
        for end in ends {
            let (ws, mut peer) = open(patient());
            let measured: Vec<_> = (1..4).map(|rounds| Measured::begin(&ws, rounds)).collect();
            await_ping(&mut peer);
            end(&ws, peer);
            ws.handle().wait_closed().unwrap();
            assert!(measured.iter().all(|measured| is_closed(&measured.0.take().unwrap())));
            assert!(is_closed(&ws.measure_roundtrip(1)));
            assert!(is_closed(&Measured::begin(&ws, 1).wait()));
            assert!(is_closed(&Measured::begin(&ws, 0).wait()));
        }
    });
}

#[test]
fn a_wait_ends_with_the_connection() {
    bounded(|| {
        let (ws, mut peer) = open(patient());
        later(MOMENT, move || {
            peer.close(1000, "");
            peer.end();
        });
        assert!(is_closed(&ws.measure_roundtrip(1)));
    });
}

#[test]
fn a_close_of_our_own_is_the_end_of_measurements() {
    bounded(|| {
        let (ws, mut peer) = open(patient());
        let measured = Measured::begin(&ws, 1);
        assert_eq!(await_frame(&mut peer).0, PING);
        ws.close().unwrap();
        assert!(is_closed(&ws.measure_roundtrip(1)));
        assert_eq!(await_frame(&mut peer).0, CLOSE);
        peer.close(1000, "");
        peer.end();
        assert!(is_closed(&measured.wait()));
    });
}

#[test]
fn a_stop_ends_the_wait() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let worker = Worker::spawn(move || {
            let listener = |_: &Connection, _: Message<'_>| Ok(());
            let ws = Client::new(&url).unwrap().config(patient()).connect(listener).unwrap();
            Ok(matches!(ws.measure_roundtrip(1), Err(Error::Stopped)))
        });
        let mut peer = host.upgrade(b"");
        assert_eq!(peer.frame().0, PING);
        worker.remote().stop();
        assert_eq!(peer.code(), 1001);
        peer.close(1001, "");
        drop(peer);
        assert_eq!(worker.join().unwrap().done(), Some(true));
    });
}

#[test]
fn what_is_called_at_the_end_may_panic() {
    bounded(|| {
        let neighbour = Neighbour::start();
        let (ws, mut peer) = open(patient());
        ws.measure_roundtrip_then(1, |_| panic!("the end"));
        let payload = await_ping(&mut peer);
        peer.send(PONG, &payload);
        assert_eq!(await_frame(&mut peer).0, CLOSE);
        peer.close(1011, "");
        peer.end();
        let closed = ws.handle().wait_closed().unwrap();
        assert!(closed.error.as_ref().unwrap().to_string().contains("the end"), "{closed}");
        neighbour.noticed_nothing();
    });
}

// --- From other threads ---

/// A server's connection, its handle, and a client's end that answers by itself, on a worker of its own.
struct Far {
    _serving: Serving,
    handle: Handle,
    client: Worker<()>,
}

impl Far {
    fn open() -> Far {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let url = serving.url("/");
        let client = Worker::builder().no_parent().spawn(move || {
            let listener = |_: &Connection, _: Message<'_>| Ok(());
            let _ws = Client::new(&url).unwrap().config(patient()).connect(listener).unwrap();
            wait_forever()
        });
        Far { _serving: serving, handle: handles.recv().unwrap(), client: client.unwrap() }
    }

    fn end(self) {
        self.client.remote().stop();
        self.client.join().unwrap();
    }
}

#[test]
fn other_threads_measure_and_wait() {
    bounded(|| {
        let far = Far::open();
        assert_eq!(far.handle.measure_roundtrip(3).get().unwrap().len(), 3);
        assert_eq!(far.handle.measure_roundtrip(2).get_timeout(PATIENCE).unwrap().len(), 2);
        assert_eq!(block_on(far.handle.measure_roundtrip(4)).unwrap().unwrap().len(), 4);
        assert!(far.handle.measure_roundtrip(0).get().unwrap().is_empty());
        let handle = far.handle.clone();
        assert_eq!(elsewhere(move || handle.measure_roundtrip(3).get().unwrap().len()), 3);
        far.end();
    });
}

#[test]
fn many_threads_measure_at_once() {
    bounded(|| {
        let far = Far::open();
        let threads: Vec<_> = (1..=8)
            .map(|rounds| {
                let handle = far.handle.clone();
                thread::spawn(move || {
                    for _ in 0..5 {
                        assert_eq!(handle.measure_roundtrip(rounds).get().unwrap().len(), rounds);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        far.end();
    });
}

#[test]
fn a_handle_on_the_own_thread_measures_too() {
    bounded(|| {
        let (_serving, ws) = with_server(patient());
        let promise = ws.handle().measure_roundtrip(3);
        assert!(promise.try_get().is_none());
        assert_eq!(promise.get().unwrap().len(), 3);
    });
}

#[test]
fn who_waits_for_a_time_gets_it_later() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peer = serving.peer();
        let promise = handles.recv().unwrap().measure_roundtrip(1);
        let (first, payload) = peer.frame();
        assert_eq!(first, PING);
        assert!(matches!(promise.get_timeout(MOMENT), Err(PromiseError::TimedOut)));
        peer.send(PONG, &payload);
        assert!(promise.get().unwrap()[0] >= MOMENT);
    });
}

#[test]
fn the_waiting_thread_goes_on() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peer = serving.peer();
        let promise = handles.recv().unwrap().measure_roundtrip(1);
        // The pong is sent by a timer of the thread that waits for it.
        later(MOMENT, move || {
            let (_, payload) = peer.frame();
            peer.send(PONG, &payload);
            std::mem::forget(peer);
        });
        promise.get().unwrap();
    });
}

#[test]
fn other_threads_are_told_of_the_end() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        let promises: Vec<_> = (1..4).map(|rounds| handle.measure_roundtrip(rounds)).collect();
        // All have begun, and one of them has sent its ping.
        there(&handle, |_| ());
        assert_eq!(peer.frame().0, PING);
        peer.close(1000, "");
        for promise in promises {
            assert_eq!(rejected(promise.get()), Error::Closed.to_string());
        }
    });
}

#[test]
fn other_threads_are_told_of_a_pong_that_is_late() {
    bounded(|| {
        let keepalive = Keepalive::default().idle_timeout(PATIENCE).reply_timeout(MOMENT);
        let config = patient().keepalive(keepalive);
        let (serving, handles) = serving_handles(config, &Log::new(), ignore);
        let _peer = serving.peer();
        let result = handles.recv().unwrap().measure_roundtrip(1).get();
        assert_eq!(rejected(result), Error::Timeout(TimeoutKind::Pong).to_string());
    });
}

#[test]
fn nobody_need_wait_for_the_result() {
    bounded(|| {
        let far = Far::open();
        for _ in 0..3 {
            drop(far.handle.measure_roundtrip(2));
        }
        let cancelled = far.handle.measure_roundtrip(2);
        cancelled.cancel();
        assert_eq!(far.handle.measure_roundtrip(1).get().unwrap().len(), 1);
        assert!(matches!(cancelled.get(), Err(PromiseError::Cancelled)));
        far.end();
    });
}

#[test]
fn a_measurement_asked_for_in_a_callback_is_told_to_another_thread() {
    bounded(|| {
        let (give, given) = mpsc::channel();
        let serving = Serving::recording(patient(), &Log::new(), move |ws, call| {
            if *call == Call::Open {
                give.send(ws.handle().measure_roundtrip(2)).unwrap();
            }
            Ok(())
        });
        let listener = |_: &Connection, _: Message<'_>| Ok(());
        let _ws = Client::new(&serving.url("/")).unwrap().config(patient()).connect(listener).unwrap();
        assert_eq!(given.recv().unwrap().get().unwrap().len(), 2);
    });
}

// --- What is kept ---

#[test]
fn round_trips_are_kept_only_where_they_are_wanted() {
    bounded(|| {
        for keep_round_trips in [false, true] {
            let (ws, mut peer) = open(pinging().keep_round_trips(keep_round_trips));
            for _ in 0..2 {
                let payload = await_ping(&mut peer);
                assert_eq!(payload.len(), if keep_round_trips { 8 } else { 0 });
                peer.send(PONG, &payload);
            }
            await_ping(&mut peer);
            assert_eq!(ws.round_trips().map(|trips| trips.count), keep_round_trips.then_some(2));
        }
    });
}

#[test]
fn round_trips_outlive_the_connection() {
    bounded(|| {
        let (ws, mut peer) = open(pinging().keep_round_trips(true));
        let payload = await_ping(&mut peer);
        thread::sleep(MOMENT);
        peer.send(PONG, &payload);
        peer.close(1000, "");
        peer.end();
        ws.handle().wait_closed().unwrap();
        let trips = ws.round_trips().unwrap();
        assert_eq!(trips.count, 1);
        assert!(trips.last >= MOMENT && trips.min == trips.last && trips.max == trips.last, "{trips:?}");
    });
}
