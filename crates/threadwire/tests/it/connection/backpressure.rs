//! Backpressure: watermarks, and overflow policies for a peer that does not read.

use crate::common::peer::{BINARY, CLOSE, PING, PONG, Peer, TEXT, farewell};
use crate::common::recorder::{Call, End, Log};
use crate::common::sharing::{FILLER, drain, elsewhere, fill, meanwhile, pair, pair_with};
use crate::common::{Serving, bind, bounded, patient};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use threadwire::error::LimitKind;
use threadwire::frame::OpCode;
use threadwire::worker::{EventLoop, Worker, current};
use threadwire::{
    Closed, Config, Connection, Error, Initiator, Listener, Message, Reply, WhenFull, wait_until,
};

/// How much may wait in most of these tests, and how long most of their messages are.
pub(super) const LIMIT: usize = 1 << 20;

const LONG: usize = 100 << 10;

/// Every policy.
pub(super) const POLICIES: [WhenFull; 5] =
    [WhenFull::Error, WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Close];

pub(super) fn narrow(when_full: WhenFull) -> Config {
    patient().max_buffered(LIMIT).when_full(when_full)
}

/// A message with a number.
pub(super) fn numbered(number: u32) -> Vec<u8> {
    let mut bytes = vec![0; LONG];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number of the next message.
pub(super) fn number(peer: &mut Peer) -> u32 {
    let (first, length, beginning) = peer.brief(4);
    assert_eq!((first, length), (BINARY, LONG));
    u32::from_be_bytes(beginning.try_into().unwrap())
}

/// Reads on another thread, while this one's loop turns until all is written.
pub(super) fn read_all<R: Send + 'static>(
    ws: &Connection,
    mut peer: Peer,
    read: impl FnOnce(&mut Peer) -> R + Send + 'static,
) -> (R, Peer) {
    let reader = thread::spawn(move || (read(&mut peer), peer));
    wait_until(None, || ws.buffered() == 0).unwrap();
    join(reader)
}

pub(super) fn join<R>(thread: JoinHandle<R>) -> R {
    thread.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}

#[track_caller]
pub(super) fn assert_full(result: Result<(), Error>) {
    assert!(
        matches!(result, Err(Error::Limit(error)) if (error.kind, error.limit) == (LimitKind::Buffered, LIMIT)),
        "there was room: {result:?}"
    );
}

/// The action of a listener on a call.
type React = fn(&Connection, &str) -> Result<(), Error>;

/// A listener that also writes down the watermarks, with how much waits.
struct Watched {
    log: Log,
    react: React,
    config: Config,
}

impl Watched {
    fn hear(&self, ws: &Connection, what: &str) -> Result<(), Error> {
        self.log.note(what);
        let result = (self.react)(ws, what);
        self.log.note(&format!("{what} done"));
        result
    }
}

impl Listener for Watched {
    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        self.hear(ws, &message.to_string())
    }

    fn on_pause_writing(&mut self, ws: &Connection) -> Result<(), Error> {
        assert!(ws.buffered() > self.config.high_watermark);
        self.hear(ws, "pause")
    }

    fn on_resume_writing(&mut self, ws: &Connection) -> Result<(), Error> {
        assert!(ws.buffered() <= self.config.low_watermark);
        self.hear(ws, "resume")
    }

    fn on_close(&mut self, _ws: &Connection, closed: &Closed) {
        self.log.note(&closed.to_string());
    }
}

/// The calls, without the notes about actions.
fn heard(log: &Log) -> Vec<String> {
    let note = |call| match call {
        Call::Note(text) if !text.ends_with(" done") => Some(text),
        _ => None,
    };
    log.calls().into_iter().filter_map(note).collect()
}

fn watched(config: Config, react: React) -> (Connection, Peer, Log) {
    let log = Log::new();
    let (ws, peer) = pair_with(config.clone(), Watched { log: log.clone(), react, config });
    (ws, peer, log)
}

pub(super) fn turn() {
    for _ in 0..8 {
        threadwire::update().unwrap();
    }
}

