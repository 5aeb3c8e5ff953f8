//! Order of messages that several threads send through one connection; none is torn.

use std::io::Write;
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;

use crate::common::peer::{BINARY, CLOSE, PING, Peer, TEXT};
use crate::common::recorder::{Call, End, Log};
use crate::common::sharing::{Halt, elsewhere, pair, serving_handles, there};
use crate::common::{Serving, bind, bounded, echo, ignore, patient};
use threadwire::error::SendError;
use threadwire::frame::OpCode;
use threadwire::{
    Client, CloseCode, Connection, Error, Handle, Initiator, Reply, Room, WhenFull, wait_until,
};

/// The first byte of a text's first fragment.
const FIRST: u8 = 0x01;
/// Of a fragment in the middle.
const MORE: u8 = 0x00;
/// Of the last one.
const LAST: u8 = 0x80;

/// A message of this sender's, of a length that is often another: short ones are gathered, long ones written directly.
fn message(sender: u8, number: u32) -> Vec<u8> {
    let length = match number % 50 {
        0 => 40_000,
        7 => 3000,
        other => other as usize,
    };
    let mut bytes = vec![sender; 5 + length];
    bytes[1..5].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The sender of a message, and its number. Fails if the message is torn.
fn decode(payload: &[u8]) -> (u8, u32) {
    let [sender, a, b, c, d, ..] = *payload else { panic!("cut: {payload:?}") };
    let number = u32::from_be_bytes([a, b, c, d]);
    assert!(payload == message(sender, number), "torn: {sender} {number}");
    (sender, number)
}

/// The next frames, with their payloads as text.
fn frames(peer: &mut Peer, count: usize) -> Vec<(u8, String)> {
    let text = |(first, payload)| (first, String::from_utf8(payload).unwrap());
    (0..count).map(|_| text(peer.frame())).collect()
}

fn own(frames: &[(u8, &str)]) -> Vec<(u8, String)> {
    frames.iter().map(|(first, text)| (*first, (*text).to_owned())).collect()
}

/// Writes all that the connection's own thread and others have left, and reads that many frames.
fn written(peer: &mut Peer, count: usize) -> Vec<(u8, String)> {
    for _ in 0..3 {
        threadwire::update().unwrap();
    }
    let frames = frames(peer, count);
    assert!(peer.is_silent(), "there is more");
    frames
}

#[test]
fn eight_threads_send_a_ninth_pings_and_a_tenth_closes() {
    const LEAST: u32 = 100;
    bounded(|| {
        let log = Log::new();
        let config = patient().max_buffered(1 << 20);
        let (serving, handles) = serving_handles(config, &log, ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        let start = Arc::new(Barrier::new(10));
        let (enough, is_enough) = mpsc::channel();
        let run = |work: Box<dyn FnOnce(Handle) + Send>| {
            let (handle, start) = (handle.clone(), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                work(handle);
            })
        };
        let mut threads: Vec<_> = (0..8)
            .map(|sender| {
                let enough = enough.clone();
                run(Box::new(move |handle| {
                    for number in 0.. {
                        if number == LEAST {
                            enough.send(()).unwrap();
                        }
                        match handle.send_with(&message(sender, number), WhenFull::Wait) {
                            Ok(()) => {}
                            Err(Error::Closed) if number >= LEAST => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    assert!(matches!(handle.send("too late"), Err(Error::Closed)));
                }))
            })
            .collect();
        threads.push(run(Box::new(|handle| {
            let mut number = 0u32;
            // Nothing holds pings up, so there is an end to them.
            while number < 1000 && handle.ping(&number.to_be_bytes()).is_ok() {
                number += 1;
                thread::yield_now();
            }
        })));
        threads.push(run(Box::new(move |handle| {
            (0..8).for_each(|_| is_enough.recv().unwrap());
            handle.close_with(CloseCode::new(4321), "enough").unwrap();
        })));
        let (mut next, mut pings) = ([0; 8], 0);
        loop {
            match peer.frame() {
                (BINARY, payload) => {
                    let (sender, number) = decode(&payload);
                    assert_eq!(number, next[usize::from(sender)]);
                    next[usize::from(sender)] += 1;
                }
                (PING, payload) => {
                    assert_eq!(payload, u32::to_be_bytes(pings));
                    pings += 1;
                }
                (first, payload) => {
                    assert_eq!((first, &payload[2..]), (CLOSE, &b"enough"[..]));
                    break;
                }
            }
        }
        assert!(next.iter().all(|count| *count >= LEAST), "{next:?}");
        peer.close(4321, "");
        assert!(peer.ended(), "something behind the close frame");
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(log.wait_end(), End::clean(Initiator::Local, 4321, "enough"));
        assert_eq!(log.ends(), 1);
    });
}

#[test]
fn ten_thousand_sends_to_a_busy_loop_all_leave_in_order() {
    const COUNT: u32 = 10_000;
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        // The lane is not emptied meanwhile.
        let same = handle.clone();
        let sent: usize = elsewhere(move || {
            let messages = (0..COUNT).map(|number| message(0, number));
            messages.map(|message| (same.send(&message).unwrap(), message.len()).1).sum()
        });
        assert_eq!(handle.buffered(), sent);
        let reader = thread::spawn(move || {
            for number in 0..COUNT {
                assert_eq!(decode(&peer.frame().1), (0, number));
            }
            assert!(peer.is_silent());
        });
        handle.wait_drained().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn what_one_handle_sends_keeps_its_order_across_threads() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        for turn in 0..10 {
            let same = handle.clone();
            elsewhere(move || same.send(&format!("{turn} elsewhere")).unwrap());
            // On the own thread it would go straight to the connection.
            handle.send(&format!("{turn} here")).unwrap();
            let same = handle.clone();
            elsewhere(move || same.ping(format!("{turn} ping").as_bytes()).unwrap());
            handle.run(move |ws| ws.send(&format!("{turn} run")).unwrap());
            handle.ping(format!("{turn} own ping").as_bytes()).unwrap();
        }
        let kinds = [(TEXT, "elsewhere"), (TEXT, "here"), (PING, "ping"), (TEXT, "run"), (PING, "own ping")];
        let expected: Vec<_> =
            (0..10).flat_map(|turn| kinds.map(|(first, text)| (first, format!("{turn} {text}")))).collect();
        assert_eq!(written(&mut peer, 50), expected);
    });
}

#[test]
fn a_callback_that_sends_through_its_handle_comes_behind_what_came_before() {
    bounded(|| {
        let (halt, reached, go) = Halt::new();
        let (serving, handles) = serving_handles(patient(), &Log::new(), move |ws, call| {
            if let Call::Text(_) = call {
                halt.here();
                ws.handle().send("own").unwrap();
            }
            Ok(())
        });
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        peer.send(TEXT, b"halt");
        reached.recv().unwrap();
        handle.send("first").unwrap();
        handle.run(|ws| ws.send("second").unwrap());
        go.send(()).unwrap();
        assert_eq!(frames(&mut peer, 3), own(&[(TEXT, "first"), (TEXT, "second"), (TEXT, "own")]));
    });
}

#[test]
fn a_close_comes_behind_what_was_sent_and_before_nothing() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        let same = handle.clone();
        elsewhere(move || {
            (0..100).for_each(|number| same.send(&message(1, number)).unwrap());
            same.close().unwrap();
            assert!(matches!(same.send("too late"), Err(Error::Closed)));
            same.run(|ws| assert!(matches!(ws.send("too late"), Err(Error::Closed))));
        });
        let reader = thread::spawn(move || {
            for number in 0..100 {
                assert_eq!(decode(&peer.frame().1), (1, number));
            }
            assert_eq!(peer.code(), 1000);
            peer.close(1000, "");
            peer.end();
            assert!(peer.ended());
        });
        assert!(handle.wait_closed().unwrap().clean);
        reader.join().unwrap();
    });
}

