//! Receive on the blocking face, and how it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::peer::{BINARY, CLOSE, Host, PING, PONG, Peer, TEXT, farewell, frame};
use crate::common::sharing::elsewhere;
use crate::common::{PATIENCE, SOON, Serving, bind, bounded, echo, patient};
use threadwire::blocking::{self, Connection};
use threadwire::error::TimeoutKind;
use threadwire::worker::{Ended, EventLoop, Worker, later};
use threadwire::{Client, CloseCode, Config, Error, Initiator, Keepalive, OwnedMessage, Reply};

/// A connection of this thread, and its peer.
fn pair_with(config: Config, early: &[u8]) -> (Connection, Peer) {
    let host = Host::listen();
    let client = Client::new(&host.url()).unwrap().config(config);
    let early = early.to_vec();
    let host = host.run(move |host| host.upgrade(&early));
    let ws = blocking::connect(&client).unwrap();
    (ws, host.join().unwrap())
}

fn pair() -> (Connection, Peer) {
    pair_with(patient(), b"")
}

fn serving_echo() -> Serving {
    Serving::with(bind(), |_| Reply::with(echo))
}

fn texts(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| frame(TEXT, false, number.to_string().as_bytes())).collect()
}

fn ended(result: Result<Option<OwnedMessage>, Error>) -> (u16, bool, Option<Error>) {
    match result {
        Err(Error::Ended(closed)) => {
            let error = closed.error.as_ref().map(ToString::to_string).map(Error::other);
            (closed.code.get(), closed.clean, error)
        }
        other => panic!("not an abnormal end: {other:?}"),
    }
}

#[test]
fn receives_text_and_bytes_in_their_order() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.send(TEXT, "one €".as_bytes());
        peer.send(BINARY, &[0, 255]);
        peer.send(TEXT, b"");
        assert_eq!(ws.recv().unwrap(), Some(OwnedMessage::from("one €".to_owned())));
        assert_eq!(ws.recv().unwrap(), Some(OwnedMessage::from(vec![0, 255])));
        assert_eq!(ws.recv().unwrap().unwrap(), "");
    });
}

#[test]
fn receives_what_came_together_with_the_handshake() {
    bounded(|| {
        let (mut ws, _peer) = pair_with(patient(), &frame(TEXT, false, b"early"));
        assert_eq!(ws.recv().unwrap().unwrap(), "early");
    });
}

#[test]
fn a_receive_that_takes_too_long_loses_nothing() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        let late = ws.recv_timeout(SOON).unwrap_err();
        assert!(late.is_timeout() && matches!(late, Error::Timeout(TimeoutKind::Receive)), "{late}");
        // The half of a frame, and then the other one.
        let bytes = frame(TEXT, false, b"in two pieces");
        peer.bytes(&bytes[..5]);
        assert!(ws.recv_timeout(SOON).unwrap_err().is_timeout());
        peer.bytes(&bytes[5..]);
        assert_eq!(ws.recv_timeout(PATIENCE).unwrap().unwrap(), "in two pieces");
        assert!(ws.recv_timeout(Duration::ZERO).unwrap_err().is_timeout());
    });
}

#[test]
fn the_longest_timeout_is_one_that_never_passes() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.send(TEXT, b"there");
        assert_eq!(ws.recv_timeout(Duration::MAX).unwrap().unwrap(), "there");
    });
}

#[test]
fn trying_to_receive_takes_what_is_there_and_does_not_wait() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        assert!(ws.try_recv().unwrap_err().is_timeout());
        // Bytes written to a loopback socket are readable at once.
        peer.bytes(texts(2));
        assert_eq!(ws.try_recv().unwrap().unwrap(), "0");
        assert_eq!(ws.try_recv().unwrap().unwrap(), "1");
        assert!(ws.try_recv().unwrap_err().is_timeout());
        peer.close(1000, "");
        peer.end();
        while ws.try_recv().is_err_and(|error| error.is_timeout()) {}
        assert!(ws.try_recv().unwrap().is_none());
    });
}

