//! Keepalive while this side does not read: waiting callbacks, pauses, the throttle.

use super::keepalive::{LONG, kept};
use crate::common::keeping::{Keeper, MOMENT, await_ping, await_verdict, giving_up_after, silence};
use crate::common::peer::{PING, PONG, Peer, TEXT};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{pair_with, serving_handles};
use crate::common::{PATIENCE, SOON, Serving, bounded, patient};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::thread;
use std::time::Instant;
use threadwire::worker::later;
use threadwire::{Config, Handle, sleep, wait_until};

#[test]
fn a_callback_that_waits_is_not_held_against_the_peer() {
    bounded(|| {
        let count = Rc::new(Cell::new(0));
        let counts = Rc::clone(&count);
        let keeper = Keeper::new().message(move |_, _| {
            sleep(LONG)?;
            counts.set(counts.get() + 1);
            Ok(())
        });
        let (ws, mut peer) = pair_with(giving_up_after(2 * MOMENT), keeper);
        peer.send(TEXT, b"wait");
        wait_until(None, || count.get() == 1).unwrap();
        assert!(ws.is_open(), "it was given up while nobody listened to it");
        assert!(peer.is_silent(), "it was pinged while nobody listened to it");
        // The peer really is silent: from now on the full time counts.
        let silent_for = await_verdict(&ws.handle());
        assert!(silent_for >= 3 * MOMENT, "{silent_for:?}");
        assert!(silent_for < PATIENCE);
        assert_eq!(peer.frame().0, PING);
        assert_eq!(peer.code(), 1001);
    });
}

#[test]
fn a_pong_that_comes_while_a_callback_waits_counts() {
    bounded(|| {
        let peer = Rc::new(RefCell::new(None::<Peer>));
        let pongs = Rc::clone(&peer);
        let pings = Rc::new(Cell::new(0));
        let counts = Rc::clone(&pings);
        let keeper = Keeper::new().due(move |ws| {
            ws.probe()?;
            ws.flush();
            counts.set(counts.get() + 1);
            if counts.get() < 3 {
                let pongs = Rc::clone(&pongs);
                later(MOMENT, move || pongs.borrow_mut().as_mut().unwrap().send(PONG, b""));
                sleep(LONG)?;
            }
            Ok(())
        });
        let (ws, theirs) = pair_with(giving_up_after(2 * MOMENT), keeper);
        *peer.borrow_mut() = Some(theirs);
        wait_until(None, || pings.get() == 3 || !ws.is_open()).unwrap();
        assert!(ws.is_open(), "an answer that had come was not seen");
        await_verdict(&ws.handle());
        assert_eq!(pings.get(), 3);
    });
}

#[test]
fn a_pong_that_comes_while_a_callback_waits_and_then_holds_the_thread_counts() {
    bounded(|| {
        let peer = Rc::new(RefCell::new(None::<Peer>));
        let pongs = Rc::clone(&peer);
        let pings = Rc::new(Cell::new(0));
        let counts = Rc::clone(&pings);
        let keeper = Keeper::new().due(move |ws| {
            ws.probe()?;
            ws.flush();
            counts.set(counts.get() + 1);
            if counts.get() == 1 {
                pongs.borrow_mut().as_mut().unwrap().send(PONG, b"");
                // The loop sees that something has come, but it can't be read; then the peer's time passes.
                sleep(MOMENT)?;
                thread::sleep(2 * SOON);
            }
            Ok(())
        });
        let (ws, theirs) = pair_with(giving_up_after(SOON), keeper);
        *peer.borrow_mut() = Some(theirs);
        wait_until(None, || pings.get() == 2 || !ws.is_open()).unwrap();
        assert!(ws.is_open(), "an answer that had come was not seen");
    });
}

#[test]
fn a_pause_is_not_held_against_the_peer() {
    bounded(|| {
        let (ws, mut peer, log) = kept(giving_up_after(2 * MOMENT));
        ws.pause_reading();
        sleep(LONG).unwrap();
        assert!(ws.is_open() && peer.is_silent());
        peer.send(TEXT, b"unread");
        sleep(LONG).unwrap();
        assert!(ws.is_open() && peer.is_silent());
        assert_eq!(log.calls(), [Call::Open]);
        ws.resume_reading();
        await_verdict(&ws.handle());
        assert_eq!(log.calls()[..2], [Call::Open, Call::text("unread")]);
        assert_eq!(peer.frame().0, PING);
        assert_eq!(peer.code(), 1001);
    });
}