#[test]
fn a_message_in_parts_holds_other_messages_up_but_no_control_frames() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        let mut parts = handle.start_text();
        let mut write = |text| parts.send(text).unwrap();
        write("one ");
        let same = handle.clone();
        elsewhere(move || {
            same.send("held").unwrap();
            same.ping(b"passes").unwrap();
        });
        write("two ");
        handle.send("held too").unwrap();
        ws.send("and this").unwrap();
        ws.ping(b"passes as well").unwrap();
        let expected = own(&[(FIRST, "one "), (PING, "passes"), (MORE, "two "), (PING, "passes as well")]);
        assert_eq!(written(&mut peer, 4), expected);
        parts.finish().unwrap();
        let expected = own(&[(LAST, ""), (TEXT, "held"), (TEXT, "held too"), (TEXT, "and this")]);
        assert_eq!(written(&mut peer, 4), expected);
        ws.send("free again").unwrap();
        assert_eq!(written(&mut peer, 1), own(&[(TEXT, "free again")]));
    });
}

#[test]
fn messages_in_parts_wait_for_each_other_in_order() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        let mut texts: Vec<_> = (0..3).map(|_| handle.start_text()).collect();
        texts[0].send("a").unwrap();
        texts[1].send("b").unwrap();
        handle.send("between").unwrap();
        texts[2].send("c").unwrap();
        texts[1].send("bb").unwrap();
        let mut rest = texts.split_off(1).into_iter();
        // The second is finished before the first, and the third after it.
        rest.next().unwrap().finish().unwrap();
        assert_eq!(written(&mut peer, 1), own(&[(FIRST, "a")]));
        texts.remove(0).finish().unwrap();
        let expected =
            own(&[(LAST, ""), (FIRST, "b"), (MORE, "bb"), (LAST, ""), (TEXT, "between"), (FIRST, "c")]);
        assert_eq!(written(&mut peer, 6), expected);
        handle.send("behind").unwrap();
        rest.next().unwrap().finish().unwrap();
        assert_eq!(written(&mut peer, 2), own(&[(LAST, ""), (TEXT, "behind")]));
    });
}

