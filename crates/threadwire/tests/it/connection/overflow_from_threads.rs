//! Overflow policies for messages from other threads.

use super::backpressure::{LIMIT, POLICIES, assert_full, join, narrow, number, numbered, read_all, turn};
use crate::common::peer::{BINARY, PING, Peer};
use crate::common::recorder::Log;
use crate::common::sharing::{drain, elsewhere, fill, fill_there, pair, serving_handles, there};
use crate::common::{Serving, bounded, ignore, patient};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self};
use threadwire::worker::Worker;
use threadwire::{Connection, Error, Handle, Initiator, WhenFull};

/// The same for handles: what is sent lies in the lane of a loop that does not turn.
fn both_ways_elsewhere<R: Send + 'static>(
    when_full: WhenFull,
    send: impl Fn(&dyn Fn(&[u8]) -> Result<(), Error>, &Handle) -> R + Clone + Send + 'static,
    test: impl Fn(Connection, Peer, usize, R),
) {
    let other = if when_full == WhenFull::DropNewest { WhenFull::Close } else { WhenFull::DropNewest };
    for is_own in [true, false] {
        let (ws, peer) = pair(narrow(if is_own { when_full } else { other }), &Log::new());
        let count = fill(&ws);
        let (handle, send) = (ws.handle(), send.clone());
        let result = elsewhere(move || {
            let send_one = |bytes: &[u8]| match is_own {
                true => handle.send(bytes),
                false => handle.send_with(bytes, when_full),
            };
            send(&send_one, &handle)
        });
        test(ws, peer, count, result);
    }
}

#[test]
fn from_elsewhere_errors_where_there_is_no_room() {
    bounded(|| {
        let send = |send: &dyn Fn(&[u8]) -> Result<(), Error>, handle: &Handle| {
            let taken = (0..).find(|number| send(&numbered(*number)).is_err()).unwrap();
            assert_full(send(&numbered(0)));
            assert_eq!(handle.dropped(), 0);
            taken
        };
        both_ways_elsewhere(WhenFull::Error, send, |ws, peer, count, taken| {
            assert!((9..=11).contains(&taken), "{taken}");
            turn();
            let (_, mut peer) = read_all(&ws, peer, move |peer| {
                drain(peer, count);
                (0..taken).for_each(|expected| assert_eq!(number(peer), expected));
            });
            assert!(peer.is_silent() && ws.is_open());
        });
    });
}

#[test]
fn from_elsewhere_the_oldest_make_room() {
    bounded(|| {
        let send = |send: &dyn Fn(&[u8]) -> Result<(), Error>, handle: &Handle| {
            for number in 0..50 {
                send(&numbered(number)).unwrap();
                // What the owner has counts, too; beyond the limit is one message at most.
                assert!(handle.buffered() <= LIMIT + 14 * 20, "{} wait", handle.buffered());
            }
            assert!(handle.dropped() > 35);
        };
        both_ways_elsewhere(WhenFull::DropOldest, send, |ws, peer, count, ()| {
            // With what the owner has, it is too much once more.
            ws.handle().run(|_| ());
            let dropped = u32::try_from(ws.handle().dropped() + ws.dropped()).unwrap();
            assert!((39..=41).contains(&dropped), "{dropped}");
            assert!(ws.buffered() <= LIMIT + 14 * 20);
            let (_, mut peer) = read_all(&ws, peer, move |peer| {
                drain(peer, count);
                (dropped..50).for_each(|expected| assert_eq!(number(peer), expected));
            });
            assert!(peer.is_silent() && ws.is_open());
        });
    });
}

