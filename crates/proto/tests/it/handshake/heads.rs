//! Tests of reading HTTP heads: pieces, limits, garbage, and the bytes behind them.

use crate::common::fixed_cases;
use proptest::prelude::*;
use threadwire_proto::handshake::{Answer, HandshakeError, HeadReader, Limits, Request, RequestBuilder};

const REQUEST: &[u8] =
    b"GET /chat?room=1 HTTP/1.1\r\nHost: example.com\r\nX-Empty:\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const FRAMES: &[u8] = b"\x81\x02hi\r\n\r\n\x00\xff";

fn limits(max_head: usize, max_headers: usize) -> Limits {
    Limits::default().max_head(max_head).max_headers(max_headers)
}

fn parse_request(head: &[u8]) -> Result<Option<(Request, usize)>, HandshakeError> {
    Request::parse(head, &Limits::default())
}

fn parse_answer(head: &[u8]) -> Result<Option<(Answer, usize)>, HandshakeError> {
    Answer::parse(head, &Limits::default())
}

#[test]
fn every_split_of_a_request_gives_the_same_request() {
    let whole = parse_request(REQUEST).unwrap().unwrap();
    assert_eq!(whole.1, REQUEST.len());
    for split in 0..REQUEST.len() {
        assert_eq!(parse_request(&REQUEST[..split]).unwrap(), None, "split at {split}");
        let mut reader = HeadReader::new(Limits::default());
        assert_eq!(reader.request(&REQUEST[..split]).unwrap(), None, "split at {split}");
        assert_eq!(reader.request(REQUEST).unwrap().unwrap(), whole, "split at {split}");
    }
}

#[test]
fn every_split_of_an_answer_gives_the_same_answer() {
    let whole = parse_answer(ANSWER).unwrap().unwrap();
    assert_eq!(whole.1, ANSWER.len());
    for split in 0..ANSWER.len() {
        assert_eq!(parse_answer(&ANSWER[..split]).unwrap(), None, "split at {split}");
        let mut reader = HeadReader::new(Limits::default());
        assert_eq!(reader.answer(&ANSWER[..split]).unwrap(), None, "split at {split}");
        assert_eq!(reader.answer(ANSWER).unwrap().unwrap(), whole, "split at {split}");
    }
}

#[test]
fn reads_byte_by_byte() {
    let mut reader = HeadReader::new(Limits::default());
    for end in 0..REQUEST.len() {
        assert_eq!(reader.request(&REQUEST[..end]).unwrap(), None);
    }
    assert!(reader.request(REQUEST).unwrap().is_some());
}

#[test]
fn what_follows_the_head_is_left_alone() {
    let (_, head) = parse_request(&[REQUEST, FRAMES].concat()).unwrap().unwrap();
    assert_eq!(head, REQUEST.len());
    let (_, head) = parse_answer(&[ANSWER, FRAMES].concat()).unwrap().unwrap();
    assert_eq!(head, ANSWER.len());
}

#[test]
fn reads_one_head_after_another() {
    let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    let both = [&interim[..], ANSWER].concat();
    let mut reader = HeadReader::new(Limits::default());
    assert_eq!(reader.answer(&both[..20]).unwrap(), None);
    let (first, head) = reader.answer(&both).unwrap().unwrap();
    assert!(first.is_interim());
    let (second, _) = reader.answer(&both[head..]).unwrap().unwrap();
    assert_eq!((second.status(), second.is_interim()), (101, false));
}

#[test]
fn looks_at_each_byte_once_however_slowly_it_comes() {
    let mut reader = HeadReader::new(Limits::default());
    let start = b"GET / HTTP/1.1\r\nHost: a\r\nX: ";
    assert_eq!(reader.request(start), Ok(None));
    // Where it has looked there is garbage now, which it would refuse if it came back.
    let mut buffer = vec![0; start.len()];
    for _ in 0..1000 {
        buffer.push(b'x');
        assert_eq!(reader.request(&buffer), Ok(None));
        *buffer.last_mut().unwrap() = 0;
    }
}

