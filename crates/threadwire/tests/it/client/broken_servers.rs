//! Servers that break an open connection, in every way: the client is told once, with the right outcome, and its neighbour on the
//! same loop goes on.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;

use crate::common::neighbour::Neighbour;
use crate::common::peer::{BINARY, CLOSE, Host, PING, PONG, Peer, TEXT, farewell, frame, masked};
use crate::common::recorder::{Call, End, Log};
use crate::common::{SOON, bounded, ignore, patient};
use threadwire::error::LimitKind;
use threadwire::{
    Client, CloseCode, Closed, Config, Connection, Error, Initiator, Listener, Message, wait_until,
};

const TOO_LONG: &str = "the peer's answer to our close frame took too long";
const LOST: &str = "the peer ended the connection without a close frame";
const RESET: &str = "connection reset by peer";

/// Runs a client beside a neighbour, against a server made by hand. What `serve` returns stays open until the client is
/// done.
fn beside<R: Send + 'static>(
    serve: impl FnOnce(Host) -> R + Send + 'static,
    client: impl FnOnce(&Neighbour, &str) + Send + 'static,
) {
    bounded(move || {
        let neighbour = Neighbour::start();
        let host = Host::listen();
        let url = host.url();
        let (tell, done) = mpsc::channel();
        let host = host.run(move |host| {
            let kept = serve(host);
            tell.send(()).unwrap();
            kept
        });
        client(&neighbour, &url);
        // The loop goes on meanwhile: what is dropped in time is dropped by it.
        neighbour.hear(&done);
        drop(host.join().unwrap());
        neighbour.wait_alone();
        neighbour.noticed_nothing();
    });
}

/// Connects once, and waits for the end: all that the listener heard.
fn heard(
    neighbour: &Neighbour,
    url: &str,
    config: Config,
    react: impl FnMut(&Connection, &Call) -> Result<(), Error> + 'static,
) -> Vec<Call> {
    let log = Log::new();
    let ws = Client::new(url).unwrap().config(config).connect(log.listener(react)).unwrap();
    wait_until(None, || log.end().is_some()).unwrap();
    assert!(!ws.is_open());
    // Nothing more comes, whatever still lies about.
    neighbour.go_on(2);
    log.calls()
}

/// A connection for each of `cases`, one after the other: what the server does, and what the client then has heard.
fn each<T: Clone + Send + 'static>(
    cases: Vec<T>,
    react: fn(&Connection, &Call) -> Result<(), Error>,
    serve: impl Fn(Peer, T) + Send + 'static,
    expected: impl Fn(T) -> Vec<Call> + Send + 'static,
) {
    let served = cases.clone();
    beside(
        move |host| served.into_iter().for_each(|case| serve(host.upgrade(b""), case)),
        move |neighbour, url| {
            for (number, case) in cases.into_iter().enumerate() {
                let calls = heard(neighbour, url, patient(), react);
                assert_eq!(calls, expected(case), "case {number}");
            }
        },
    );
}

/// How a connection ends that nobody ended in an orderly way.
fn broken(initiator: Initiator, error: &str) -> Call {
    Call::Closed(End::failed(initiator, 1006, false, error))
}

/// How the server leaves in the middle of something.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    Fin,
    Reset,
}

impl Leaving {
    const ALL: [Leaving; 2] = [Leaving::Fin, Leaving::Reset];

    fn leave(self, peer: Peer) {
        match self {
            Leaving::Fin => drop(peer),
            Leaving::Reset => peer.reset(),
        }
    }

    fn error(self) -> &'static str {
        match self {
            Leaving::Fin => LOST,
            Leaving::Reset => RESET,
        }
    }
}

/// Closes when told to.
fn obey(ws: &Connection, call: &Call) -> Result<(), Error> {
    match call {
        Call::Text(text) if text == "close" => ws.close_with(CloseCode::new(4000), "done"),
        _ => Ok(()),
    }
}

