//! Sending: order, gathered writes, bounded buffers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::peer::{BINARY, CLOSE, Host, PING, PONG, Peer, TEXT, farewell, masked, parse};
use crate::common::recorder::{Call, Log};
use crate::common::{Serving, bind, bounded, echo, ignore, patient};
use threadwire::error::LimitKind;
use threadwire::frame::OpCode;
use threadwire::worker::EventLoop;
use threadwire::{Client, Config, Connection, Error, Message, Reply, connect, update, wait_until};

/// The frames that a server sent in one piece.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((first, payload, size)) = parse(bytes, false) {
        frames.push((first, payload));
        bytes = &bytes[size..];
    }
    assert!(bytes.is_empty(), "the last frame is cut");
    frames
}

/// A client on this thread, and its peer, also on this thread.
fn pair(config: Config, log: &Log) -> (Connection, Peer) {
    let host = Host::listen();
    let url = host.url();
    let host = host.run(|host| host.upgrade(b""));
    let ws = Client::new(&url).unwrap().config(config).connect(log.listener(ignore)).unwrap();
    (ws, host.join().unwrap())
}

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

/// A place in a callback where its thread stops until the test lets it go on.
#[derive(Clone)]
struct Halt(Arc<(Sender<()>, Mutex<Receiver<()>>)>);

impl Halt {
    /// The place, what tells that it was reached, and what lets go.
    fn new() -> (Halt, Receiver<()>, Sender<()>) {
        let (reached, reaches) = mpsc::channel();
        let (go, goes) = mpsc::channel();
        (Halt(Arc::new((reached, Mutex::new(goes)))), reaches, go)
    }

    fn here(&self) {
        self.0.0.send(()).unwrap();
        self.0.1.lock().unwrap().recv().unwrap();
    }
}

#[test]
fn replies_to_what_was_read_together_leave_together() {
    bounded(|| {
        let (halt, reached, go) = Halt::new();
        let serving = Serving::recording(patient(), &Log::new(), move |ws, call| {
            if let Call::Text(text) = call {
                ws.send(text.as_str())?;
                if text == "15" {
                    halt.here();
                }
            }
            Ok(())
        });
        let mut peer = serving.peer();
        let messages = (0..16).map(|number| number.to_string());
        let sent: Vec<_> = messages.map(|text| (TEXT, text.into_bytes())).collect();
        peer.bytes(sent.iter().flat_map(|(first, text)| masked(*first, text)).collect::<Vec<_>>());
        reached.recv().unwrap();
        assert!(peer.is_silent(), "a reply has left while the read was worked through");
        go.send(()).unwrap();
        assert_eq!(frames(&peer.one_read()), sent);
    });
}

#[test]
fn a_long_reply_waits_for_those_behind_it() {
    bounded(|| {
        let (halt, reached, go) = Halt::new();
        let serving = Serving::recording(patient(), &Log::new(), move |ws, call| match call {
            Call::Text(text) if text == "long" => ws.send(&pattern(60_000)),
            Call::Text(text) => {
                halt.here();
                ws.send(text.as_str())
            }
            _ => Ok(()),
        });
        let mut peer = serving.peer();
        peer.bytes([masked(TEXT, b"long"), masked(TEXT, b"short")].concat());
        reached.recv().unwrap();
        assert!(peer.is_silent(), "it has left by itself");
        go.send(()).unwrap();
        assert!(peer.frame() == (BINARY, pattern(60_000)));
        assert_eq!(peer.text(), "short");
    });
}

#[test]
fn pongs_and_the_close_frame_leave_together_with_the_replies() {
    bounded(|| {
        let (halt, reached, go) = Halt::new();
        let serving = Serving::recording(patient(), &Log::new(), move |ws, call| {
            if let Call::Text(text) = call {
                ws.send(text.as_str())?;
                halt.here();
            }
            Ok(())
        });
        let mut peer = serving.peer();
        let close = farewell(1000, "");
        let sent = [(PING, &b"1"[..]), (TEXT, b"2"), (PING, b"3"), (CLOSE, &close)];
        peer.bytes(sent.iter().flat_map(|(first, payload)| masked(*first, payload)).collect::<Vec<_>>());
        reached.recv().unwrap();
        assert!(peer.is_silent());
        go.send(()).unwrap();
        let expected = [(PONG, &b"1"[..]), (TEXT, b"2"), (PONG, b"3"), (CLOSE, &close)];
        assert_eq!(frames(&peer.one_read()), expected.map(|(first, payload)| (first, payload.to_vec())));
        assert!(peer.ended_orderly());
    });
}