#[test]
fn refuses_a_head_over_the_limit_before_it_ends() {
    let refused = |head: &[u8], limit| Request::parse(head, &limits(limit, 128)).unwrap_err();
    let fits = REQUEST.len();
    assert!(Request::parse(REQUEST, &limits(fits, 128)).unwrap().is_some());
    assert_eq!(refused(REQUEST, fits - 1), HandshakeError::HeadTooLarge { limit: fits - 1 });
    assert!(Request::parse(&REQUEST[..99], &limits(100, 128)).unwrap().is_none());
    assert_eq!(refused(&REQUEST[..100], 100), HandshakeError::HeadTooLarge { limit: 100 });
    assert_eq!(refused(&REQUEST[..100], 100).response().status(), 431);
    assert_eq!(refused(b"GET /aaaaaaaaaaaaaaaa", 20), HandshakeError::StartLineTooLong { limit: 20 });
    assert_eq!(refused(b"GET /aaaaaaaaaaaaaaaa", 20).response().status(), 414);
    let answer = Answer::parse(&ANSWER[..100], &limits(100, 128)).unwrap_err();
    assert_eq!(answer, HandshakeError::HeadTooLarge { limit: 100 });
}

#[test]
fn the_default_limits_hold() {
    let head = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4)).into_bytes()
    };
    assert!(parse_request(&head(16 * 1024)).unwrap().is_some());
    assert_eq!(parse_request(&head(16 * 1024 + 1)), Err(HandshakeError::HeadTooLarge { limit: 16 * 1024 }));
}

#[test]
fn refuses_too_many_headers_before_the_head_ends() {
    let head = |count: usize| format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(count)).into_bytes();
    let whole = [head(128), b"\r\n".to_vec()].concat();
    assert_eq!(parse_request(&whole).unwrap().unwrap().0.headers().len(), 128);
    let error = parse_request(&head(129)).unwrap_err();
    assert_eq!(error, HandshakeError::TooManyHeaders { limit: 128 });
    assert_eq!(error.response().status(), 431);
    let none = Request::parse(b"GET / HTTP/1.1\r\n\r\n", &limits(1000, 0)).unwrap();
    assert!(none.unwrap().0.headers().is_empty());
}

#[test]
fn refuses_other_protocols_from_their_first_bytes() {
    for (start, place) in [
        (&b"\x16\x03\x01\x02\x00\x01"[..], "TLS"),
        (b"\x81\x85abcd", "\\x81"),
        (b"\r\n GET / HTTP/1.1", " "),
        (b" GET / HTTP/1.1", " "),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0-OpenSSH_9.6"),
        (b"{\"json\":", "{"),
        (b"GET\t/", "GET\\t"),
        (b"\0", "\\x00"),
    ] {
        let error = parse_request(start).unwrap_err();
        assert!(matches!(error, HandshakeError::NotHttp { .. }), "{error}");
        assert!(error.to_string().contains(place), "{error}");
        assert_eq!(error.response().status(), 400);
    }
    for start in [
        &b"h"[..],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x03",
        b"HTTP/2",
        b"HTTPS",
        b"GET / HTTP/1.1",
        b"\n",
    ] {
        let error = parse_answer(start).unwrap_err();
        assert!(matches!(error, HandshakeError::NotHttp { .. }), "{error}");
    }
}

