//! Servers that break during the opening handshake: the attempt has one outcome, and a neighbour on the same loop goes on.

use std::io::ErrorKind;
use std::sync::mpsc;

use crate::common::neighbour::Neighbour;
use crate::common::peer::{CLOSE, Host, PING, PONG, Peer, TEXT, farewell, frame, upgraded};
use crate::common::recorder::{Call, End, Log};
use crate::common::{SOON, bounded, ignore, patient};
use threadwire::error::{HandshakeError, TimeoutKind};
use threadwire::{Client, Config, Connection, Error, Initiator, wait_until};

/// What comes of attempts beside a neighbour, one for each of `cases`, at servers made by hand. What `serve` returns
/// stays open until the attempt is over.
fn attempts<T: Clone + Send + 'static, R: Send + 'static>(
    config: Config,
    cases: Vec<T>,
    serve: impl Fn(Peer, T) -> R + Send + 'static,
    check: impl Fn(Error, T) + Send + 'static,
) {
    bounded(move || {
        let neighbour = Neighbour::start();
        let host = Host::listen();
        let client = Client::new(&host.url()).unwrap().config(config);
        let served = cases.clone();
        let (next, over) = mpsc::channel::<()>();
        let (tell, done) = mpsc::channel();
        let host = host.run(move |host| {
            for case in served {
                let kept = serve(host.accept(), case);
                tell.send(()).unwrap();
                over.recv().unwrap();
                drop(kept);
            }
        });
        for case in cases {
            let log = Log::new();
            let error = client.connect(log.listener(ignore)).expect_err("it connected");
            neighbour.hear(&done);
            neighbour.wait_alone();
            neighbour.go_on(2);
            assert_eq!(log.calls(), [], "an attempt that fails is told by its result alone");
            check(error, case);
            next.send(()).unwrap();
        }
        host.join().unwrap();
        neighbour.noticed_nothing();
    });
}

/// Writes the same over and over, until the client has gone.
fn without_end(mut peer: Peer, first: &str, then: &[u8]) {
    // Without waiting for the request: a client that gives up early may not have sent it.
    peer.try_bytes(first.as_bytes());
    while peer.try_bytes(then) {}
}

const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\n";

#[test]
fn a_server_that_leaves_anywhere_in_its_answer_fails_the_attempt_once() {
    // The answer has 129 bytes.
    let cases = (0..128).step_by(3).flat_map(|cut| [(cut, false), (cut, true)]).collect();
    let serve = |mut peer: Peer, (cut, resets): (usize, bool)| {
        let answer = upgraded(&peer.head());
        assert!(cut < answer.len());
        peer.bytes(&answer[..cut]);
        if resets { peer.reset() } else { drop(peer) }
    };
    attempts(patient(), cases, serve, |error, case| match (error, case) {
        (Error::Lost, (_, false)) => {}
        (Error::Io(error), (_, true)) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        other => panic!("{other:?}"),
    });
}

#[test]
fn a_server_that_leaves_before_it_has_read_the_request_fails_the_attempt_once() {
    let serve = |peer: Peer, resets: bool| if resets { peer.reset() } else { drop(peer) };
    // Whether the request is on its way by then decides how it shows.
    attempts(patient(), [true, false].repeat(50), serve, |error, _| {
        assert!(matches!(error, Error::Lost | Error::Io(_) | Error::Connect(_)), "{error:?}");
    });
}

#[test]
fn an_answer_without_end_is_given_up_at_the_limit() {
    let limit = 16_384;
    let cases = vec![
        (format!("{ANSWER}X-Long: "), "x", HandshakeError::HeadTooLarge { limit }),
        (ANSWER.to_owned(), "X: y\r\n", HandshakeError::TooManyHeaders { limit: 128 }),
        ("HTTP/1.1 101 ".to_owned(), "and so on ", HandshakeError::StartLineTooLong { limit }),
    ];
    let serve = |peer: Peer, (first, then, _): (String, &str, _)| {
        without_end(peer, &first, then.repeat(999).as_bytes())
    };
    attempts(patient(), cases, serve, |error, (.., expected)| match error {
        Error::Handshake(error) => assert_eq!(*error, expected),
        other => panic!("{other:?}"),
    });
}

