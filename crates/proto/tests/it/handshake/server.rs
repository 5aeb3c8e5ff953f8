//! Tests of the server's handshake: every rule of RFC 6455, section 4.2.1, and the answers to those who break them.

use threadwire_proto::handshake::{
    Answer, Extension, HandshakeError, HeaderError, Limits, Request, RequestBuilder, Response, Upgrade,
    accept_key,
};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn parse(head: &str) -> Request {
    Request::parse(head.as_bytes(), &Limits::default()).unwrap().expect("a whole head").0
}

/// A proper request in which all lines of each `(name, lines)` are replaced by others.
fn request_with(changes: &[(&str, &[&str])]) -> Request {
    let mut lines = vec![
        "Host: example.com".to_owned(),
        "Upgrade: websocket".to_owned(),
        "Connection: Upgrade".to_owned(),
        format!("Sec-WebSocket-Key: {KEY}"),
        "Sec-WebSocket-Version: 13".to_owned(),
    ];
    for (name, replacements) in changes {
        lines.retain(|line| !line.starts_with(&format!("{name}:")));
        lines.extend(replacements.iter().map(|value| format!("{name}: {value}")));
    }
    parse(&format!("GET /chat HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n")))
}

fn request_line(line: &str) -> Request {
    parse(&format!(
        "{line}\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ))
}

fn encoded(response: &Response) -> String {
    let mut out = Vec::new();
    response.encode(&mut out);
    String::from_utf8(out).unwrap()
}

fn accepted(upgrade: &Upgrade) -> Answer {
    let mut out = Vec::new();
    upgrade.encode(&mut out);
    let (answer, head) = Answer::parse(&out, &Limits::default()).unwrap().unwrap();
    assert_eq!(head, out.len(), "nothing but a head: frames follow");
    answer
}

#[test]
fn the_rfcs_own_example_gets_the_rfcs_own_answer() {
    assert_eq!(accept_key(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let request = parse(
        "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
         Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(request.origin(), Some("http://example.com"));
    let mut upgrade = request.upgrade().unwrap();
    upgrade.set_subprotocol("chat").unwrap();
    let mut out = Vec::new();
    upgrade.encode(&mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
}

#[test]
fn accepts_what_only_looks_unusual() {
    for changes in [
        &[][..],
        // Firefox.
        &[("Connection", &["keep-alive, Upgrade"][..])],
        &[("Connection", &["keep-alive", "upgrade"])],
        &[("Connection", &["UPGRADE"]), ("Upgrade", &["WebSocket"])],
        &[("Upgrade", &["h2c, WEBSOCKET"])],
        &[("Upgrade", &["h2c", "websocket"])],
        &[("Host", &["example.com:8080"])],
        &[("Host", &["[2001:db8::1]:80"])],
        &[("Host", &["my_service.internal"])],
        &[("Content-Length", &["0"])],
        &[("Sec-WebSocket-Key", &["\t dGhlIHNhbXBsZSBub25jZQ== \t"])],
        &[("Origin", &["null"])],
        &[("Sec-WebSocket-Protocol", &["a, b", "c"])],
        &[("Sec-WebSocket-Protocol", &[""])],
        // Nothing of that is spoken here.
        &[("Sec-WebSocket-Protocol", &["a b, \"c\", d, d,, (", "d"])],
        &[("Sec-WebSocket-Extensions", &["permessage-deflate;"])],
        &[("Sec-WebSocket-Extensions", &["a b", ";"])],
        &[("Host", &["[fe80::1%25lo]:9001"])],
        &[("Host", &["[fe80::1%eth0.1]"])],
        &[("X-Latin", &["caf\u{e9}"])],
        &[("Cookie", &["a=1", "b=2"])],
    ] {
        let upgrade = request_with(changes).upgrade();
        assert_eq!(
            upgrade.as_ref().map(Upgrade::accept_key),
            Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "{changes:?}"
        );
    }
    let any_case = format!(
        "GET / HTTP/1.1\r\nhOST: a\r\nupgrade: websocket\r\nCONNECTION: Upgrade\r\n\
         sec-websocket-key: {KEY}\r\nSEC-WEBSOCKET-VERSION: 13\r\n\r\n"
    );
    parse(&any_case).upgrade().unwrap();
    // Section 1.2 of the RFC has a key whose last character has bits that belong to no byte.
    let key = "AQIDBAUGBwgJCgsMDQ4PEC==";
    let upgrade = request_with(&[("Sec-WebSocket-Key", &[key])]).upgrade().unwrap();
    assert_eq!(upgrade.accept_key(), accept_key(key), "the hash is that of the characters");
    for last in 'A'..='Z' {
        request_with(&[("Sec-WebSocket-Key", &[&format!("dGhlIHNhbXBsZSBub25jZ{last}==")])])
            .upgrade()
            .unwrap();
    }
}

#[test]
fn refuses_what_breaks_a_rule_and_names_it() {
    let cases: &[(&str, &[&str], u16, &str)] = &[
        ("Host", &[], 400, "Host is missing"),
        ("Host", &["a", "a"], 400, "Host appears 2 times"),
        ("Host", &["a", "b"], 400, "Host appears 2 times"),
        ("Host", &[""], 400, "Host is \"\""),
        ("Host", &["a, b"], 400, "Host is \"a, b\""),
        ("Host", &["a b"], 400, "Host is"),
        ("Host", &["http://a"], 400, "Host is"),
        ("Host", &["a:b"], 400, "Host is"),
        ("Host", &["a:123456"], 400, "Host is"),
        ("Host", &[":80"], 400, "Host is"),
        ("Host", &["[::1"], 400, "Host is"),
        ("Host", &["[]"], 400, "Host is"),
        ("Host", &["[%25lo]"], 400, "Host is"),
        ("Host", &["[::1%]"], 400, "Host is"),
        ("Host", &["[::1%25a,b]"], 400, "Host is"),
        ("Host", &["[::1]80"], 400, "Host is"),
        ("Host", &["a\u{e9}"], 400, "Host is \"a\\xc3\\xa9\""),
        ("Origin", &["http://a", "http://b"], 400, "Origin appears 2 times"),
        ("Upgrade", &[], 426, "Upgrade is missing"),
        ("Upgrade", &["h2c"], 426, "Upgrade is \"h2c\""),
        ("Upgrade", &["websockets"], 426, "Upgrade is \"websockets\""),
        ("Connection", &[], 400, "Connection is missing"),
        ("Connection", &["keep-alive"], 400, "Connection is \"keep-alive\""),
        ("Connection", &["keep-alive", "close"], 400, "Connection is \"keep-alive, close\""),
        ("Connection", &["upgraded"], 400, "Connection is \"upgraded\""),
        ("Sec-WebSocket-Version", &[], 426, "Sec-WebSocket-Version is missing"),
        ("Sec-WebSocket-Version", &["8"], 426, "Sec-WebSocket-Version is \"8\", expected 13"),
        ("Sec-WebSocket-Version", &["7"], 426, "section 4.4"),
        ("Sec-WebSocket-Version", &["013"], 426, "\"013\""),
        ("Sec-WebSocket-Version", &["+13"], 426, "\"+13\""),
        ("Sec-WebSocket-Version", &["13, 8"], 426, "\"13, 8\""),
        ("Sec-WebSocket-Version", &["13", "13"], 426, "\"13, 13\""),
        ("Sec-WebSocket-Key", &[], 400, "Sec-WebSocket-Key is missing"),
        ("Sec-WebSocket-Key", &[KEY, KEY], 400, "Sec-WebSocket-Key appears 2 times"),
        ("Sec-WebSocket-Key", &[""], 400, "Sec-WebSocket-Key is \"\""),
        ("Sec-WebSocket-Key", &["dGhlIHNhbXBsZSBub25jZQ"], 400, "16 bytes in base64"),
        ("Sec-WebSocket-Key", &["dGhlIHNhbXBsZSBub25jZQ==\t=="], 400, "16 bytes in base64"),
        ("Sec-WebSocket-Key", &["dGhlIHNhbXBsZSBub25j"], 400, "16 bytes in base64"),
        ("Sec-WebSocket-Key", &["dGhlIHNhbXBsZSBub25jZSE="], 400, "16 bytes in base64"),
        ("Sec-WebSocket-Key", &["dGhlIHNhbXBsZSBub25j_-=="], 400, "16 bytes in base64"),
        ("Sec-WebSocket-Key", &["\u{e9}"], 400, "\"\\xc3\\xa9\""),
        ("Content-Length", &["5"], 400, "Content-Length announces a body"),
        ("Content-Length", &["0", "5"], 400, "Content-Length appears 2 times"),
        ("Content-Length", &["0", "0"], 400, "Content-Length appears 2 times"),
        ("Content-Length", &["0, 0"], 400, "Content-Length announces a body"),
        ("Content-Length", &["-0"], 400, "Content-Length announces a body"),
        ("Content-Length", &[""], 400, "Content-Length announces a body"),
        ("Transfer-Encoding", &["chunked"], 400, "Transfer-Encoding announces a body"),
        ("Transfer-Encoding", &["identity"], 400, "Transfer-Encoding announces a body"),
    ];
    for (name, values, status, message) in cases {
        let error = request_with(&[(name, values)]).upgrade().expect_err(&format!("{name}: {values:?}"));
        assert!(error.to_string().contains(message), "{name} {values:?}: {error}");
        assert!(error.to_string().contains("RFC "), "{name} {values:?}: {error}");
        let response = error.response();
        assert_eq!(response.status(), *status, "{name} {values:?}: {error}");
        assert_eq!(response.body(), format!("{error}\n").as_bytes());
        let required = response.headers().get("Upgrade") == Some("websocket")
            && response.headers().get("Sec-WebSocket-Version") == Some("13");
        assert_eq!(required, *status == 426, "{name} {values:?}");
    }
}

#[test]
fn refuses_other_methods_versions_and_targets() {
    for (line, status, message) in [
        ("POST / HTTP/1.1", 405, "the method is \"POST\""),
        ("HEAD / HTTP/1.1", 405, "the method is \"HEAD\""),
        ("get / HTTP/1.1", 405, "the method is \"get\""),
        ("HEAD / HTTP/1.0", 405, "the method is \"HEAD\""),
        ("CONNECT example.com:443 HTTP/1.1", 405, "the method is \"CONNECT\""),
        ("GET / HTTP/1.0", 505, "HTTP/1.0"),
        ("GET * HTTP/1.1", 400, "target"),
        ("GET chat HTTP/1.1", 400, "target"),
        ("GET example.com:80 HTTP/1.1", 400, "target"),
        ("GET /a#b HTTP/1.1", 400, "target"),
        ("GET /caf\u{e9} HTTP/1.1", 400, "target"),
        ("GET ftp://example.com/ HTTP/1.1", 400, "target"),
        ("GET http://u:p@example.com/ HTTP/1.1", 400, "target"),
        ("GET http:///chat HTTP/1.1", 400, "target"),
        ("GET ws:///chat HTTP/1.1", 400, "target"),
        ("GET ws:chat HTTP/1.1", 400, "target"),
    ] {
        let error = request_line(line).upgrade().expect_err(line);
        assert!(error.to_string().contains(message), "{line}: {error}");
        assert_eq!(error.response().status(), status, "{line}");
        assert_eq!(error.response().headers().get("Allow"), (status == 405).then_some("GET"), "{line}");
    }
}

#[test]
fn options_is_answered_with_what_there_is() {
    for line in ["OPTIONS / HTTP/1.0", "OPTIONS / HTTP/1.1", "OPTIONS * HTTP/1.1"] {
        let error = request_line(line).upgrade().expect_err(line);
        assert!(error.to_string().contains("the method is \"OPTIONS\""), "{line}: {error}");
        let expected =
            "HTTP/1.1 200 OK\r\nAllow: GET, OPTIONS\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(encoded(&error.response()), expected, "{line}");
    }
}

#[test]
fn takes_a_target_apart() {
    for (target, path, query, host) in [
        ("/", "/", None, "example.com"),
        ("/chat?room=1?2", "/chat", Some("room=1?2"), "example.com"),
        ("/a%20b?", "/a%20b", Some(""), "example.com"),
        ("//a/b", "//a/b", None, "example.com"),
        ("/?next=http://other/", "/", Some("next=http://other/"), "example.com"),
        ("http://other:81/chat?a", "/chat", Some("a"), "other:81"),
        ("HTTPS://other", "/", None, "other"),
        ("ws://other/chat?a", "/chat", Some("a"), "other"),
        ("WSS://other:81", "/", None, "other:81"),
        ("http://other?a", "/", Some("a"), "other"),
    ] {
        let request = request_line(&format!("GET {target} HTTP/1.1"));
        assert_eq!(request.target(), target);
        assert_eq!((request.path(), request.query(), request.host()), (path, query, Some(host)), "{target}");
        request.upgrade().unwrap();
    }
}

#[test]
fn a_plain_http_request_can_be_read_and_is_told_to_upgrade() {
    let request = parse("GET /health HTTP/1.1\r\nHost: a\r\nUser-Agent: probe\r\n\r\n");
    assert_eq!(
        (request.method(), request.path(), request.header("user-agent")),
        ("GET", "/health", Some("probe"))
    );
    let response = request.upgrade().unwrap_err().response();
    let text = encoded(&response);
    assert!(text.starts_with("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n"), "{text}");
    assert!(text.contains("\r\nConnection: close, Upgrade\r\n"), "{text}");
}

#[test]
fn error_text_escapes_and_cuts_what_the_peer_sent() {
    let long = "x".repeat(500);
    let error = request_with(&[("Sec-WebSocket-Version", &[&long])]).upgrade().unwrap_err();
    assert!(error.to_string().contains(&format!("\"{}\"...", "x".repeat(64))), "{error}");
    assert!(!error.to_string().contains(&"x".repeat(65)), "{error}");
    let error = request_with(&[("Upgrade", &["<\"\u{9b}31m"])]).upgrade().unwrap_err();
    assert!(error.to_string().is_ascii() && error.to_string().contains("<\\\"\\xc2\\x9b31m"), "{error}");
}

#[test]
fn errors_and_debug_output_never_hold_credentials() {
    let secret = "hunter2";
    let head = format!(
        "GET /?token={secret} HTTP/1.1\r\nHost: {secret}@a\r\n\
         Authorization: Basic {secret}\r\nCookie: {secret}\r\n\r\n"
    );
    let request = parse(&head);
    let shown = format!("{request:?}");
    assert!(!shown.contains("Basic") && !shown.contains("token") && shown.contains("?(hidden)"), "{shown}");
    let error = request.upgrade().unwrap_err();
    assert!(matches!(error, HandshakeError::InvalidHeader { name: "Host", .. }));
    assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    let error = request_line(&format!("GET bad?{secret} HTTP/1.1")).upgrade().unwrap_err();
    assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    let broken = format!("GET / HTTP/1.1\r\nAuthorization: {secret}\0");
    let error = Request::parse(broken.as_bytes(), &Limits::default()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(secret), "{error}");
}

#[test]
fn chooses_the_first_subprotocol_of_its_own_that_is_offered() {
    let request = request_with(&[("Sec-WebSocket-Protocol", &["a, b", " c"])]);
    assert_eq!(request.subprotocols().collect::<Vec<_>>(), ["a", "b", "c"]);
    let mut upgrade = request.upgrade().unwrap();
    assert_eq!(upgrade.offered_subprotocols().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(upgrade.choose_subprotocol(["x", "c", "a"]), Some("c"));
    assert_eq!(accepted(&upgrade).header("Sec-WebSocket-Protocol"), Some("c"));
    assert_eq!(upgrade.choose_subprotocol(["A"]), None, "names are case-sensitive");
    assert!(!accepted(&upgrade).headers().contains("Sec-WebSocket-Protocol"));
    let error = upgrade.set_subprotocol("x").unwrap_err();
    assert_eq!(
        error,
        HandshakeError::SubprotocolNotOffered { found: "\"x\"".into(), offered: "a, b, c".into() }
    );
    assert_eq!(error.response().status(), 500, "a mistake of the server's own");
}

#[test]
fn chooses_among_the_proper_subprotocols_of_a_malformed_list() {
    let request = request_with(&[("Sec-WebSocket-Protocol", &["a b, \"c\", d, d"])]);
    let mut upgrade = request.upgrade().unwrap();
    assert!(upgrade.offered_subprotocols().eq(["d"]));
    assert_eq!(upgrade.choose_subprotocol(["a b", "a", "\"c\"", "c"]), None);
    assert_eq!(upgrade.choose_subprotocol(["d"]), Some("d"));
}

#[test]
fn a_malformed_list_of_extensions_is_an_error_to_those_who_speak_one() {
    let request = request_with(&[("Sec-WebSocket-Extensions", &["permessage-deflate;"])]);
    let mut upgrade = request.upgrade().unwrap();
    let errors = [
        upgrade.offered_extensions().map(drop).unwrap_err(),
        upgrade.add_extension(Extension::new("permessage-deflate").unwrap()).unwrap_err(),
    ];
    for error in errors {
        assert!(
            matches!(error, HandshakeError::InvalidHeader { name: "Sec-WebSocket-Extensions", .. }),
            "{error}"
        );
        assert_eq!(error.response().status(), 400);
    }
}

#[test]
fn tokens_among_the_subprotocols_are_not_shown() {
    let request = request_with(&[("Sec-WebSocket-Protocol", &["chat, bearer.hunter2"])]);
    let mut upgrade = request.upgrade().unwrap();
    let error = upgrade.set_subprotocol("other").unwrap_err();
    assert!(error.to_string().contains("the client offered chat, ***"), "{error}");
    assert_eq!(upgrade.choose_subprotocol(["bearer.hunter2"]), Some("bearer.hunter2"));
    let shown = format!("{error} {error:?} {request:?} {upgrade:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn agrees_only_on_extensions_that_are_offered() {
    let request =
        request_with(&[("Sec-WebSocket-Extensions", &["permessage-deflate; client_max_window_bits"])]);
    let mut upgrade = request.upgrade().unwrap();
    let offer = &upgrade.offered_extensions().unwrap()[0];
    assert_eq!(
        (offer.name(), offer.params().collect::<Vec<_>>()),
        ("permessage-deflate", vec![("client_max_window_bits", None)])
    );
    assert!(!accepted(&upgrade).headers().contains("Sec-WebSocket-Extensions"), "none unless agreed on");
    let error = upgrade.add_extension(Extension::new("x-permessage-deflate").unwrap()).unwrap_err();
    assert!(matches!(error, HandshakeError::ExtensionNotOffered { .. }), "{error}");
    let deflate =
        Extension::new("permessage-deflate").unwrap().with_param("client_max_window_bits", Some("12"));
    upgrade.add_extension(deflate.unwrap()).unwrap();
    let answer = accepted(&upgrade);
    assert_eq!(
        answer.header("Sec-WebSocket-Extensions"),
        Some("permessage-deflate; client_max_window_bits=12")
    );
}

#[test]
fn its_own_headers_cannot_be_set_by_hand() {
    let mut upgrade = request_with(&[]).upgrade().unwrap();
    upgrade.add_header("Set-Cookie", "a=1").unwrap();
    upgrade.add_header("Set-Cookie", "b=2").unwrap();
    for name in ["upgrade", "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Content-Length"]
    {
        let error = upgrade.add_header(name, "x").unwrap_err();
        assert!(matches!(error, HeaderError::Reserved { .. }), "{name}: {error}");
    }
    assert!(upgrade.add_header("X", "a\r\nB: c").is_err());
    assert_eq!(accepted(&upgrade).headers().get_all("set-cookie").collect::<Vec<_>>(), ["a=1", "b=2"]);
}

#[test]
fn writes_plain_responses_whole() {
    let json =
        Response::new(200).unwrap().with_header("content-type", "application/json").unwrap().with_body("{}");
    assert_eq!(
        encoded(&json),
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nConnection: close\r\n\
         Content-Length: 2\r\n\r\n{}"
    );
    let text = Response::new(503).unwrap().with_body("later");
    assert_eq!(
        encoded(&text),
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\r\nlater"
    );
    assert_eq!(
        encoded(&Response::new(404).unwrap()),
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(
        encoded(&Response::new(204).unwrap().with_body("never")),
        "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    );
    assert!(encoded(&Response::new(299).unwrap()).starts_with("HTTP/1.1 299 \r\n"));
    let moved = Response::new(308).unwrap().with_header("Location", "wss://other/").unwrap();
    assert_eq!((moved.status(), moved.headers().get("location")), (308, Some("wss://other/")));
}

#[test]
fn refuses_responses_that_are_none() {
    for status in [0, 99, 100, 101, 199, 600, 1000, u16::MAX] {
        assert_eq!(Response::new(status), Err(HandshakeError::InvalidStatus(status)));
    }
    for name in ["Connection", "content-length", "Transfer-Encoding"] {
        let error = Response::new(200).unwrap().with_header(name, "x").unwrap_err();
        assert!(matches!(error, HeaderError::Reserved { .. }), "{name}: {error}");
    }
    assert!(Response::new(302).unwrap().with_header("Location", "/a\r\nSet-Cookie: b").is_err());
}

#[test]
fn its_101_satisfies_our_own_client() {
    let mut builder = RequestBuilder::new("example.com", "/").unwrap();
    builder.subprotocols(["a", "b"]).unwrap().extension(Extension::new("x").unwrap());
    let client = builder.build().unwrap();
    let mut sent = Vec::new();
    client.encode(&mut sent);
    let (request, _) = Request::parse(&sent, &Limits::default()).unwrap().unwrap();
    let mut upgrade = request.upgrade().unwrap();
    upgrade.set_subprotocol("b").unwrap();
    upgrade.add_extension(Extension::new("x").unwrap()).unwrap();
    upgrade.add_header("X-Served-By", "here").unwrap();
    let accepted = client.verify(accepted(&upgrade)).unwrap();
    assert_eq!(accepted.subprotocol.as_deref(), Some("b"));
    assert_eq!(accepted.extensions, [Extension::new("x").unwrap()]);
    assert_eq!(accepted.headers.get("x-served-by"), Some("here"));
}
