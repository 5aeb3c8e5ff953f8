//! Send on the blocking face: flushing, and waiting for room.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::peer::{BINARY, Host, PING, PONG, Peer, TEXT, frame};
use crate::common::{SOON, Serving, bind, bounded, echo, patient};
use threadwire::blocking::{self, Connection, Server};
use threadwire::frame::OpCode;
use threadwire::worker::{Ended, Worker, later};
use threadwire::{Client, CloseCode, Config, Error, Reply, WhenFull};

/// How much the two ends of a loopback connection take at most without anybody reading.
const MUCH: usize = 32 << 20;

fn pair_with(config: Config) -> (Connection, Peer) {
    let host = Host::listen();
    let client = Client::new(&host.url()).unwrap().config(config);
    let host = host.run(|host| host.upgrade(b""));
    let ws = blocking::connect(&client).unwrap();
    (ws, host.join().unwrap())
}

fn pair() -> (Connection, Peer) {
    pair_with(patient())
}

/// Fills what the system takes, without waiting.
fn fill(ws: &mut Connection) {
    while ws.connection().buffered() <= Config::default().high_watermark {
        ws.send_with(&vec![1u8; 256 << 10][..], WhenFull::Error).unwrap();
    }
}

#[test]
fn what_is_sent_leaves_at_once() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        ws.send("first this, then the long sums").unwrap();
        assert_eq!(ws.connection().buffered(), 0);
        assert!(!peer.is_silent(), "it has not left before the loop turns");
        assert_eq!(peer.text(), "first this, then the long sums");
        ws.send_with("and this", WhenFull::Error).unwrap();
        assert!(!peer.is_silent());
        assert_eq!(peer.text(), "and this");
        ws.ping(b"1").unwrap();
        assert!(!peer.is_silent());
    });
}

/// Longer than what is between two turns of the loop of a program that only sends.
const A_WHILE: Duration = Duration::from_millis(2);

#[test]
fn who_only_sends_answers_pings_and_a_close() {
    type Send = fn(&mut Connection) -> Result<(), Error>;
    let sends: [Send; 3] =
        [|ws| ws.send("price"), |ws| ws.send_with("price", WhenFull::DropOldest), |ws| ws.ping(b"price")];
    for send in sends {
        bounded(move || {
            let (mut ws, mut peer) = pair();
            peer.send(PING, b"are you there?");
            thread::sleep(A_WHILE);
            send(&mut ws).unwrap();
            assert_eq!(peer.frame(), (PONG, b"are you there?".to_vec()));
            assert_eq!(peer.frame().1, b"price");
            peer.close(1000, "");
            thread::sleep(A_WHILE);
            assert!(matches!(send(&mut ws), Err(Error::Closed)));
            assert_eq!(peer.code(), 1000);
        });
    }
}

#[test]
fn a_send_in_a_callback_does_not_turn_the_loop() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        let sent = Rc::new(Cell::new(false));
        let seen = Rc::clone(&sent);
        later(Duration::ZERO, move || {
            later(Duration::ZERO, move || assert!(seen.get(), "a callback was called within another one"));
            thread::sleep(A_WHILE);
            ws.send("price").unwrap();
            sent.set(true);
        });
        threadwire::sleep(SOON).unwrap();
        assert_eq!(peer.text(), "price");
    });
}

#[test]
fn a_send_that_answers_nothing_leaves_at_once_although_messages_wait() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes(frame(TEXT, false, b"unread").repeat(3));
        threadwire::sleep(SOON).unwrap();
        ws.send("unasked").unwrap();
        assert!(!peer.is_silent());
        assert_eq!(peer.text(), "unasked");
    });
}

#[test]
fn the_answers_to_a_burst_leave_together() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes(frame(TEXT, false, b"question").repeat(5));
        let answer = |ws: &mut Connection| {
            assert_eq!(ws.recv().unwrap().unwrap(), "question");
            ws.send("answer").unwrap();
        };
        answer(&mut ws);
        // Unless the machine was busy with others for 0.2 ms.
        let gathered = ws.connection().buffered() > 0;
        (0..4).for_each(|_| answer(&mut ws));
        assert_eq!(ws.connection().buffered(), 0, "the last answer does not wait for anything");
        if gathered {
            assert!(peer.one_read().len() > frame(TEXT, true, b"answer").len());
        }
    });
}