#[test]
fn what_the_owner_has_taken_makes_room_for_what_comes_from_elsewhere() {
    bounded(|| {
        let (ws, peer) = pair(narrow(WhenFull::DropOldest), &Log::new());
        let count = fill(&ws);
        (0..20).for_each(|number| ws.send(&numbered(number)).unwrap());
        let handle = ws.handle();
        elsewhere(move || {
            for number in 20..40 {
                handle.send(&numbered(number)).unwrap();
                assert!(handle.buffered() <= LIMIT + 14 * 20, "{} wait", handle.buffered());
            }
        });
        // Takes them up, and nothing is written.
        ws.handle().run(|_| ());
        assert!(ws.buffered() <= LIMIT + 14 * 20, "{} wait", ws.buffered());
        let dropped = u32::try_from(ws.handle().dropped() + ws.dropped()).unwrap();
        assert!((29..=31).contains(&dropped), "{dropped}");
        let _peer = read_all(&ws, peer, move |peer| {
            drain(peer, count);
            (dropped..40).for_each(|expected| assert_eq!(number(peer), expected));
        });
    });
}

#[test]
fn from_elsewhere_the_newest_are_dropped() {
    bounded(|| {
        let send = |send: &dyn Fn(&[u8]) -> Result<(), Error>, handle: &Handle| {
            (0..50).for_each(|number| send(&numbered(number)).unwrap());
            handle.dropped()
        };
        both_ways_elsewhere(WhenFull::DropNewest, send, |ws, peer, count, dropped| {
            turn();
            let left = 50 - u32::try_from(dropped + ws.dropped()).unwrap();
            assert!((9..=11).contains(&left), "{left}");
            let (_, mut peer) = read_all(&ws, peer, move |peer| {
                drain(peer, count);
                (0..left).for_each(|expected| assert_eq!(number(peer), expected));
            });
            assert!(peer.is_silent() && ws.is_open());
        });
    });
}

#[test]
fn from_elsewhere_a_connection_is_closed_with_1008() {
    bounded(|| {
        let send = |send: &dyn Fn(&[u8]) -> Result<(), Error>, handle: &Handle| {
            let taken = (0..).find(|number| {
                let sent = send(&numbered(*number));
                let is_full = sent.is_err();
                if is_full {
                    assert_full(sent);
                }
                is_full
            });
            assert!(!handle.is_open());
            assert!(matches!(send(b"after"), Err(Error::Closed)));
            taken.unwrap()
        };
        both_ways_elsewhere(WhenFull::Close, send, |ws, mut peer, count, taken| {
            let reader = thread::spawn(move || {
                drain(&mut peer, count);
                (0..taken).for_each(|expected| assert_eq!(number(&mut peer), expected));
                assert_eq!(peer.closed(), (1008, "too slow in reading".to_owned()));
                peer.close(1008, "");
                peer.end();
            });
            let closed = ws.handle().wait_closed().unwrap();
            join(reader);
            assert!(closed.clean && closed.initiator == Initiator::Local && closed.code.get() == 1008);
        });
    });
}

/// A connection of a server that is full, with this much that may wait.
const WIDE: usize = 5 << 20;

fn full(when_full: WhenFull) -> (Serving, Peer, Handle, usize) {
    let config = patient().max_buffered(WIDE).when_full(when_full);
    let (serving, handles) = serving_handles(config, &Log::new(), ignore);
    let peer = Peer::connect_narrow(serving.addr).upgrade("/");
    let handle = handles.recv().unwrap();
    let count = fill_there(&handle);
    (serving, peer, handle, count)
}

