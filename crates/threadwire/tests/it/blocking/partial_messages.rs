//! Messages in parts on the blocking face.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::peer::{CLOSE, Host, PING, PONG, Peer, TEXT, farewell, frame};
use crate::common::{SOON, bounded, patient};
use threadwire::blocking::{self, PartialReceiver};
use threadwire::{Client, Config, Error, Limits};

const BEGIN: u8 = 0x01;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;

fn pair_with(config: Config) -> (PartialReceiver, Peer) {
    let host = Host::listen();
    let client = Client::new(&host.url()).unwrap().config(config);
    let host = host.run(|host| host.upgrade(b""));
    let ws = blocking::connect_in_parts(&client).unwrap();
    (ws, host.join().unwrap())
}

fn pair() -> (PartialReceiver, Peer) {
    pair_with(patient())
}

#[test]
fn parts_come_as_they_arrive() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.send(BEGIN, b"one");
        let mut message = ws.recv().unwrap().unwrap();
        assert!(message.is_text());
        assert_eq!(message.next_part().unwrap().unwrap(), b"one");
        // The second part is sent only now, so the first one can't have waited for it.
        peer.send(MORE, b"two");
        assert_eq!(message.next_part().unwrap().unwrap(), b"two");
        peer.send(PING, b"");
        peer.send(LAST, b"");
        assert_eq!(message.next_part().unwrap().unwrap(), b"");
        assert!(message.next_part().unwrap().is_none());
        assert!(message.next_part().unwrap().is_none());
        assert_eq!(peer.frame().0, PONG);
        peer.send(0x82, b"whole");
        let mut message = ws.recv().unwrap().unwrap();
        assert!(!message.is_text());
        assert_eq!(message.next_part().unwrap().unwrap(), b"whole");
        assert!(message.next_part().unwrap().is_none());
    });
}

#[test]
fn what_was_not_taken_of_a_message_is_skipped() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes([frame(BEGIN, false, b"1"), frame(MORE, false, b"2"), frame(LAST, false, b"3")].concat());
        peer.bytes([frame(BEGIN, false, b"a"), frame(MORE, false, b"b")].concat());
        let mut message = ws.recv().unwrap().unwrap();
        assert_eq!(message.next_part().unwrap().unwrap(), b"1");
        let mut message = ws.recv().unwrap().unwrap();
        assert_eq!(message.next_part().unwrap().unwrap(), b"a");
        // The rest of this one arrives while it is being skipped.
        let writer = thread::spawn(move || {
            peer.send(LAST, b"c");
            peer.send(TEXT, b"next");
            peer
        });
        let mut message = ws.recv().unwrap().unwrap();
        assert_eq!(message.next_part().unwrap().unwrap(), b"next");
        writer.join().unwrap();
    });
}

#[test]
fn a_message_of_which_nothing_was_taken_is_skipped_too() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes([frame(TEXT, false, b"first"), frame(TEXT, false, b"second")].concat());
        assert!(ws.recv().unwrap().is_some());
        let mut message = ws.recv().unwrap().unwrap();
        assert_eq!(message.next_part().unwrap().unwrap(), b"second");
    });
}

#[test]
fn a_message_that_breaks_off_is_no_whole_one() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.send(BEGIN, b"once upon a");
        peer.close(1000, "");
        peer.end();
        let mut message = ws.recv().unwrap().unwrap();
        assert_eq!(message.next_part().unwrap().unwrap(), b"once upon a");
        assert!(matches!(message.next_part(), Err(Error::Lost)));
        assert!(ws.recv().unwrap().is_none());
        assert!(ws.closed().unwrap().is_normal());

        let (mut ws, mut peer) = pair();
        peer.send(BEGIN, b"once upon a");
        drop(peer);
        let mut message = ws.recv().unwrap().unwrap();
        assert_eq!(message.next_part().unwrap().unwrap(), b"once upon a");
        assert!(matches!(message.next_part(), Err(Error::Ended(closed)) if closed.code.get() == 1006));
        assert!(ws.recv().unwrap().is_none());
    });
}