#[test]
fn gathered_answers_leave_when_the_next_question_takes_long() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes(frame(TEXT, false, b"question").repeat(3));
        ws.recv().unwrap();
        ws.send("one").unwrap();
        thread::sleep(Duration::from_millis(1));
        ws.recv().unwrap();
        assert!(!peer.is_silent(), "it was gathered for longer than 0.2 ms");
        assert_eq!(peer.text(), "one");
        ws.send("two").unwrap();
        ws.flush();
        assert_eq!(peer.text(), "two");
    });
}

#[test]
fn gathered_answers_leave_with_any_wait() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes(frame(TEXT, false, b"question").repeat(3));
        ws.recv().unwrap();
        ws.send("one").unwrap();
        threadwire::sleep(Duration::ZERO).unwrap();
        assert!(!peer.is_silent());
        assert_eq!(peer.text(), "one");
    });
}

#[test]
fn sending_waits_above_the_watermark_while_messages_still_arrive() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        let mut writer = peer.writer();
        let reader = thread::spawn(move || {
            // The peer sends a message and a ping before it reads the first byte.
            writer.send(TEXT, b"meanwhile");
            writer.send(PING, b"");
            thread::sleep(SOON);
            let mut total = 0;
            while total < MUCH {
                match peer.brief(0) {
                    (BINARY, length, _) => total += length,
                    (PONG, ..) => {}
                    other => panic!("{other:?}"),
                }
            }
            peer
        });
        let mut highest = 0;
        for _ in 0..MUCH >> 20 {
            ws.send(&vec![1u8; 1 << 20][..]).unwrap();
            highest = highest.max(ws.connection().buffered());
        }
        assert!(highest <= Config::default().high_watermark, "{highest} bytes were left waiting");
        assert_eq!(ws.recv().unwrap().unwrap(), "meanwhile");
        while ws.connection().buffered() > 0 {
            threadwire::sleep(Duration::from_millis(1)).unwrap();
        }
        reader.join().unwrap();
    });
}

#[test]
fn a_send_that_waits_ends_with_the_connection() {
    bounded(|| {
        let (mut ws, peer) = pair();
        fill(&mut ws);
        later(Duration::ZERO, move || peer.reset());
        assert!(matches!(ws.send(&vec![1u8; 64][..]), Err(Error::Closed)));
        assert!(matches!(ws.send("again"), Err(Error::Closed)));
    });
}

#[test]
fn a_send_that_waits_ends_when_a_handle_closes() {
    bounded(|| {
        let (mut ws, _peer) = pair();
        fill(&mut ws);
        let handle = ws.handle();
        let (waits, waiting) = mpsc::channel();
        later(Duration::ZERO, move || waits.send(()).unwrap());
        let other = thread::spawn(move || {
            waiting.recv().unwrap();
            handle.close_with(CloseCode::NORMAL, "").unwrap();
        });
        assert!(matches!(ws.send("no room"), Err(Error::Closed)));
        other.join().unwrap();
        ws.connection().abort();
    });
}

#[test]
fn a_send_that_waits_ends_with_a_stop() {
    bounded(|| {
        let host = Host::listen();
        let client = Client::new(&host.url()).unwrap().config(patient().close_timeout(SOON));
        let host = host.run(|host| host.upgrade(b""));
        let (waits, waiting) = mpsc::channel();
        let worker = Worker::spawn(move || -> Result<(), threadwire::Stopped> {
            let mut ws = blocking::connect(&client).unwrap();
            fill(&mut ws);
            later(Duration::ZERO, move || waits.send(()).unwrap());
            match ws.send("no room") {
                Err(Error::Stopped) => Err(threadwire::Stopped),
                other => panic!("{other:?}"),
            }
        });
        let _peer = host.join().unwrap();
        waiting.recv().unwrap();
        worker.stop();
        assert!(matches!(worker.join().unwrap(), Ended::Stopped));
    });
}

