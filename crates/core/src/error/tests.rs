//! Errors: the table of transience, texts, sources, and errors of programs.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use threadwire_proto::handshake::Limits;

use super::*;

/// An error of a program's own.
#[derive(Debug)]
struct Empty(io::Error);

impl fmt::Display for Empty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cache is empty")
    }
}

impl std::error::Error for Empty {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

fn status(code: u16) -> Error {
    let head = format!("HTTP/1.1 {code} x\r\n\r\n");
    let (answer, _) = Answer::parse(head.as_bytes(), &Limits::default()).unwrap().unwrap();
    Error::Status(Box::new(answer))
}

fn refused() -> io::Error {
    io::ErrorKind::ConnectionRefused.into()
}

/// Each variant: what it says in one line with all that lies underneath, and whether it is transient.
fn every_variant() -> Vec<(Error, &'static str, bool)> {
    let addr: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let url = |part| UrlError { url: "ws:".into(), part, problem: "is wrong".into() }.into();
    let at = |addr: SocketAddr| addr.to_string();
    vec![
        (Error::Closed, "the connection is closed", false),
        (Error::Timeout(TimeoutKind::Open { during: None }), "opening the connection took too long", true),
        (Error::Timeout(TimeoutKind::Close), "the peer's answer to our close frame took too long", true),
        (
            Error::Timeout(TimeoutKind::Silence { silent_for: Duration::from_millis(1500) }),
            "the peer was silent for 1.5 s",
            true,
        ),
        (Error::Timeout(TimeoutKind::Message), "the rest of a message did not come in time", true),
        (Error::Timeout(TimeoutKind::Unread), "the peer took nothing of what waited for it in time", true),
        (Error::Timeout(TimeoutKind::Pong), "the answer to a ping took too long", true),
        (
            Error::Protocol(Violation::Masked),
            "the peer broke the protocol: a server's frame is masked (RFC 6455, section 5.1)",
            false,
        ),
        (Error::Lost, "the peer ended the connection without a close frame", true),
        (
            status(403),
            "the server answered the opening handshake with status 403 (x), expected 101 (RFC 6455, section 4.1)",
            false,
        ),
        (
            status(429),
            "the server answered the opening handshake with status 429 (x), expected 101 (RFC 6455, section 4.1)",
            true,
        ),
        (
            status(503),
            "the server answered the opening handshake with status 503 (x), expected 101 (RFC 6455, section 4.1)",
            true,
        ),
        (
            HandshakeError::HeadTooLarge { limit: 9 }.into(),
            "the opening handshake failed: the head is longer than the limit of 9 bytes",
            false,
        ),
        (url(UrlPart::Host), "can't connect to \"ws:\": its host is wrong", false),
        (
            ResolveError { host: "nowhere".into(), source: io::Error::other("no such host") }.into(),
            "can't find the address of nowhere: no such host",
            true,
        ),
        (
            ConnectError { addr, source: refused(), others: Vec::new() }.into(),
            "can't connect to 127.0.0.1:9: connection refused",
            true,
        ),
        (
            ConnectError { addr, source: denied(), others: Vec::new() }.into(),
            "can't connect to 127.0.0.1:9: permission denied",
            false,
        ),
        (
            SettingError { setting: "Client::proxy", way: "a Unix socket", instead: "leave it out" }.into(),
            "a Unix socket can't heed Client::proxy: leave it out",
            false,
        ),
        (
            TlsError {
                host: "example.com".into(),
                problem: TlsProblem::WrongName { names: vec!["example.org".into(), "*.example.org".into()] },
                source: Some("the certificate is not valid for the name".into()),
            }
            .into(),
            "no TLS connection with example.com: its certificate is only for example.org, *.example.org: \
             the certificate is not valid for the name",
            false,
        ),
        (
            TlsError { host: "example.com".into(), problem: TlsProblem::Refused, source: None }.into(),
            "no TLS connection with example.com: it ended the handshake",
            true,
        ),
        (
            TlsFileError {
                name: "a.pem".into(),
                problem: "can't be read".into(),
                source: Some(refused().into()),
            }
            .into(),
            "can't use a.pem for TLS: can't be read: connection refused",
            false,
        ),
        (
            ListenError { addr: at(addr), source: refused() }.into(),
            "can't listen on 127.0.0.1:9: connection refused",
            true,
        ),
        (
            ListenError { addr: at(addr), source: denied() }.into(),
            "can't listen on 127.0.0.1:9: permission denied",
            false,
        ),
        (refused().into(), "connection refused", true),
        (denied().into(), "permission denied", false),
        (
            Error::too_much_buffered(8),
            "what waits to be written to the peer is over the limit of 8 bytes",
            true,
        ),
        (
            LimitError { kind: LimitKind::Held, limit: 8 }.into(),
            "what waits for the next connection is over the limit of 8 bytes",
            true,
        ),
        (
            LimitError { kind: LimitKind::Connections, limit: 8 }.into(),
            "the number of connections is over the limit of 8",
            true,
        ),
        (
            LimitError { kind: LimitKind::PerAddress, limit: 8 }.into(),
            "the number of connections from one address is over the limit of 8",
            true,
        ),
        (
            RouteError { pattern: "rooms".into(), problem: "must begin with \"/\"".into() }.into(),
            "can't route \"rooms\": it must begin with \"/\"",
            false,
        ),
        (SendError::CloseByFrame.into(), "a close frame is sent by closing the connection", false),
        (Error::Panicked("no".into()), "a callback panicked: no", false),
        (RequestRefused::NoIds.into(), "the app can't tell answers: App::id is not set", false),
        (Error::Stopped, "the worker was asked to stop", false),
        (Error::other(Empty(refused())), "the cache is empty: connection refused", false),
    ]
}

#[test]
fn each_is_transient_or_not_as_the_table_says() {
    for (error, _, is_transient) in every_variant() {
        assert_eq!(error.is_transient(), is_transient, "{error:?}");
    }
}

#[test]
fn a_chain_is_printed_once_by_the_error_itself_or_by_what_walks_its_sources() {
    for (error, chain, _) in every_variant() {
        assert_eq!(format!("{error:#}"), chain);
        let mut walked = error.to_string();
        // A stop has itself underneath, for those who look for it there.
        let mut below = error.source().filter(|source| !source.is::<Stopped>());
        while let Some(source) = below {
            let text = source.to_string();
            assert!(!walked.contains(&text), "{walked:?} has {text:?} in it already");
            walked = format!("{walked}: {text}");
            below = source.source();
        }
        assert!(walked.to_lowercase().starts_with(&chain.to_lowercase()), "{walked:?}, but {chain:?}");
    }
}

fn answer(head: &str) -> Box<Answer> {
    Box::new(Answer::parse(head.as_bytes(), &Limits::default()).unwrap().unwrap().0)
}

#[test]
fn the_first_line_says_what_was_answered() {
    for (head, said) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", "status 404 (Not Found)"),
        ("HTTP/1.1 400\r\n\r\n", "status 400"),
        ("HTTP/1.1 403 a\tb\r\n\r\n", "status 403 (a\\tb)"),
        (
            "HTTP/1.1 401 Who?\r\nWWW-Authenticate: Basic realm=\"x\"\r\nwww-authenticate: Bearer\r\n\r\n",
            "status 401 (Who?), it asks for Basic realm=\"x\" or Bearer",
        ),
        ("HTTP/1.1 403 No\r\nWWW-Authenticate: Basic\r\n\r\n", "status 403 (No)"),
    ] {
        let expected = format!(
            "the server answered the opening handshake with {said}, expected 101 (RFC 6455, section 4.1)"
        );
        assert_eq!(Error::Status(answer(head)).to_string(), expected);
    }
    let error = Error::from(HandshakeError::Host { found: "\"a b\"".to_owned() });
    let said = error.to_string();
    assert!(said.starts_with("the opening handshake failed: \"a b\" is not a host, expected"), "{said}");
}