#[test]
fn a_program_that_only_tries_answers_pings() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.send(PING, b"are you there?");
        assert!(ws.try_recv().unwrap_err().is_timeout());
        assert!(ws.try_recv().unwrap_err().is_timeout());
        assert_eq!(peer.frame(), (PONG, b"are you there?".to_vec()));
    });
}

#[test]
fn iterates_over_all_messages_up_to_a_normal_end() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes([texts(3), frame(CLOSE, false, &farewell(1001, "bye"))].concat());
        peer.end();
        let mut seen = Vec::new();
        for message in &mut ws {
            seen.push(message.unwrap().to_string());
        }
        assert_eq!(seen, ["0", "1", "2"]);
        assert_eq!(ws.iter().count(), 0);
        let closed = ws.closed().unwrap();
        assert_eq!((closed.code.get(), &*closed.reason, closed.initiator), (1001, "bye", Initiator::Peer));
    });
}

#[test]
fn each_normal_code_ends_without_an_error() {
    bounded(|| {
        for payload in [farewell(1000, ""), farewell(1001, ""), Vec::new()] {
            let (mut ws, mut peer) = pair();
            peer.send(CLOSE, &payload);
            peer.end();
            assert!(ws.recv().unwrap().is_none());
            assert!(ws.recv().unwrap().is_none());
            assert!(!ws.is_open());
        }
    });
}

#[test]
fn an_abnormal_end_is_told_once_behind_all_that_arrived_before_it() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes([texts(2), frame(CLOSE, false, &farewell(4000, "no more"))].concat());
        peer.end();
        assert_eq!(ws.recv().unwrap().unwrap(), "0");
        // Wait until the loop knows of the end.
        while ws.closed().is_none() {
            threadwire::sleep(Duration::from_millis(1)).unwrap();
        }
        assert_eq!(ws.recv().unwrap().unwrap(), "1");
        let (code, clean, error) = ended(ws.recv());
        assert!(code == 4000 && clean && error.is_none());
        assert!(ws.recv().unwrap().is_none(), "it was told already");
        assert!(ws.try_recv().unwrap().is_none());
    });
}

#[test]
fn a_connection_that_breaks_ends_with_1006() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes(texts(1));
        drop(peer);
        assert_eq!(ws.recv().unwrap().unwrap(), "0");
        let (code, clean, error) = ended(ws.recv());
        assert!(code == 1006 && !clean && error.is_some());
    });
}

#[test]
fn a_reset_does_not_hide_what_arrived_before() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes(texts(1));
        assert_eq!(ws.recv().unwrap().unwrap(), "0");
        peer.reset();
        assert_eq!(ended(ws.recv()).0, 1006);
    });
}

#[test]
fn a_broken_rule_ends_with_its_code_behind_what_was_right() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes([texts(1), frame(TEXT, false, &[0xff])].concat());
        assert_eq!(ws.recv().unwrap().unwrap(), "0");
        let (code, clean, error) = ended(ws.recv());
        assert!(code == 1007 && !clean && error.is_some());
        assert_eq!(peer.code(), 1007);
    });
}

#[test]
fn a_message_that_is_too_long_ends_with_1009() {
    bounded(|| {
        let limits = threadwire::Limits::default().max_message(10);
        let (mut ws, mut peer) = pair_with(patient().limits(limits), b"");
        peer.send(TEXT, b"eleven byte");
        assert_eq!(ended(ws.recv()).0, 1009);
        assert_eq!(peer.code(), 1009);
    });
}