#[test]
fn what_on_open_sends_leaves_together_with_the_handshake() {
    bounded(|| {
        let serving = Serving::recording(patient(), &Log::new(), |ws, call| match call {
            Call::Open => ws.send("one").and_then(|()| ws.send("two")),
            Call::Text(text) => ws.send(text.as_str()),
            _ => Ok(()),
        });
        let mut peer = Peer::connect(serving.addr);
        peer.bytes([crate::common::peer::request("/").into_bytes(), masked(TEXT, b"three")].concat());
        let bytes = peer.one_read();
        let end = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        let texts: Vec<_> = frames(&bytes[end..]).into_iter().map(|(_, payload)| payload).collect();
        assert_eq!(texts, [&b"one"[..], b"two", b"three"]);
    });
}

#[test]
fn what_is_sent_outside_of_callbacks_leaves_with_the_next_turn() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        ws.send("one").unwrap();
        ws.send("two").unwrap();
        assert!(peer.is_silent());
        assert!(ws.buffered() > 0);
        update().unwrap();
        assert_eq!(ws.buffered(), 0);
        assert!(!peer.is_silent());
        assert_eq!((peer.text(), peer.text()), ("one".to_owned(), "two".to_owned()));
    });
}

#[test]
fn what_is_flushed_leaves_at_once() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        ws.send("one").unwrap();
        assert!(peer.is_silent());
        ws.flush();
        assert!(!peer.is_silent());
        assert_eq!(ws.buffered(), 0);
        assert_eq!(peer.text(), "one");
        ws.flush();
        assert!(peer.is_silent(), "there was nothing more");
    });
}

#[test]
fn what_is_sent_from_a_timer_leaves_with_the_same_wait() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let timed = ws.clone();
        let rang = Rc::new(Cell::new(false));
        let rings = Rc::clone(&rang);
        EventLoop::current().after(Duration::ZERO, move || {
            timed.send("from a timer").unwrap();
            rings.set(true);
        });
        let reader = thread::spawn(move || peer.text());
        wait_until(None, || rang.get() && ws.buffered() == 0).unwrap();
        assert_eq!(reader.join().unwrap(), "from a timer");
    });
}

/// Sizes around every limit of the format and of the buffers.
const SIZES: [usize; 17] = [
    0,
    1,
    125,
    126,
    4095,
    4096,
    8191,
    8192,
    8193,
    65_535,
    65_536,
    65_537,
    131_071,
    131_072,
    131_073,
    1 << 20,
    10 << 20,
];

#[test]
fn a_server_echoes_payloads_of_every_size() {
    bounded(|| {
        let serving = Serving::recording(patient(), &Log::new(), ignore);
        let mut peer = Peer::open(serving.addr, "/echo");
        for size in SIZES {
            let payload = pattern(size);
            peer.send(BINARY, &payload);
            let (first, back) = peer.frame();
            assert_eq!(first, BINARY);
            assert!(back == payload, "{size} bytes came back changed");
        }
    });
}

#[test]
fn a_client_sends_and_hears_payloads_of_every_size() {
    bounded(|| {
        let serving = Serving::recording(patient(), &Log::new(), ignore);
        let sizes = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::clone(&sizes);
        let ws = connect(&serving.url("/echo"), move |_: &Connection, message: Message<'_>| {
            assert!(
                message.as_bytes() == pattern(message.len()),
                "{} bytes came back changed",
                message.len()
            );
            heard.borrow_mut().push(message.len());
            Ok(())
        })
        .unwrap();
        for size in SIZES {
            ws.send(&pattern(size)).unwrap();
        }
        wait_until(None, || sizes.borrow().len() == SIZES.len() || !ws.is_open()).unwrap();
        assert_eq!(*sizes.borrow(), SIZES);
    });
}

