//! Tests of the client's handshake: its request, and every rule of RFC 6455, section 4.1, for the answer.

use threadwire_proto::handshake::{
    Accepted, Answer, ClientRequest, Extension, HandshakeError, HeaderError, Limits, Request, RequestBuilder,
};

/// The nonce of the RFC's example.
const NONCE: [u8; 16] = *b"the sample nonce";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn builder() -> RequestBuilder {
    RequestBuilder::new("example.com", "/chat").unwrap()
}

fn sent(client: &ClientRequest) -> Request {
    let mut out = Vec::new();
    client.encode(&mut out);
    let (request, head) = Request::parse(&out, &Limits::default()).unwrap().unwrap();
    assert_eq!(head, out.len());
    request
}

fn parse(head: &str) -> Answer {
    Answer::parse(head.as_bytes(), &Limits::default()).unwrap().expect("a whole head").0
}

/// A proper answer in which all lines of each `(name, lines)` are replaced by others.
fn answer_with(status_line: &str, changes: &[(&str, &[&str])]) -> Answer {
    let mut lines = vec![
        "Upgrade: websocket".to_owned(),
        "Connection: Upgrade".to_owned(),
        format!("Sec-WebSocket-Accept: {ACCEPT}"),
    ];
    for (name, replacements) in changes {
        lines.retain(|line| !line.starts_with(&format!("{name}:")));
        lines.extend(replacements.iter().map(|value| format!("{name}: {value}")));
    }
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    parse(&format!("{status_line}\r\n{lines}\r\n"))
}

fn verify(client: &RequestBuilder, changes: &[(&str, &[&str])]) -> Result<Accepted, HandshakeError> {
    client.build_with_nonce(NONCE).verify(answer_with("HTTP/1.1 101 Switching Protocols", changes))
}

#[test]
fn sends_a_proper_request() {
    let mut client = RequestBuilder::new("example.com:8080", "/chat?room=1").unwrap();
    client.origin("https://example.com").unwrap().subprotocols(["chat", "superchat"]).unwrap();
    client.extension(Extension::new("x").unwrap()).header("User-Agent", "test/1").unwrap();
    let mut out = Vec::new();
    client.build_with_nonce(NONCE).encode(&mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "GET /chat?room=1 HTTP/1.1\r\nHost: example.com:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: x\r\n\
         Origin: https://example.com\r\nUser-Agent: test/1\r\n\r\n"
    );
}

#[test]
fn its_request_satisfies_our_own_server() {
    for (host, target) in [("example.com", "/"), ("127.0.0.1:9001", "/a/b?c=d&e"), ("[::1]:80", "/%20?")] {
        let request = sent(&RequestBuilder::new(host, target).unwrap().build().unwrap());
        assert_eq!((request.host(), request.target()), (Some(host), target));
        request.upgrade().unwrap();
    }
}

#[test]
fn draws_a_fresh_key_for_each_attempt() {
    let client = builder();
    let keys: Vec<String> = (0..3)
        .map(|_| sent(&client.build().unwrap()).header("Sec-WebSocket-Key").unwrap().to_owned())
        .collect();
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2], "{keys:?}");
}

#[test]
fn host_origin_and_user_agent_are_replaced_and_others_added() {
    let mut client = builder();
    for (name, value) in [
        ("host", "other:81"),
        ("Origin", "https://one"),
        ("origin", "https://two"),
        ("user-agent", "mine"),
        ("Cookie", "a=1"),
        ("Cookie", "b=2"),
    ] {
        client.header(name, value).unwrap();
    }
    let request = sent(&client.build().unwrap());
    for (name, values) in [
        ("Host", &["other:81"][..]),
        ("Origin", &["https://two"]),
        ("User-Agent", &["mine"]),
        ("Cookie", &["a=1", "b=2"]),
    ] {
        assert_eq!(request.headers().get_all(name).collect::<Vec<_>>(), values, "{name}");
    }
    let bare = sent(&client.remove_header("User-Agent").remove_header("Host").build().unwrap());
    assert!(!bare.headers().contains("User-Agent"));
    assert_eq!(bare.host(), Some("other:81"), "a request needs its host");
    let default = sent(&builder().build().unwrap());
    assert!(default.header("User-Agent").unwrap().starts_with("threadwire/"));
    assert_eq!(default.origin(), None);
}

