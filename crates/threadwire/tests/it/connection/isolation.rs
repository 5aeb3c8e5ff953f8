//! Isolation: a broken connection ends once, with the right code, and the others on its worker go on.

use std::sync::{Arc, Mutex, mpsc};

use crate::common::peer::{BINARY, CLOSE, PING, PONG, Peer, TEXT, farewell, masked, request};
use crate::common::recorder::{Call, End, Log};
use crate::common::{PATIENCE, SOON, Serving, bind, bounded, echo, ignore, patient};
use threadwire::worker::Worker;
use threadwire::{
    Client, Config, Connection, Error, Initiator, Limits, Listener, Message, Reply, connect, update,
    wait_forever, wait_until,
};

/// Runs a scenario beside a bystander who must not notice it.
fn alone<F>(config: Config, react: F, scenario: impl FnOnce(&Serving, &Log) + Send + 'static)
where
    F: Fn(&Connection, &Call) -> Result<(), Error> + Clone + Send + Sync + 'static,
{
    bounded(move || {
        let log = Log::new();
        let serving = Serving::recording(config, &log, react);
        let bystander = serving.bystander();
        scenario(&serving, &log);
        bystander.noticed_nothing();
        // New connections are served too.
        serving.bystander().noticed_nothing();
        let running = serving.into_running();
        running.stop();
        running.join().unwrap();
        assert!(log.ends() <= 1, "{:?}", log.calls());
    });
}

/// A scenario in which a callback fails: `bytes` make it fail, and after the frames in `before` comes a 1011. `error` is
/// what is told about it.
fn fails_with_1011<F>(
    path: &'static str,
    bytes: Vec<u8>,
    before: &'static [u8],
    error: &'static str,
    react: F,
) where
    F: Fn(&Connection, &Call) -> Result<(), Error> + Clone + Send + Sync + 'static,
{
    alone(patient(), react, move |serving, log| {
        let mut peer = Peer::open(serving.addr, path);
        peer.bytes(bytes);
        for first in before {
            assert_eq!(peer.frame().0, *first);
        }
        assert_eq!(peer.closed(), (1011, String::new()));
        peer.close(1011, "");
        assert!(peer.ended_orderly());
        assert_eq!(log.wait_end(), End::failed(Initiator::Local, 1011, true, error));
    });
}

const PANICKED: &str = "a callback panicked: boom";

#[test]
fn a_panic_in_on_open_ends_one_connection() {
    fails_with_1011("/", Vec::new(), &[], PANICKED, |_, call| match call {
        Call::Open => panic!("boom"),
        _ => Ok(()),
    });
}

#[test]
fn a_panic_in_on_message_ends_one_connection() {
    fails_with_1011("/", masked(TEXT, b"now"), &[], PANICKED, |_, call| match call {
        Call::Text(_) => panic!("boom"),
        _ => Ok(()),
    });
}

#[test]
fn what_was_sent_before_a_panic_still_leaves() {
    fails_with_1011("/", masked(TEXT, b"now"), &[TEXT, BINARY], PANICKED, |ws, call| {
        if let Call::Text(_) = call {
            ws.send("one")?;
            ws.send(&b"two"[..])?;
            panic!("boom");
        }
        Ok(())
    });
}

#[test]
fn a_panic_in_on_frame_ends_one_connection() {
    fails_with_1011("/frames", masked(BINARY, b"now"), &[], PANICKED, |_, call| match call {
        Call::Frame(..) => panic!("boom"),
        _ => Ok(()),
    });
}

#[test]
fn a_panic_in_on_ping_ends_one_connection_and_the_ping_is_answered() {
    fails_with_1011("/", masked(PING, b"now"), &[PONG], PANICKED, |_, call| match call {
        Call::Ping(_) => panic!("boom"),
        _ => Ok(()),
    });
}

#[test]
fn a_panic_in_on_pong_ends_one_connection() {
    fails_with_1011("/", masked(PONG, b"now"), &[], PANICKED, |_, call| match call {
        Call::Pong(_) => panic!("{}", format!("bo{}m", 'o')),
        _ => Ok(()),
    });
}

#[test]
fn an_error_from_a_callback_ends_one_connection() {
    fails_with_1011("/", masked(TEXT, b"now"), &[], "no such channel", |_, call| match call {
        Call::Text(_) => Err(Error::other("no such channel")),
        _ => Ok(()),
    });
}

#[test]
fn an_error_from_on_open_ends_one_connection() {
    fails_with_1011("/", Vec::new(), &[], "full", |_, call| match call {
        Call::Open => Err(Error::other("full")),
        _ => Ok(()),
    });
}

#[test]
fn a_panic_in_on_close_is_not_noticed_by_others() {
    let react = |_: &Connection, call: &Call| match call {
        Call::Closed(_) => panic!("boom"),
        _ => Ok(()),
    };
    alone(patient(), react, |serving, log| {
        let mut peer = serving.peer();
        peer.close(1000, "");
        assert_eq!(peer.code(), 1000);
        assert!(peer.ended_orderly());
        assert_eq!(log.wait_end(), End::clean(Initiator::Peer, 1000, ""));
    });
}

#[test]
fn a_panic_in_the_accept_hook_answers_with_500() {
    bounded(|| {
        let serving = Serving::with(bind().config(patient()), |request| match request.path() {
            "/echo" => Reply::with(echo),
            _ => panic!("boom"),
        });
        let bystander = serving.bystander();
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(request("/"));
        assert!(peer.head().starts_with("HTTP/1.1 500 "));
        assert!(!peer.rest().contains("boom"), "nothing of it is told to the peer");
        bystander.noticed_nothing();
    });
}

#[test]
fn a_reset_ends_one_connection() {
    alone(patient(), ignore, |serving, log| {
        serving.peer().reset();
        let end = End::failed(Initiator::Peer, 1006, false, "connection reset by peer");
        assert_eq!(log.wait_end(), end);
    });
}

#[test]
fn a_reset_during_the_handshake_is_no_connection() {
    alone(patient(), ignore, |serving, log| {
        Peer::connect(serving.addr).reset();
        let mut half = Peer::connect(serving.addr);
        half.bytes("GET / HTTP/1.1\r\nHost: ");
        half.reset();
        serving.bystander().noticed_nothing();
        assert_eq!(log.calls(), []);
    });
}

#[test]
fn the_end_of_tcp_without_a_close_frame_ends_one_connection() {
    alone(patient(), ignore, |serving, log| {
        let mut peer = serving.peer();
        peer.end();
        assert!(peer.ended_orderly());
        let error = "the peer ended the connection without a close frame";
        assert_eq!(log.wait_end(), End::failed(Initiator::Peer, 1006, false, error));
    });
}

#[test]
fn garbage_instead_of_a_request_is_answered_with_400() {
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\0\0\0\0\r\n\r\n", b"hello\r\n\r\n"]
    {
        alone(patient(), ignore, move |serving, log| {
            let mut peer = Peer::connect(serving.addr);
            peer.bytes(garbage);
            assert!(peer.head().starts_with("HTTP/1.1 400 "));
            peer.end();
            peer.rest();
            assert_eq!(log.calls(), []);
        });
    }
}

/// A scenario in which the peer breaks a rule.
fn violates(config: Config, bytes: Vec<u8>, code: u16, reason: &'static str, section: &'static str) {
    alone(config, ignore, move |serving, log| {
        let mut peer = serving.peer();
        peer.bytes(bytes);
        assert_eq!(peer.closed(), (code, reason.to_owned()));
        // Not reset, but ended: the close frame arrives whatever else is under way.
        assert!(peer.ended_orderly());
        let error = format!("the peer broke the protocol: {reason} (RFC 6455, section {section})");
        let end = End { reason: reason.to_owned(), ..End::failed(Initiator::Local, code, false, &error) };
        assert_eq!(log.wait_end(), end);
    });
}

#[test]
fn garbage_instead_of_frames_closes_with_1002() {
    let reason = "reserved bits 0b111 are set, but no extension was negotiated that uses them";
    violates(patient(), masked(0xf1, b"?"), 1002, reason, "5.2");
    violates(patient(), b"GET / HTTP/1.1\r\n\r\n".to_vec(), 1002, "opcode 0x7 is reserved", "5.2");
}

#[test]
fn an_unmasked_frame_closes_with_1002() {
    violates(patient(), b"\x81\x01?".to_vec(), 1002, "a client's frame is not masked", "5.1");
}

#[test]
fn text_that_is_not_utf8_closes_with_1007() {
    alone(patient(), ignore, |serving, log| {
        let mut peer = serving.peer();
        peer.send(TEXT, b"abc\xff");
        assert_eq!(peer.code(), 1007);
        assert!(peer.ended_orderly());
        let end = log.wait_end();
        assert_eq!((end.code, end.initiator, end.clean), (1007, Initiator::Local, false));
    });
}

#[test]
fn a_message_over_the_limit_closes_with_1009() {
    // Room for whatever the bystander sends, however often it does.
    let config = patient().limits(Limits::default().max_message(100));
    let reason = "a message of at least 101 bytes is over the limit of 100";
    violates(config, masked(TEXT, &[b'x'; 101]), 1009, reason, "10.4");
}

#[test]
fn a_peer_that_goes_on_sending_after_a_violation_is_heard_no_more_and_not_reset() {
    alone(patient(), ignore, |serving, log| {
        let mut peer = serving.peer();
        peer.bytes(b"\x81\x01?");
        for _ in 0..64 {
            peer.bytes(masked(BINARY, &[0; 16 << 10]));
        }
        assert_eq!(peer.code(), 1002);
        assert!(peer.ended_orderly());
        let calls = log.wait(|calls| calls.len() == 2);
        assert!(matches!(calls[..], [Call::Open, Call::Closed(_)]), "{calls:?}");
    });
}

/// Closes when told to.
fn close_when_told(ws: &Connection, call: &Call) -> Result<(), Error> {
    if *call == Call::text("close") { ws.close() } else { Ok(()) }
}

#[test]
fn a_peer_that_never_answers_a_close_frame_is_dropped_in_time() {
    let config = patient().close_timeout(SOON);
    alone(config, close_when_told, |serving, log| {
        let mut peer = serving.peer();
        peer.send(TEXT, b"close");
        assert_eq!(peer.code(), 1000);
        assert!(peer.ended());
        let error = "the peer's answer to our close frame took too long";
        assert_eq!(log.wait_end(), End::failed(Initiator::Local, 1006, false, error));
    });
}

#[test]
fn a_peer_that_goes_on_sending_after_our_close_frame_is_heard_no_more_and_dropped_in_time() {
    let config = patient().close_timeout(SOON);
    alone(config, close_when_told, |serving, log| {
        let mut peer = serving.peer();
        peer.send(TEXT, b"close");
        assert_eq!(peer.code(), 1000);
        let chatter = masked(TEXT, &[b'x'; 1000]);
        while peer.try_bytes(&chatter) {}
        let error = "the peer's answer to our close frame took too long";
        assert_eq!(log.wait_end(), End::failed(Initiator::Local, 1006, false, error));
        assert_eq!(log.calls().len(), 3, "on_open, the first message, on_close");
    });
}

#[test]
fn a_peer_that_goes_on_sending_after_a_violation_is_dropped_in_time() {
    let config = patient().close_timeout(SOON);
    alone(config, ignore, |serving, log| {
        let mut peer = serving.peer();
        peer.bytes(b"\x81\x01?");
        assert_eq!(log.wait_end().code, 1002);
        let chatter = masked(TEXT, &[b'x'; 1000]);
        while peer.try_bytes(&chatter) {}
    });
}

#[test]
fn a_peer_that_still_sends_when_we_close_gets_an_orderly_end() {
    alone(patient(), close_when_told, |serving, log| {
        let mut peer = serving.peer();
        let mut bytes = masked(TEXT, b"close");
        for _ in 0..100 {
            bytes.extend(masked(TEXT, b"still talking"));
        }
        bytes.extend(masked(CLOSE, &farewell(1000, "well then")));
        peer.bytes(bytes);
        assert_eq!(peer.code(), 1000);
        assert!(peer.ended_orderly());
        assert_eq!(log.wait_end(), End::clean(Initiator::Local, 1000, "well then"));
        assert_eq!(log.calls().len(), 3, "on_open, the first message, on_close");
    });
}

#[test]
fn a_client_that_says_nothing_is_dropped_in_time() {
    alone(patient().open_timeout(SOON), ignore, |serving, log| {
        assert!(Peer::connect(serving.addr).ended());
        assert_eq!(log.calls(), []);
    });
}

#[test]
fn a_client_that_sends_half_a_request_is_dropped_in_time() {
    alone(patient().open_timeout(SOON), ignore, |serving, log| {
        let mut peer = Peer::connect(serving.addr);
        let request = request("/");
        peer.bytes(&request[..request.len() / 2]);
        assert!(peer.ended());
        assert_eq!(log.calls(), []);
    });
}

#[test]
fn a_client_that_sends_its_request_byte_by_byte_is_dropped_in_time() {
    let config = patient().open_timeout(SOON).max_head(64 << 20);
    alone(config, ignore, |serving, log| {
        let mut peer = Peer::connect(serving.addr);
        peer.bytes("GET / HTTP/1.1\r\nX-Long: ");
        while peer.try_bytes(b"x") {}
        assert_eq!(log.calls(), []);
    });
}

#[test]
fn a_client_that_is_refused_and_stays_is_dropped_in_time() {
    alone(patient().open_timeout(SOON), ignore, |serving, log| {
        let mut peer = Peer::connect(serving.addr);
        peer.bytes("POST / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(peer.head().starts_with("HTTP/1.1 405 "));
        while peer.try_bytes(b"and more") {}
        assert_eq!(log.calls(), []);
    });
}

#[test]
fn an_open_connection_outlives_the_open_timeout() {
    let config = patient().open_timeout(SOON);
    alone(
        config,
        |ws, _| ws.send("heard").or(Ok(())),
        |serving, _| {
            let mut peer = serving.peer();
            assert_eq!(peer.text(), "heard");
            // Another one, opened later, has timed out: so would this one have.
            assert!(Peer::connect(serving.addr).ended());
            peer.send(TEXT, b"there?");
            assert_eq!(peer.text(), "heard");
        },
    );
}

/// Fails at every text.
fn fail(_ws: &Connection, call: &Call) -> Result<(), Error> {
    if matches!(call, Call::Text(_)) { Err(Error::other("failed")) } else { Ok(()) }
}

#[test]
fn a_close_frame_behind_a_message_whose_callback_fails_is_heard() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, fail);
        let mut peer = serving.peer();
        peer.bytes([masked(TEXT, b"x"), masked(CLOSE, &farewell(1000, ""))].concat());
        assert_eq!(peer.code(), 1011);
        assert!(peer.ended_orderly());
        assert_eq!(log.wait_end(), End::failed(Initiator::Local, 1000, true, "failed"));
    });
}