#[test]
fn refuses_a_broken_line_where_it_ends() {
    for (head, line) in [
        ("GET /\r\n", 1),
        ("GET / HTTP/1.1 \r\n", 1),
        ("GET  / HTTP/1.1\r\n", 1),
        ("GET / b HTTP/1.1\r\n", 1),
        ("GET / FTP/1.1\r\n", 1),
        ("GET /\x07 HTTP", 1),
        ("GET / HTTP/1.1\n", 1),
        ("GET / HTTP/1.1\rH", 1),
        ("GET / HTTP/1.1\r\nHost\r\n", 2),
        ("GET / HTTP/1.1\r\n: a\r\n", 2),
        ("GET / HTTP/1.1\r\nHost : a\r\n", 2),
        ("GET / HTTP/1.1\r\n Host: a", 2),
        ("GET / HTTP/1.1\r\nHost: a\r\n b", 3),
        ("GET / HTTP/1.1\r\nHost: a\r\n\tb", 3),
        ("GET / HTTP/1.1\r\nHost: a\n", 2),
        ("GET / HTTP/1.1\r\nHost: a\rb", 2),
        ("GET / HTTP/1.1\r\nHost: a\r\r", 2),
        ("GET / HTTP/1.1\r\nHost: a\0", 2),
        ("GET / HTTP/1.1\r\nHost: a\r\nB: \x1b", 3),
        ("GET / HTTP/1.1\r\nHost: a\r\nB\u{e9}: c\r\n", 3),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", 3),
        ("\r\n\rGET / HTTP/1.1", 1),
    ] {
        match parse_request(head.as_bytes()) {
            Err(error @ HandshakeError::Malformed { line: found, .. }) => {
                assert_eq!(found, line, "{head:?}: {error}");
                assert_eq!(error.response().status(), 400);
            }
            other => panic!("{head:?} gave {other:?}"),
        }
    }
    for (head, line) in [
        ("HTTP/1.1\r\n", 1),
        ("HTTP/1.1 10\r\n", 1),
        ("HTTP/1.1 1010\r\n", 1),
        ("HTTP/1.1 abc\r\n", 1),
        ("HTTP/1.1 101 \x08", 1),
        ("HTTP/1.1 101 ok\r\nUpgrade\r\n", 2),
        ("HTTP/1.1 101 ok\nUpgrade\n", 2),
        ("HTTP/1.1 101 ok\r\n : a\r\n", 2),
        ("HTTP/1.1 101 ok\r\nUp grade : a\r\n", 2),
        ("HTTP/1.1 101 ok\r\n Upgrade: a", 2),
        ("HTTP/1.1 101 ok\r\nUpgrade: a\rb", 2),
        ("HTTP/1.1 101 ok\r\nUpgrade: a\r\r\n", 2),
        ("HTTP/1.1 101 ok\r\nUpgrade: a\0", 2),
        ("HTTP/1.1 101 ok\r\nUpgrade: a\r\n \t\r\n", 3),
        ("HTTP/1.1 101 ok\r\nUpgrade: a\n \0", 3),
    ] {
        match parse_answer(head.as_bytes()) {
            Err(HandshakeError::Malformed { line: found, .. }) => assert_eq!(found, line, "{head:?}"),
            other => panic!("{head:?} gave {other:?}"),
        }
    }
}