#[test]
fn a_pause_after_a_ping_is_not_held_against_the_peer() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(giving_up_after(SOON));
        await_ping(&mut peer);
        ws.pause_reading();
        peer.send(PONG, b"");
        sleep(2 * SOON).unwrap();
        assert!(ws.is_open(), "an answer that was not read does not count");
        ws.resume_reading();
        // The pong is read before anything else, and so there is another ping.
        await_ping(&mut peer);
        await_verdict(&ws.handle());
    });
}

#[test]
fn a_pause_that_a_callback_begins_holds_on_after_it() {
    bounded(|| {
        let keeper = Keeper::new().message(|ws, _| {
            ws.pause_reading();
            sleep(2 * MOMENT)?;
            Ok(())
        });
        let (ws, mut peer) = pair_with(giving_up_after(2 * MOMENT), keeper);
        peer.send(TEXT, b"pause");
        wait_until(None, || ws.is_reading_paused()).unwrap();
        sleep(2 * LONG).unwrap();
        assert!(ws.is_open() && peer.is_silent());
        ws.resume_reading();
        await_verdict(&ws.handle());
    });
}

#[test]
fn a_pause_that_a_callback_ends_is_over_after_it() {
    bounded(|| {
        let keeper = Keeper::new().message(|ws, _| {
            ws.pause_reading();
            sleep(LONG)?;
            ws.resume_reading();
            Ok(())
        });
        let (ws, mut peer) = pair_with(giving_up_after(2 * MOMENT), keeper);
        peer.send(TEXT, b"pause");
        await_verdict(&ws.handle());
    });
}

/// A server that answers with more than it may hold, and so reads no more until that is taken.
fn throttling(config: Config, log: &Log) -> (Serving, Peer, Handle) {
    const LENGTH: usize = 16 << 20;
    let config = config.max_buffered(64 << 10);
    let (serving, handles) = serving_handles(config, log, |ws, call| match call {
        Call::Text(_) => ws.send(&vec![0; LENGTH][..]),
        _ => Ok(()),
    });
    let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
    let handle = handles.recv().unwrap();
    peer.send(TEXT, b"much");
    log.wait_for(&Call::text("much"));
    (serving, peer, handle)
}

#[test]
fn a_throttled_peer_that_takes_nothing_is_given_up() {
    bounded(|| {
        let (_serving, _peer, handle) = throttling(giving_up_after(MOMENT), &Log::new());
        silence(&handle.wait_closed().unwrap());
    });
}

#[test]
fn a_throttled_peer_that_takes_what_it_is_sent_is_alive() {
    bounded(|| {
        let (_serving, mut peer, handle) = throttling(giving_up_after(LONG), &Log::new());
        let begun = Instant::now();
        while begun.elapsed() < 3 * LONG {
            peer.skip(64 << 10);
            sleep(MOMENT).unwrap();
        }
        assert!(handle.is_open() && handle.buffered() > 0, "{handle:?}");
    });
}

#[test]
fn what_the_callbacks_of_others_wait_for_holds_nothing_up() {
    bounded(|| {
        let (done, finished) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let (ends, finishes) = (Rc::clone(&done), Rc::clone(&finished));
        let waits = Keeper::new().message(move |_, _| {
            wait_until(None, || ends.get())?;
            finishes.set(true);
            Ok(())
        });
        let (_busy, mut busy_peer) = pair_with(patient(), waits);
        // While the other one's callback waits, this one is pinged and given up; that ends the wait.
        let log = Log::new();
        let (ws, mut peer) = pair_with(
            giving_up_after(MOMENT),
            log.listener(move |_, call| {
                done.set(matches!(call, Call::Closed(_)));
                Ok(())
            }),
        );
        busy_peer.send(TEXT, b"wait");
        await_verdict(&ws.handle());
        wait_until(None, || finished.get()).unwrap();
        assert_eq!(peer.frame().0, PING);
    });
}
