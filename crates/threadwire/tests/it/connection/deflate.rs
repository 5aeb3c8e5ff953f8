//! Compression (permessage-deflate) on every face: negotiation, bytes on the wire, and messages.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::common::peer::{Peer, TEXT, request_with};
use crate::common::{PATIENCE, Serving, bind, bounded, echo, patient};
use threadwire::frame::OpCode;
use threadwire::proto::frame::Header;
use threadwire::trace::Trace;
use threadwire::trace::{Direction, TraceEvent};
use threadwire::{
    App, Client, CloseCode, Compress, Config, Connection, Deflate, Error, Limits, Message, OwnedMessage,
    Reply, Room, WhenFull, blocking,
};

/// The data frames that were sent over a connection: whether each was compressed, and how long it was.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<(bool, u64)>>>);

impl Wire {
    fn trace(&self) -> Trace {
        let wire = self.clone();
        Trace::to(move |line| match line.event {
            TraceEvent::Frame { opcode: 0..=2, rsv, length, .. } if line.direction == Direction::Sent => {
                wire.0.lock().unwrap().push((rsv == Header::RSV1, length));
            }
            _ => {}
        })
    }

    fn take(&self) -> Vec<(bool, u64)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn compressed(&self) -> Vec<bool> {
        self.take().into_iter().map(|(is_compressed, _)| is_compressed).collect()
    }
}

fn deflating() -> Config {
    patient().deflate(Deflate::default())
}

fn traced(wire: &Wire) -> Config {
    deflating().trace(wire.trace())
}

/// Messages that compress well, not at all, and not enough to be worth it, short and long.
fn messages() -> Vec<OwnedMessage> {
    let mut state = 1u64;
    let mut noise = |length| -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    };
    vec![
        OwnedMessage::Text(String::new()),
        OwnedMessage::Text("short".into()),
        OwnedMessage::Text("caf\u{e9} \u{1f600} ".repeat(40)),
        OwnedMessage::Binary(noise(1000)),
        OwnedMessage::Text("{\"price\":1234.5,\"symbol\":\"BTC\"},".repeat(1000)),
        OwnedMessage::Binary(vec![7; 1 << 20]),
        OwnedMessage::Binary(noise(200_000)),
        OwnedMessage::Text("{\"price\":1234.5,\"symbol\":\"BTC\"},".repeat(3)),
    ]
}

/// Says all messages to an echo, twice, by the blocking face.
fn talk(url: &str, wire: &Wire) {
    let client = Client::new(url).unwrap().config(traced(wire));
    let mut ws = blocking::connect(&client).unwrap();
    assert!(ws.deflate().is_some());
    for message in messages().iter().chain(&messages()) {
        ws.send(message).unwrap();
        assert_eq!(ws.recv_timeout(PATIENCE).unwrap().as_ref(), Some(message));
    }
    ws.close().unwrap();
    let expected =
        messages().iter().chain(&messages()).map(|message| message.len() >= 64).collect::<Vec<_>>();
    assert_eq!(wire.compressed(), expected);
}

#[test]
fn the_listener_and_the_blocking_face_understand_each_other() {
    bounded(|| {
        let server = Serving::with(bind().config(deflating()), |_| Reply::with(echo));
        talk(&server.url("/"), &Wire::default());
    });
    bounded(|| {
        let sent = Wire::default();
        let server = blocking::Server::bind("127.0.0.1:0").unwrap().config(traced(&sent));
        let url = format!("ws://{}", server.local_addr().unwrap());
        let running = server
            .serve(2, |ws| {
                while let Some(message) = ws.recv()? {
                    ws.send(&message)?;
                }
                Ok(())
            })
            .unwrap();
        talk(&url, &Wire::default());
        running.stop();
        running.join().unwrap();
        assert!(sent.compressed().contains(&true));
    });
}

#[test]
fn an_app_does() {
    bounded(|| {
        let server = Serving::with(bind().config(deflating()), |_| Reply::with(echo));
        let sent = Wire::default();
        let client = Client::new(&server.url("/")).unwrap().config(traced(&sent));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let mut app = App::new(&client)
            .unwrap()
            .on_open(|ws: &Connection| messages().iter().try_for_each(|message| ws.send(message)))
            .on_message(move |ws: &Connection, message: Message<'_>| {
                let mut heard = hears.lock().unwrap();
                heard.push(message.to_owned());
                if heard.len() == messages().len() { ws.close() } else { Ok(()) }
            });
        app.run_forever().unwrap();
        assert_eq!(*heard.lock().unwrap(), messages());
        assert!(sent.compressed().contains(&true));
    });
}