#[test]
fn a_listener_hears_once_that_much_waits_and_once_that_little_is_left() {
    bounded(|| {
        let config = patient().high_watermark(1 << 20).low_watermark(64 << 10);
        let (ws, mut peer, log) = watched(config, |_, _| Ok(()));
        let mut expected = Vec::new();
        for _ in 0..2 {
            let count = fill(&ws);
            turn();
            assert_eq!(heard(&log), expected, "so little is not worth telling");
            (0..100).for_each(|_| ws.send(&[0; FILLER]).unwrap());
            assert_eq!(heard(&log), expected, "not within a call of the program's");
            expected.push("pause");
            turn();
            assert_eq!(heard(&log), expected);
            ws.send(&[0; FILLER]).unwrap();
            turn();
            assert_eq!(heard(&log), expected, "it knows");
            ((), peer) = read_all(&ws, peer, move |peer| drain(peer, count + 101));
            turn();
            expected.push("resume");
            assert_eq!(heard(&log), expected);
        }
    });
}

#[test]
fn between_the_watermarks_nothing_changes() {
    bounded(|| {
        let config = patient().high_watermark(2 << 20).low_watermark(0);
        let (ws, peer, log) = watched(config, |_, _| Ok(()));
        let count = fill(&ws) + 128;
        (0..128).for_each(|_| ws.send(&[0; FILLER]).unwrap());
        turn();
        assert_eq!(heard(&log), ["pause"]);
        // Each step of the way down is looked at.
        let reader = thread::spawn(move || {
            let mut peer = peer;
            drain(&mut peer, count);
            peer
        });
        wait_until(None, || ws.buffered() < 1 << 20).unwrap();
        if ws.buffered() > 0 {
            assert_eq!(heard(&log), ["pause"]);
        }
        wait_until(None, || ws.buffered() == 0).unwrap();
        let _peer = join(reader);
        turn();
        assert_eq!(heard(&log), ["pause", "resume"]);
    });
}

#[test]
fn what_the_system_takes_at_once_pauses_nobody() {
    bounded(|| {
        let (ws, mut peer, log) = watched(patient(), |ws, _| {
            (0..12).try_for_each(|_| ws.send(&[0; 10_000]))?;
            assert!(ws.buffered() > 64 << 10);
            Ok(())
        });
        peer.send(TEXT, b"go");
        wait_until(None, || !heard(&log).is_empty()).unwrap();
        let _peer =
            read_all(&ws, peer, |peer| (0..12).for_each(|_| assert_eq!(peer.frame().1.len(), 10_000)));
        assert_eq!(heard(&log), ["go"]);
    });
}

#[test]
fn a_callback_that_sends_much_has_returned_before_the_listener_hears_of_it() {
    bounded(|| {
        let (ws, mut peer, log) = watched(patient(), |ws, what| {
            if what == "go" {
                (0..150).try_for_each(|_| ws.send(&[0; FILLER]))?;
            }
            Ok(())
        });
        peer.send(TEXT, b"go");
        wait_until(None, || heard(&log).len() == 2).unwrap();
        let notes = ["go", "go done", "pause", "pause done"].map(|text| Call::Note(text.to_owned()));
        assert_eq!(log.calls(), notes);
        let _peer = read_all(&ws, peer, |peer| drain(peer, 150));
        turn();
        assert_eq!(heard(&log), ["go", "pause", "resume"]);
    });
}

#[test]
fn the_watermark_callbacks_may_send() {
    bounded(|| {
        let (ws, peer, log) = watched(patient(), |ws, what| {
            (0..20).try_for_each(|_| ws.send(&[0; FILLER]))?;
            ws.send(what)
        });
        let count = fill(&ws);
        (0..64).for_each(|_| ws.send(&[0; FILLER]).unwrap());
        turn();
        assert_eq!(heard(&log), ["pause"]);
        let reader = thread::spawn(move || {
            let mut peer = peer;
            drain(&mut peer, count + 64 + 20);
            assert_eq!(peer.text(), "pause");
            // The next message may be too much again: that is another round.
            drain(&mut peer, 20);
            assert_eq!(peer.text(), "resume");
        });
        wait_until(None, || heard(&log).len() >= 2 && ws.buffered() == 0).unwrap();
        join(reader);
        assert_eq!(heard(&log)[..2], ["pause", "resume"]);
    });
}

#[test]
fn a_watermark_callback_that_fails_closes_the_connection() {
    bounded(|| {
        let (ws, peer, log) = watched(patient(), |_, what| match what {
            "pause" => Err(Error::other("too slow for me")),
            _ => Ok(()),
        });
        let count = fill(&ws) + 64;
        (0..64).for_each(|_| ws.send(&[0; FILLER]).unwrap());
        turn();
        assert!(!ws.is_open());
        let reader = thread::spawn(move || {
            let mut peer = peer;
            drain(&mut peer, count);
            assert_eq!(peer.code(), 1011);
            peer.close(1011, "");
            peer.end();
        });
        ws.wait_closed().unwrap();
        join(reader);
        let heard = heard(&log);
        assert_eq!(heard.first().map(String::as_str), Some("pause"));
        assert!(heard.last().unwrap().ends_with("1011 (internal error) (too slow for me)"), "{heard:?}");
    });
}

