//! Keepalive: when pings are sent, what counts as a sign of life, and when a silent peer is given up.
//!
//! That a byte counted as life is seen by the next ping: as long as nothing has come since the last one, there is no other.

use crate::common::keeping::{
    Keeper, MOMENT, await_frame, await_ping, await_verdict, giving_up_after, pinging, silence,
};
use crate::common::neighbour::Neighbour;
use crate::common::peer::{PING, PONG, Peer, TEXT, frame};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{fill, pair, pair_with, serving_handles};
use crate::common::{PATIENCE, SOON, Serving, bind, bounded, ignore, patient};
use std::cell::Cell;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use threadwire::error::TimeoutKind;
use threadwire::worker::{EventLoop, later};
use threadwire::{Client, Config, Connection, Error, Initiator, Keepalive, Reply, sleep, wait_until};

/// A connection and its peer, both on this thread.
pub(super) fn kept(config: Config) -> (Connection, Peer, Log) {
    let log = Log::new();
    let (ws, peer) = pair(config, &log);
    (ws, peer, log)
}

/// Many times as long as a silent peer has.
pub(super) const LONG: Duration = Duration::from_millis(60);

// --- The verdict ---

#[test]
fn gives_up_a_silent_peer() {
    bounded(|| {
        let (ws, mut peer, log) = kept(giving_up_after(MOMENT));
        let silent_for = await_verdict(&ws.handle());
        assert!(silent_for >= 2 * MOMENT, "{silent_for:?}");
        assert_eq!(log.ends(), 1);
        let text = format!(
            "closed by us with 1006 (no close frame received) (the peer was silent for {:.1} s)",
            silent_for.as_secs_f64()
        );
        assert_eq!(ws.handle().closed().unwrap().to_string(), text);
        assert_eq!(EventLoop::current().source_count(), 0, "TCP is still there");
        // The peer was pinged first, and told why.
        assert_eq!(peer.frame(), (PING, Vec::new()));
        let (code, reason) = peer.closed();
        assert_eq!(code, 1001);
        assert_eq!(reason, format!("no sign of life for {:.1} s", silent_for.as_secs_f64()));
        assert!(peer.ended_orderly());
    });
}

#[test]
fn a_server_gives_up_a_silent_client() {
    bounded(|| {
        let log = Log::new();
        let (serving, handles) = serving_handles(giving_up_after(MOMENT), &log, ignore);
        let mut peer = serving.peer();
        silence(&handles.recv().unwrap().wait_closed().unwrap());
        assert_eq!(peer.frame(), (PING, Vec::new()));
        assert_eq!(peer.code(), 1001);
        assert!(peer.ended());
        assert_eq!(log.calls().len(), 2, "{:?}", log.calls());
    });
}

#[test]
fn gives_up_a_peer_that_does_not_read_either() {
    bounded(|| {
        let (ws, _peer, log) = kept(giving_up_after(MOMENT));
        fill(&ws);
        await_verdict(&ws.handle());
        assert_eq!(log.ends(), 1);
        assert_eq!(EventLoop::current().source_count(), 0, "it waits for what can't be written");
    });
}

#[test]
fn gives_nobody_up_who_answers() {
    bounded(|| {
        let (ws, mut peer, log) = kept(pinging());
        for _ in 0..5 {
            let payload = await_ping(&mut peer);
            peer.send(PONG, &payload);
        }
        assert!(ws.is_open());
        assert_eq!(log.calls()[..2], [Call::Open, Call::Pong(Vec::new())]);
    });
}

#[test]
fn pings_a_peer_that_does_not_answer_only_once() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(pinging());
        await_ping(&mut peer);
        sleep(5 * MOMENT).unwrap();
        assert!(peer.is_silent());
        assert!(ws.is_open());
    });
}

#[test]
fn without_an_end_to_the_patience_a_peer_is_pinged_and_never_given_up() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(giving_up_after(Duration::MAX));
        for _ in 0..3 {
            await_ping(&mut peer);
            peer.send(PONG, b"");
        }
        await_ping(&mut peer);
        sleep(5 * MOMENT).unwrap();
        assert!(ws.is_open());
    });
}