#[test]
fn headers_of_the_handshake_cannot_be_set_by_hand() {
    for name in [
        "Sec-WebSocket-Key",
        "sec-websocket-version",
        "Upgrade",
        "CONNECTION",
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Content-Length",
        "Transfer-Encoding",
    ] {
        let error = builder().header(name, "x").unwrap_err();
        assert!(matches!(error, HandshakeError::Header(HeaderError::Reserved { .. })), "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn nothing_can_be_injected_through_any_field() {
    let bad = "a\r\nX-Evil: 1";
    assert!(RequestBuilder::new(bad, "/").is_err());
    assert!(RequestBuilder::new("example.com", "/a HTTP/1.1\r\nX-Evil: 1").is_err());
    let mut client = builder();
    assert!(client.header("X", bad).is_err());
    assert!(client.header(bad, "x").is_err());
    assert!(client.header("Host", bad).is_err());
    assert!(client.header("User-Agent", bad).is_err());
    assert!(client.origin(bad).is_err());
    assert!(client.subprotocols([bad]).is_err());
    assert!(Extension::new(bad).is_err());
    let request = sent(&client.build().unwrap());
    assert!(!request.headers().contains("X-Evil"));
    assert_eq!(request.host(), Some("example.com"), "what was refused changed nothing");
}

#[test]
fn refuses_hosts_targets_and_subprotocols_that_are_none() {
    for host in ["", "a b", "http://a", "a/b", "a:b", "::1", "[::1", "a,b", "caf\u{e9}.example"] {
        let error = RequestBuilder::new(host, "/").unwrap_err();
        assert!(matches!(error, HandshakeError::Host { .. }), "{host}: {error}");
    }
    let error = RequestBuilder::new("user:secret@a", "/").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    for target in ["", "chat", "?a", "*", "http://a/", "/a b", "/a#b", "/caf\u{e9}", "/\n"] {
        assert_eq!(RequestBuilder::new("a", target).unwrap_err(), HandshakeError::Target, "{target:?}");
    }
    for names in [&["a b"][..], &[""], &["a", "a"], &["a,b"]] {
        let error = builder().subprotocols(names).unwrap_err();
        assert!(matches!(error, HandshakeError::Token { .. }), "{names:?}: {error}");
    }
}

#[test]
fn accepts_what_only_looks_unusual() {
    for changes in [
        &[][..],
        &[("Upgrade", &["WebSocket"][..])],
        &[("Connection", &["upgrade"])],
        &[("Connection", &["keep-alive, UPGRADE"])],
        &[("Connection", &["keep-alive", "Upgrade"])],
        &[("Server", &["x"]), ("Date", &["now"])],
        &[("Content-Length", &["0"])],
        &[("Sec-WebSocket-Extensions", &[""])],
        &[("Sec-WebSocket-Protocol", &[""])],
    ] {
        let accepted = verify(&builder(), changes).unwrap_or_else(|error| panic!("{changes:?}: {error}"));
        assert_eq!((accepted.subprotocol, accepted.extensions), (None, vec![]));
    }
    for line in [
        "HTTP/1.0 101 ok",
        "HTTP/1.1 101 null",
        "HTTP/1.1 101 ",
        "HTTP/1.1 101",
        "HTTP/1.1 101 Web Socket Protocol Handshake",
    ] {
        builder().build_with_nonce(NONCE).verify(answer_with(line, &[])).unwrap();
    }
}

#[test]
fn refuses_what_breaks_a_rule_and_names_it() {
    let flipped = ACCEPT.to_ascii_lowercase();
    let cases: &[(&str, &[&str], &str)] = &[
        ("Upgrade", &[], "Upgrade is missing"),
        ("Upgrade", &["h2c"], "Upgrade is \"h2c\", expected \"websocket\""),
        ("Upgrade", &["websocket, h2c"], "Upgrade is"),
        ("Upgrade", &["websocket", "websocket"], "Upgrade appears 2 times"),
        ("Connection", &[], "Connection is missing"),
        ("Connection", &["close"], "Connection is \"close\""),
        ("Sec-WebSocket-Accept", &[], "Sec-WebSocket-Accept is missing"),
        ("Sec-WebSocket-Accept", &[ACCEPT, ACCEPT], "Sec-WebSocket-Accept appears 2 times"),
        ("Sec-WebSocket-Accept", &[""], "Sec-WebSocket-Accept is \"\""),
        (
            "Sec-WebSocket-Accept",
            &["AAAAAAAAAAAAAAAAAAAAAAAAAAA="],
            "expected \"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\"",
        ),
        ("Sec-WebSocket-Accept", &[&flipped], "Sec-WebSocket-Accept is"),
        ("Sec-WebSocket-Accept", &["s3pPLMBiTxaQ9kYGzzhZRbK+xOo"], "Sec-WebSocket-Accept is"),
        ("Sec-WebSocket-Protocol", &["chat"], "the subprotocol \"chat\" was chosen, the client offered none"),
        ("Sec-WebSocket-Protocol", &["", ""], "appears 2 times"),
        ("Sec-WebSocket-Protocol", &[","], "the subprotocol \",\" was chosen"),
        (
            "Sec-WebSocket-Extensions",
            &["permessage-deflate"],
            "the extension \"permessage-deflate\" was chosen",
        ),
        ("Sec-WebSocket-Extensions", &["a b"], "Sec-WebSocket-Extensions is \"a b\""),
    ];
    for (name, values, message) in cases {
        let error = verify(&builder(), &[(name, values)]).expect_err(&format!("{name}: {values:?}"));
        assert!(error.to_string().contains(message), "{name} {values:?}: {error}");
        assert!(error.to_string().contains("RFC 6455, section "), "{error}");
    }
}

#[test]
fn takes_a_subprotocol_only_if_offered_and_only_one() {
    let mut client = builder();
    client.subprotocols(["chat"]).unwrap().subprotocols(["superchat"]).unwrap();
    let chosen = |values: &[&str]| {
        verify(&client, &[("Sec-WebSocket-Protocol", values)]).map(|accepted| accepted.subprotocol)
    };
    assert_eq!(chosen(&["superchat"]), Ok(Some("superchat".into())));
    assert_eq!(chosen(&[]), Ok(None), "a server may choose none");
    for (bad, message) in [
        (&["Chat"][..], "the subprotocol \"Chat\" was chosen, the client offered chat, superchat"),
        (&["other"], "\"other\""),
        (&["chat, superchat"], "\"chat, superchat\""),
        (&["chat", "chat"], "appears 2 times"),
    ] {
        let error = chosen(bad).unwrap_err();
        assert!(error.to_string().contains(message), "{bad:?}: {error}");
    }
}

#[test]
fn tokens_among_the_subprotocols_are_not_shown() {
    let token = "bearer.hunter2";
    let mut client = builder();
    client.subprotocols(["chat", token, &"x".repeat(50)]).unwrap();
    let verify = |chosen: &str| verify(&client, &[("Sec-WebSocket-Protocol", &[chosen])]).unwrap_err();
    for chosen in ["other", "Bearer.hunter2"] {
        let error = verify(chosen);
        assert!(error.to_string().contains("the client offered chat, ***, ***"), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
    let error = client.subprotocols([token]).unwrap_err();
    assert!(!format!("{error} {error:?} {client:?}").contains("hunter2"), "{error:?} {client:?}");
}

#[test]
fn takes_extensions_only_if_offered() {
    let mut client = builder();
    client.extension(Extension::new("permessage-deflate").unwrap());
    let agreed = |values: &[&str]| {
        verify(&client, &[("Sec-WebSocket-Extensions", values)]).map(|accepted| accepted.extensions)
    };
    assert_eq!(agreed(&[]), Ok(vec![]));
    let with_param = Extension::new("permessage-deflate").unwrap().with_param("a", Some("1")).unwrap();
    assert_eq!(agreed(&[" permessage-deflate ;a = 1"]), Ok(vec![with_param]));
    for bad in [&["x"][..], &["permessage-deflate, x"], &["permessage-deflate", "x"]] {
        let error = agreed(bad).unwrap_err();
        assert!(matches!(error, HandshakeError::ExtensionNotOffered { .. }), "{bad:?}: {error}");
    }
}

#[test]
fn another_status_keeps_the_whole_answer() {
    for (line, status, reason) in [
        ("HTTP/1.1 302 Found", 302, "Found"),
        ("HTTP/1.1 200 OK", 200, "OK"),
        ("HTTP/1.0 503 Busy", 503, "Busy"),
        ("HTTP/1.1 100 Continue", 100, "Continue"),
        ("HTTP/1.1 999", 999, ""),
    ] {
        let answer = answer_with(line, &[("Location", &["/new"])]).with_body("sorry");
        match builder().build_with_nonce(NONCE).verify(answer.clone()) {
            Err(error @ HandshakeError::Status(_)) => {
                assert!(error.to_string().contains(&status.to_string()), "{error}");
                let HandshakeError::Status(kept) = error else { unreachable!() };
                assert_eq!(*kept, answer);
                assert_eq!(
                    (kept.status(), kept.reason(), kept.header("location")),
                    (status, reason, Some("/new"))
                );
                assert_eq!(kept.body(), b"sorry");
            }
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn tells_how_long_a_body_is_only_if_that_is_clear() {
    for (fields, length) in [
        (&[("Content-Length", "12")][..], Some(12)),
        (&[("Content-Length", "0")], Some(0)),
        (&[], None),
        (&[("Content-Length", "")], None),
        (&[("Content-Length", "+1")], None),
        (&[("Content-Length", "1, 1")], None),
        (&[("Content-Length", "1"), ("content-length", "1")], None),
        (&[("Content-Length", "1"), ("Transfer-Encoding", "chunked")], None),
        (&[("Content-Length", "99999999999999999999")], None),
    ] {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        assert_eq!(parse(&format!("HTTP/1.1 404 No\r\n{fields}\r\n")).content_length(), length, "{fields:?}");
    }
}

#[test]
fn debug_output_never_holds_credentials() {
    let mut client = RequestBuilder::new("example.com", "/chat?token=hunter2").unwrap();
    client.header("Authorization", "Basic hunter2").unwrap().header("Cookie", "hunter2").unwrap();
    let shown = format!("{client:?} {:?}", client.build_with_nonce(NONCE));
    assert!(shown.contains("/chat?(hidden)") && !shown.contains("hunter2"), "{shown}");
    let answer = answer_with("HTTP/1.1 302 Found", &[("Set-Cookie", &["hunter2"])]);
    let error = client.build().unwrap().verify(answer).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}