#[test]
fn a_proxy_may_ask_for_one_of_several_logins() {
    let head = "HTTP/1.1 407 Login\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n";
    let problem = ProxyProblem::Refused(answer(head));
    let error = Error::from(ProxyError { proxy: "http://proxy:8080".to_owned(), problem });
    let said = "the proxy http://proxy:8080 refused with status 407 (Login), it asks for Negotiate or Basic realm=\"x\"";
    assert_eq!(error.to_string(), said);
}

#[test]
fn a_rule_that_was_broken_is_told_once_and_with_its_own_rfc() {
    use threadwire_proto::utf8::InvalidUtf8;
    use threadwire_proto::{CloseCode, Initiator};
    for (rule, code, text) in [
        (
            Violation::Masked,
            1002,
            "closed by us with 1002 (protocol error) (the peer broke the protocol: a server's frame is masked \
             (RFC 6455, section 5.1))",
        ),
        (
            Violation::InvalidUtf8(InvalidUtf8),
            1007,
            "closed by us with 1007 (invalid data) (the peer broke the protocol: text is not UTF-8 \
             (RFC 6455, section 8.1))",
        ),
        (
            Violation::FrameTooLong { length: 9, limit: 8 },
            1009,
            "closed by us with 1009 (message too big) (the peer broke the protocol: a frame of 9 bytes is over the \
             limit of 8 (RFC 6455, section 10.4))",
        ),
        (
            Violation::DeflateCut,
            1007,
            "closed by us with 1007 (invalid data) (the peer broke the protocol: a compressed message is cut short \
             (RFC 7692, section 7.2.2))",
        ),
    ] {
        let closed = Closed {
            code: CloseCode::new(code),
            reason: rule.to_string(),
            initiator: Initiator::Local,
            clean: false,
            error: Some(Error::Protocol(rule)),
            unread_for: None,
            sent: Some(rule.to_string()),
        };
        assert_eq!(closed.to_string(), text);
    }
}