#[test]
fn a_long_text_arrives_whole() {
    bounded(|| {
        let serving = Serving::recording(patient(), &Log::new(), ignore);
        let mut peer = Peer::open(serving.addr, "/echo");
        let text = "añ☃𝄞".repeat(50_000);
        peer.send(TEXT, text.as_bytes());
        assert!(peer.text() == text);
    });
}

/// Lengths of messages in an order without a pattern: most are small, some go past every buffer.
fn mixed() -> impl Iterator<Item = usize> {
    let mut state = 1_u32;
    (0..300).map(move |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let random = (state >> 8) as usize;
        match random % 8 {
            0 => 8192 + random % 200_000,
            1 | 2 => 4096 + random % 8192,
            _ => random % 200,
        }
    })
}

#[test]
fn small_and_large_messages_keep_their_order() {
    bounded(|| {
        let send_all = |ws: &Connection| -> Result<(), Error> {
            for (number, length) in mixed().enumerate() {
                let mut payload = pattern(length + 4);
                payload[..4].copy_from_slice(&(number as u32).to_be_bytes());
                ws.send(&payload)?;
            }
            Ok(())
        };
        let serving = Serving::recording(patient(), &Log::new(), move |ws, call| match call {
            // Another message lies behind it, then none does, and then there is no read at all.
            Call::Text(text) if text == "now" => send_all(ws),
            Call::Text(text) if text == "later" => {
                let ws = ws.clone();
                EventLoop::current().after(Duration::ZERO, move || send_all(&ws).unwrap());
                Ok(())
            }
            _ => Ok(()),
        });
        let mut peer = serving.peer();
        for bytes in
            [[masked(TEXT, b"now"), masked(TEXT, b"")].concat(), masked(TEXT, b"now"), masked(TEXT, b"later")]
        {
            peer.bytes(bytes);
            for (number, length) in mixed().enumerate() {
                let (first, payload) = peer.frame();
                assert_eq!((first, payload.len()), (BINARY, length + 4), "message {number}");
                assert_eq!(payload[..4], (number as u32).to_be_bytes());
                assert!(payload[4..] == pattern(length + 4)[4..], "message {number} is changed");
            }
        }
    });
}