#[test]
fn times_of_zero_are_taken_for_a_millisecond() {
    bounded(|| {
        let keepalive = Keepalive::default().idle_timeout(Duration::ZERO).reply_timeout(Duration::ZERO);
        let (ws, _peer, _log) = kept(patient().keepalive(keepalive));
        assert!(await_verdict(&ws.handle()) >= 2 * Keepalive::SHORTEST);
    });
}

#[test]
fn without_keepalive_nobody_is_pinged() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(patient());
        sleep(SOON).unwrap();
        assert!(peer.is_silent() && ws.is_open());
        assert_eq!(ws.round_trips(), None);
    });
}

// --- Alive means bytes ---

#[test]
fn half_a_frame_is_a_sign_of_life() {
    bounded(|| {
        let (ws, mut peer, log) = kept(pinging());
        // No pong will come, as it would have to wait behind the message: each ping is answered by a byte of that.
        for byte in frame(TEXT, false, b"slow") {
            await_ping(&mut peer);
            peer.bytes([byte]);
        }
        await_ping(&mut peer);
        assert!(ws.is_open());
        assert_eq!(log.calls(), [Call::Open, Call::text("slow")]);
    });
}

#[test]
fn a_peer_that_sends_and_never_pongs_lives() {
    bounded(|| {
        let (ws, mut peer, log) = kept(pinging());
        for number in 0..5 {
            await_ping(&mut peer);
            peer.send(TEXT, format!("{number}").as_bytes());
        }
        await_ping(&mut peer);
        assert!(ws.is_open());
        assert_eq!(log.calls().len(), 6, "{:?}", log.calls());
    });
}

#[test]
fn a_peer_that_goes_on_to_send_is_not_pinged() {
    bounded(|| {
        let keepalive = Keepalive::default().idle_timeout(SOON).reply_timeout(PATIENCE);
        let (ws, mut peer, _log) = kept(patient().keepalive(keepalive));
        let begun = Instant::now();
        let mut longest = Duration::ZERO;
        while begun.elapsed() < 3 * SOON {
            let sent = Instant::now();
            peer.send(TEXT, b"I'm here");
            sleep(MOMENT).unwrap();
            longest = longest.max(sent.elapsed());
        }
        // If the system has let this thread lie, a ping was due.
        assert!(peer.is_silent() || longest >= SOON);
        assert!(ws.is_open());
    });
}

#[test]
fn the_pings_of_a_peer_are_signs_of_life() {
    bounded(|| {
        for auto_pong in [true, false] {
            let (ws, mut peer, log) = kept(pinging().auto_pong(auto_pong));
            for _ in 0..3 {
                await_ping(&mut peer);
                peer.send(PING, b"and you?");
                if auto_pong {
                    assert_eq!(await_frame(&mut peer), (PONG, b"and you?".to_vec()));
                }
            }
            await_ping(&mut peer);
            assert!(ws.is_open());
            let pings = log.calls().iter().filter(|call| **call == Call::Ping(b"and you?".to_vec())).count();
            assert_eq!(pings, 3, "auto_pong: {auto_pong}");
        }
    });
}

#[test]
fn pongs_count_also_where_pings_are_not_answered_by_themselves() {
    bounded(|| {
        let (ws, mut peer, log) = kept(pinging().auto_pong(false).keep_round_trips(true));
        for round in 0..3 {
            assert_eq!(ws.round_trips().map_or(0, |trips| trips.count), round);
            let payload = await_ping(&mut peer);
            peer.send(PONG, &payload);
            log_pongs(&log, round as usize + 1);
        }
    });
}

/// Lets this thread's loop turn until so many pongs were heard.
fn log_pongs(log: &Log, count: usize) {
    let pongs = || log.calls().iter().filter(|call| matches!(call, Call::Pong(_))).count();
    wait_until(None, || pongs() >= count).unwrap();
    assert_eq!(pongs(), count);
}