#[test]
fn parts_of_several_threads_never_interleave() {
    const MESSAGES: u32 = 30;
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        let threads: Vec<_> = (0..4u8)
            .map(|sender| {
                let handle = handle.clone();
                thread::spawn(move || {
                    for number in 0..MESSAGES {
                        let message = message(sender, number);
                        if number % 3 == 0 {
                            handle.send(&message).unwrap();
                            continue;
                        }
                        let mut parts = handle.start_binary();
                        for part in message.chunks(message.len() / 4 + 1) {
                            parts.send(part).unwrap();
                            handle.ping(&[sender]).unwrap();
                            thread::yield_now();
                        }
                        parts.finish().unwrap();
                    }
                })
            })
            .collect();
        let (mut next, mut pings, mut whole) = ([0; 4], 0, Vec::new());
        while next != [MESSAGES; 4] {
            let (first, mut payload) = peer.frame();
            match first & 0x0f {
                0 => assert!(!whole.is_empty(), "nothing to continue"),
                2 => assert!(whole.is_empty(), "a message within another"),
                9 => {
                    pings += 1;
                    continue;
                }
                other => panic!("opcode {other}"),
            }
            whole.append(&mut payload);
            if first & 0x80 != 0 {
                let (sender, number) = decode(&std::mem::take(&mut whole));
                assert_eq!(number, next[usize::from(sender)]);
                next[usize::from(sender)] += 1;
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(pings >= 4 * 20);
    });
}

#[test]
fn parts_can_be_written_with_the_writing_macros() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let mut parts = ws.handle().start_binary();
        write!(parts, "{}", 12).unwrap();
        parts.flush().unwrap();
        parts.finish().unwrap();
        assert_eq!(written(&mut peer, 2), own(&[(0x02, "12"), (LAST, "")]));
        ws.handle().close().unwrap();
        let error = write!(ws.handle().start_text(), "late").unwrap_err();
        assert!(matches!(error.into_inner().unwrap().downcast_ref(), Some(Error::Closed)));
    });
}

