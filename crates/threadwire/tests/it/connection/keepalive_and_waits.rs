//! Keepalive beside waits and callbacks that hold the loop.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use crate::common::keeping::{Keeper, MOMENT, await_ping, giving_up_after};
use crate::common::peer::{PONG, TEXT};
use crate::common::recorder::Log;
use crate::common::sharing::{pair, pair_with};
use crate::common::{SOON, bounded, patient};
use threadwire::worker::later;
use threadwire::{Keepalive, sleep};

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

/// A callback that waits for more than a second, with keepalive whose times are longer, is not told of.
#[test]
fn unread_for_knows_of_callbacks_that_waited_less_than_the_idle_timeout() {
    bounded(|| {
        let keeper = Keeper::new().message(|_, _| Ok(sleep(Duration::from_millis(1100))?));
        let (ws, mut peer) = pair_with(patient().keepalive(Keepalive::default()), keeper);
        peer.send(TEXT, b"wait");
        peer.close(1001, "too slow for me");
        peer.end();
        let closed = ws.handle().wait_closed().unwrap();
        assert!(closed.unread_for.is_some(), "{closed}");
    });
}
