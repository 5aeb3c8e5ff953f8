//! Tests of header fields and extension lists: lookup, injection, white space.

use threadwire_proto::handshake::{Extension, HandshakeError, HeaderError, Headers, Limits, Request};

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.append(name, value).unwrap();
    }
    headers
}

#[test]
fn finds_names_in_any_case_and_keeps_order_and_spelling() {
    let headers = headers(&[("Set-Cookie", "a"), ("HOST", "h"), ("set-cookie", "b")]);
    assert_eq!(headers.get("host"), Some("h"));
    assert_eq!(headers.get("SET-COOKIE"), Some("a"));
    assert_eq!(headers.get_all("Set-Cookie").collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(headers.get("Hos"), None);
    let all: Vec<_> = headers.iter().collect();
    assert_eq!(all, [("Set-Cookie", &b"a"[..]), ("HOST", b"h"), ("set-cookie", b"b")]);
    assert_eq!((headers.len(), headers.is_empty()), (3, false));
}

#[test]
fn set_replaces_all_of_a_name_and_remove_counts_them() {
    let mut headers = headers(&[("A", "1"), ("b", "2"), ("a", "3")]);
    headers.set("A", "4").unwrap();
    assert_eq!(headers.get_all("a").collect::<Vec<_>>(), ["4"]);
    assert_eq!(headers.remove("B"), 1);
    assert_eq!(headers.remove("B"), 0);
    assert!(!headers.contains("b"));
}

#[test]
fn a_set_that_is_refused_changes_nothing() {
    let mut headers = headers(&[("A", "1")]);
    assert!(headers.set("A", "2\r\nB: 3").is_err());
    assert_eq!(headers.get("A"), Some("1"));
}

#[test]
fn refuses_values_that_would_inject_a_header() {
    for bad in ["a\r\nX: b", "a\nX: b", "a\rX: b", "\r\n", "a\0", "\x1b[2J", "a\x7f"] {
        let error = headers(&[]).append("X-Note", bad).unwrap_err();
        assert!(matches!(error, HeaderError::Value { .. }), "{bad:?}: {error}");
        assert!(error.to_string().contains("X-Note"), "{error}");
    }
    let error = headers(&[]).append("Authorization", "secret\n").unwrap_err();
    assert_eq!(
        error,
        HeaderError::Value { name: "Authorization".into(), byte: b'\n', offset: 6 },
        "the place is told, the value is not"
    );
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn refuses_names_that_are_not_tokens() {
    for bad in ["", " ", "a b", "a:", "a\r\nb", "a\tb", "\u{e9}", "(a)", "a/b", "\"a\"", "a\0"] {
        let error = headers(&[]).append(bad, "value").unwrap_err();
        assert_eq!(error, HeaderError::Name { name: bad.to_owned() });
        assert!(error.to_string().contains("expected a token"), "{error}");
    }
    headers(&[]).append("!#$%&'*+-.^_`|~09azAZ", "value").unwrap();
}

#[test]
fn drops_white_space_around_a_value_only() {
    assert_eq!(headers(&[("A", " \t b \t c\t ")]).get("A"), Some("b \t c"));
    assert_eq!(headers(&[("A", " \t ")]).get("A"), Some(""));
}

#[test]
fn keeps_bytes_that_are_not_utf8() {
    let mut headers = Headers::new();
    headers.append("X", b"caf\xe9").unwrap();
    headers.append("X", "caf\u{e9}").unwrap();
    assert_eq!(headers.get_bytes("X"), Some(&b"caf\xe9"[..]));
    assert_eq!(headers.get("X"), Some("caf\u{e9}"));
    assert_eq!(headers.get_all_bytes("X").count(), 2);
}

#[test]
fn finds_tokens_in_lists_over_repeated_headers() {
    for (values, found) in [
        (&["upgrade"][..], true),
        (&["keep-alive, Upgrade"], true),
        (&["keep-alive,UPGRADE"], true),
        (&["keep-alive \t,\t upGrade \t, x"], true),
        (&["keep-alive", "Upgrade"], true),
        (&[",, ,upgrade,"], true),
        (&["upgraded"], false),
        (&["keep-alive upgrade"], false),
        (&["\"upgrade\""], false),
        (&["upgrade;q=1"], false),
        (&[""], false),
        (&[], false),
    ] {
        let mut headers = headers(&[("Other", "upgrade")]);
        for value in values {
            headers.append("connection", value).unwrap();
        }
        assert_eq!(headers.contains_token("Connection", "Upgrade"), found, "{values:?}");
    }
}

#[test]
fn debug_output_hides_credentials() {
    let mut all = headers(&[("Host", "example.com")]);
    for name in [
        "authorization",
        "Proxy-Authorization",
        "COOKIE",
        "Set-Cookie",
        "X-Api-Key",
        "X-Auth-Token",
        "X-Amz-Security-Token",
        "X-CSRF-Token",
    ] {
        all.append(name, "s3cret").unwrap();
    }
    all.append("Location", "https://me:s3cret@example.com/a?token=s3cret#s3cret").unwrap();
    all.append("Sec-WebSocket-Protocol", "chat, bearer.s3cret").unwrap();
    let shown = format!("{all:?}");
    assert!(shown.contains("\"example.com\"") && shown.contains("***") && shown.contains("chat"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

fn offered(values: &[&str]) -> Result<Vec<String>, HandshakeError> {
    let mut head = String::from(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
    );
    for value in values {
        head += &format!("Sec-WebSocket-Extensions: {value}\r\n");
    }
    let (request, _) = Request::parse((head + "\r\n").as_bytes(), &Limits::default()).unwrap().unwrap();
    Ok(request.upgrade()?.offered_extensions()?.iter().map(Extension::to_string).collect())
}

#[test]
fn reads_extensions_however_they_are_spaced_and_quoted() {
    for (values, expected) in [
        (&["permessage-deflate"][..], &["permessage-deflate"][..]),
        (&["a;b;c=1,d"], &["a; b; c=1", "d"]),
        (&["  a \t;  b ; c = 1  ,\td  "], &["a; b; c=1", "d"]),
        (&["a; b=\"1\"; c=\"x\\y\""], &["a; b=1; c=xy"]),
        (&["a, b", "c"], &["a", "b", "c"]),
        (&["a; b=1, a; b=2, a"], &["a; b=1", "a; b=2", "a"]),
        (&["a, , b,"], &["a", "b"]),
        (&[""], &[]),
        (&[], &[]),
    ] {
        assert_eq!(offered(values).unwrap(), expected, "{values:?}");
    }
}

#[test]
fn refuses_extensions_that_break_the_grammar() {
    for bad in [
        "a b",
        "a;",
        "a;;b",
        "a; b=",
        "a; =1",
        "a=1",
        ";a",
        "a; b=\"",
        "a; b=\"\"",
        "a; b=\"1 2\"",
        "a; b=\"1\\",
        "a; b=\"1\"2",
        "a; b=1 2",
        "(a)",
        "a; b=\"1, c\"",
        "a\u{e9}",
    ] {
        match offered(&[bad]) {
            Err(error @ HandshakeError::InvalidHeader { name: "Sec-WebSocket-Extensions", .. }) => {
                assert_eq!(error.response().status(), 400);
            }
            other => panic!("{bad:?} gave {other:?}"),
        }
    }
}

#[test]
fn builds_extensions_of_tokens_only() {
    let extension =
        Extension::new("x").unwrap().with_param("a", None).unwrap().with_param("b", Some("1")).unwrap();
    assert_eq!(extension.to_string(), "x; a; b=1");
    assert_eq!(extension.name(), "x");
    assert_eq!(extension.params().collect::<Vec<_>>(), [("a", None), ("b", Some("1"))]);
    assert!(Extension::new("a, b").is_err());
    assert!(Extension::new("").is_err());
    assert!(Extension::new("x").unwrap().with_param("a", Some("1\r\nB: c")).is_err());
    assert!(Extension::new("x").unwrap().with_param("a;b", None).is_err());
}