#[test]
fn a_frame_that_is_cut_anywhere_is_never_heard() {
    let short = frame(TEXT, false, b"hello");
    let medium = frame(BINARY, false, &[7; 200]);
    let long = frame(BINARY, false, &[7; 100_000]);
    let mut cases = Vec::new();
    for leaving in Leaving::ALL {
        cases.extend((1..short.len()).map(|cut| (short[..cut].to_vec(), leaving)));
        cases.extend((2..6).map(|cut| (medium[..cut].to_vec(), leaving)));
        cases.extend([3, 9, 10, 11, 66_000, long.len() - 1].map(|cut| (long[..cut].to_vec(), leaving)));
    }
    let serve = |mut peer: Peer, (bytes, leaving): (Vec<u8>, Leaving)| {
        peer.bytes(bytes);
        leaving.leave(peer);
    };
    each(cases, ignore, serve, |(_, leaving)| vec![Call::Open, broken(Initiator::Peer, leaving.error())]);
}

#[test]
fn a_message_that_is_cut_between_its_fragments_is_never_heard() {
    let serve = |mut peer: Peer, (leaving, count): (Leaving, usize)| {
        peer.send(0x01, b"begun, ");
        peer.send(PING, b"between");
        // So that a reset can't overtake what is to be heard.
        assert_eq!(peer.frame(), (PONG, b"between".to_vec()));
        for _ in 0..count {
            peer.send(0x00, b"continued, ");
        }
        leaving.leave(peer);
    };
    let cases = Leaving::ALL.iter().flat_map(|leaving| [0, 1, 7].map(|count| (*leaving, count))).collect();
    let ping = || Call::Ping(b"between".to_vec());
    each(cases, ignore, serve, move |(leaving, _)| {
        vec![Call::Open, ping(), broken(Initiator::Peer, leaving.error())]
    });
}

#[test]
fn a_server_that_leaves_in_the_middle_of_its_close_frame_is_lost() {
    let cases = Leaving::ALL.iter().flat_map(|leaving| (1..7).map(|cut| (*leaving, cut))).collect();
    let serve = |mut peer: Peer, (leaving, cut): (Leaving, usize)| {
        peer.bytes(&frame(CLOSE, false, &farewell(1000, "bye"))[..cut]);
        leaving.leave(peer);
    };
    each(cases, ignore, serve, |(leaving, _)| vec![Call::Open, broken(Initiator::Peer, leaving.error())]);
}

#[test]
fn a_server_that_resets_instead_of_answering_a_close_frame_is_broken() {
    let serve = |mut peer: Peer, ()| {
        peer.send(TEXT, b"close");
        assert_eq!(peer.code(), 4000);
        peer.reset();
    };
    let end = || {
        let end = End::failed(Initiator::Local, 1006, false, RESET);
        Call::Closed(End { reason: "done".to_owned(), ..end })
    };
    each(vec![()], obey, serve, move |()| vec![Call::Open, Call::text("close"), end()]);
}

#[test]
fn a_server_that_resets_after_both_close_frames_has_closed_cleanly() {
    // The answer has come, and how TCP ends is no part of it. (The reset may not overtake the frame.)
    let serve = |mut peer: Peer, ()| {
        peer.close(1000, "bye");
        assert_eq!(peer.code(), 1000);
        peer.reset();
    };
    beside(
        move |host| serve(host.upgrade(b""), ()),
        |neighbour, url| {
            let calls = heard(neighbour, url, patient(), ignore);
            let [Call::Open, Call::Closed(end)] = &calls[..] else { panic!("{calls:?}") };
            assert_eq!((end.code, &*end.reason, end.initiator), (1000, "bye", Initiator::Peer));
            assert!(end.clean);
        },
    );
}