#[test]
fn a_reason_can_not_forge_another_line() {
    use threadwire_proto::{CloseCode, Initiator};
    let closed = Closed {
        code: CloseCode::POLICY,
        reason: "realm=\"x\"\nERROR \u{1b}[31m".to_owned(),
        initiator: Initiator::Peer,
        clean: true,
        error: None,
        unread_for: None,
        sent: None,
    };
    let said = "closed by the peer with 1008 (policy violation): realm=\"x\"\\nERROR \\u{1b}[31m";
    assert_eq!(closed.to_string(), said);
}

#[test]
fn a_result_without_a_value_takes_24_bytes_at_most() {
    assert!(size_of::<Result<(), Error>>() <= 24, "{}", size_of::<Result<(), Error>>());
}

#[test]
fn a_stop_can_be_found_in_the_error_that_a_wait_made_of_it_and_is_told_once() {
    use std::error::Error as _;
    assert!(Error::Stopped.source().is_some_and(|source| source.is::<Stopped>()));
    assert_eq!(format!("{:#}", Error::Stopped), "the worker was asked to stop");
}

#[test]
fn an_error_stays_what_it_was() {
    assert!(matches!(Error::of_program(Error::Closed), Error::Closed));
    assert!(matches!(Error::of_program(Source::from(Error::Lost)), Error::Lost));
    assert!(matches!(Error::of_program(Stopped), Error::Stopped));
    assert!(matches!(Error::from(Source::from(Error::Lost)), Error::Lost));
    assert!(matches!(Error::from(Source::from("a text")), Error::Other(_)));
    assert!(matches!(Error::of_program(io::Error::from(io::ErrorKind::NotFound)), Error::Io(_)));
    assert_eq!(Error::of_program("a text").to_string(), "a text");
}