#[test]
fn a_peer_that_reads_slowly_loses_nothing_and_the_limit_holds() {
    for is_client in [false, true] {
        bounded(move || {
            const LIMIT: usize = 256 << 10;
            const SIZE: usize = 10_000;
            // Sends until the limit refuses, and says how many were taken.
            let fill = move |ws: &Connection| -> u32 {
                for number in 0.. {
                    let mut payload = pattern(SIZE);
                    payload[..4].copy_from_slice(&u32::to_be_bytes(number));
                    let waiting = ws.buffered();
                    match ws.send(&payload) {
                        Ok(()) => assert!(ws.buffered() <= LIMIT + 14),
                        Err(Error::Limit(error)) => {
                            assert_eq!((error.kind, error.limit), (LimitKind::Buffered, LIMIT));
                            assert!(waiting + SIZE > LIMIT, "refused though only {waiting} bytes wait");
                            assert_eq!(ws.buffered(), waiting, "what is refused leaves nothing behind");
                            // Control frames still go.
                            ws.ping(b"through").unwrap();
                            assert_eq!(ws.buffered() - waiting, if is_client { 13 } else { 9 });
                            return number;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                unreachable!()
            };
            let drain = |peer: &mut Peer, count: u32| {
                for number in 0..count {
                    let (first, payload) = peer.frame();
                    assert_eq!((first, payload.len()), (BINARY, SIZE), "message {number}");
                    assert_eq!(payload[..4], number.to_be_bytes());
                    assert!(payload[4..] == pattern(SIZE)[4..]);
                }
                assert_eq!(peer.frame(), (PING, b"through".to_vec()));
            };
            let config = patient().max_buffered(LIMIT);
            if is_client {
                let (ws, mut peer) = pair(config, &Log::new());
                let count = fill(&ws);
                let reader = thread::spawn(move || {
                    drain(&mut peer, count);
                    peer
                });
                wait_until(None, || reader.is_finished() || ws.buffered() == 0).unwrap();
                let mut peer = reader.join().unwrap();
                // And it goes on.
                ws.send("after").unwrap();
                ws.flush();
                assert_eq!(peer.text(), "after");
            } else {
                let (tell, told) = mpsc::channel();
                let serving = Serving::recording(config, &Log::new(), move |ws, call| {
                    match call {
                        Call::Text(text) if text == "fill" => tell.send(fill(ws)).unwrap(),
                        Call::Text(text) => ws.send(text.as_str())?,
                        _ => {}
                    }
                    Ok(())
                });
                let mut peer = serving.peer();
                peer.send(TEXT, b"fill");
                let count = told.recv().unwrap();
                drain(&mut peer, count);
                peer.send(TEXT, b"after");
                assert_eq!(peer.text(), "after");
            }
        });
    }
}

#[test]
fn a_message_longer_than_the_limit_is_taken_when_nothing_waits() {
    bounded(|| {
        let config = patient().max_buffered(1000);
        let (ws, mut peer) = pair(config, &Log::new());
        let long = pattern(4 << 20);
        ws.send(&long).unwrap();
        assert!(ws.buffered() > 1000, "the sockets do not hold it");
        assert!(matches!(ws.send("x"), Err(Error::Limit(error)) if error.limit == 1000));
        ws.ping(b"").unwrap();
        let reader = thread::spawn(move || {
            assert!(peer.frame() == (BINARY, pattern(4 << 20)));
            assert_eq!(peer.frame().0, PING);
            peer
        });
        wait_until(None, || ws.buffered() == 0).unwrap();
        let mut peer = reader.join().unwrap();
        ws.send("short").unwrap();
        ws.send(&pattern(1000)).unwrap();
        ws.flush();
        assert_eq!(peer.text(), "short", "it was written to make room for the other one");
        assert!(peer.frame() == (BINARY, pattern(1000)));
    });
}

#[test]
fn what_waits_when_closing_leaves_before_the_close_frame_though_the_peer_reads_late() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, |ws, call| {
            if let Call::Text(_) = call {
                ws.send(&pattern(8 << 20))?;
                ws.close()?;
                assert!(ws.buffered() > 0);
            }
            Ok(())
        });
        let mut peer = serving.peer();
        peer.send(TEXT, b"go");
        log.wait_for(&Call::text("go"));
        assert!(peer.frame() == (BINARY, pattern(8 << 20)));
        assert_eq!(peer.code(), 1000);
        peer.close(1000, "");
        assert!(peer.ended_orderly());
        assert!(log.wait_end().clean);
    });
}

#[test]
fn sends_a_message_in_fragments() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let refused = ws.send_frame(OpCode::Continuation, true, b"of nothing");
        assert!(matches!(refused, Err(Error::Send(_))), "{refused:?}");
        ws.send_frame(OpCode::Text, false, b"he").unwrap();
        let refused = ws.send("another");
        assert!(matches!(refused, Err(Error::Send(_))), "{refused:?}");
        ws.ping(b"between").unwrap();
        ws.send_frame(OpCode::Continuation, false, b"").unwrap();
        ws.send_frame(OpCode::Continuation, true, b"llo").unwrap();
        ws.send("another").unwrap();
        let refused = ws.ping(&[0; 126]);
        assert!(matches!(refused, Err(Error::Send(_))), "{refused:?}");
        let refused = ws.send_frame(OpCode::Ping, false, b"");
        assert!(matches!(refused, Err(Error::Send(_))), "{refused:?}");
        ws.flush();
        for (first, payload) in
            [(0x01, "he"), (PING, "between"), (0x00, ""), (0x80, "llo"), (TEXT, "another")]
        {
            assert_eq!(peer.frame(), (first, payload.as_bytes().to_vec()));
        }
        assert!(peer.is_silent());
    });
}