#[test]
fn what_follows_a_close_frame_is_not_heard() {
    let follows: [&[u8]; 7] = [
        &frame(TEXT, false, b"too late"),
        &frame(CLOSE, false, &farewell(4001, "once more")),
        &frame(CLOSE, false, &farewell(1006, "")),
        &frame(PING, false, b"there?"),
        &masked(TEXT, b"broken"),
        &[0xff; 300_000],
        &[0x81],
    ];
    let cases = follows.iter().flat_map(|bytes| [(bytes.to_vec(), true), (bytes.to_vec(), false)]).collect();
    let serve = |mut peer: Peer, (bytes, is_glued): (Vec<u8>, bool)| {
        let close = frame(CLOSE, false, &farewell(1000, "bye"));
        if is_glued {
            peer.bytes([close, bytes].concat());
            assert_eq!(peer.closed(), (1000, String::new()));
        } else {
            peer.bytes(close);
            assert_eq!(peer.closed(), (1000, String::new()));
            peer.bytes(bytes);
        }
        peer.end();
        // Nothing but the one close frame has come back.
        assert!(peer.ended_orderly());
    };
    each(cases, ignore, serve, |_| vec![Call::Open, Call::Closed(End::clean(Initiator::Peer, 1000, "bye"))]);
}

/// Close frames that break a rule: their bytes, and the code, the reason and the section for that.
fn bad_close_frames() -> Vec<(Vec<u8>, u16, String, &'static str)> {
    let mut cases = Vec::new();
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2999, 5000, u16::MAX] {
        let bytes = frame(CLOSE, false, &farewell(code, "why not"));
        cases.push((bytes, 1002, format!("close code {code} must not be sent"), "7.4"));
    }
    let cut = "a close frame has a payload of one byte: a code takes two";
    cases.push((frame(CLOSE, false, b"\x03"), 1002, cut.to_owned(), "5.5.1"));
    for reason in [&b"\x03\xe8\xff"[..], b"\x03\xe8caf\xc3", b"\x03\xe8\xed\xa0\x80", b"\x03\xe8\xc0\x80"] {
        let text = "the reason of a close frame is not UTF-8";
        cases.push((frame(CLOSE, false, reason), 1007, text.to_owned(), "5.5.1"));
    }
    let long = "a close frame announces more than 125 bytes of payload";
    cases.push((frame(CLOSE, false, &farewell(1000, &"r".repeat(124))), 1002, long.to_owned(), "5.5"));
    let begun = "a close frame is fragmented: control frames must not be";
    cases.push((frame(0x08, false, &farewell(1000, "")), 1002, begun.to_owned(), "5.5"));
    cases
}

/// How a connection ends whose peer broke a rule.
fn violated(code: u16, told: &str, rule: &str, section: &str) -> Call {
    let error = format!("the peer broke the protocol: {rule} (RFC 6455, section {section})");
    Call::Closed(End { reason: told.to_owned(), ..End::failed(Initiator::Local, code, false, &error) })
}

#[test]
fn a_close_frame_that_breaks_a_rule_is_answered_with_what_is_wrong() {
    let serve = |mut peer: Peer, (bytes, code, reason, _): (Vec<u8>, u16, String, &str)| {
        peer.bytes(bytes);
        assert_eq!(peer.closed(), (code, reason));
        assert!(peer.ended_orderly());
    };
    each(bad_close_frames(), ignore, serve, |(_, code, reason, section)| {
        vec![Call::Open, violated(code, &reason, &reason, section)]
    });
}

#[test]
fn an_answer_to_a_close_frame_that_breaks_a_rule_is_no_answer() {
    let serve = |mut peer: Peer, (bytes, ..): (Vec<u8>, u16, String, &str)| {
        peer.send(TEXT, b"close");
        assert_eq!(peer.code(), 4000);
        peer.bytes(bytes);
        // There is one close frame, and it was sent before.
        assert!(peer.ended_orderly());
    };
    each(bad_close_frames(), obey, serve, |(_, code, reason, section)| {
        vec![Call::Open, Call::text("close"), violated(code, "", &reason, section)]
    });
}