#[cfg(feature = "aio")]
mod aio {
    use super::*;
    use crate::common::tasks::on_runtimes;
    use threadwire::aio;

    #[test]
    fn the_async_face_does_on_both_sides() {
        on_runtimes(|| async {
            let (there, back) = (Wire::default(), Wire::default());
            let server = aio::Server::bind("127.0.0.1:0").await.unwrap().config(traced(&back));
            let url = format!("ws://{}", server.local_addr().unwrap());
            let serving = tokio::spawn(server.serve(|_, mut ws| async move {
                while let Ok(Some(message)) = ws.recv().await {
                    ws.send(&message).await.unwrap();
                }
            }));
            let client = Client::new(&url).unwrap().config(traced(&there));
            let mut ws = aio::connect(&client).await.unwrap();
            assert_eq!(ws.deflate().unwrap().server_max_window_bits, 12);
            for message in messages().iter().chain(&messages()) {
                ws.send(message).await.unwrap();
                assert_eq!(ws.recv().await.unwrap().as_ref(), Some(message));
            }
            there.take();
            let text = "repeats itself ".repeat(20);
            ws.send_with(&text, Compress::Never).await.unwrap();
            ws.send_with("x", Compress::Always).await.unwrap();
            let handle = ws.handle();
            handle.send_with(&text, Compress::Never).unwrap();
            handle.send(&text).unwrap();
            let (sender, mut receiver) = ws.split();
            sender.send_with("y", Compress::Always).await.unwrap();
            for expected in [&text, "x", &text, &text, "y"] {
                assert_eq!(receiver.recv().await.unwrap().unwrap(), *expected);
            }
            assert_eq!(there.compressed(), [false, true, false, true, true]);
            assert!(back.compressed().contains(&true));
            serving.abort();
        });
    }

    #[test]
    fn a_task_and_a_worker_understand_each_other() {
        on_runtimes(|| async {
            let server = Serving::with(bind().config(deflating()), |_| Reply::with(echo));
            let client = Client::new(&server.url("/")).unwrap().config(deflating());
            let mut ws = aio::connect(&client).await.unwrap();
            for message in messages() {
                ws.send(&message).await.unwrap();
                assert_eq!(ws.recv().await.unwrap(), Some(message));
            }
            ws.close().await.unwrap();
        });
    }

    #[test]
    fn a_message_that_was_dropped_for_a_newer_one_is_not_missed() {
        on_runtimes(|| async {
            let config = deflating().max_buffered(20_000).when_full(WhenFull::DropOldest);
            let server = aio::Server::bind("127.0.0.1:0").await.unwrap().config(config);
            let url = format!("ws://{}", server.local_addr().unwrap());
            let (tell, done) = tokio::sync::oneshot::channel();
            let serving = tokio::spawn(async move {
                let mut server = server;
                let mut ws = server.accept().await.unwrap().upgrade().await.unwrap();
                let handle = ws.handle();
                for number in 0..12_000 {
                    handle.send(&tick(number)).unwrap();
                }
                tell.send(()).unwrap();
                let _ = ws.recv().await;
                handle.dropped()
            });
            let client = Client::new(&url).unwrap().config(deflating());
            let mut ws = aio::connect(&client).await.unwrap();
            done.await.unwrap();
            let mut last = None;
            while last != Some(11_999) {
                let text = ws.recv().await.unwrap().expect("ticks").to_string();
                let number = text.split(' ').nth(1).unwrap().parse::<u32>().unwrap();
                assert_eq!(text, tick(number));
                assert!(last.is_none_or(|last| last < number));
                last = Some(number);
            }
            ws.send("enough").await.unwrap();
            assert!(serving.await.unwrap() > 0, "none was dropped");
        });
    }
}

/// One of many that are alike, with enough in it that does not get smaller.
fn tick(number: u32) -> String {
    let mut state = u64::from(number);
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 60) as u8)
    };
    let noise: String = (0..800).map(|_| noise()).collect();
    format!("tick {number} of many, all of which are alike, {noise}")
}