#[test]
fn says_what_is_wrong_with_a_line() {
    for (head, message) in [
        (&b"GET / HTTP/1.1\n"[..], "line 1 of the head: it ends with a bare LF, expected CR LF"),
        (b"GET / HTTP/1.1\rx", "a CR that no LF follows"),
        (b"GET / HTTP/1.1\r\nA: b\r\n c", "line 3 of the head: it begins with white space"),
        (b"GET / HTTP/1.1\r\nA: \0", "a control character"),
        (b"GET / HTTP/1.1\r\nA : b\r\n", "a colon right behind it"),
        (b"GET /a b HTTP/1.1\r\n", "its HTTP version cannot be read"),
    ] {
        let error = parse_request(head).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn refuses_other_http_versions_with_505() {
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/3", "HTTP/1.7"] {
        let error = parse_request(format!("GET / {version}\r\n").as_bytes()).unwrap_err();
        assert_eq!(error, HandshakeError::HttpVersion { found: format!("\"{version}\"") });
        assert_eq!(error.response().status(), 505);
    }
    let preface = parse_request(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap_err();
    assert_eq!(preface.response().status(), 505);
    let answer = parse_answer(b"HTTP/1.7 101 ok\r\n").unwrap_err();
    assert_eq!(answer, HandshakeError::HttpVersion { found: "\"HTTP/1.7\"".into() });
}

#[test]
fn accepts_status_lines_with_any_reason_or_none() {
    for (line, reason) in [
        ("101 Switching Protocols", "Switching Protocols"),
        ("101 null", "null"),
        ("101 ", ""),
        ("101", ""),
        ("101 WebSocket Protocol Handshake", "WebSocket Protocol Handshake"),
        ("101 \u{e9}", ""),
    ] {
        let (answer, _) = parse_answer(format!("HTTP/1.1 {line}\r\n\r\n").as_bytes()).unwrap().unwrap();
        assert_eq!((answer.status(), answer.reason()), (101, reason), "{line:?}");
    }
}

/// An answer as it should be, and the same in all the ways in which a user agent may take it.
#[test]
fn an_answer_may_be_written_in_every_way_that_can_be_read() {
    let read = |head: &[u8]| {
        let whole = parse_answer(head).unwrap_or_else(|error| panic!("{}: {error}", head.escape_ascii()));
        for split in 0..head.len() {
            let mut reader = HeadReader::new(Limits::default());
            assert_eq!(
                reader.answer(&head[..split]).unwrap(),
                None,
                "{} split at {split}",
                head.escape_ascii()
            );
            assert_eq!(reader.answer(head).unwrap(), whole, "{} split at {split}", head.escape_ascii());
        }
        let (answer, length) = whole.expect("a whole head");
        assert_eq!(length, head.len());
        let (_, length) = parse_answer(&[head, FRAMES].concat()).unwrap().expect("a whole head");
        assert_eq!(length, head.len(), "what follows is left alone");
        answer
    };
    let proper =
        read(b"HTTP/1.1 101 ok\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nX:\r\n\r\n");
    for loose in [
        // RFC 9112, section 2.2.
        "HTTP/1.1 101 ok\nUpgrade: websocket\nConnection: keep-alive, Upgrade\nX:\n\n",
        "HTTP/1.1 101 ok\r\nUpgrade: websocket\nConnection: keep-alive, Upgrade\r\nX:\n\r\n",
        "HTTP/1.1 101 ok\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nX:\r\n\n",
        // Section 5.1.
        "HTTP/1.1 101 ok\r\nUpgrade : websocket\r\nConnection \t: keep-alive, Upgrade\r\nX :\r\n\r\n",
        // Section 5.2.
        "HTTP/1.1 101 ok\r\nUpgrade:\r\n websocket\r\nConnection: keep-alive,\r\n\t\tUpgrade\r\nX:\r\n\r\n",
        "HTTP/1.1 101 ok\r\nUpgrade :\n websocket \nConnection:\n\tkeep-alive,\n Upgrade\r\nX:\n\n",
        // Section 4.
        "HTTP/1.1   101 ok\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nX:\r\n\r\n",
    ] {
        assert_eq!(read(loose.as_bytes()), proper, "{loose:?}");
    }
    let folded = read(b"HTTP/1.1 101 ok\r\nX: a\r\n b: c\r\n\t d\r\nY: e\r\n\r\n");
    assert_eq!(
        (folded.header("X"), folded.header("Y"), folded.headers().len()),
        (Some("a b: c d"), Some("e"), 2)
    );
    // A folded line is no field of its own, but counts for the size of the head.
    let folded = format!("HTTP/1.1 101 ok\r\nX: a\r\n{}\r\n", " b\r\n".repeat(50));
    assert!(Answer::parse(folded.as_bytes(), &limits(1000, 1)).unwrap().is_some());
    let error = Answer::parse(folded.as_bytes(), &limits(folded.len() - 1, 1)).unwrap_err();
    assert_eq!(error, HandshakeError::HeadTooLarge { limit: folded.len() - 1 });
}

#[test]
fn empty_lines_in_front_of_a_request_are_passed_over() {
    let whole = parse_request(REQUEST).unwrap().unwrap().0;
    for empty in ["\r\n", "\r\n\r\n"] {
        let head = [empty.as_bytes(), REQUEST].concat();
        for split in 0..head.len() {
            let mut reader = HeadReader::new(Limits::default());
            assert_eq!(reader.request(&head[..split]).unwrap(), None, "split at {split}");
            let (request, length) = reader.request(&[&head, FRAMES].concat()).unwrap().unwrap();
            assert_eq!((request, length), (whole.clone(), head.len()), "split at {split}");
        }
        assert!(
            Request::parse(&head, &limits(head.len() - 1, 128)).is_err(),
            "they count for the size of the head"
        );
    }
    let endless = "\r\n".repeat(1000);
    assert!(Request::parse(endless.as_bytes(), &limits(2000, 128)).is_err());
}

/// Each of them is read in two ways by somebody between a client and a server, or by two of them (RFC 9112, section 11.2): a server
/// that refuses them all can't be the one to whom a request is smuggled, nor help to.
#[test]
fn nothing_that_smuggling_needs_is_taken_by_a_server() {
    let upgraded = |head: &[u8]| {
        let (request, length) = parse_request(head)?.ok_or(HandshakeError::Target)?;
        request.upgrade().map(|_| length)
    };
    let with = |line: &str| {
        let head = REQUEST.strip_suffix(b"\r\n").unwrap();
        [head, line.as_bytes(), b"\r\n"].concat()
    };
    assert_eq!(upgraded(&with("X: a\r\n")), Ok(REQUEST.len() + 6), "nothing else is wrong with it");
    for line in [
        // Bodies, and disagreement about their length.
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 0, 0\r\n",
        "Content-Length: 0, 5\r\n",
        "Content-Length: +0\r\n",
        "Content-Length: -0\r\n",
        "Content-Length: 0x0\r\n",
        "Content-Length: 00\r\n",
        "Content-Length: 0 5\r\n",
        "Content-Length:\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: Chunked\r\n",
        "transfer-encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        // Names that are almost one.
        "Transfer-Encoding : chunked\r\n",
        "Content-Length\t: 5\r\n",
        " Transfer-Encoding: chunked\r\n",
        "Transfer\tEncoding: chunked\r\n",
        "Transfer-Encoding\0: chunked\r\n",
        "Transfer-Encoding\u{a0}: chunked\r\n",
        ": chunked\r\n",
        "Transfer-Encoding\r\n",
        // Folded lines.
        "X: a\r\n Transfer-Encoding: chunked\r\n",
        "X: a\r\n\tb\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Content-Length:\r\n 0\r\n",
        " \r\n",
        // Line ends that are none, or that not everybody takes for one.
        "X: a\nTransfer-Encoding: chunked\r\n",
        "X: a\rTransfer-Encoding: chunked\r\n",
        "X: a\r\r\n",
        "X: a\n",
        "X: a\r",
        "\rX: a\r\n",
        "\nX: a\r\n",
        // Characters that end a value for somebody.
        "X: a\0Transfer-Encoding: chunked\r\n",
        "X: a\x0bb\r\n",
        "X: a\x0cb\r\n",
        "X: a\x7fb\r\n",
        // Two hosts, or none that is one.
        "Host: other\r\n",
        "Host: example.com\r\n",
    ] {
        assert!(upgraded(&with(line)).is_err(), "{line:?}");
    }
    let rest = &REQUEST[b"GET /chat?room=1 HTTP/1.1\r\n".len()..];
    for line in [
        "GET /chat HTTP/1.1\n",
        "GET /chat HTTP/1.1\r",
        "GET /chat HTTP/1.1 \r\n",
        "GET /chat  HTTP/1.1\r\n",
        "GET  /chat HTTP/1.1\r\n",
        "GET\t/chat\tHTTP/1.1\r\n",
        "GET /chat\tHTTP/1.1\r\n",
        "GET /a b HTTP/1.1\r\n",
        "GET /chat HTTP/1.1\r\n\r",
        "GET /chat HTTP/1.1\r\n ",
        "GET /chat HTTP/1.1, HTTP/1.1\r\n",
        "GET /chat HTTP/01.1\r\n",
        "GET /chat HTTP/1.10\r\n",
        "GET /chat HTTP/1.0\r\n",
        "GET /chat\r\n",
        "GET /chat\0 HTTP/1.1\r\n",
        "GET : HTTP/1.1\r\n",
        "GET http://user@example.com/ HTTP/1.1\r\n",
        "GET http://example.com\\@other/ HTTP/1.1\r\n",
        "GET ws://a,b/ HTTP/1.1\r\n",
        "POST /chat HTTP/1.1\r\n",
        " GET /chat HTTP/1.1\r\n",
        "\nGET /chat HTTP/1.1\r\n",
        "\r\r\nGET /chat HTTP/1.1\r\n",
        "\r\n GET /chat HTTP/1.1\r\n",
        "\0GET /chat HTTP/1.1\r\n",
    ] {
        assert!(upgraded(&[line.as_bytes(), rest].concat()).is_err(), "{line:?}");
    }
}

#[test]
fn an_error_stays_an_error_as_more_arrives() {
    let mut reader = HeadReader::new(Limits::default());
    let error = reader.request(b"GET / HTTP/1.1\r\nHost\r\n").unwrap_err();
    assert_eq!(reader.request(b"GET / HTTP/1.1\r\nHost\r\nA: b\r\n\r\n").unwrap_err(), error);
}

/// Bytes that get further into the parsers than random ones do.
fn almost_a_head() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "GET ",
        "/",
        "?a=b",
        " HTTP/1.1",
        "\r\n",
        "\r",
        "\n",
        ":",
        " ",
        "\t",
        ",",
        ";",
        "=",
        "\"",
        "\\",
        "websocket",
        "HTTP/1.1 101",
        "HTTP/1.",
        "Host: a",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "\u{e9}",
        "\0",
        "Upgrade: websocket",
        "Sec-WebSocket-Extensions: ",
        "Sec-WebSocket-Protocol: ",
        "Sec-WebSocket-Key: ",
        "dGhlIHNhbXBsZSBub25jZQ==",
        "http://",
        "[::1]",
        "@",
        "#",
        "*",
    ]);
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat().into_bytes())
}