#[test]
fn a_server_that_ends_its_half_behind_its_close_frame_still_gets_the_answer() {
    let serve = |mut peer: Peer, ()| {
        peer.close(1001, "going");
        peer.end();
        assert_eq!(peer.closed(), (1001, String::new()));
        assert!(peer.ended_orderly());
    };
    each(vec![()], ignore, serve, |()| {
        vec![Call::Open, Call::Closed(End::clean(Initiator::Peer, 1001, "going"))]
    });
}

#[test]
fn a_server_that_ends_its_half_and_keeps_reading_is_lost() {
    let serve = |mut peer: Peer, ()| {
        peer.end();
        assert!(peer.ended_orderly());
    };
    each(vec![()], ignore, serve, |()| vec![Call::Open, broken(Initiator::Peer, LOST)]);
}

#[test]
fn late_and_unasked_pongs_are_heard_and_change_nothing() {
    let react = |ws: &Connection, call: &Call| match call {
        Call::Open => ws.ping(b"1").and_then(|()| ws.ping(b"2")),
        Call::Pong(payload) if payload == b"nobody asked" => {
            ws.send("still here")?;
            ws.close()
        }
        _ => Ok(()),
    };
    let serve = |mut peer: Peer, ()| {
        assert_eq!(peer.frame(), (PING, b"1".to_vec()));
        assert_eq!(peer.frame(), (PING, b"2".to_vec()));
        peer.send(TEXT, b"first something else");
        for late in [&b"2"[..], b"1", b"nobody asked"] {
            peer.send(PONG, late);
        }
        assert_eq!(peer.text(), "still here");
        assert_eq!(peer.code(), 1000);
        peer.send(PONG, b"too late");
        peer.close(1000, "");
    };
    let pong = |payload: &[u8]| Call::Pong(payload.to_vec());
    each(vec![()], react, serve, move |()| {
        let end = Call::Closed(End::clean(Initiator::Local, 1000, ""));
        let text = Call::text("first something else");
        vec![Call::Open, text, pong(b"2"), pong(b"1"), pong(b"nobody asked"), end]
    });
}

#[test]
fn a_server_that_reads_nothing_any_more_holds_up_nobody() {
    beside(
        |host| host.upgrade(b""),
        |neighbour, url| {
            let log = Log::new();
            let config = patient().close_timeout(SOON).max_buffered(1 << 20);
            let ws = Client::new(url).unwrap().config(config).connect(log.listener(ignore)).unwrap();
            let refused = loop {
                if let Err(error) = ws.send(&[0; 100_000]) {
                    break error;
                }
            };
            assert!(
                matches!(refused, Error::Limit(error) if error.kind == LimitKind::Buffered),
                "{refused:?}"
            );
            neighbour.go_on(100);
            assert!(ws.is_open() && ws.buffered() > 0, "nobody but the program ends it");
            // The close frame can't even leave.
            ws.close().unwrap();
            ws.wait_closed().unwrap();
            neighbour.go_on(2);
            assert_eq!(log.calls(), [Call::Open, broken(Initiator::Local, TOO_LONG)]);
        },
    );
}

/// Counts what it hears, and writes down the end: for peers that send more than a log can hold.
struct Counter(Rc<Cell<usize>>, Log);

impl Listener for Counter {
    fn on_message(&mut self, _ws: &Connection, _message: Message<'_>) -> Result<(), Error> {
        self.0.set(self.0.get() + 1);
        Ok(())
    }

    fn on_close(&mut self, _ws: &Connection, closed: &Closed) {
        self.1.note(&closed.to_string());
    }
}

