//! Clients that break in every way: a server is told of each connection once, and the others on its worker go on.

use std::time::Instant;

use crate::common::peer::{
    BINARY, CLOSE, PING, PONG, Peer, TEXT, client_hello, farewell, frame, masked, request,
};
use crate::common::recorder::{Call, End, Log};
use crate::common::{PATIENCE, SOON, Serving, bind, bounded, echo, ignore, patient};
use threadwire::worker::EventLoop;
use threadwire::{Config, Initiator, Reply, Request, Response};

const LOST: &str = "the peer ended the connection without a close frame";
const RESET: &str = "connection reset by peer";

/// A connection for each of `cases`, one after the other and beside a bystander: what the client does, and what the
/// server then has heard.
fn each<T: Send + 'static>(
    cases: Vec<T>,
    serve: impl Fn(&mut Peer, &T) -> Option<Leaving> + Send + 'static,
    expected: impl Fn(&T) -> Vec<Call> + Send + 'static,
) {
    bounded(move || {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, ignore);
        let bystander = serving.bystander();
        let mut heard = Vec::new();
        for case in &cases {
            let mut peer = serving.peer();
            match serve(&mut peer, case) {
                Some(Leaving::Reset) => peer.reset(),
                Some(Leaving::Fin) | None => drop(peer),
            }
            heard.extend(expected(case));
            assert_eq!(log.wait(|calls| calls.len() >= heard.len()), heard);
        }
        bystander.noticed_nothing();
        let running = serving.into_running();
        running.stop();
        running.join().unwrap();
        assert_eq!(log.calls(), heard, "something came later");
    });
}

/// How the client leaves in the middle of something.
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

    /// The error that the server's listener gets.
    fn end(self) -> Call {
        let error = match self {
            Leaving::Fin => LOST,
            Leaving::Reset => RESET,
        };
        Call::Closed(End::failed(Initiator::Peer, 1006, false, error))
    }
}

#[test]
fn a_frame_that_is_cut_anywhere_is_never_heard() {
    let short = masked(TEXT, b"hello");
    let medium = masked(BINARY, &[7; 200]);
    let long = masked(BINARY, &[7; 100_000]);
    let mut cases = Vec::new();
    for leaving in Leaving::ALL {
        cases.extend((1..short.len()).map(|cut| (short[..cut].to_vec(), leaving)));
        cases.extend((2..10).map(|cut| (medium[..cut].to_vec(), leaving)));
        cases.extend([3, 9, 10, 13, 14, 66_000, long.len() - 1].map(|cut| (long[..cut].to_vec(), leaving)));
    }
    let serve = |peer: &mut Peer, (bytes, leaving): &(Vec<u8>, Leaving)| {
        peer.bytes(bytes);
        Some(*leaving)
    };
    each(cases, serve, |(_, leaving)| vec![Call::Open, leaving.end()]);
}

#[test]
fn a_message_that_is_cut_between_its_fragments_is_never_heard() {
    let serve = |peer: &mut Peer, (leaving, count): &(Leaving, usize)| {
        peer.send(0x01, b"begun, ");
        peer.send(PING, b"between");
        // So that a reset can't overtake what is to be heard.
        assert_eq!(peer.frame(), (PONG, b"between".to_vec()));
        for _ in 0..*count {
            peer.send(0x00, b"continued, ");
        }
        Some(*leaving)
    };
    let cases = Leaving::ALL.iter().flat_map(|leaving| [0, 1, 7].map(|count| (*leaving, count))).collect();
    each(cases, serve, |(leaving, _)| vec![Call::Open, Call::Ping(b"between".to_vec()), leaving.end()]);
}