#[test]
fn a_message_that_was_dropped_for_a_newer_one_is_not_missed() {
    bounded(|| {
        let config = deflating().max_buffered(20_000).when_full(WhenFull::DropOldest);
        let (tell, done) = mpsc::channel();
        let tell = Mutex::new(tell);
        let server = Serving::with(bind().config(config), move |_| {
            let tell = tell.lock().unwrap().clone();
            Reply::with(move |ws: &Connection, message: Message<'_>| {
                // More than the system takes while nobody reads: 20 kB are left of it, the newest.
                for number in 0..12_000 {
                    ws.send(&tick(number))?;
                }
                ws.send_with(message, Compress::Always)?;
                tell.send(()).unwrap();
                Ok(())
            })
        });
        let mut peer = Peer::connect_narrow(server.addr);
        peer.bytes(request_with("/", "Sec-WebSocket-Extensions: permessage-deflate\r\n"));
        let head = peer.head();
        assert!(head.contains("permessage-deflate; server_max_window_bits=12\r\n"), "{head}");
        peer.send(TEXT, b"go");
        done.recv().unwrap();
        // The messages read now were compressed before it was known which of them would arrive.
        let mut reader = inflating_client();
        let (mut last, mut count) = (None, 0);
        loop {
            count += 1;
            let (first, payload) = peer.frame();
            let text = reader.read(first, &payload);
            let Some(number) = text.split(' ').nth(1) else {
                assert_eq!(text, "go");
                break;
            };
            let number = number.parse::<u32>().unwrap();
            assert_eq!(text, tick(number));
            assert!(last.is_none_or(|last| last < number));
            last = Some(number);
        }
        assert_eq!(last, Some(11_999));
        assert!(count < 12_000, "none was dropped");
    });
}

/// A client's protocol without a socket.
struct Reading {
    connection: threadwire::proto::Connection,
    shared: threadwire::proto::Shared,
}

fn inflating_client() -> Reading {
    use threadwire::proto::{Config, Connection, Role, Shared, handshake::Extension};
    let deflate = Deflate::default();
    let answer = Extension::new("permessage-deflate").unwrap();
    let answer = answer.with_param("server_max_window_bits", Some("12")).unwrap();
    let agreement = deflate.accept(&[answer]).unwrap().unwrap();
    let connection = Connection::new(Role::Client, &Config::default()).with_deflate(&deflate, agreement);
    Reading { connection, shared: Shared::new() }
}

impl Reading {
    fn read(&mut self, first: u8, payload: &[u8]) -> String {
        let mut wire = crate::common::peer::frame(first, false, payload);
        let event = self.connection.receive(&mut &mut wire[..], &mut self.shared, &mut Vec::new());
        let event = event.expect("it is whole");
        let frame = event.frame().unwrap_or_else(|| panic!("{event:?}"));
        let text = frame.message().expect("it is a message").as_text().expect("it is text").to_owned();
        event.recycle(&mut self.shared.pool);
        text
    }
}

#[test]
fn nothing_is_compressed_unless_both_sides_want_it() {
    bounded(|| {
        for (server, client) in [(deflating(), patient()), (patient(), deflating())] {
            let sent = Wire::default();
            let server = server.trace(sent.trace());
            let server = Serving::with(bind().config(server), |_| Reply::with(echo));
            let client = Client::new(&server.url("/")).unwrap().config(client);
            let mut ws = blocking::connect(&client).unwrap();
            assert_eq!(ws.deflate(), None);
            ws.send(&"repeats itself ".repeat(100)).unwrap();
            assert_eq!(ws.recv().unwrap().unwrap().len(), 1500);
            // The trace may be written behind the message itself, but not behind the end.
            ws.close().unwrap();
            assert_eq!(sent.take(), [(false, 1500)]);
        }
    });
}

#[test]
fn an_answer_that_was_not_offered_fails_the_handshake() {
    bounded(|| {
        for (deflate, answer, expected) in [
            (
                Some(Deflate::default().server_max_window_bits(10)),
                "permessage-deflate",
                "server_max_window_bits",
            ),
            (Some(Deflate::default()), "permessage-deflate; bogus", "\"bogus\""),
            (None, "permessage-deflate", "not offered"),
        ] {
            let host = crate::common::peer::Host::listen();
            let url = host.url();
            let answers = host.run(move |host| {
                let mut peer = host.accept();
                let upgraded = crate::common::peer::upgraded(&peer.head());
                let head = upgraded.strip_suffix("\r\n").unwrap();
                peer.bytes(format!("{head}Sec-WebSocket-Extensions: {answer}\r\n\r\n"));
                peer.ended();
            });
            let client = Client::new(&url).unwrap().config(patient().deflate(deflate));
            let error = blocking::connect(&client).unwrap_err();
            assert!(matches!(error, Error::Handshake(_)), "{error:?}");
            let shown = format!("{error:#}");
            assert!(shown.contains(expected) || shown.contains("offer"), "{shown}");
            answers.join().unwrap();
        }
    });
}