#[test]
fn sending_with_another_policy_does_not_wait() {
    bounded(|| {
        let (mut ws, _peer) = pair_with(patient().max_buffered(1 << 20));
        fill(&mut ws);
        let refused = (0..40).find_map(|_| ws.send_with(&vec![1u8; 256 << 10][..], WhenFull::Error).err());
        assert!(matches!(refused, Some(Error::Limit(_))), "{refused:?}");
        ws.send_with(&vec![1u8; 256 << 10][..], WhenFull::DropNewest).unwrap();
        assert_eq!(ws.connection().dropped(), 1);
        assert!(ws.send_with(&vec![1u8; 256 << 10][..], WhenFull::Close).is_err());
        assert!(!ws.is_open());
        ws.connection().abort();
    });
}

#[test]
fn two_sides_that_both_send_much_before_they_receive_do_not_block_each_other() {
    bounded(|| {
        const COUNT: usize = 48;
        let talk = |ws: &mut Connection| {
            let message = vec![7u8; 256 << 10];
            for _ in 0..COUNT {
                ws.send(&message[..])?;
            }
            for _ in 0..COUNT {
                assert_eq!(ws.recv()?.expect("a message").len(), message.len());
            }
            Ok(())
        };
        let server = Server::bind("127.0.0.1:0").unwrap().config(patient()).serve(1, talk).unwrap();
        let url = format!("ws://{}", server.local_addr().unwrap());
        let mut ws = blocking::connect(&Client::new(&url).unwrap().config(patient())).unwrap();
        talk(&mut ws).unwrap();
        assert!(ws.recv().unwrap().is_none());
        server.stop();
        server.join().unwrap();
    });
}

#[test]
fn messages_in_parts_are_sent_through_the_handle() {
    bounded(|| {
        let (ws, mut peer) = pair();
        ws.connection().send_frame(OpCode::Text, false, b"in two ").unwrap();
        ws.connection().send_frame(OpCode::Continuation, true, b"parts").unwrap();
        ws.flush();
        assert_eq!(peer.frame(), (0x01, b"in two ".to_vec()));
        assert_eq!(peer.frame(), (0x80, b"parts".to_vec()));
    });
}

#[test]
fn one_thread_writes_while_another_one_reads() {
    bounded(|| {
        let serving = Serving::with(bind(), |_| Reply::with(echo));
        let (sender, mut receiver) = blocking::connect(&serving.url("/")).unwrap().split();
        let other = sender.clone();
        let writer = thread::spawn(move || {
            (0..1000).for_each(|number| sender.send(&format!("{number}")).unwrap());
        });
        for number in 0..1000 {
            assert_eq!(receiver.recv().unwrap().unwrap(), format!("{number}").as_str());
        }
        writer.join().unwrap();
        let closer = thread::spawn(move || other.close_with(CloseCode::NORMAL, "done").unwrap());
        assert!(receiver.recv().unwrap().is_none());
        assert!(closer.join().unwrap().is_normal());
    });
}

#[test]
fn a_sender_waits_for_room_and_what_it_sent_is_not_lost() {
    bounded(|| {
        const COUNT: usize = 24;
        let (ws, mut peer) = pair_with(patient().max_buffered(1 << 20));
        let (sender, mut receiver) = ws.split();
        let writer = thread::spawn(move || {
            (0..COUNT).for_each(|_| sender.send(&vec![3u8; 1 << 20][..]).unwrap());
        });
        let reader = thread::spawn(move || {
            (0..COUNT).for_each(|_| assert_eq!(peer.brief(1), (BINARY, 1 << 20, vec![3])));
            peer.send(TEXT, b"all of it");
            peer
        });
        assert_eq!(receiver.recv().unwrap().unwrap(), "all of it");
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn a_sender_tells_that_the_connection_has_ended() {
    bounded(|| {
        let (ws, mut peer) = pair();
        let (sender, mut receiver) = ws.split();
        peer.close(1000, "");
        peer.end();
        assert!(receiver.recv().unwrap().is_none());
        assert!(matches!(sender.send("late"), Err(Error::Closed)));
        assert!(sender.handle().closed().is_some());
    });
}