#[test]
fn what_arrived_before_the_end_comes_before_it() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        let end = frame(CLOSE, false, &farewell(4000, ""));
        peer.bytes(
            [frame(BEGIN, false, b"a"), frame(LAST, false, b"b"), frame(TEXT, false, b"c"), end].concat(),
        );
        peer.end();
        let mut seen = Vec::new();
        let end = loop {
            match ws.recv() {
                Ok(Some(mut message)) => {
                    while let Some(part) = message.next_part().unwrap() {
                        seen.extend(part);
                    }
                }
                Ok(None) => panic!("it was no normal end"),
                Err(error) => break error,
            }
        };
        assert_eq!(seen, b"abc");
        assert!(matches!(end, Error::Ended(closed) if closed.code.get() == 4000));
        assert!(ws.recv().unwrap().is_none());
    });
}

#[test]
fn text_that_is_none_ends_the_connection_at_the_part_that_breaks_it() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        let euro = "€".as_bytes();
        peer.bytes([frame(BEGIN, false, &euro[..1]), frame(MORE, false, &euro[1..])].concat());
        peer.send(LAST, &[0xc0]);
        let mut message = ws.recv().unwrap().unwrap();
        assert_eq!(message.next_part().unwrap().unwrap(), &euro[..1]);
        assert_eq!(message.next_part().unwrap().unwrap(), &euro[1..]);
        assert!(matches!(message.next_part(), Err(Error::Ended(closed)) if closed.code.get() == 1007));
    });
}

#[test]
fn a_message_may_be_longer_than_what_is_held_and_the_peer_is_slowed_down() {
    bounded(|| {
        const PARTS: usize = 300;
        let (mut ws, mut peer) = pair();
        assert!(PARTS * (100 << 10) > Limits::default().max_message);
        let writer = thread::spawn(move || {
            for number in 0..PARTS {
                let first = if number == 0 { 0x02 } else { MORE };
                peer.send(first, &vec![number as u8; 100 << 10]);
            }
            peer.send(LAST, b"end");
            peer
        });
        let mut message = ws.recv().unwrap().unwrap();
        threadwire::sleep(SOON).unwrap();
        assert!(!writer.is_finished(), "30 MiB were taken in");
        let mut total = 0;
        while let Some(part) = message.next_part().unwrap() {
            total += part.len();
        }
        assert_eq!(total, PARTS * (100 << 10) + 3);
        writer.join().unwrap();
    });
}

#[test]
fn empty_parts_are_not_free() {
    bounded(|| {
        const PARTS: usize = 100_000;
        let (mut ws, mut peer) = pair();
        let writer = thread::spawn(move || {
            peer.send(0x02, b"");
            peer.bytes(frame(MORE, false, b"").repeat(PARTS));
            peer.send(LAST, b"");
            peer
        });
        let (look, looked) = mpsc::channel();
        let handle = ws.handle();
        let mut message = ws.recv().unwrap().unwrap();
        threadwire::sleep(SOON).unwrap();
        handle.run(move |ws| look.send(ws.is_reading_paused()).unwrap());
        threadwire::sleep(Duration::from_millis(1)).unwrap();
        assert!(looked.recv().unwrap(), "any number of them is taken in");
        let mut count = 0;
        while message.next_part().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, PARTS + 2);
        writer.join().unwrap();
    });
}

#[test]
fn sending_and_closing_work_as_elsewhere() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        ws.send("hello").unwrap();
        assert!(!peer.is_silent());
        assert_eq!(peer.text(), "hello");
        ws.handle().send("by the handle").unwrap();
        let answering = thread::spawn(move || {
            assert_eq!(peer.text(), "by the handle");
            assert_eq!(peer.code(), 1000);
            peer.close(1000, "");
        });
        assert!(ws.close().unwrap().is_normal());
        assert!(ws.recv().unwrap().is_none());
        assert!(matches!(ws.send("late"), Err(Error::Closed)));
        answering.join().unwrap();

        let (ws, mut peer) = pair();
        drop(ws);
        assert_eq!(peer.code(), 1001);
    });
}

#[test]
fn who_only_sends_answers_pings() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.send(PING, b"are you there?");
        // The loop has its turn once in a millisecond.
        thread::sleep(Duration::from_millis(2));
        ws.send("price").unwrap();
        assert_eq!(peer.frame(), (PONG, b"are you there?".to_vec()));
    });
}
