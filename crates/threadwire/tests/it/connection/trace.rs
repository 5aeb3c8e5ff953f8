//! Traces on either side: what is shown of the wire, and what is redacted.

use std::sync::{Arc, Mutex};
use std::thread;

use crate::common::peer::{BINARY, CLOSE, Host, PING, PONG, Peer, TEXT, frame, masked, upgraded};
use crate::common::recorder::Log;
use crate::common::{Serving, bounded, ignore, patient};
use threadwire::frame::OpCode;
use threadwire::trace::Trace;
use threadwire::trace::{Direction, TraceEvent, TraceLine};
use threadwire::{App, Client, Connection, Message, Reply, Server, blocking};

/// The lines of the trace.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn trace(&self) -> Trace {
        let lines = self.clone();
        Trace::to(move |line| lines.0.lock().unwrap().push(brief(line)))
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A line without its stream, and of a head what a test knows of it.
fn brief(line: &TraceLine<'_>) -> String {
    let arrow = if line.direction == Direction::Sent { '>' } else { '<' };
    match line.event {
        TraceEvent::Head(head) => format!("{arrow} {}", head.lines().next().unwrap()),
        event => format!("{arrow} {event}"),
    }
}

fn quiet(_ws: &Connection, _message: Message<'_>) -> Result<(), threadwire::Error> {
    Ok(())
}

#[test]
fn a_client_shows_every_frame_both_ways_as_it_went() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.accept();
            let answer = upgraded(&peer.head());
            // A frame behind the answer, in the same write.
            peer.bytes([answer.as_bytes(), &frame(TEXT, false, "é\n".as_bytes())].concat());
            peer.bytes(frame(0x01, false, b"in two "));
            peer.bytes(frame(PING, false, b"?"));
            peer.bytes(frame(0x80, false, b"parts"));
            peer.bytes(frame(BINARY, false, &[0xab; 100]));
            assert_eq!(peer.frame(), (PONG, b"?".to_vec()));
            assert_eq!(peer.brief(0).1, 100_000);
            assert_eq!(peer.frame(), (0x01, b"a".to_vec()));
            assert_eq!(peer.frame(), (0x80, b"b".to_vec()));
            peer.close(1001, "bye");
            assert_eq!(peer.code(), 1001);
        });
        let lines = Lines::default();
        let client = Client::new(&url).unwrap();
        let client = client.config(patient().trace(lines.trace().payload(8)));
        let ws = client
            .connect(|ws: &Connection, message: Message<'_>| {
                if message.len() == 100 {
                    ws.send(&vec![1; 100_000])?;
                    ws.send_frame(OpCode::Text, false, b"a")?;
                    ws.send_frame(OpCode::Continuation, true, b"b")?;
                }
                Ok(())
            })
            .unwrap();
        ws.wait_closed().unwrap();
        host.join().unwrap();
        let expected = [
            "> GET / HTTP/1.1",
            "< HTTP/1.1 101 Switching Protocols",
            "< text, 3 bytes: \"é\\n\"",
            "< text, more follows, 7 bytes: \"in two \"",
            "< ping, 1 byte: 3f",
            "< continuation, 5 bytes: \"parts\"",
            "< binary, 100 bytes: ab ab ab ab ab ab ab ab ...",
            "> pong, 1 byte: 3f",
            "> binary, 100000 bytes: 01 01 01 01 01 01 01 01 ...",
            "> text, more follows, 1 byte: \"a\"",
            "> continuation, 1 byte: \"b\"",
            "< close: 1001 \"bye\"",
            "> close: 1001",
        ];
        // In which order the two directions come is the system's, but each for itself is as it went.
        for arrow in ['>', '<'] {
            let of = |line: &String| line.starts_with(arrow);
            let expected: Vec<String> = expected.map(str::to_owned).into_iter().filter(of).collect();
            let found: Vec<String> = lines.all().into_iter().filter(of).collect();
            assert_eq!(found, expected);
        }
    });
}

#[test]
fn a_server_shows_its_side_and_what_breaks_the_rules() {
    bounded(|| {
        let (lines, log) = (Lines::default(), Log::new());
        let config = patient().trace(lines.trace());
        let server = Serving::recording(config, &log, ignore);
        let mut peer = server.peer();
        peer.bytes([masked(TEXT, b"hi"), masked(0x83, b"?")].concat());
        assert_eq!(peer.frame().0, CLOSE);
        peer.end();
        assert!(peer.ended());
        log.wait_end();
        let all = lines.all();
        assert_eq!(all[..2], ["< GET / HTTP/1.1", "> HTTP/1.1 101 Switching Protocols"]);
        assert_eq!(all[2..4], ["< text, 2 bytes: \"hi\"", "< opcode 3, 1 byte: 3f"]);
        assert!(all[4].starts_with("> close: 1002"), "{all:?}");
    });
}