#[test]
fn a_message_in_parts_that_has_none_is_an_empty_one() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        ws.handle().start_text().finish().unwrap();
        assert_eq!(written(&mut peer, 1), own(&[(TEXT, "")]));
    });
}

#[test]
fn parts_dropped_before_their_end_close_with_1011() {
    bounded(|| {
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        // One that was not begun hurts nobody.
        drop(handle.start_text());
        let mut parts = handle.start_text();
        parts.send("half a").unwrap();
        handle.send("held").unwrap();
        drop(parts);
        assert!(matches!(handle.send("too late"), Err(Error::Closed)));
        assert_eq!(frames(&mut peer, 1), own(&[(FIRST, "half a")]));
        assert_eq!(peer.closed(), (1011, "a message was not finished".to_owned()));
        peer.close(1011, "");
        assert!(peer.ended());
        assert_eq!(log.wait_end(), End::clean(Initiator::Local, 1011, "a message was not finished"));
    });
}

#[test]
fn parts_dropped_by_a_panic_close_with_1011() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        let panicked = thread::spawn(move || {
            let mut parts = handle.start_text();
            parts.send("half a").unwrap();
            panic!("a panic of the test");
        });
        panicked.join().unwrap_err();
        assert_eq!(frames(&mut peer, 1), own(&[(FIRST, "half a")]));
        assert_eq!(peer.code(), 1011);
    });
}

#[test]
fn a_close_does_not_wait_for_a_message_in_parts() {
    bounded(|| {
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        let mut parts = handle.start_text();
        parts.send("half a").unwrap();
        handle.send("held").unwrap();
        handle.close().unwrap();
        assert!(matches!(parts.send("more"), Err(Error::Closed)));
        assert!(matches!(parts.finish(), Err(Error::Closed)));
        assert_eq!(frames(&mut peer, 1), own(&[(FIRST, "half a")]));
        assert_eq!(peer.closed(), (1000, String::new()));
        peer.close(1000, "");
        assert!(peer.ended());
        assert_eq!(log.wait_end(), End::clean(Initiator::Local, 1000, ""));
    });
}

#[test]
fn a_close_by_the_peer_ends_a_message_in_parts() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        let mut parts = handle.start_text();
        parts.send("half a").unwrap();
        handle.send("held").unwrap();
        assert_eq!(frames(&mut peer, 1), own(&[(FIRST, "half a")]));
        peer.close(4000, "");
        assert_eq!(peer.code(), 4000);
        handle.wait_closed().unwrap();
        assert!(matches!(parts.send("more"), Err(Error::Closed)));
        drop(parts);
        assert_eq!(handle.buffered(), 0);
    });
}

#[test]
fn fragments_of_the_own_thread_hold_other_messages_up() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        ws.send_frame(OpCode::Text, false, b"one ").unwrap();
        let same = handle.clone();
        let mut parts = handle.start_text();
        elsewhere(move || {
            same.send("held").unwrap();
            same.ping(b"passes").unwrap();
        });
        parts.send("part").unwrap();
        assert!(matches!(ws.send("own"), Err(Error::Send(SendError::MessageUnfinished))));
        assert_eq!(written(&mut peer, 2), own(&[(FIRST, "one "), (PING, "passes")]));
        ws.send_frame(OpCode::Continuation, true, b"two").unwrap();
        let expected = own(&[(LAST, "two"), (TEXT, "held"), (FIRST, "part")]);
        assert_eq!(written(&mut peer, 3), expected);
        parts.finish().unwrap();
        assert_eq!(written(&mut peer, 1), own(&[(LAST, "")]));
    });
}