#[test]
fn a_frame_cut_behind_a_message_whose_callback_fails_is_put_together() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, fail);
        let mut peer = serving.peer();
        // A payload that looks like a frame to a reader that lost its beginning.
        let cut = masked(BINARY, &masked(TEXT, &[b'x'; 100]));
        peer.bytes([masked(TEXT, b"x"), cut[..20].to_vec()].concat());
        assert_eq!(peer.code(), 1011);
        peer.bytes(&cut[20..]);
        peer.close(1011, "");
        assert!(peer.ended_orderly());
        assert_eq!(log.wait_end(), End::failed(Initiator::Local, 1011, true, "failed"));
    });
}

#[test]
fn a_close_frame_sent_together_with_the_request_is_heard_though_on_open_fails() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, |_, call| match call {
            Call::Open => panic!("boom"),
            _ => Ok(()),
        });
        let mut peer = Peer::connect(serving.addr);
        peer.bytes([request("/").into_bytes(), masked(CLOSE, &farewell(1000, ""))].concat());
        assert!(peer.head().starts_with("HTTP/1.1 101 "));
        assert_eq!(peer.code(), 1011);
        assert!(peer.ended_orderly());
        assert_eq!(log.wait_end().code, 1000);
    });
}

#[test]
fn the_end_of_tcp_behind_a_message_whose_callback_fails_is_heard() {
    bounded(|| {
        let log = Log::new();
        let (halt, halted) = mpsc::channel::<()>();
        let halted = Arc::new(Mutex::new(halted));
        let theirs = log.clone();
        let serving = Serving::with(bind().config(patient()), move |request| {
            if request.path() == "/halt" {
                let halted = Arc::clone(&halted);
                let log = theirs.clone();
                return Reply::with(move |_: &Connection, _: Message<'_>| {
                    log.note("halted");
                    let _ = halted.lock().unwrap().recv();
                    Ok(())
                });
            }
            Reply::with(theirs.listener(fail))
        });
        let (mut peer, mut halter) = (serving.peer(), Peer::open(serving.addr, "/halt"));
        halter.send(TEXT, b"halt");
        log.wait_for(&Call::Note("halted".to_owned()));
        peer.send(TEXT, b"x");
        peer.end();
        halt.send(()).unwrap();
        assert_eq!(peer.code(), 1011);
        assert!(peer.ended());
        assert_eq!(log.wait_end().code, 1006);
    });
}