#[test]
fn credentials_in_heads_are_hidden_and_control_characters_escaped() {
    bounded(|| {
        let host = Host::listen();
        let url = format!("ws://me:hunter2@{}/feed?symbol=a&token=hunter2", host.addr());
        let host = host.run(|host| {
            let mut peer = host.accept();
            let head = peer.head();
            assert!(head.contains("hunter2"), "it is only hidden from the trace");
            let answer = upgraded(&head);
            let answer = answer.trim_end();
            peer.bytes(format!("{answer}\r\nSet-Cookie: id=hunter2\r\nX-Odd: a\u{9b}b\r\n\r\n"));
            peer.close(1000, "");
            peer.code();
        });
        let heads = Arc::new(Mutex::new(String::new()));
        let write = Arc::clone(&heads);
        let client = Client::new(&url)
            .unwrap()
            .header("Authorization", "Bearer hunter2")
            .unwrap()
            .header("Cookie", "id=hunter2")
            .unwrap()
            .header("Proxy-Authorization", "Basic hunter2")
            .unwrap()
            .header("X-Plain", "plain")
            .unwrap();
        let trace = Trace::to(move |line| *write.lock().unwrap() += &format!("{line}\n"));
        App::new(&client).unwrap().trace(trace).run_forever().unwrap();
        host.join().unwrap();
        let heads = heads.lock().unwrap().clone();
        assert!(!heads.contains("hunter2"), "{heads}");
        assert!(!heads.chars().any(|character| character.is_control() && character != '\n'), "{heads:?}");
        for line in [
            " > GET /feed?symbol=a&token=*** HTTP/1.1\n",
            " > Authorization: ***\n",
            " > Cookie: ***\n",
            " > Proxy-Authorization: ***\n",
            " > X-Plain: plain\n",
            " < Set-Cookie: ***\n",
            " < X-Odd: a\\u{9b}b\n",
        ] {
            assert!(heads.contains(line), "{line:?} is not in {heads}");
        }
        assert!(heads.contains(" > Sec-WebSocket-Key: ") && !heads.contains("Sec-WebSocket-Key: ***"));
    });
}

#[test]
fn each_connection_has_a_number_of_its_own() {
    bounded(|| {
        let server = Server::bind("127.0.0.1:0").unwrap().serve(|_| Reply::with(quiet)).unwrap();
        let numbers = Arc::new(Mutex::new(Vec::new()));
        let write = Arc::clone(&numbers);
        let trace = Trace::to(move |line| write.lock().unwrap().push(line.stream));
        let client = Client::new(&format!("ws://{}", server.local_addr().unwrap())).unwrap();
        let client = client.config(patient().trace(trace));
        for _ in 0..2 {
            let ws = client.connect(quiet).unwrap();
            ws.close().unwrap();
            ws.wait_closed().unwrap();
        }
        let mut numbers = numbers.lock().unwrap().clone();
        // Two heads and two close frames each.
        assert_eq!(numbers.len(), 8);
        numbers.dedup();
        assert_eq!(numbers.len(), 2);
        server.stop();
        server.join().unwrap();
    });
}

#[test]
fn a_trace_that_panics_does_the_connection_no_harm() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer: Peer = host.upgrade(b"");
            let text = peer.text();
            peer.send(TEXT, text.as_bytes());
            peer.code();
            peer.close(1000, "");
        });
        let trace = Trace::to(|line| panic!("{line}"));
        let app = App::new(&url).unwrap().config(patient()).trace(trace);
        let ended = app.on_open(|ws| ws.send("hi")).on_message(|ws, _| ws.close()).run_forever().unwrap();
        assert!(ended.closed.unwrap().clean);
        host.join().unwrap();
    });
}

#[test]
fn an_app_traces_in_place_of_its_client() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            for _ in 0..2 {
                let mut peer = host.upgrade(b"");
                peer.close(1000, "");
                peer.code();
            }
        });
        let [of_client, of_app] = [Lines::default(), Lines::default()];
        let client = Client::new(&url).unwrap();
        let client = client.config(patient().trace(of_client.trace()));
        App::new(&client).unwrap().trace(of_app.trace()).run_forever().unwrap();
        assert_eq!((of_client.all().len(), of_app.all().len()), (0, 4));
        App::new(&client).unwrap().run_forever().unwrap();
        assert_eq!((of_client.all().len(), of_app.all().len()), (4, 4));
        host.join().unwrap();
    });
}

#[test]
fn a_connection_stays_traced_on_another_thread() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.upgrade(b"");
            assert_eq!(peer.text(), "from there");
            assert_eq!(peer.code(), 1000);
            peer.close(1000, "");
        });
        let lines = Lines::default();
        let client = Client::new(&url).unwrap();
        let client = client.config(patient().trace(lines.trace()));
        let ws = blocking::connect(&client).unwrap().detach().unwrap();
        let thread = thread::spawn(move || {
            let mut ws = ws.attach().unwrap();
            ws.send("from there").unwrap();
            ws.close().unwrap();
            assert!(ws.recv().unwrap().is_none());
        });
        thread.join().unwrap();
        host.join().unwrap();
        assert_eq!(lines.all()[2..], ["> text, 10 bytes: \"from there\"", "> close: 1000", "< close: 1000"]);
    });
}