#[test]
fn fragments_of_the_own_thread_wait_for_another_threads_message() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let mut parts = ws.handle().start_text();
        parts.send("part").unwrap();
        threadwire::update().unwrap();
        let unstarted = ws.send_frame(OpCode::Continuation, true, b"");
        assert!(matches!(unstarted, Err(Error::Send(SendError::NothingToContinue))));
        ws.send_frame(OpCode::Text, false, b"one ").unwrap();
        assert!(matches!(ws.send("own"), Err(Error::Send(SendError::MessageUnfinished))));
        ws.handle().send("behind").unwrap_err();
        let same = ws.handle();
        elsewhere(move || same.send("another's").unwrap());
        ws.send_frame(OpCode::Continuation, false, b"two ").unwrap();
        assert_eq!(written(&mut peer, 1), own(&[(FIRST, "part")]));
        // The message in parts goes on where it was held.
        parts.finish().unwrap();
        let expected = own(&[(LAST, ""), (FIRST, "one "), (MORE, "two ")]);
        assert_eq!(written(&mut peer, 3), expected);
        ws.send_frame(OpCode::Continuation, true, b"three").unwrap();
        ws.send("own").unwrap();
        let expected = own(&[(LAST, "three"), (TEXT, "another's"), (TEXT, "own")]);
        assert_eq!(written(&mut peer, 3), expected);
    });
}

#[test]
fn a_part_for_which_there_is_no_room_can_be_tried_again() {
    bounded(|| {
        let (ws, mut peer) = pair(patient().max_buffered(10), &Log::new());
        let handle = ws.handle();
        let mut parts = elsewhere(move || {
            let mut parts = handle.start_text();
            parts.send("12345678").unwrap();
            for _ in 0..2 {
                assert!(matches!(parts.send("abcd"), Err(Error::Limit(error)) if error.limit == 10));
            }
            parts
        });
        assert_eq!(written(&mut peer, 1), own(&[(FIRST, "12345678")]));
        parts.send("abcd").unwrap();
        parts.finish().unwrap();
        assert_eq!(written(&mut peer, 2), own(&[(MORE, "abcd"), (LAST, "")]));
    });
}

#[test]
fn calls_and_messages_of_one_thread_keep_their_order() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        for number in 0..100 {
            if number % 2 == 0 {
                handle.send(&number.to_string()).unwrap();
            } else {
                handle.run(move |ws| ws.send(&number.to_string()).unwrap());
            }
        }
        there(&handle, |ws| ws.ping(b"end").unwrap());
        for number in 0..100 {
            assert_eq!(peer.text(), number.to_string());
        }
        assert_eq!(peer.frame(), (PING, b"end".to_vec()));
    });
}

/// An echo server is sent three messages: by a connection, by its handle, or by a room that it is in. They must come back in order.
fn in_order(send: impl FnOnce(&Connection, &Handle, &Room) + Send + 'static) {
    bounded(move || {
        let serving = Serving::with(bind().config(patient()), |_| Reply::with(echo));
        let log = Log::new();
        let client = Client::new(&serving.url("/")).unwrap().config(patient());
        let ws = client.connect(log.listener(ignore)).unwrap();
        let (handle, room) = (ws.handle(), Room::new());
        room.join(&ws);
        send(&ws, &handle, &room);
        wait_until(None, || log.calls().len() == 4).unwrap();
        assert_eq!(log.calls(), [Call::Open, Call::text("1"), Call::text("2"), Call::text("3")]);
    });
}

#[test]
fn parts_keep_their_place_before_what_a_room_sends() {
    in_order(|_, handle, room| {
        let mut parts = handle.start_text();
        parts.send("1").unwrap();
        parts.finish().unwrap();
        room.send("2");
        handle.send("3").unwrap();
    });
}

#[test]
fn parts_keep_their_place_behind_what_a_room_sends() {
    in_order(|_, handle, room| {
        room.send("1");
        let mut parts = handle.start_text();
        parts.send("2").unwrap();
        parts.finish().unwrap();
        handle.send("3").unwrap();
    });
}

#[test]
fn parts_keep_their_place_before_the_connections_own_messages() {
    in_order(|ws, handle, _| {
        let mut parts = handle.start_text();
        parts.send("1").unwrap();
        parts.finish().unwrap();
        ws.send("2").unwrap();
        ws.send("3").unwrap();
    });
}