#[test]
fn a_panic_in_on_failed_is_not_noticed_by_others() {
    bounded(|| {
        struct Panics(mpsc::Sender<()>);
        impl Listener for Panics {
            fn on_failed(&mut self, _: &Error) {
                self.0.send(()).unwrap();
                panic!("boom");
            }
        }
        let (tell, told) = mpsc::channel();
        let worker = Worker::spawn(move || {
            let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            Client::new(&format!("ws://{closed}/")).unwrap().start(Panics(tell)).unwrap();
            wait_forever()
        });
        told.recv().unwrap();
        worker.stop();
        let ended = worker.join().unwrap();
        assert!(ended.was_stopped(), "{ended:?}");
    });
}

#[test]
fn a_callback_that_fails_on_another_connection_closes_its_own() {
    bounded(|| {
        let serving = Serving::with(bind().config(patient()), |_| Reply::with(echo));
        let other = connect(&serving.url("/"), echo).unwrap();
        other.abort();
        update().unwrap();
        let log = Log::new();
        let ws = connect(
            &serving.url("/"),
            log.listener(move |_, call| match call {
                Call::Text(text) => other.send(text.as_str()),
                _ => Ok(()),
            }),
        )
        .unwrap();
        ws.send("hello").unwrap();
        wait_until(Some(PATIENCE / 4), || log.end().is_some()).unwrap();
        assert_eq!(log.end(), Some(End::failed(Initiator::Local, 1011, true, "the connection is closed")));
    });
}