#[test]
fn what_comes_while_others_hold_the_thread_counts() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(giving_up_after(SOON));
        for _ in 0..3 {
            await_ping(&mut peer);
            peer.send(PONG, b"");
            // Far past the time that the peer has, and no turn of the loop: what lies unread is read before any verdict.
            thread::sleep(SOON + 2 * MOMENT);
        }
        await_ping(&mut peer);
        assert!(ws.is_open());
    });
}

#[test]
fn what_comes_while_a_timer_holds_the_thread_counts() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(giving_up_after(SOON));
        await_ping(&mut peer);
        let held = Rc::new(Cell::new(None));
        let holds = Rc::clone(&held);
        later(Duration::ZERO, move || {
            peer.send(PONG, b"");
            thread::sleep(2 * SOON);
            holds.set(Some(peer));
        });
        let mut peer = loop {
            sleep(Duration::ZERO).unwrap();
            if let Some(peer) = held.take() {
                break peer;
            }
        };
        await_ping(&mut peer);
        assert!(ws.is_open());
    });
}

// --- The end ---

#[test]
fn pings_stop_with_the_close() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(giving_up_after(MOMENT));
        ws.close().unwrap();
        sleep(LONG).unwrap();
        assert_eq!(peer.code(), 1000);
        assert!(peer.is_silent(), "something came behind the close frame");
        peer.close(1000, "");
        peer.end();
        assert!(ws.handle().wait_closed().unwrap().clean);
    });
}

#[test]
fn a_peer_that_does_not_answer_a_close_frame_is_no_silent_one() {
    bounded(|| {
        let close_timeout = 6 * MOMENT;
        let (ws, _peer, _log) = kept(giving_up_after(MOMENT).close_timeout(close_timeout));
        ws.close().unwrap();
        let closed = ws.handle().wait_closed().unwrap();
        assert!(matches!(closed.error, Some(Error::Timeout(TimeoutKind::Close))), "{closed}");
    });
}

#[test]
fn connections_that_have_ended_leave_no_timer_behind() {
    bounded(|| {
        let mut connections = Vec::new();
        for _ in 0..8 {
            let (ws, mut peer, _log) = kept(pinging());
            peer.close(1000, "");
            peer.end();
            ws.wait_closed().unwrap();
            connections.push(ws);
            let (ws, _peer, _log) = kept(giving_up_after(MOMENT));
            await_verdict(&ws.handle());
            connections.push(ws);
            let (ws, _peer, _log) = kept(pinging());
            ws.abort();
            ws.wait_closed().unwrap();
            connections.push(ws);
        }
        // Let what may still be under way come.
        EventLoop::current().update().unwrap();
        let mut looks = 0;
        let until = Instant::now() + 5 * MOMENT;
        let look = || {
            looks += 1;
            false
        };
        EventLoop::current().wait(Some(until), look).unwrap();
        // Once before and once after it has slept, all the time, and once as the last end may have asked for: timers would
        // have woken it more often.
        assert!(looks <= 3, "{looks}");
        drop(connections);
    });
}

#[test]
fn a_listener_is_let_go_of_with_its_connection() {
    bounded(|| {
        let value = Rc::new(());
        let kept = Rc::clone(&value);
        let keeper = Keeper::new().message(move |_, _| {
            let _kept = &kept;
            Ok(())
        });
        let (ws, _peer) = pair_with(giving_up_after(MOMENT), keeper);
        let handle = ws.handle();
        drop(ws);
        await_verdict(&handle);
        assert_eq!(Rc::strong_count(&value), 1);
    });
}

#[test]
fn others_notice_nothing_of_a_verdict() {
    bounded(|| {
        let neighbour = Neighbour::start();
        for _ in 0..10 {
            let (ws, _peer, _log) = kept(giving_up_after(MOMENT));
            await_verdict(&ws.handle());
        }
        neighbour.noticed_nothing();
    });
}

// --- Many ---

