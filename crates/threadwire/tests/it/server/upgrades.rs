//! Upgrades on a server: requests in pieces, answers, subprotocols, bytes behind the request.

use crate::common::peer::{Peer, TEXT, masked, request, request_with};
use crate::common::recorder::{Call, Log};
use crate::common::{Serving, bind, bounded, echo, ignore, patient};
use threadwire::{Connection, Error, Message, Reply, Request, Response};

/// Routes as a program would.
pub(super) fn route(request: &Request) -> Reply {
    match request.path() {
        "/echo" => Reply::with(echo),
        "/health" => Reply::status(200),
        "/teapot" => Reply::respond(
            Response::new(403)
                .unwrap()
                .with_header("X-Reason", "teapot")
                .unwrap()
                .with_body("short and stout\n"),
        ),
        "/cookie" => Reply::with(echo).header("Set-Cookie", "id=1").unwrap().header("X-Other", "2").unwrap(),
        "/chat" => Reply::with(echo).subprotocol("chat.v2").unwrap(),
        "/query" => {
            let query = request.query().unwrap_or("none").to_owned();
            Reply::with(move |ws: &Connection, _: Message<'_>| ws.send(&query))
        }
        _ => Reply::status(404),
    }
}

/// Head and body of the server's answer to these bytes, up to the end of the stream.
fn answer_to(serving: &Serving, bytes: &str) -> (String, String) {
    let mut peer = Peer::connect(serving.addr);
    peer.bytes(bytes);
    let head = peer.head();
    // The server ends first: nothing that it said gets lost.
    (head, peer.rest())
}

fn routing() -> Serving {
    Serving::with(bind().config(patient()), route)
}

#[test]
pub(super) fn routes_by_path() {
    bounded(|| {
        let serving = routing();
        let mut peer = Peer::open(serving.addr, "/echo?with=query");
        peer.send(TEXT, b"hello");
        assert_eq!(peer.text(), "hello");
        let mut peer = Peer::open(serving.addr, "/query?a=1&b=2");
        peer.send(TEXT, b"");
        assert_eq!(peer.text(), "a=1&b=2");
        let (head, body) = answer_to(&serving, &request("/elsewhere"));
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
        assert!(
            head.contains("\r\nConnection: close\r\n") && head.contains("\r\nContent-Length: 0\r\n"),
            "{head}"
        );
        assert_eq!(body, "");
    });
}

#[test]
fn answers_with_a_response_of_the_programs_own() {
    bounded(|| {
        let (head, body) = answer_to(&routing(), &request("/teapot"));
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
        assert!(head.contains("\r\nX-Reason: teapot\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Length: 16\r\n"), "{head}");
        assert_eq!(body, "short and stout\n");
    });
}

#[test]
fn a_long_response_arrives_whole_though_the_peer_goes_on_sending() {
    bounded(|| {
        let body = "long ".repeat(1 << 20);
        let sent = body.clone();
        let serving = Serving::with(bind().config(patient()), move |_| {
            Reply::respond(Response::new(403).unwrap().with_body(sent.clone()))
        });
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(request("/"));
        peer.bytes(vec![0; 100_000]);
        peer.head();
        assert!(peer.rest() == body);
    });
}

#[test]
fn answers_a_health_check_that_is_plain_http() {
    bounded(|| {
        let serving = routing();
        let (head, _) = answer_to(&serving, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let (head, _) = answer_to(&serving, "GET /health HTTP/1.0\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    });
}

#[test]
fn adds_headers_to_the_101() {
    bounded(|| {
        let serving = routing();
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(request("/cookie"));
        let head = peer.head();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        assert!(head.contains("\r\nSet-Cookie: id=1\r\nX-Other: 2\r\n"), "{head}");
        peer.send(TEXT, b"hello");
        assert_eq!(peer.text(), "hello");
    });
}

#[test]
fn refuses_headers_that_must_not_be_sent() {
    for (name, value) in
        [("X-A", "1\r\nX-B: 2"), ("X-A", "1\n"), ("X A", "1"), ("", "1"), ("X-A\r\nX-B", "1")]
    {
        let refused = Reply::with(echo).header(name, value);
        assert!(matches!(refused, Err(Error::Handshake(_))), "{name:?}: {value:?}: {refused:?}");
    }
}

#[test]
fn refuses_headers_that_belong_to_the_handshake() {
    for name in ["Upgrade", "connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Content-Length"]
    {
        let refused = Reply::with(echo).header(name, "1");
        assert!(matches!(refused, Err(Error::Handshake(_))), "{name}: {refused:?}");
    }
}

#[test]
fn chooses_a_subprotocol_that_is_offered_and_no_other() {
    bounded(|| {
        let serving = routing();
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(request_with("/chat", "Sec-WebSocket-Protocol: chat.v1, chat.v2\r\n"));
        let head = peer.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Protocol: chat.v2\r\n"), "{head}");

        for offer in ["", "Sec-WebSocket-Protocol: chat.v1\r\n"] {
            let (head, body) = answer_to(&serving, &request_with("/chat", offer));
            assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
            assert!(!body.contains("chat"), "nothing of our mistake is told: {body}");
        }

        // A subprotocol that was offered and not chosen is not mentioned.
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(request_with("/echo", "Sec-WebSocket-Protocol: chat.v1\r\n"));
        assert!(!peer.head().contains("Protocol: "));
    });
}

#[test]
fn answers_requests_that_break_the_rules_with_what_is_wrong() {
    let fine = request("/echo");
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n", "x".repeat(20_000));
    let long_head = request_with("/echo", &format!("X-Long: {}\r\n", "x".repeat(20_000)));
    let many = request_with("/echo", &"X-Many: 1\r\n".repeat(200));
    let cases = [
        ("400", fine.replace("Host: 127.0.0.1\r\n", "")),
        ("400", fine.replace("dGhlIHNhbXBsZSBub25jZQ==", "dG9vIHNob3J0")),
        ("400", fine.replace("Connection: Upgrade", "Connection: keep-alive")),
        ("400", fine.replace("Upgrade: websocket\r\n", "Upgrade: websocket\r\n folded\r\n")),
        ("400", request_with("/echo", "Content-Length: 1\r\n")),
        ("405", fine.replace("GET ", "POST ")),
        ("414", long_target),
        ("426", fine.replace("Upgrade: websocket\r\n", "")),
        ("426", fine.replace("Version: 13", "Version: 8")),
        ("431", long_head),
        ("431", many),
        ("505", fine.replace("HTTP/1.1", "HTTP/1.0")),
    ];
    bounded(move || {
        let serving = routing();
        for (status, bytes) in cases {
            let (head, body) = answer_to(&serving, &bytes);
            let request: String = bytes.chars().take(300).collect();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}\nto {request}");
            assert!(!body.is_empty() && body.is_ascii(), "{body:?}");
            if status == "426" {
                assert!(head.contains("\r\nUpgrade: websocket\r\n"), "{head}");
                assert!(head.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{head}");
            }
            if status == "405" {
                assert!(head.contains("\r\nAllow: GET\r\n"), "{head}");
            }
        }
        serving.bystander().noticed_nothing();
    });
}

#[test]
fn the_limits_on_heads_are_those_of_the_config() {
    bounded(|| {
        let config = patient().max_head(1000).max_headers(8);
        let serving = Serving::with(bind().config(config), route);
        let padding = 1000 - request_with("/echo", "X-Pad: \r\n").len();
        let at_limit = request_with("/echo", &format!("X-Pad: {}\r\n", "x".repeat(padding)));
        assert_eq!(at_limit.len(), 1000);
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(&at_limit);
        assert!(peer.head().starts_with("HTTP/1.1 101 "));
        let over = request_with("/echo", &format!("X-Pad: {}\r\n", "x".repeat(padding + 1)));
        assert!(answer_to(&serving, &over).0.starts_with("HTTP/1.1 431 "));
        let over = request_with("/echo", &"X-Pad: x\r\n".repeat(4));
        assert!(answer_to(&serving, &over).0.starts_with("HTTP/1.1 431 "));
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(request_with("/echo", &"X-Pad: x\r\n".repeat(3)));
        assert!(peer.head().starts_with("HTTP/1.1 101 "));
    });
}

#[test]
fn frames_sent_together_with_the_request_are_heard() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, ignore);
        let mut peer = Peer::connect(serving.addr);
        let last = masked(TEXT, b"three");
        let bytes =
            [request("/").into_bytes(), masked(TEXT, b"one"), masked(TEXT, b"two"), last.clone()].concat();
        let (head, tail) = bytes.split_at(bytes.len() - 3);
        peer.bytes(head);
        assert!(peer.head().starts_with("HTTP/1.1 101 "));
        peer.bytes(tail);
        let calls = log.wait(|calls| calls.len() == 4);
        assert_eq!(calls, [Call::Open, Call::text("one"), Call::text("two"), Call::text("three")]);
    });
}

#[test]
fn frames_behind_a_request_that_came_in_pieces_are_heard() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, ignore);
        let bytes =
            [request("/").into_bytes(), masked(TEXT, b"one"), masked(TEXT, &[b'x'; 200_000])].concat();
        let mut peers = Vec::new();
        for cut in [1, 20, request("/").len() - 1, request("/").len() + 3] {
            let before = log.calls().len();
            let mut peer = Peer::connect(serving.addr);
            peer.bytes(&bytes[..cut]);
            // The bytes so far have been read when this request is answered.
            Peer::open(serving.addr, "/echo");
            peer.bytes(&bytes[cut..]);
            assert!(peer.head().starts_with("HTTP/1.1 101 "));
            let calls = log.wait(|calls| calls.len() == before + 3);
            assert_eq!(calls[before..before + 2], [Call::Open, Call::text("one")]);
            assert!(matches!(&calls[before + 2], Call::Text(text) if text.len() == 200_000));
            // The log would have its end.
            peers.push(peer);
        }
    });
}

#[test]
fn a_request_that_arrives_byte_by_byte_is_served() {
    bounded(|| {
        let serving = routing();
        let mut peer = Peer::connect(serving.addr);
        for byte in request("/echo").bytes() {
            peer.bytes([byte]);
        }
        assert!(peer.head().starts_with("HTTP/1.1 101 "));
        peer.send(TEXT, b"hello");
        assert_eq!(peer.text(), "hello");
    });
}

#[test]
fn a_second_request_behind_one_that_is_refused_is_not_answered() {
    bounded(|| {
        let serving = routing();
        let two = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2);
        let (head, rest) = answer_to(&serving, &two);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(rest, "");
    });
}

#[test]
fn a_second_request_behind_an_upgrade_is_no_frame() {
    bounded(|| {
        let serving = routing();
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(request("/echo").repeat(2));
        assert!(peer.head().starts_with("HTTP/1.1 101 "));
        assert_eq!(peer.code(), 1002);
        assert!(peer.ended_orderly());
    });
}
