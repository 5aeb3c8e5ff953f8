//! The event `Closed`: late subscribers, several, and on many threads.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::keeping::{MOMENT, giving_up_after};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{elsewhere, pair, pair_with, serving_handles, there};
use crate::common::{SOON, bounded, ignore, patient};
use threadwire::events::Closed;
use threadwire::wait_until;
use threadwire::worker::{Event, EventLoop, Overflow, Worker, listen, wait_event, wait_event_timeout};

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