#[test]
fn what_follows_a_close_frame_is_not_heard() {
    let follows: [&[u8]; 7] = [
        &masked(TEXT, b"too late"),
        &masked(CLOSE, &farewell(4001, "once more")),
        &masked(CLOSE, &farewell(1006, "")),
        &masked(PING, b"there?"),
        &frame(TEXT, false, b"broken"),
        &[0xff; 300_000],
        &[0x81],
    ];
    let cases = follows.iter().flat_map(|bytes| [(bytes.to_vec(), true), (bytes.to_vec(), false)]).collect();
    let serve = |peer: &mut Peer, (bytes, is_glued): &(Vec<u8>, bool)| {
        let close = masked(CLOSE, &farewell(1000, "bye"));
        if *is_glued {
            peer.bytes([&close[..], bytes].concat());
            // The close frame comes back whatever follows, and nothing resets the connection.
            assert_eq!(peer.closed(), (1000, String::new()));
        } else {
            peer.bytes(close);
            assert_eq!(peer.closed(), (1000, String::new()));
            // The server may have gone by now.
            peer.try_bytes(bytes);
        }
        assert!(peer.ended());
        None
    };
    each(cases, serve, |_| vec![Call::Open, Call::Closed(End::clean(Initiator::Peer, 1000, "bye"))]);
}

#[test]
fn a_close_frame_that_breaks_a_rule_is_answered_with_what_is_wrong() {
    let mut cases = Vec::new();
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2999, 5000, u16::MAX] {
        let payload = farewell(code, "why not");
        cases.push((payload, 1002, format!("close code {code} must not be sent"), "7.4"));
    }
    let cut = "a close frame has a payload of one byte: a code takes two";
    cases.push((b"\x03".to_vec(), 1002, cut.to_owned(), "5.5.1"));
    for payload in [&b"\x03\xe8\xff"[..], b"\x03\xe8caf\xc3", b"\x03\xe8\xed\xa0\x80", b"\x03\xe8\xc0\x80"] {
        let text = "the reason of a close frame is not UTF-8";
        cases.push((payload.to_vec(), 1007, text.to_owned(), "5.5.1"));
    }
    let serve = |peer: &mut Peer, (payload, code, reason, _): &(Vec<u8>, u16, String, &str)| {
        peer.send(CLOSE, payload);
        assert_eq!(peer.closed(), (*code, reason.clone()));
        assert!(peer.ended_orderly());
        None
    };
    each(cases, serve, |(_, code, reason, section)| {
        let error = format!("the peer broke the protocol: {reason} (RFC 6455, section {section})");
        let end = End { reason: reason.clone(), ..End::failed(Initiator::Local, *code, false, &error) };
        vec![Call::Open, Call::Closed(end)]
    });
}

#[test]
fn a_client_that_ends_its_half_behind_its_close_frame_still_gets_the_answer() {
    let serve = |peer: &mut Peer, (): &()| {
        peer.close(1001, "going");
        peer.end();
        assert_eq!(peer.closed(), (1001, String::new()));
        assert!(peer.ended_orderly());
        None
    };
    each(vec![()], serve, |()| vec![Call::Open, Call::Closed(End::clean(Initiator::Peer, 1001, "going"))]);
}

#[test]
fn a_message_in_fragments_without_end_closes_with_1009() {
    let serve = |peer: &mut Peer, (): &()| {
        let fragments = masked(0x00, b"").repeat(131_072);
        peer.bytes([masked(0x01, b""), fragments].concat());
        assert_eq!(peer.code(), 1009);
        assert!(peer.ended_orderly());
        None
    };
    each(vec![()], serve, |()| {
        let reason = "a message has more fragments than the limit of 131072";
        let error = format!("the peer broke the protocol: {reason} (RFC 6455, section 10.4)");
        let end = End::failed(Initiator::Local, 1009, false, &error);
        vec![Call::Open, Call::Closed(End { reason: reason.to_owned(), ..end })]
    });
}

/// A server that says at `/sources` how many sources its worker has, and records at other paths as
/// [`Serving::recording`] does.
fn counting(config: Config, log: &Log) -> Serving {
    let log = log.clone();
    Serving::with(bind().config(config), move |request: &Request| match request.path() {
        "/sources" => {
            let count = EventLoop::current().source_count().to_string();
            Reply::respond(Response::new(200).unwrap().with_body(count.into_bytes()))
        }
        "/echo" => Reply::with(echo),
        _ => Reply::with(log.listener(ignore)),
    })
}