#[test]
fn a_header_of_a_mebibyte_is_over_the_limit() {
    let serve = |mut peer: Peer, ()| {
        let answer = upgraded(&peer.head());
        let long = format!("X-Long: {}\r\n\r\n", "x".repeat(1 << 20));
        // The client leaves before it has read all of it.
        peer.try_bytes(answer.replace("\r\n\r\n", &format!("\r\n{long}")).as_bytes());
    };
    attempts(patient(), vec![()], serve, |error, ()| {
        assert!(
            matches!(&error, Error::Handshake(error) if **error == HandshakeError::HeadTooLarge { limit: 16_384 }),
            "{error:?}"
        );
    });
}

#[test]
fn a_server_that_announces_another_answer_without_end_is_given_up() {
    let serve =
        |peer: Peer, ()| without_end(peer, "", "HTTP/1.1 100 Continue\r\n\r\n".repeat(100).as_bytes());
    attempts(patient(), vec![()], serve, |error, ()| match error {
        Error::Status(answer) => assert_eq!(answer.status(), 100),
        other => panic!("{other:?}"),
    });
}

#[test]
fn a_server_that_answers_slowly_without_end_is_given_up_in_time() {
    let config = patient().open_timeout(SOON).max_head(64 << 20);
    let serve = |peer: Peer, ()| without_end(peer, &format!("{ANSWER}X-Slow: "), b"x");
    attempts(config, vec![()], serve, |error, ()| {
        assert!(matches!(error, Error::Timeout(TimeoutKind::Open { .. })), "{error:?}");
    });
}