#[test]
fn a_receive_ends_when_a_silent_peer_is_given_up() {
    bounded(|| {
        let host = Host::listen();
        let client = Client::new(&host.url()).unwrap();
        let host = host.run(|host| host.upgrade(b""));
        let keepalive = Keepalive::default().idle_timeout(SOON).reply_timeout(SOON);
        let config = patient().keepalive(keepalive);
        let mut ws = blocking::connect(&client.config(config)).unwrap();
        let _peer = host.join().unwrap();
        match ws.recv() {
            Err(Error::Ended(closed)) => {
                assert!(
                    matches!(closed.error, Some(Error::Timeout(TimeoutKind::Silence { .. }))),
                    "{closed}"
                );
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn the_stop_of_the_worker_ends_a_receive_and_closes_the_connection() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| host.upgrade(b""));
        let (waits, waiting) = mpsc::channel();
        let worker = Worker::spawn(move || -> Result<(), threadwire::Stopped> {
            let mut ws = blocking::connect(&url).unwrap();
            later(Duration::ZERO, move || waits.send(()).unwrap());
            match ws.recv() {
                Err(Error::Stopped) => Err(threadwire::Stopped),
                other => panic!("{other:?}"),
            }
        });
        let mut peer = host.join().unwrap();
        waiting.recv().unwrap();
        worker.stop();
        assert_eq!(peer.code(), 1001);
        peer.close(1001, "");
        drop(peer);
        assert!(matches!(worker.join().unwrap(), Ended::Stopped));
    });
}

#[test]
fn a_stop_is_seen_by_a_program_that_always_finds_messages() {
    bounded(|| {
        let (give, given) = mpsc::channel();
        let host = Host::listen();
        let client = Client::new(&host.url()).unwrap().config(patient().close_timeout(SOON));
        let host = host.run(|host| {
            let mut peer = host.upgrade(b"");
            peer.bytes(texts(5000));
            peer
        });
        let worker = Worker::spawn(move || -> Result<usize, threadwire::Stopped> {
            let mut ws = blocking::connect(&client).unwrap();
            let mut count = 0;
            loop {
                match ws.recv() {
                    Ok(Some(_)) => count += 1,
                    Err(Error::Stopped) => return Ok(count),
                    other => panic!("{other:?}"),
                }
                if count == 1 {
                    // All the others arrive before the next one is received.
                    threadwire::sleep(SOON).unwrap();
                    give.send(()).unwrap();
                    while !EventLoop::current().is_stopping() {
                        thread::yield_now();
                    }
                }
            }
        });
        let _peer = host.join().unwrap();
        given.recv().unwrap();
        worker.stop();
        let count = worker.join().unwrap().done().unwrap();
        assert!(count < 100, "{count} messages after the stop");
    });
}

#[test]
fn a_backlog_of_messages_does_not_keep_another_connection_waiting() {
    bounded(|| {
        let (mut busy, mut peer) = pair();
        let (_idle, mut other) = pair();
        peer.bytes(texts(1000));
        assert_eq!(busy.recv().unwrap().unwrap(), "0");
        threadwire::sleep(SOON).unwrap();
        other.send(PING, b"");
        for _ in 1..1000 {
            busy.recv().unwrap().unwrap();
            // Each of them takes a while.
            thread::sleep(Duration::from_micros(50));
            if !other.is_silent() {
                return;
            }
        }
        panic!("its ping was not answered before the backlog was received");
    });
}

#[test]
fn a_handle_closes_while_the_connection_waits_in_a_receive() {
    bounded(|| {
        let serving = serving_echo();
        let mut ws = blocking::connect(&serving.url("/")).unwrap();
        let handle = ws.handle();
        let (waits, waiting) = mpsc::channel();
        let other = thread::spawn(move || {
            waiting.recv().unwrap();
            handle.close_with(CloseCode::new(4001), "enough").unwrap();
            handle.wait_closed().unwrap().code
        });
        later(Duration::ZERO, move || waits.send(()).unwrap());
        assert_eq!(ended(ws.recv()).0, 4001);
        assert_eq!(other.join().unwrap().get(), 4001);
    });
}

#[test]
fn a_timer_closes_while_the_connection_waits_in_a_receive() {
    bounded(|| {
        let serving = serving_echo();
        let mut ws = blocking::connect(&serving.url("/")).unwrap();
        let same = ws.connection().clone();
        later(Duration::ZERO, move || same.close().unwrap());
        assert!(ws.recv().unwrap().is_none());
        assert_eq!(ws.closed().unwrap().initiator, Initiator::Local);
    });
}

#[test]
fn what_had_arrived_can_be_received_after_closing() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes(texts(2));
        assert_eq!(ws.recv().unwrap().unwrap(), "0");
        let answering = thread::spawn(move || {
            assert_eq!(peer.code(), 1000);
            peer.send(TEXT, b"too late");
            peer.close(1000, "");
        });
        let closed = ws.close().unwrap();
        assert!(closed.is_normal(), "{closed}");
        assert_eq!(ws.recv().unwrap().unwrap(), "1");
        assert!(ws.recv().unwrap().is_none());
        assert!(matches!(ws.send("late"), Err(Error::Closed)));
        assert!(ws.close().unwrap().is_normal(), "closing twice tells the same");
        answering.join().unwrap();
    });
}