#[test]
fn each_message_may_choose_from_any_thread() {
    bounded(|| {
        let sent = Wire::default();
        let (handles, handle) = mpsc::channel();
        let handles = Mutex::new(handles);
        let server = Serving::with(bind().config(traced(&sent)), move |_| {
            let handles = handles.lock().unwrap().clone();
            Reply::with(move |ws: &Connection, _: Message<'_>| {
                ws.send_with("z", Compress::Always)?;
                handles.send(ws.handle()).unwrap();
                Ok(())
            })
        });
        let client = Client::new(&server.url("/")).unwrap().config(deflating());
        let mut ws = blocking::connect(&client).unwrap();
        ws.send_with(&"x".repeat(100), Compress::Never).unwrap();
        assert_eq!(ws.recv().unwrap().unwrap(), "z");
        let handle = handle.recv().unwrap();
        let text = "repeats itself ".repeat(10);
        handle.send_with(&text, Compress::Never).unwrap();
        handle.send(&text).unwrap();
        handle.send_with("short", Compress::Always).unwrap();
        handle.send("short").unwrap();
        for expected in [&text, &text, "short", "short"] {
            assert_eq!(ws.recv().unwrap().unwrap(), *expected);
        }
        ws.close().unwrap();
        assert_eq!(sent.compressed(), [true, false, true, true, false]);
    });
}

#[test]
fn messages_in_parts_are_compressed_part_by_part_and_come_out_part_by_part() {
    bounded(|| {
        let sent = Wire::default();
        let server = Serving::with(bind().config(traced(&sent)), |_| {
            Reply::with(|ws: &Connection, _: Message<'_>| {
                ws.send_frame(OpCode::Text, false, "one ".repeat(100).as_bytes())?;
                ws.ping(b"between")?;
                ws.send_frame(OpCode::Continuation, false, b"")?;
                ws.send_frame(OpCode::Continuation, true, "two ".repeat(100).as_bytes())
            })
        });
        let client = Client::new(&server.url("/")).unwrap().config(deflating());
        let mut ws = blocking::connect_in_parts(&client).unwrap();
        for _ in 0..2 {
            ws.send("go").unwrap();
            let mut incoming = ws.recv().unwrap().expect("a message");
            assert!(incoming.is_text());
            let mut parts = Vec::new();
            while let Some(part) = incoming.next_part().unwrap() {
                parts.push(String::from_utf8(part).unwrap());
            }
            assert_eq!(parts, ["one ".repeat(100), String::new(), "two ".repeat(100)]);
        }
        ws.close().unwrap();
        let wire = sent.take();
        let marked: Vec<bool> = wire.iter().map(|(is_compressed, _)| *is_compressed).collect();
        assert_eq!(marked, [true, false, false, true, false, false]);
        assert!(wire.iter().all(|(_, length)| *length < 50), "{wire:?}");
    });
}

#[test]
fn a_conversation_goes_on_where_it_was_on_another_thread() {
    bounded(|| {
        let server = Serving::with(bind().config(deflating()), |_| Reply::with(echo));
        let client = Client::new(&server.url("/")).unwrap().config(deflating());
        let mut ws = blocking::connect(&client).unwrap();
        for round in 0..4 {
            for message in messages() {
                ws.send(&message).unwrap();
                assert_eq!(ws.recv_timeout(PATIENCE).unwrap(), Some(message), "round {round}");
            }
            let detached = ws.detach().unwrap();
            let moved = thread::spawn(move || {
                let mut ws = detached.attach().unwrap();
                for message in messages() {
                    ws.send(&message).unwrap();
                    assert_eq!(ws.recv_timeout(PATIENCE).unwrap(), Some(message));
                }
                ws.detach().unwrap()
            });
            ws = moved.join().unwrap().attach().unwrap();
        }
        ws.close().unwrap();
    });
}