#[test]
fn handles_move_the_watermarks_too() {
    bounded(|| {
        let (ws, peer, log) = watched(patient(), |_, _| Ok(()));
        let count = fill(&ws) + 64;
        let handle = ws.handle();
        elsewhere(move || (0..64).for_each(|_| handle.send(&[0; FILLER]).unwrap()));
        turn();
        assert_eq!(heard(&log), ["pause"]);
        let _peer = read_all(&ws, peer, move |peer| drain(peer, count));
        turn();
        assert_eq!(heard(&log), ["pause", "resume"]);
    });
}

/// Sends with a policy: as the connection's own, and as that of each message.
fn both_ways(
    when_full: WhenFull,
    test: impl Fn(Connection, Peer, Log, fn(&Connection, &[u8], WhenFull) -> Result<(), Error>),
) {
    let log = Log::new();
    let (ws, peer) = pair(narrow(when_full), &log);
    test(ws, peer, log, |ws, bytes, _| ws.send(bytes));
    let other = if when_full == WhenFull::DropNewest { WhenFull::Close } else { WhenFull::DropNewest };
    let log = Log::new();
    let (ws, peer) = pair(narrow(other), &log);
    test(ws, peer, log, |ws, bytes, when_full| ws.send_with(bytes, when_full));
}

#[test]
fn errors_where_there_is_no_room() {
    bounded(|| {
        both_ways(WhenFull::Error, |ws, peer, _, send| {
            let count = fill(&ws);
            let taken = (0..).find(|number| send(&ws, &numbered(*number), WhenFull::Error).is_err()).unwrap();
            assert!(ws.buffered() <= LIMIT + 14 * 20 && ws.buffered() + LONG > LIMIT);
            assert_full(send(&ws, &numbered(0), WhenFull::Error));
            assert_eq!(ws.dropped(), 0);
            let (_, mut peer) = read_all(&ws, peer, move |peer| {
                drain(peer, count);
                (0..taken).for_each(|expected| assert_eq!(number(peer), expected));
            });
            assert!(peer.is_silent() && ws.is_open());
        });
    });
}

#[test]
fn the_oldest_make_room() {
    bounded(|| {
        both_ways(WhenFull::DropOldest, |ws, peer, _, send| {
            let count = fill(&ws);
            for number in 0..50 {
                send(&ws, &numbered(number), WhenFull::DropOldest).unwrap();
                assert!(ws.buffered() <= LIMIT + 14 * 20, "{} wait", ws.buffered());
            }
            let dropped = u32::try_from(ws.dropped()).unwrap();
            assert!((39..=41).contains(&dropped), "{dropped}");
            let (_, mut peer) = read_all(&ws, peer, move |peer| {
                drain(peer, count);
                (dropped..50).for_each(|expected| assert_eq!(number(peer), expected));
            });
            assert!(peer.is_silent() && ws.is_open());
        });
    });
}

#[test]
fn only_messages_that_may_be_dropped_are_dropped() {
    bounded(|| {
        let (ws, peer) = pair(narrow(WhenFull::Error), &Log::new());
        let count = fill(&ws);
        for number in 0..4 {
            ws.send_with(&numbered(number), WhenFull::DropOldest).unwrap();
        }
        ws.send(&numbered(100)).unwrap();
        ws.ping(b"stays").unwrap();
        for number in 4..40 {
            ws.send_with(&numbered(number), WhenFull::DropOldest).unwrap();
        }
        assert!(ws.send(&numbered(101)).is_err(), "the others don't drop");
        let dropped = u32::try_from(ws.dropped()).unwrap();
        assert!(dropped > 4);
        let _peer = read_all(&ws, peer, move |peer| {
            drain(peer, count);
            assert_eq!(number(peer), 100);
            assert_eq!(peer.frame(), (PING, b"stays".to_vec()));
            (dropped..40).for_each(|expected| assert_eq!(number(peer), expected));
        });
    });
}