fn mutated(head: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    (0..head.len(), any::<u8>(), 0..3usize).prop_map(|(at, byte, kind)| {
        let mut head = head.to_vec();
        match kind {
            0 => head[at] = byte,
            1 => head.insert(at, byte),
            _ => drop(head.remove(at)),
        }
        head
    })
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        almost_a_head(),
        almost_a_head().prop_map(|rest| [b"GET / HTTP/1.1\r\n", &rest[..], b"\r\n\r\n"].concat()),
        almost_a_head().prop_map(|rest| [b"HTTP/1.1 101 x\r\n", &rest[..], b"\r\n\r\n"].concat()),
        mutated(REQUEST),
        mutated(ANSWER),
    ]
}

/// What a reader says in the end of a buffer that grows up to each of the cuts.
fn in_pieces<T>(
    bytes: &[u8],
    cuts: &[usize],
    read: impl Fn(&mut HeadReader, &[u8]) -> Result<Option<T>, HandshakeError>,
) -> Result<Option<T>, HandshakeError> {
    let mut cuts: Vec<usize> = cuts.iter().map(|&cut| cut.min(bytes.len())).collect();
    cuts.sort();
    cuts.push(bytes.len());
    let mut reader = HeadReader::new(Limits::default());
    let mut steps = cuts.iter().map(|&cut| read(&mut reader, &bytes[..cut]));
    steps.find(|step| !matches!(step, Ok(None))).unwrap_or(Ok(None))
}