#[test]
fn a_refusal_whose_body_never_comes_is_given_up_in_time() {
    let serve = |mut peer: Peer, ()| {
        peer.try_bytes(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 1000\r\n\r\nhalf of");
        peer
    };
    attempts(patient().open_timeout(SOON), vec![()], serve, |error, ()| {
        match error {
            // The refusal has as much of the body as has arrived.
            Error::Status(answer) => {
                assert_eq!((answer.status(), answer.body()), (503, &b"half of"[..]));
            }
            other => panic!("{other:?}"),
        }
    });
}

/// Bytes glued to the answer: each kind of frame, and a character that is cut in two.
fn frames() -> Vec<u8> {
    let (start, end) = "\u{1f980}".as_bytes().split_at(2);
    [
        frame(TEXT, false, b"one"),
        frame(PING, false, b"two"),
        frame(0x01, false, start),
        frame(0x80, false, end),
        frame(CLOSE, false, &farewell(4000, "four")),
    ]
    .concat()
}

/// Connects to a server whose answer, with frames glued to it, comes in these pieces, each of them read before the next
/// is there. What the listener has heard.
fn in_pieces(neighbour: &Neighbour, pieces: impl Fn(Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) -> Vec<Call> {
    let host = Host::listen();
    let url = host.url();
    let (next, go) = mpsc::channel::<()>();
    let (tell, written) = mpsc::channel::<bool>();
    let host = host.run(move |host| {
        let mut peer = host.accept();
        let answer = [upgraded(&peer.head()).into_bytes(), frames()].concat();
        let pieces = pieces(answer);
        for (number, piece) in pieces.iter().enumerate() {
            peer.bytes(piece);
            tell.send(number + 1 == pieces.len()).unwrap();
            go.recv().unwrap();
        }
        assert_eq!(peer.frame(), (PONG, b"two".to_vec()));
        assert_eq!(peer.closed(), (4000, String::new()));
        peer.end();
        assert!(peer.ended_orderly());
    });
    let log = Log::new();
    Client::new(&url).unwrap().config(patient()).start(log.listener(ignore)).unwrap();
    loop {
        let is_last = neighbour.hear(&written);
        // By then, the loop has read the piece.
        neighbour.go_on(3);
        next.send(()).unwrap();
        if is_last {
            break;
        }
    }
    wait_until(None, || log.end().is_some()).unwrap();
    host.join().unwrap();
    log.calls()
}

/// The calls, however the bytes were cut.
fn glued() -> Vec<Call> {
    let end = Call::Closed(End::clean(Initiator::Peer, 4000, "four"));
    vec![Call::Open, Call::text("one"), Call::Ping(b"two".to_vec()), Call::text("\u{1f980}"), end]
}

#[test]
fn an_answer_with_frames_glued_to_it_is_heard_the_same_wherever_it_is_cut() {
    let length = upgraded("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n").len() + frames().len();
    for first in (0..=length).step_by(32) {
        bounded(move || {
            let neighbour = Neighbour::start();
            for cut in first..(first + 32).min(length + 1) {
                let calls = in_pieces(&neighbour, move |answer| {
                    assert_eq!(answer.len(), length);
                    vec![answer[..cut].to_vec(), answer[cut..].to_vec()]
                });
                assert_eq!(calls, glued(), "cut at {cut}");
            }
            neighbour.noticed_nothing();
        });
    }
}

#[test]
fn an_answer_with_frames_glued_to_it_is_heard_byte_by_byte() {
    bounded(|| {
        let neighbour = Neighbour::start();
        let calls = in_pieces(&neighbour, |answer| answer.chunks(1).map(<[u8]>::to_vec).collect());
        assert_eq!(calls, glued());
        neighbour.noticed_nothing();
    });
}

/// Closes as soon as it can.
fn close(ws: &Connection, call: &Call) -> Result<(), Error> {
    if *call == Call::Open { ws.close() } else { Ok(()) }
}

#[test]
fn many_faulty_servers_at_once_have_one_outcome_each() {
    const KINDS: usize = 7;
    const EACH: usize = 8;
    bounded(|| {
        let neighbour = Neighbour::start();
        let host = Host::listen();
        let faulty = Client::new(&host.url()).unwrap().config(patient());
        // Here nobody accepts: the system connects, and then nothing is heard.
        let silence = Host::listen();
        let config = patient().open_timeout(SOON);
        let silent = Client::new(&silence.url()).unwrap().config(config);
        let (release, released) = mpsc::channel::<()>();
        let host = host.run(move |host| {
            let mut staying = Vec::new();
            for number in 0..KINDS * EACH {
                let mut peer = host.accept();
                let answer = upgraded(&peer.head());
                match number % KINDS {
                    0 => {
                        peer.bytes(answer);
                        assert_eq!(peer.code(), 1000);
                        peer.close(1000, "");
                        peer.end();
                    }
                    1 => peer.bytes(answer.replace("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: A")),
                    2 => peer.bytes(answer.replace("Upgrade: websocket\r\n", "")),
                    3 => peer.bytes(answer.replace("HTTP/1.1", "HTTP/2.0")),
                    4 => peer.bytes(b"\x15\x03\x01\x00\x02\x02\x46"),
                    5 => {
                        peer.bytes(&answer[..50]);
                        peer.end();
                    }
                    _ => peer.end(),
                }
                staying.push(peer);
            }
            let _ = released.recv();
        });
        let mut logs = Vec::new();
        for number in 0..(KINDS + 1) * EACH {
            let log = Log::new();
            let client = if number < EACH { &silent } else { &faulty };
            client.start(log.listener(close)).unwrap();
            logs.push(log);
        }
        neighbour.wait_alone();
        neighbour.go_on(3);
        drop(release);
        host.join().unwrap();
        neighbour.noticed_nothing();
        let (mut failed, mut closed) = (0, 0);
        for log in &logs {
            match &log.calls()[..] {
                [Call::Failed(_)] => failed += 1,
                [Call::Open, Call::Closed(end)] => {
                    assert_eq!(*end, End::clean(Initiator::Local, 1000, ""));
                    closed += 1;
                }
                calls => panic!("{calls:?}"),
            }
        }
        assert_eq!((failed, closed), (KINDS * EACH, EACH));
    });
}
