//! Round trips that end with their connection, or whose pong was not read yet.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread;

use crate::common::keeping::{Keeper, MOMENT};
use crate::common::peer::{PONG, TEXT};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{elsewhere, pair, pair_with};
use crate::common::{SOON, Serving, bounded, patient};
use threadwire::worker::{PromiseError, later};
use threadwire::{Client, Keepalive, blocking, sleep, wait_until};

#[test]
fn a_panic_in_a_measurements_callback_ends_its_own_connection_only() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, |ws, call| {
            if *call == Call::Open {
                ws.measure_roundtrip_then(3, |times| panic!("on purpose: {:?}", times.unwrap_err()));
            }
            Ok(())
        });
        let bystander = serving.bystander();
        // The peer leaves without a pong.
        drop(serving.peer());
        log.wait_end();
        bystander.noticed_nothing();
        assert_eq!(log.ends(), 1);
    });
}

/// On the blocking face nothing is read while much waits to be received, and so no pong either.
#[test]
fn a_measurement_ends_although_messages_wait_to_be_received() {
    bounded(|| {
        let serving = Serving::recording(patient(), &Log::new(), |ws, call| {
            if *call == Call::Open {
                for _ in 0..40 {
                    ws.send(&[0; 100_000])?;
                }
            }
            Ok(())
        });
        let keepalive = Keepalive::default().reply_timeout(4 * SOON);
        let config = patient().keepalive(keepalive);
        let client = Client::new(&serving.url("/")).unwrap().config(config);
        let mut ws = blocking::connect(&client).unwrap();
        // Until no more is taken in.
        sleep(2 * SOON).unwrap();
        // The measurement may succeed or not, but must not hang.
        let _ = ws.measure_roundtrip(1);
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
        let keepalive = Keepalive::default().reply_timeout(SOON);
        let (ws, mut peer) = pair(patient().keepalive(keepalive), &Log::new());
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
        let keepalive = Keepalive::default().reply_timeout(SOON);
        let keeper = Keeper::new().message(|_, _| Ok(sleep(3 * SOON)?));
        let (ws, mut peer) = pair_with(patient().keepalive(keepalive), keeper);
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