#[test]
fn the_newest_are_dropped() {
    bounded(|| {
        both_ways(WhenFull::DropNewest, |ws, peer, _, send| {
            let count = fill(&ws);
            for number in 0..50 {
                send(&ws, &numbered(number), WhenFull::DropNewest).unwrap();
            }
            let left = 50 - u32::try_from(ws.dropped()).unwrap();
            assert!((9..=11).contains(&left), "{left}");
            let (_, peer) = read_all(&ws, peer, move |peer| {
                drain(peer, count);
                (0..left).for_each(|expected| assert_eq!(number(peer), expected));
            });
            let mut peer = peer;
            assert!(peer.is_silent());
            // And now there is room.
            send(&ws, &numbered(77), WhenFull::DropNewest).unwrap();
            ws.flush();
            assert_eq!(number(&mut peer), 77);
            assert_eq!(ws.dropped(), u64::from(50 - left));
        });
    });
}

#[test]
fn a_send_waits_until_the_peer_has_read() {
    bounded(|| {
        both_ways(WhenFull::Wait, |ws, mut peer, _, send| {
            let count = fill(&ws);
            let (read, reads) = mpsc::channel();
            let reader = thread::spawn(move || {
                reads.recv().unwrap();
                drain(&mut peer, count);
                (0..20).for_each(|expected| assert_eq!(number(&mut peer), expected));
            });
            let is_read = Rc::new(Cell::new(false));
            let begins = Rc::clone(&is_read);
            meanwhile(move || {
                begins.set(true);
                read.send(()).unwrap();
            });
            for number in 0..20 {
                send(&ws, &numbered(number), WhenFull::Wait).unwrap();
                assert!(ws.buffered() <= LIMIT + 14 * 20);
            }
            assert!(is_read.get(), "nothing had to wait");
            wait_until(None, || ws.buffered() == 0).unwrap();
            join(reader);
            assert_eq!(ws.dropped(), 0);
        });
    });
}

#[test]
fn a_send_that_waits_fails_when_the_connection_ends() {
    bounded(|| {
        both_ways(WhenFull::Wait, |ws, peer, log, send| {
            fill(&ws);
            meanwhile(move || peer.reset());
            let error = (0..20).find_map(|number| send(&ws, &numbered(number), WhenFull::Wait).err());
            assert!(matches!(error, Some(Error::Closed)), "{error:?}");
            ws.wait_closed().unwrap();
            assert_eq!(log.ends(), 1);
        });
    });
}

#[test]
fn a_send_that_waits_fails_when_the_worker_is_stopped() {
    bounded(|| {
        let config = narrow(WhenFull::Wait).close_timeout(crate::common::SOON);
        let (ws, mut peers) = (Rc::new(Cell::new(None)), None);
        let ended = Worker::builder().run(|| {
            let (connection, peer) = pair(config, &Log::new());
            peers = Some(peer);
            fill(&connection);
            let here = current();
            meanwhile(move || here.stop());
            let error = (0..20).find_map(|number| connection.send(&numbered(number)).err());
            assert!(matches!(error, Some(Error::Stopped)), "{error:?}");
            ws.set(Some(connection));
            Ok(())
        });
        assert!(ended.done().is_some());
        assert!(ws.take().unwrap().has_ended());
    });
}

#[test]
fn a_connection_is_closed_with_1008() {
    bounded(|| {
        both_ways(WhenFull::Close, |ws, mut peer, log, send| {
            let count = fill(&ws);
            let taken = (0..).find(|number| {
                let sent = send(&ws, &numbered(*number), WhenFull::Close);
                let is_full = sent.is_err();
                if is_full {
                    assert_full(sent);
                }
                is_full
            });
            assert!(!ws.is_open());
            assert!(matches!(send(&ws, b"after", WhenFull::Close), Err(Error::Closed)));
            let reader = thread::spawn(move || {
                drain(&mut peer, count);
                (0..taken.unwrap()).for_each(|expected| assert_eq!(number(&mut peer), expected));
                assert_eq!(peer.closed(), (1008, "too slow in reading".to_owned()));
                peer.close(1008, "");
                peer.end();
            });
            ws.wait_closed().unwrap();
            join(reader);
            assert_eq!(log.wait_end(), End::clean(Initiator::Local, 1008, "too slow in reading"));
        });
    });
}

