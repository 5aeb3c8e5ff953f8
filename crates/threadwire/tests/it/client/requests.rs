//! Upgrade requests of a client: headers, credentials, host; and refusals of servers that keep the connection.

use crate::common::faces::{DRIVERS, FACES};
use crate::common::peer::Host;
use crate::common::{SOON, Serving, bind, bounded, echo, patient};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use threadwire::client::Timeouts;
use threadwire::error::{HandshakeError, UrlPart};
use threadwire::{Client, Connection, Error, Message, Reply};

/// The request of a client, without the parts that are the same for all.
fn request(face: crate::common::faces::Face, client: impl FnOnce(&str) -> Client) -> Vec<String> {
    let host = Host::listen();
    let client = client(&format!("127.0.0.1:{}", host.addr().port())).config(patient());
    let host = host.run(|host| {
        let mut peer = host.accept();
        let head = peer.head();
        peer.bytes("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        (head, peer)
    });
    face.fails(&client);
    let (head, _peer) = host.join().unwrap();
    let same = [
        "Upgrade:",
        "Connection:",
        "Sec-WebSocket-Key:",
        "Sec-WebSocket-Version:",
        "Sec-WebSocket-Extensions:",
    ];
    let lines =
        head.lines().filter(|line| !line.is_empty() && !same.iter().any(|same| line.starts_with(same)));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_request_says_what_the_program_says() {
    bounded(|| {
        let agent = concat!("User-Agent: threadwire/", env!("CARGO_PKG_VERSION"));
        for face in DRIVERS {
            let plain = request(*face, |addr| Client::new(&format!("ws://{addr}")).unwrap());
            assert!(plain[0] == "GET / HTTP/1.1" && plain[1].starts_with("Host: 127.0.0.1:"), "{plain:?}");
            assert_eq!(plain[2..], [agent]);

            let mut all = request(*face, |addr| {
                Client::new(&format!("ws://{addr}/a?b"))
                    .unwrap()
                    .origin("https://example.com")
                    .unwrap()
                    .origin("https://example.org")
                    .unwrap()
                    .user_agent("mine/1")
                    .unwrap()
                    .host("example.net")
                    .unwrap()
                    .bearer_auth("old")
                    .unwrap()
                    .basic_auth("Aladdin", "open sesame")
                    .unwrap()
                    .subprotocols(["a", "b"])
                    .unwrap()
            });
            all.sort();
            assert_eq!(
                all,
                [
                    "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                    "GET /a?b HTTP/1.1",
                    "Host: example.net",
                    "Origin: https://example.org",
                    "Sec-WebSocket-Protocol: a, b",
                    "User-Agent: mine/1"
                ]
            );
            // Credentials in the URL count if the program sets none.
            let from_url =
                request(*face, |addr| Client::new(&format!("ws://Aladdin:open%20sesame@{addr}")).unwrap());
            assert!(from_url.contains(&"Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned()));
            let bearer = request(*face, |addr| {
                Client::new(&format!("ws://Aladdin:open%20sesame@{addr}"))
                    .unwrap()
                    .bearer_auth("1234")
                    .unwrap()
            });
            assert!(bearer.contains(&"Authorization: Bearer 1234".to_owned()), "{bearer:?}");
            assert!(!bearer.iter().any(|line| line.contains("Basic")), "{bearer:?}");
        }
        let client = Client::new("ws://user:secret@a.test/?secret").unwrap();
        for client in [client.clone().bearer_auth("secret"), client.basic_auth("secret", "secret")] {
            assert!(!format!("{:?}", client.unwrap()).contains("secret"));
        }
    });
}

#[test]
fn headers_are_made_for_each_attempt() {
    bounded(|| {
        for face in FACES {
            let count = Arc::new(AtomicU32::new(0));
            let make = move || [("X-Token", format!("number {}", count.fetch_add(1, Ordering::SeqCst)))];
            let made = Arc::new(make);
            for number in 0..2 {
                let made = Arc::clone(&made);
                let lines = request(*face, |addr| {
                    let client =
                        Client::new(&format!("ws://{addr}")).unwrap().header("X-Token", "fixed").unwrap();
                    client.headers(move || made())
                });
                let tokens: Vec<_> = lines.iter().filter(|line| line.starts_with("X-Token")).collect();
                assert_eq!(tokens, [&format!("X-Token: number {number}")]);
            }
            let fails = |client: Client| face.fails(&client);
            let client = Client::new("ws://127.0.0.1:1/").unwrap();
            let error = fails(
                client
                    .clone()
                    .headers(|| -> Result<Vec<(String, String)>, Error> { Err(Error::other("no token")) }),
            );
            assert_eq!(error.to_string(), "no token");
            let error = fails(client.clone().headers(|| -> Vec<(String, String)> { panic!("a bug") }));
            assert!(matches!(&error, Error::Panicked(message) if &**message == "a bug"), "{error:?}");
            let error = fails(client.headers(|| [("X-Odd", "a\r\nb")]));
            assert!(
                matches!(&error, Error::Handshake(error) if matches!(**error, HandshakeError::Header(_))),
                "{error:?}"
            );
        }
    });
}

#[test]
fn what_must_not_be_sent_is_refused_at_once() {
    let client = || Client::new("ws://example.com/").unwrap();
    for refused in [
        client().header("X-Odd", "a\r\nb"),
        client().header("Upgrade", "h2c"),
        client().origin("a\nb"),
        client().user_agent("a\0b"),
        client().host("a b"),
        client().host("user@a"),
        client().bearer_auth("a\rb"),
        client().basic_auth("us:er", "hushhush"),
        client().basic_auth("user", "hush\nhush"),
        client().subprotocols(["a", "a"]),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Handshake(_) | Error::Other(_)), "{error:?}");
        assert!(!format!("{error:?} {error:#}").contains("hush"), "{error:?}");
    }
    let error = Client::new("ws://[fe80::1%eth0]/").unwrap_err();
    assert!(
        matches!(&error, Error::Url(error) if error.part == UrlPart::Host)
            && error.to_string().contains("zone")
    );
}

#[test]
fn a_host_is_resolved_by_the_name_that_it_has_on_the_wire() {
    bounded(|| {
        let server = Serving::with(bind(), |request| match request.header("Host") {
            Some("xn--bcher-kva.test") => Reply::with(echo),
            _ => Reply::status(404),
        });
        for name in ["bücher.test", "BÜCHER.test", "xn--bcher-kva.test"] {
            let client = Client::new("ws://Bücher.test/").unwrap().resolve(name, [server.addr]);
            for face in DRIVERS {
                assert_eq!(face.echo(&client, "hello").unwrap(), "hello");
            }
        }
        // A port of nought is that of the URL.
        let url = format!("ws://feed.test:{}/", server.addr.port());
        let here = SocketAddr::new(server.addr.ip(), 0);
        let client =
            Client::new(&url).unwrap().host("xn--bcher-kva.test").unwrap().resolve("feed.test", [here]);
        let ws = client.connect(|_: &Connection, _: Message<'_>| Ok(())).unwrap();
        assert_eq!(ws.peer_addr().unwrap(), server.addr);
        ws.abort();
    });
}

/// The server's refusal, with its body.
fn refusal(error: Error) -> (u16, String) {
    match error {
        Error::Status(answer) => (answer.status(), String::from_utf8_lossy(answer.body()).into_owned()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_is_told_of_though_the_server_keeps_the_connection() {
    bounded(|| {
        let soon = patient().open_timeout(SOON);
        let limited = Timeouts::default().upgrade(SOON);
        for face in DRIVERS {
            for (answer, config, timeouts, expected) in [
                (
                    "503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n4\r\n now\r\n0\r\n\r\n",
                    patient(),
                    Timeouts::default(),
                    (503, "not now"),
                ),
                ("204 Nothing\r\n\r\n", patient(), Timeouts::default(), (204, "")),
                ("304 Same\r\nContent-Length: 5\r\n\r\n", patient(), Timeouts::default(), (304, "")),
                // A body of unknown length is waited for, and kept if the wait times out.
                ("403 Forbidden\r\n\r\nno", soon.clone(), Timeouts::default(), (403, "no")),
                ("403 Forbidden\r\nContent-Length: 9\r\n\r\nno", patient(), limited.clone(), (403, "no")),
            ] {
                let host = Host::listen();
                let client = Client::new(&host.url()).unwrap().config(config).timeouts(timeouts);
                let host = host.run(move |host| {
                    let mut peer = host.accept();
                    peer.head();
                    peer.bytes(format!("HTTP/1.1 {answer}"));
                    peer
                });
                let (status, body) = refusal(face.fails(&client));
                assert_eq!((status, &*body), expected, "{face:?} {answer}");
                drop(host.join().unwrap());
            }
        }
    });
}

#[test]
fn a_server_that_reads_no_request_may_still_have_said_why() {
    bounded(|| {
        for face in DRIVERS {
            let over = |says: &str| {
                let (ours, mut theirs) = UnixStream::pair().unwrap();
                theirs.write_all(says.as_bytes()).unwrap();
                drop(theirs);
                face.fails(&Client::new("ws://example.com/").unwrap().config(patient()).over(ours))
            };
            assert_eq!(refusal(over("HTTP/1.1 403 Forbidden\r\n\r\nno")), (403, "no".to_owned()), "{face:?}");
            match over("") {
                Error::Io(error) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
                other => panic!("{face:?}: {other:?}"),
            }
        }
    });
}

#[test]
fn a_reset_behind_a_refusal_does_not_hide_it() {
    bounded(|| {
        for face in DRIVERS {
            let host = Host::listen();
            let client = Client::new(&host.url()).unwrap().config(patient());
            let host = host.run(|host| {
                let mut peer = host.accept();
                peer.head();
                peer.bytes("HTTP/1.1 403 Forbidden\r\n\r\nno");
                peer.reset();
            });
            assert_eq!(refusal(face.fails(&client)), (403, "no".to_owned()), "{face:?}");
            host.join().unwrap();
        }
    });
}