/// A server that writes the same over and over, reads nothing, and never answers a close frame.
fn flood(piece: Vec<u8>) {
    beside(
        move |host| {
            let mut peer = host.upgrade(b"");
            while peer.try_bytes(&piece) {}
        },
        |neighbour, url| {
            let (count, log) = (Rc::default(), Log::new());
            let config = patient().close_timeout(SOON);
            let client = Client::new(url).unwrap().config(config);
            let ws = client.connect(Counter(Rc::clone(&count), log.clone())).unwrap();
            wait_until(None, || count.get() > 0).unwrap();
            neighbour.go_on(20);
            assert!(ws.is_open());
            ws.close().unwrap();
            let heard = count.get();
            neighbour.go_on(2);
            ws.wait_closed().unwrap();
            assert_eq!(count.get(), heard, "messages are heard after closing");
            let told = format!("closed by us with 1006 (no close frame received) ({TOO_LONG})");
            assert_eq!(log.calls(), [Call::Note(told)]);
        },
    );
}

#[test]
fn a_server_that_never_stops_sending_long_messages_holds_up_nobody() {
    flood(frame(BINARY, false, &[7; 1 << 20]));
}

#[test]
fn a_server_that_never_stops_sending_tiny_messages_holds_up_nobody() {
    flood(frame(TEXT, false, b"").repeat(10_000));
}

#[test]
fn a_server_that_pings_without_end_and_reads_nothing_holds_up_nobody() {
    let pings = frame(PING, false, &[7; 125]).repeat(500);
    flood([frame(TEXT, false, b"begin"), pings].concat());
}

#[test]
fn a_server_that_breaks_a_rule_and_never_stops_sending_is_dropped_in_time() {
    beside(
        |host| {
            let mut peer = host.upgrade(b"");
            peer.bytes(masked(TEXT, b"?"));
            while peer.try_bytes(&[b'x'; 10_000]) {}
        },
        |neighbour, url| {
            let rule = "a server's frame is masked";
            let config = patient().close_timeout(SOON);
            let calls = heard(neighbour, url, config, ignore);
            assert_eq!(calls, [Call::Open, violated(1002, rule, rule, "5.1")]);
        },
    );
}

#[test]
fn many_broken_connections_of_one_thread_end_once_each() {
    const KINDS: usize = 8;
    const COUNT: usize = 64;
    let (release, released) = mpsc::channel::<()>();
    beside(
        move |host| {
            let mut staying = Vec::new();
            for number in 0..COUNT {
                let mut peer = host.upgrade(b"");
                match number % KINDS {
                    0 => drop(peer),
                    1 => peer.reset(),
                    2 => peer.bytes(b"\x81\x7e\x01"),
                    3 => {
                        peer.bytes(masked(TEXT, b"?"));
                        staying.push(peer);
                    }
                    4 => {
                        peer.close(1000, "");
                        staying.push(peer);
                    }
                    5 => {
                        peer.close(1006, "");
                        staying.push(peer);
                    }
                    6 => {
                        peer.send(TEXT, b"close");
                        staying.push(peer);
                    }
                    _ => {
                        peer.send(0x01, b"begun");
                        peer.end();
                        staying.push(peer);
                    }
                }
            }
            // Servers that stay neither read nor leave before all are through.
            let _ = released.recv();
        },
        move |neighbour, url| {
            let config = patient().close_timeout(SOON);
            let client = Client::new(url).unwrap().config(config);
            let logs: Vec<Log> = (0..COUNT).map(|_| Log::new()).collect();
            for log in &logs {
                client.start(log.listener(obey)).unwrap();
            }
            wait_until(None, || logs.iter().all(|log| log.end().is_some())).unwrap();
            neighbour.wait_alone();
            neighbour.go_on(2);
            drop(release);
            let mut codes: Vec<u16> = logs.iter().map(|log| log.wait_end().code).collect();
            for log in &logs {
                assert_eq!((log.calls().first(), log.ends()), (Some(&Call::Open), 1));
            }
            codes.sort_unstable();
            let each = COUNT / KINDS;
            let expected = [(1000, each), (1002, 2 * each), (1006, 5 * each)];
            let expected: Vec<u16> =
                expected.into_iter().flat_map(|(code, count)| vec![code; count]).collect();
            assert_eq!(codes, expected);
        },
    );
}