/// Waits until nothing of the server's is left on its worker but what listens, and the connection that asks.
fn wait_alone(serving: &Serving) {
    let begin = Instant::now();
    loop {
        let mut peer = Peer::connect(serving.addr);
        peer.bytes("GET /sources HTTP/1.1\r\nHost: a\r\n\r\n");
        peer.head();
        peer.end();
        let count = peer.rest();
        if count == "2" {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{count} sources are left");
    }
}

#[test]
fn a_request_that_is_cut_anywhere_is_no_connection() {
    bounded(|| {
        let log = Log::new();
        let serving = counting(patient(), &log);
        let bystander = serving.bystander();
        let request = request("/");
        for cut in 0..request.len() {
            for leaving in Leaving::ALL {
                let mut peer = Peer::connect(serving.addr);
                peer.bytes(&request[..cut]);
                leaving.leave(peer);
            }
        }
        bystander.noticed_nothing();
        wait_alone(&serving);
        assert_eq!(log.calls(), []);
    });
}

#[test]
fn a_client_that_leaves_right_behind_its_request_is_heard_of_once() {
    bounded(|| {
        const EACH: usize = 50;
        let log = Log::new();
        let serving = counting(patient(), &log);
        let bystander = serving.bystander();
        for leaving in Leaving::ALL.repeat(EACH) {
            let mut peer = Peer::connect(serving.addr);
            peer.bytes(request("/"));
            leaving.leave(peer);
        }
        bystander.noticed_nothing();
        wait_alone(&serving);
        let calls = log.calls();
        let count = |is: fn(&Call) -> bool| calls.iter().filter(|call| is(call)).count();
        let opened = count(|call| *call == Call::Open);
        // A reset may come before the request was read: then it is no connection.
        assert!((EACH..=2 * EACH).contains(&opened), "{opened}");
        assert_eq!(count(|call| matches!(call, Call::Closed(End { code: 1006, .. }))), opened);
        assert_eq!(calls.len(), 2 * opened);
    });
}

/// Clients that send nothing that could become a request, all at once and to a worker that serves others: how each is
/// answered, and that it is dropped in time if it stays.
fn refused(cases: Vec<(Vec<u8>, &'static str)>) {
    bounded(move || {
        let log = Log::new();
        let serving = counting(patient(), &log);
        let bystander = serving.bystander();
        for (bytes, status) in &cases {
            let mut peer = Peer::connect(serving.addr);
            peer.bytes(bytes);
            assert_eq!(peer.head().split(' ').nth(1), Some(*status));
            peer.end();
            peer.rest();
        }
        bystander.noticed_nothing();
        wait_alone(&serving);

        let serving = counting(patient().open_timeout(SOON), &log);
        let bystander = serving.bystander();
        for (bytes, _) in &cases {
            // The client goes on for ever, or waits for something that never comes.
            let mut peer = Peer::connect(serving.addr);
            while peer.try_bytes(bytes) {}
            let mut peer = Peer::connect(serving.addr);
            peer.try_bytes(bytes);
            peer.rest();
        }
        bystander.noticed_nothing();
        wait_alone(&serving);
        assert_eq!(log.calls(), []);
    });
}

#[test]
fn a_request_without_end_is_answered_and_dropped_in_time() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n";
    refused(vec![
        (format!("{get}X-Long: {}", "x".repeat(1 << 20)).into_bytes(), "431"),
        (format!("{get}{}", "X: y\r\n".repeat(10_000)).into_bytes(), "431"),
        (format!("GET /{}", "x".repeat(100_000)).into_bytes(), "414"),
    ]);
}

#[test]
fn a_client_that_speaks_tls_to_a_plain_port_is_answered_and_dropped_in_time() {
    refused(vec![(client_hello(), "400")]);
}

#[test]
fn a_server_stops_in_time_though_a_client_reads_nothing() {
    bounded(|| {
        let log = Log::new();
        let notes = log.clone();
        let config = patient().close_timeout(SOON);
        let serving = Serving::recording(config, &log, move |ws, call| {
            if matches!(call, Call::Text(_)) {
                ws.send(&vec![7; 12 << 20])?;
                assert!(ws.buffered() > 0, "the system took all of it");
                notes.note("sent");
            }
            Ok(())
        });
        let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
        peer.send(TEXT, b"go");
        log.wait_for(&Call::Note("sent".to_owned()));
        let running = serving.into_running();
        running.stop();
        running.join().unwrap();
        let end = log.wait_end();
        assert_eq!((end.code, end.initiator, end.clean), (1006, Initiator::Local, false));
        drop(peer);
    });
}