#[test]
fn a_server_keeps_two_hundred_connections_alive() {
    bounded(|| {
        const COUNT: usize = 200;
        let log = Log::new();
        let serving = Serving::recording(pinging(), &log, ignore);
        let ours = Log::new();
        let client = Client::new(&serving.url("/")).unwrap().config(patient());
        let pings: Vec<_> = (0..COUNT).map(|_| Rc::new(Cell::new(0))).collect();
        let connections: Vec<_> = pings
            .iter()
            .map(|count| {
                let count = Rc::clone(count);
                let listener = ours.listener(move |_, call| {
                    if matches!(call, Call::Ping(_)) {
                        count.set(count.get() + 1);
                    }
                    Ok(())
                });
                client.connect(listener).unwrap()
            })
            .collect();
        // A second ping says that the first was answered, a third one that the second was.
        wait_until(None, || pings.iter().all(|count| count.get() >= 3)).unwrap();
        assert!(connections.iter().all(Connection::is_open));
        assert_eq!((log.ends(), ours.ends()), (0, 0));
    });
}

#[test]
fn a_server_gives_up_exactly_those_that_are_silent() {
    bounded(|| {
        const COUNT: usize = 100;
        let log = Log::new();
        // The others need no patience with the speed of this machine: they are not pinged.
        let served = log.clone();
        let slow = Keepalive::default().idle_timeout(PATIENCE);
        let theirs = Serving::recording(patient().keepalive(slow), &Log::new(), ignore);
        let serving = Serving::with(bind().config(giving_up_after(2 * MOMENT)), move |_| {
            Reply::with(served.listener(ignore))
        });
        let bystander = theirs.bystander();
        let mut peers: Vec<_> = (0..COUNT).map(|_| serving.peer()).collect();
        log.wait(|calls| calls.iter().filter(|call| matches!(call, Call::Closed(_))).count() == COUNT);
        for peer in &mut peers {
            assert_eq!(peer.frame().0, PING);
            assert_eq!(peer.code(), 1001);
            assert!(peer.ended());
        }
        assert_eq!(log.ends(), COUNT);
        bystander.noticed_nothing();
    });
}

// --- Whose fault it was ---

/// A connection that reads again a second later, and one whose thread is held for that second: both are left meanwhile.
#[test]
fn tells_that_we_had_not_read_before_the_peer_left() {
    const SECOND: Duration = Duration::from_secs(1);
    let leave = |peer: &mut Peer| {
        peer.close(1001, "no sign of life");
        peer.end();
    };
    let held = thread::spawn(move || {
        bounded(move || {
            let (ws, mut peer, _log) = kept(patient());
            EventLoop::current().set_stall_limit(Some(SECOND / 2));
            leave(&mut peer);
            thread::sleep(SECOND);
            let closed = ws.handle().wait_closed().unwrap();
            assert!(closed.unread_for.is_some_and(|time| time >= SECOND), "{closed}");
        });
    });
    bounded(move || {
        let config = || patient().keepalive(Keepalive::default());
        let (slow, mut slow_peer, _log) = kept(config());
        let (quick, mut quick_peer, _log) = kept(config());
        let (ours, mut our_peer, _log) = kept(config());
        let our_handle = ours.handle();
        slow.pause_reading();
        ours.pause_reading();
        quick.pause_reading();
        sleep(MOMENT).unwrap();
        quick.resume_reading();
        leave(&mut slow_peer);
        leave(&mut quick_peer);
        assert_eq!(quick.handle().wait_closed().unwrap().unread_for, None, "that was short");
        sleep(SECOND).unwrap();
        slow.resume_reading();
        ours.close().unwrap();
        leave(&mut our_peer);
        let closed = slow.handle().wait_closed().unwrap();
        let unread_for = closed.unread_for.expect("it was for a second");
        assert!(unread_for >= SECOND, "{unread_for:?}");
        let text = format!(
            "closed by the peer with 1001 (going away): no sign of life; we had not read for {:.1} s",
            unread_for.as_secs_f64()
        );
        assert_eq!(closed.to_string(), text);
        let closed = our_handle.wait_closed().unwrap();
        assert_eq!(
            (closed.initiator, closed.unread_for),
            (Initiator::Local, None),
            "we have closed by ourselves"
        );
    });
    held.join().unwrap();
}