#[test]
fn large_fragments_of_a_server_keep_their_order() {
    bounded(|| {
        let serving = Serving::recording(patient(), &Log::new(), |ws, call| {
            if let Call::Text(_) = call {
                ws.send_frame(OpCode::Binary, false, &pattern(100_000))?;
                ws.ping(b"between")?;
                ws.send_frame(OpCode::Continuation, false, &pattern(10))?;
                ws.send_frame(OpCode::Continuation, true, &pattern(3_000_000))?;
                ws.send("done")?;
            }
            Ok(())
        });
        let mut peer = serving.peer();
        peer.send(TEXT, b"go");
        assert!(peer.frame() == (0x02, pattern(100_000)));
        assert_eq!(peer.frame(), (PING, b"between".to_vec()));
        assert!(peer.frame() == (0x00, pattern(10)));
        assert!(peer.frame() == (0x80, pattern(3_000_000)));
        assert_eq!(peer.text(), "done");
    });
}

#[test]
fn a_listener_for_frames_hears_every_frame() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, ignore);
        let mut peer = Peer::open(serving.addr, "/frames");
        let first = [
            masked(0x01, "f\u{fc}".as_bytes()),
            masked(PING, b"ping"),
            masked(0x00, b""),
            masked(0x80, b"nf"),
            masked(PONG, b"pong"),
        ];
        peer.bytes(first.concat());
        assert_eq!(peer.frame(), (PONG, b"ping".to_vec()));
        peer.bytes([masked(BINARY, b"b"), masked(CLOSE, &farewell(1000, "bye"))].concat());
        assert_eq!(peer.code(), 1000);
        assert!(peer.ended_orderly());
        log.wait_end();
        let frame =
            |opcode, fin, payload: &[u8], is_last| Call::Frame(opcode, fin, payload.to_vec(), is_last);
        let expected = [
            Call::Open,
            frame(OpCode::Text, false, "f\u{fc}".as_bytes(), false),
            frame(OpCode::Ping, true, b"ping", false),
            frame(OpCode::Continuation, false, b"", false),
            frame(OpCode::Continuation, true, b"nf", false),
            frame(OpCode::Pong, true, b"pong", true),
            frame(OpCode::Binary, true, b"b", false),
            frame(OpCode::Close, true, &farewell(1000, "bye"), true),
        ];
        assert_eq!(log.calls()[..expected.len()], expected);
        assert_eq!(log.calls().len(), expected.len() + 1);
    });
}

#[test]
fn a_listener_for_frames_hears_long_and_cut_frames() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, ignore);
        let mut peer = Peer::open(serving.addr, "/frames");
        peer.bytes(masked(BINARY, &pattern(300_000)));
        let cut = masked(TEXT, b"in two pieces");
        peer.bytes(&cut[..9]);
        // The first piece has been read when this is answered.
        serving.bystander().noticed_nothing();
        peer.bytes(&cut[9..]);
        let calls = log.wait(|calls| calls.len() == 3);
        assert!(
            calls[1] == Call::Frame(OpCode::Binary, true, pattern(300_000), true) || {
                // Whether more lay behind it depends on how it was read.
                calls[1] == Call::Frame(OpCode::Binary, true, pattern(300_000), false)
            }
        );
        assert_eq!(calls[2], Call::Frame(OpCode::Text, true, b"in two pieces".to_vec(), true));
    });
}

#[test]
fn a_listener_for_messages_hears_them_whole() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, ignore);
        let mut peer = serving.peer();
        peer.bytes(
            [
                masked(0x01, b"f\xc3"),
                masked(PING, b"ping"),
                masked(0x00, b"\xbcn"),
                masked(PONG, b"pong"),
                masked(0x80, b"f"),
                masked(BINARY, b""),
            ]
            .concat(),
        );
        let calls = log.wait(|calls| calls.len() == 5);
        let (ping, pong) = (Call::Ping(b"ping".to_vec()), Call::Pong(b"pong".to_vec()));
        assert_eq!(calls, [Call::Open, ping, pong, Call::text("f\u{fc}nf"), Call::Binary(Vec::new())]);
        assert_eq!(peer.frame(), (PONG, b"ping".to_vec()));
    });
}