#[test]
fn a_bomb_ends_its_own_connection_with_1009_and_nobody_elses() {
    bounded(|| {
        let limits = Limits::default().max_message(1 << 20);
        let server = Serving::with(bind().config(deflating().limits(limits)), |_| Reply::with(echo));
        let bystander = server.bystander();
        let client = Client::new(&server.url("/")).unwrap().config(deflating());
        let mut ws = blocking::connect(&client).unwrap();
        ws.send(&vec![0; 16 << 20]).unwrap();
        match ws.recv() {
            Err(Error::Ended(closed)) => {
                assert_eq!(closed.code, CloseCode::TOO_BIG);
                assert!(closed.reason.contains("inflated"), "{}", closed.reason);
            }
            other => panic!("{other:?}"),
        }
        // A stream that is none.
        let mut peer = Peer::connect(server.addr);
        peer.bytes(request_with("/", "Sec-WebSocket-Extensions: permessage-deflate\r\n"));
        peer.head();
        peer.send(0xc1, &[0xff; 10]);
        assert_eq!(peer.code(), 1007);
        bystander.noticed_nothing();
    });
}

#[test]
fn a_room_speaks_to_each_member_as_it_was_agreed_with_it() {
    bounded(|| {
        let sent = Wire::default();
        let room = Room::new();
        let members = room.clone();
        let server = Serving::with(bind().workers(3).config(traced(&sent)), move |_| {
            let room = members.clone();
            Reply::with(move |ws: &Connection, message: Message<'_>| {
                room.join(ws);
                ws.send(message)
            })
        });
        let plain = Client::new(&server.url("/")).unwrap().config(patient());
        let frugal = Deflate::default().server_no_context_takeover(true).server_max_window_bits(9);
        let configs = [patient(), deflating(), deflating(), deflating(), patient().deflate(frugal)];
        let own = "what only this one is told ".repeat(10);
        let mut guests: Vec<_> = configs
            .into_iter()
            .cycle()
            .take(15)
            .map(|config| {
                let mut ws = blocking::connect(&plain.clone().config(config)).unwrap();
                ws.send(&own).unwrap();
                assert_eq!(ws.recv().unwrap().unwrap(), own.as_str());
                ws
            })
            .collect();
        let news = "news for everybody, ".repeat(50);
        for round in 0..3 {
            let report = room.send(&news).report().unwrap();
            assert_eq!((report.delivered, report.dropped, report.skipped), (15, 0, 0));
            room.send_with(&news, Compress::Never).report().unwrap();
            room.send("short").report().unwrap();
            for guest in &mut guests {
                for expected in [&news, &news, "short"] {
                    assert_eq!(guest.recv().unwrap().unwrap(), *expected, "round {round}");
                }
                guest.send(&own).unwrap();
                assert_eq!(guest.recv().unwrap().unwrap(), own.as_str());
            }
        }
        guests.into_iter().for_each(|mut guest| drop(guest.close().unwrap()));
        let wire = sent.take();
        let compressed = wire.iter().filter(|(is_compressed, _)| *is_compressed).count();
        let expected = 12 + 3 * 2 * 12;
        assert_eq!(
            compressed, expected,
            "their own, then news and their own in three rounds, but for three guests"
        );
    });
}

#[test]
fn members_that_drop_the_oldest_understand_what_is_left() {
    bounded(|| {
        let config = deflating().max_buffered(20_000).when_full(WhenFull::DropOldest);
        let room = Room::new();
        let members = room.clone();
        let (tell, done) = mpsc::channel();
        let tell = Mutex::new(tell);
        let server = Serving::with(bind().config(config), move |_| {
            let (room, tell) = (members.clone(), tell.lock().unwrap().clone());
            Reply::with(move |ws: &Connection, _: Message<'_>| {
                room.join(ws);
                for number in 0..12_000 {
                    room.send(&tick(number));
                }
                tell.send(()).unwrap();
                Ok(())
            })
        });
        let mut peer = Peer::connect_narrow(server.addr);
        peer.bytes(request_with("/", "Sec-WebSocket-Extensions: permessage-deflate\r\n"));
        peer.head();
        peer.send(TEXT, b"go");
        done.recv().unwrap();
        let mut reader = inflating_client();
        let (mut last, mut count) = (None, 0);
        while last != Some(11_999) {
            let (first, payload) = peer.frame();
            let text = reader.read(first, &payload);
            let number = text.split(' ').nth(1).unwrap().parse::<u32>().unwrap();
            assert_eq!(text, tick(number));
            assert!(last.is_none_or(|last| last < number));
            last = Some(number);
            count += 1;
        }
        assert!(count < 12_000, "none was dropped");
    });
}