#[test]
fn from_elsewhere_a_send_waits_until_the_peer_has_read() {
    bounded(|| {
        let (_serving, mut peer, handle, count) = full(WhenFull::Wait);
        let has_read = Arc::new(AtomicBool::new(false));
        let (waiting, waits) = mpsc::channel();
        let threads: Vec<_> = (0..3u8)
            .map(|sender| {
                let (handle, has_read, waiting) = (handle.clone(), Arc::clone(&has_read), waiting.clone());
                thread::spawn(move || {
                    waiting.send(()).unwrap();
                    for _ in 0..2 {
                        handle.send(&vec![sender; WIDE - LIMIT]).unwrap();
                        assert!(has_read.load(Ordering::SeqCst), "there was room");
                        assert!(handle.buffered() < 2 * WIDE);
                    }
                })
            })
            .collect();
        (0..3).for_each(|_| waits.recv().unwrap());
        // Waiting senders hold up no others.
        handle.ping(b"passes").unwrap();
        has_read.store(true, Ordering::SeqCst);
        drain(&mut peer, count);
        let mut came = [0; 3];
        for _ in 0..7 {
            match peer.frame() {
                (PING, payload) => assert_eq!(payload, b"passes"),
                (_, payload) => came[usize::from(payload[0])] += 1,
            }
        }
        assert_eq!(came, [2; 3]);
        threads.into_iter().for_each(join);
        assert_eq!(handle.dropped(), 0);
    });
}

#[test]
fn from_elsewhere_a_send_that_waits_fails_when_the_connection_ends() {
    bounded(|| {
        let (_serving, peer, handle, _) = full(WhenFull::Error);
        let (waiting, waits) = mpsc::channel();
        let same = handle.clone();
        let thread = thread::spawn(move || {
            waiting.send(()).unwrap();
            same.send_with(&vec![0; WIDE - LIMIT], WhenFull::Wait)
        });
        waits.recv().unwrap();
        peer.reset();
        let sent = join(thread);
        assert!(matches!(sent, Err(Error::Closed)), "{sent:?}");
        handle.wait_closed().unwrap();
    });
}

#[test]
fn from_elsewhere_a_send_that_waits_fails_when_its_worker_is_stopped() {
    bounded(|| {
        let (_serving, mut peer, handle, count) = full(WhenFull::Wait);
        let (waiting, waits) = mpsc::channel();
        let same = handle.clone();
        let worker = Worker::spawn(move || {
            waiting.send(()).unwrap();
            let sent = same.send(&vec![0; WIDE - LIMIT]);
            assert!(matches!(sent, Err(Error::Stopped)), "{sent:?}");
            Ok(())
        });
        waits.recv().unwrap();
        worker.stop();
        assert_eq!(worker.join().unwrap().done(), Some(()));
        // The connection knows nothing of that.
        handle.send("behind").unwrap();
        drain(&mut peer, count);
        assert_eq!(peer.text(), "behind");
    });
}

#[test]
fn a_part_waits_for_room_where_that_is_the_policy() {
    bounded(|| {
        let (_serving, mut peer, handle, count) = full(WhenFull::Wait);
        let has_read = Arc::new(AtomicBool::new(false));
        let (waiting, waits) = mpsc::channel();
        let (same, reads) = (handle.clone(), Arc::clone(&has_read));
        let thread = thread::spawn(move || {
            let mut parts = same.start_binary();
            waiting.send(()).unwrap();
            for _ in 0..2 {
                parts.send(vec![1; WIDE - LIMIT]).unwrap();
                assert!(reads.load(Ordering::SeqCst), "there was room");
            }
            parts.finish().unwrap();
        });
        waits.recv().unwrap();
        has_read.store(true, Ordering::SeqCst);
        drain(&mut peer, count);
        for expected in [(0x02, WIDE - LIMIT), (0x00, WIDE - LIMIT), (0x80, 0)] {
            let (first, payload) = peer.frame();
            assert_eq!((first, payload.len()), expected);
        }
        join(thread);
    });
}

#[test]
fn a_message_longer_than_the_limit_is_taken_from_a_handle_when_nothing_waits() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient().max_buffered(10), &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        // For the answer to the handshake.
        handle.wait_drained().unwrap();
        for when_full in POLICIES {
            handle.send_with(&[1; 1000], when_full).unwrap();
            assert_eq!(peer.frame(), (BINARY, vec![1; 1000]));
            // The message has left, but the handle has to know that as well.
            handle.wait_drained().unwrap();
        }
        assert_eq!(there(&handle, |ws| ws.dropped()) + handle.dropped(), 0);
    });
}