#[test]
fn a_fragment_is_never_dropped() {
    bounded(|| {
        for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
            let (ws, peer) = pair(narrow(when_full), &Log::new());
            let count = fill(&ws);
            ws.send_frame(OpCode::Binary, false, &numbered(0)).unwrap();
            let sent = (1..)
                .find(|number| {
                    let sent = ws.send_frame(OpCode::Continuation, false, &numbered(*number));
                    let is_full = sent.is_err();
                    if is_full {
                        assert_full(sent);
                    }
                    is_full
                })
                .unwrap();
            let _peer = read_all(&ws, peer, move |peer| {
                drain(peer, count);
                for number in 0..sent {
                    let (first, payload) = peer.frame();
                    assert_eq!(first, if number == 0 { 0x02 } else { 0x00 });
                    assert_eq!(payload[..4], number.to_be_bytes());
                }
            });
            assert_eq!(ws.dropped(), 0);
            ws.send_frame(OpCode::Continuation, true, b"").unwrap();
        }
    });
}

#[test]
fn fragments_survive_the_messages_that_are_sent_behind_them() {
    bounded(|| {
        let (ws, peer) = pair(narrow(WhenFull::DropOldest), &Log::new());
        fill(&ws);
        ws.send_frame(OpCode::Binary, false, b"in ").unwrap();
        ws.send_frame(OpCode::Continuation, true, b"two").unwrap();
        for number in 0..200 {
            ws.send(&numbered(number)).unwrap();
        }
        assert!(ws.dropped() > 0);
        let _peer = read_all(&ws, peer, |peer| {
            while peer.frame().0 != 0x02 {}
            assert_eq!(peer.frame(), (0x80, b"two".to_vec()));
            while peer.frame().1[..4] != numbered(199)[..4] {}
        });
    });
}

#[test]
fn pings_and_pongs_are_exempt() {
    bounded(|| {
        for when_full in POLICIES {
            let (ws, peer) = pair(narrow(when_full), &Log::new());
            let count = fill(&ws);
            // Not even a few bytes more.
            for length in [LONG, 1000, 1] {
                while ws.send_with(&numbered(0)[..length], WhenFull::Error).is_ok() {}
            }
            let before = ws.buffered();
            ws.ping(b"ping").unwrap();
            ws.pong(b"pong").unwrap();
            let handle = ws.handle();
            elsewhere(move || {
                handle.ping(b"a handle's").unwrap();
                assert_eq!(handle.dropped(), 0);
            });
            assert!(ws.buffered() > before && ws.is_open() && ws.dropped() == 0);
            // The connection does not know of messages in the lane yet.
            turn();
            let _peer = read_all(&ws, peer, move |peer| {
                drain(peer, count);
                let mut frame = peer.frame();
                while frame.0 == BINARY {
                    frame = peer.frame();
                }
                assert_eq!(frame, (PING, b"ping".to_vec()));
                assert_eq!(peer.frame(), (PONG, b"pong".to_vec()));
                assert_eq!(peer.frame(), (PING, b"a handle's".to_vec()));
            });
        }
    });
}

#[test]
fn a_feed_that_drops_the_oldest_answers_pings() {
    bounded(|| {
        /// Sends more than the peer reads, as long as it is there.
        fn feed(ws: &Connection, first: u32) {
            if ws.is_open() {
                (first..first + 20).for_each(|number| ws.send(&numbered(number)).unwrap());
                let next = ws.clone();
                EventLoop::current().after(std::time::Duration::ZERO, move || feed(&next, first + 20));
            }
        }
        let log = Log::new();
        let config = narrow(WhenFull::DropOldest);
        let feeding = log.clone();
        let serving = Serving::with(bind().config(config), move |_| {
            let react = |ws: &Connection, call: &Call| {
                if *call == Call::Open {
                    feed(ws, 0);
                }
                Ok(())
            };
            Reply::with(feeding.listener(react))
        });
        let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
        let mut last = number(&mut peer);
        for turn in 0..3u8 {
            peer.send(PING, &[turn]);
            loop {
                let (first, payload) = peer.frame();
                if first == PONG {
                    assert_eq!(payload, [turn]);
                    break;
                }
                let number = u32::from_be_bytes(payload[..4].try_into().unwrap());
                assert!(number > last, "{number} after {last}");
                last = number;
            }
        }
        peer.send(CLOSE, &farewell(1000, ""));
        let closed = std::iter::repeat_with(|| peer.frame()).find(|(first, _)| *first == CLOSE);
        assert_eq!(closed, Some((CLOSE, farewell(1000, ""))));
        assert_eq!(log.wait_end(), End::clean(Initiator::Peer, 1000, ""));
    });
}