#[test]
fn closing_gives_a_peer_up_that_does_not_answer() {
    bounded(|| {
        let (mut ws, peer) = pair_with(patient().close_timeout(SOON), b"");
        let closed = ws.close().unwrap();
        assert!(matches!(closed.error, Some(Error::Timeout(TimeoutKind::Close))), "{closed}");
        drop(peer);
    });
}

#[test]
fn a_code_that_must_not_be_sent_changes_nothing() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        assert!(matches!(ws.close_with(CloseCode::ABNORMAL, ""), Err(Error::Send(_))));
        assert!(ws.is_open());
        ws.send("still here").unwrap();
        assert_eq!(peer.text(), "still here");
    });
}

#[test]
fn a_dropped_connection_is_closed_with_1001() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        ws.send("last words").unwrap();
        drop(ws);
        assert_eq!(peer.text(), "last words");
        assert_eq!(peer.closed(), (1001, String::new()));
    });
}

#[test]
fn a_receive_of_one_connection_answers_the_pings_of_another() {
    bounded(|| {
        let (mut one, mut peer_of_one) = pair();
        let (mut other, mut peer_of_other) = pair();
        let peers = thread::spawn(move || {
            peer_of_other.send(PING, b"1");
            assert_eq!(peer_of_other.frame(), (PONG, b"1".to_vec()));
            peer_of_other.send(TEXT, b"kept");
            peer_of_other.send(PING, b"2");
            assert_eq!(peer_of_other.frame(), (PONG, b"2".to_vec()));
            peer_of_one.send(TEXT, b"go on");
            (peer_of_one, peer_of_other)
        });
        assert_eq!(one.recv().unwrap().unwrap(), "go on");
        assert_eq!(other.try_recv().unwrap().unwrap(), "kept");
        peers.join().unwrap();
    });
}

#[test]
fn a_callback_of_another_connection_may_receive() {
    bounded(|| {
        let serving = serving_echo();
        let (inner, mut peer) = pair();
        let inner = Rc::new(std::cell::RefCell::new(inner));
        let heard = Rc::new(Cell::new(false));
        let hears = Rc::clone(&heard);
        let callback = move |ws: &threadwire::Connection, _: threadwire::Message<'_>| {
            let message = inner.borrow_mut().recv()?.expect("a message");
            assert_eq!(message, "from the inner one");
            hears.set(true);
            ws.close()
        };
        let outer = threadwire::connect(&serving.url("/"), callback).unwrap();
        outer.send("begin").unwrap();
        let sender = thread::spawn(move || {
            // The pong comes only if the loop turns inside of the callback.
            peer.send(PING, b"");
            assert_eq!(peer.frame().0, PONG);
            peer.send(TEXT, b"from the inner one");
            peer
        });
        outer.wait_closed().unwrap();
        assert!(heard.get());
        sender.join().unwrap();
    });
}