proptest! {
    #![proptest_config(fixed_cases(4000))]

    #[test]
    fn pieces_change_nothing_whatever_the_bytes(
        bytes in any_bytes(),
        cuts in prop::collection::vec(0..300usize, 0..4),
    ) {
        prop_assert_eq!(in_pieces(&bytes, &cuts, HeadReader::request), parse_request(&bytes));
        prop_assert_eq!(in_pieces(&bytes, &cuts, HeadReader::answer), parse_answer(&bytes));
    }

    #[test]
    fn no_bytes_make_a_server_panic(bytes in any_bytes()) {
        if let Ok(Some((request, head))) = parse_request(&bytes) {
            prop_assert!(head <= bytes.len() && bytes[..head].ends_with(b"\r\n\r\n"));
            let _ = (request.path(), request.query(), request.host(), request.subprotocols().count());
            match request.upgrade() {
                Ok(upgrade) => upgrade.encode(&mut Vec::new()),
                Err(error) => {
                    prop_assert!(error.to_string().len() < 1000);
                    prop_assert!((400..=505).contains(&error.response().status()));
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_a_client_panic_or_accept_them(bytes in any_bytes()) {
        // The nonce of the only proper answer among the bytes is another one.
        let client = RequestBuilder::new("a", "/").unwrap().build_with_nonce([0; 16]);
        if let Ok(Some((answer, head))) = parse_answer(&bytes) {
            prop_assert!(head <= bytes.len() && [&b"\n\r\n"[..], b"\n\n"].iter().any(|end| bytes[..head].ends_with(end)));
            let _ = answer.content_length();
            prop_assert!(client.verify(answer).is_err());
        }
    }
}