#[test]
fn pings_are_left_to_the_listener_if_it_wants_so() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient().auto_pong(false), &log, |ws, call| match call {
            Call::Ping(payload) if payload == b"answer" => ws.pong(b"by hand"),
            Call::Text(text) => ws.send(text.as_str()),
            _ => Ok(()),
        });
        let mut peer = serving.peer();
        peer.bytes([masked(PING, b"ignore"), masked(PING, b"answer"), masked(TEXT, b"end")].concat());
        assert_eq!(peer.frame(), (PONG, b"by hand".to_vec()));
        assert_eq!(peer.text(), "end");
        assert_eq!(log.calls()[1..3], [Call::Ping(b"ignore".to_vec()), Call::Ping(b"answer".to_vec())]);
    });
}

#[test]
fn an_unasked_pong_is_heard_and_not_answered() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        peer.send(PONG, b"just so");
        wait_until(None, || log.calls().len() == 2).unwrap();
        assert_eq!(log.calls()[1], Call::Pong(b"just so".to_vec()));
        ws.pong(b"too").unwrap();
        ws.flush();
        assert_eq!(peer.frame(), (PONG, b"too".to_vec()));
        assert!(peer.is_silent());
    });
}

#[test]
fn a_peer_that_pings_and_never_reads_does_not_fill_our_memory() {
    bounded(|| {
        let most = Arc::new(Mutex::new((0, 0)));
        let seen = Arc::clone(&most);
        let log = Log::new();
        let theirs = log.clone();
        let serving = Serving::with(bind().config(patient()), move |_| {
            let (seen, log) = (Arc::clone(&seen), theirs.clone());
            Reply::with(Pinged { seen, log })
        });
        struct Pinged {
            seen: Arc<Mutex<(usize, usize)>>,
            log: Log,
        }
        impl threadwire::Listener for Pinged {
            fn on_ping(&mut self, ws: &Connection, _payload: &[u8]) -> Result<(), Error> {
                let mut seen = self.seen.lock().unwrap();
                seen.0 += 1;
                seen.1 = seen.1.max(ws.buffered());
                Ok(())
            }
            fn on_message(&mut self, _ws: &Connection, message: Message<'_>) -> Result<(), Error> {
                self.log.note(message.as_text().unwrap());
                Ok(())
            }
        }
        let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
        const PINGS: usize = 100_000;
        let ping = masked(PING, &[b'p'; 125]);
        for _ in 0..PINGS / 1000 {
            peer.bytes(ping.repeat(1000));
        }
        peer.bytes(masked(PING, b"the last one"));
        peer.send(TEXT, b"read");
        log.wait_for(&Call::Note("read".to_owned()));
        let (pings, buffered) = *most.lock().unwrap();
        assert_eq!(pings, PINGS + 1);
        assert!(buffered < 80 << 10, "{buffered} bytes of pongs waited");
        assert!(buffered > 60 << 10, "the peer's buffers took all of it: this tests nothing");
        // The last ping is answered whatever was left out before.
        let mut pongs = 0;
        loop {
            let (first, payload) = peer.frame();
            assert_eq!(first, PONG);
            if payload == b"the last one" {
                break;
            }
            pongs += 1;
        }
        assert!(pongs < PINGS);
    });
}