#[test]
fn works_on_a_thread_that_is_no_worker_and_has_no_name() {
    let serving = serving_echo();
    let url = serving.url("/");
    elsewhere(move || {
        let mut ws = blocking::connect(&url).unwrap();
        ws.send("hello").unwrap();
        assert_eq!(ws.recv_timeout(PATIENCE).unwrap().unwrap(), "hello");
    });
}

#[test]
fn the_thread_may_end_with_the_connection_open() {
    let host = Host::listen();
    let url = host.url();
    let host = host.run(|host| host.upgrade(b""));
    elsewhere(move || {
        let mut ws = blocking::connect(&url).unwrap();
        ws.send("last").unwrap();
        // Not even dropped: it lies in a leaked box.
        std::mem::forget(ws);
    });
    let mut peer = host.join().unwrap();
    assert_eq!(peer.text(), "last");
    assert_eq!(peer.code(), 1001);
    assert!(peer.ended());
}

#[test]
fn what_is_queued_is_bounded_by_bytes_and_reading_goes_on_with_receiving() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        let message = vec![7; 100 << 10];
        let count = 200;
        let writer = thread::spawn(move || {
            for _ in 0..count {
                peer.send(BINARY, &message);
            }
            peer
        });
        // Until nothing more is read: 20 MiB are under way, and neither side has buffers for that.
        while !ws.connection().is_reading_paused() {
            threadwire::sleep(Duration::from_millis(1)).unwrap();
        }
        threadwire::sleep(SOON).unwrap();
        assert!(!writer.is_finished(), "the peer could send all of it");
        let mut resumed = false;
        for _ in 0..count {
            assert_eq!(ws.recv().unwrap().unwrap().len(), 100 << 10);
            resumed |= !ws.connection().is_reading_paused();
        }
        assert!(resumed);
        writer.join().unwrap();
    });
}

#[test]
fn many_empty_messages_are_bounded_too() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        let count = 200_000;
        let writer = thread::spawn(move || {
            peer.try_bytes(&frame(TEXT, false, b"").repeat(count));
            peer
        });
        while !ws.connection().is_reading_paused() {
            threadwire::sleep(Duration::from_millis(1)).unwrap();
        }
        for _ in 0..count {
            assert_eq!(ws.recv().unwrap().unwrap(), "");
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_close_frame_behind_a_full_queue_is_seen_when_that_was_received() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        let writer = thread::spawn(move || {
            for _ in 0..40 {
                peer.send(BINARY, &vec![1; 100 << 10]);
            }
            peer.close(4002, "");
            peer.end();
            peer
        });
        let mut count = 0;
        let end = loop {
            match ws.recv() {
                Ok(Some(_)) => count += 1,
                end => break end,
            }
            if count == 1 {
                threadwire::sleep(SOON).unwrap();
                assert!(ws.is_open(), "it can't be known yet");
            }
        };
        assert_eq!((count, ended(end).0), (40, 4002));
        writer.join().unwrap();
    });
}

#[test]
fn round_trips_are_measured() {
    bounded(|| {
        let serving = serving_echo();
        let mut ws = blocking::connect(&serving.url("/")).unwrap();
        assert_eq!(ws.measure_roundtrip(3).unwrap().len(), 3);
        ws.ping(b"by hand").unwrap();
        ws.close().unwrap();
        assert!(ws.measure_roundtrip(1).is_err());
    });
}

#[test]
fn a_connection_that_is_refused_says_so() {
    bounded(|| {
        let serving = Serving::with(bind(), |_| Reply::status(404));
        assert!(matches!(blocking::connect(&serving.url("/")), Err(Error::Status(_))));
        assert!(blocking::connect("not a url").is_err());
    });
}