#[test]
fn a_pong_that_was_put_off_leaves_when_a_flush_has_emptied_the_outbox() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| host.upgrade(b""));
        let log = Log::new();
        let flush = |ws: &Connection, call: &Call| {
            if *call == Call::text("flush") {
                ws.flush();
                assert_eq!(ws.buffered(), 0, "the sockets took less than expected: this tests nothing");
            }
            Ok(())
        };
        let ws = connect(&url, log.listener(flush)).unwrap();
        let mut peer = host.join().unwrap();
        // Until a little more waits than pongs are answered behind.
        const SIZE: usize = 10_000;
        let mut count = 0;
        while ws.buffered() < 80_000 {
            ws.send(&vec![count as u8; SIZE]).unwrap();
            ws.flush();
            count += 1;
        }
        peer.send(PING, b"late");
        wait_until(None, || log.calls().contains(&Call::Ping(b"late".to_vec()))).unwrap();
        // The peer reads what has left, and sends; only then the loop turns: one event, readable and writable.
        let whole = count * (SIZE + 8) - ws.buffered();
        peer.skip(whole);
        peer.send(TEXT, b"flush");
        wait_until(None, || log.calls().contains(&Call::text("flush"))).unwrap();
        update().unwrap();
        peer.skip(count * (SIZE + 8) - whole);
        assert_eq!(peer.frame(), (PONG, b"late".to_vec()));
    });
}

#[test]
fn a_listener_that_echoes_needs_no_more_than_a_function() {
    bounded(|| {
        let serving = Serving::with(bind(), |_| Reply::with(echo));
        let mut peer = serving.peer();
        peer.send(TEXT, b"hello");
        assert_eq!(peer.text(), "hello");
    });
}

#[test]
fn pings_are_answered_though_the_backlog_never_empties() {
    bounded(|| {
        // Keeps the outbox full: whatever leaves is replaced at once.
        let serving = Serving::recording(patient(), &Log::new(), |ws, call| {
            if matches!(call, Call::Text(_)) {
                let again = ws.clone();
                fn refill(ws: &Connection) {
                    while ws.is_open() && ws.buffered() < 4 << 20 {
                        ws.send(&vec![0; 256 << 10]).unwrap();
                    }
                    let next = ws.clone();
                    if ws.is_open() {
                        EventLoop::current().after(Duration::ZERO, move || refill(&next));
                    }
                }
                refill(&again);
            }
            Ok(())
        });
        let mut peer = serving.peer();
        peer.send(TEXT, b"go");
        let _ = peer.frame();
        peer.send(PING, b"there?");
        let pong = std::iter::repeat_with(|| peer.frame()).find(|(first, _)| *first == PONG);
        assert_eq!(pong, Some((PONG, b"there?".to_vec())));
    });
}

#[test]
fn control_frames_may_go_further_than_messages_but_not_without_end() {
    bounded(|| {
        let config = patient().max_buffered(64 << 10);
        let host = Host::listen();
        let url = host.url();
        let (done, is_done) = mpsc::channel::<()>();
        let host = host.run(move |host| {
            let _peer = host.upgrade(b"");
            let _ = is_done.recv();
        });
        let ws = Client::new(&url).unwrap().config(config).connect(echo).unwrap();
        let mut pongs = 0;
        let error = loop {
            match ws.pong(&[0; 125]) {
                Ok(()) => pongs += 1,
                Err(error) => break error,
            }
            assert!(pongs < 1_000_000, "there is no end to them");
        };
        assert!(matches!(error, Error::Limit(_)), "{error}");
        assert!(ws.buffered() > 64 << 10 && ws.buffered() < 2 << 20, "{}", ws.buffered());
        drop(done);
        host.join().unwrap();
    });
}

#[test]
fn a_callback_that_sends_more_than_may_wait_closes_with_1008() {
    bounded(|| {
        let log = Log::new();
        let config = patient().max_buffered(64 << 10);
        let serving = Serving::recording(config, &log, |ws, call| {
            if matches!(call, Call::Text(_)) {
                loop {
                    ws.send(&[0; 8 << 10])?;
                }
            }
            Ok(())
        });
        let mut peer = serving.peer();
        peer.send(TEXT, b"go");
        log.wait(|calls| calls.contains(&Call::text("go")));
        while let Some((first, payload)) = peer.frame_or_end() {
            if first == CLOSE {
                assert_eq!(payload[..2], 1008_u16.to_be_bytes());
                return;
            }
        }
        panic!("there was no close frame");
    });
}
