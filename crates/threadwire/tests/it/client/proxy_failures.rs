//! Proxy failures: refusals, breaks, silence; and the target that a proxy is asked for.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::faces::{DRIVERS, FACES};
use crate::common::peer::{Host, Peer};
use crate::common::proxies::{Kind, Proxying};
use crate::common::{SOON, Serving, bind, bounded, echo, patient, vacant};
use threadwire::client::{Proxy, Timeouts};
use threadwire::error::{HandshakeError, ProxyProblem, Stage, Step, TimeoutKind};
use threadwire::trace::Trace;
use threadwire::worker::EventLoop;
use threadwire::{Client, Error, Reply};

/// A host that is never reached.
const URL: &str = "ws://user:pass-of-server@feed.test/?token=secret";

/// A client that goes through a proxy of this scheme.
fn client(scheme: &str, addr: std::net::SocketAddr) -> Client {
    let user = if scheme.starts_with("socks4") { "pass-of-proxy@" } else { "user:pass-of-proxy@" };
    let proxy = Proxy::new(&format!("{scheme}://{user}{addr}")).unwrap();
    let here = "192.0.2.1:80".parse().unwrap();
    Client::new(URL).unwrap().config(patient()).proxy(proxy).resolve("feed.test", [here])
}

/// The errors of each driver's clients if a proxy does this with each connection. The proxy stays until the client is done.
fn each(scheme: &str, serve: fn(&mut Peer)) -> Vec<Error> {
    let fail = |face: &crate::common::faces::Face| {
        let host = Host::listen();
        let client = client(scheme, host.addr());
        let host = host.run(move |host| {
            let mut peer = host.accept();
            serve(&mut peer);
            peer
        });
        let error = face.fails(&client);
        drop(host.join().unwrap());
        assert_eq!(EventLoop::current().source_count(), 0, "{error:?}");
        let shown = format!("{error} {error:#} {error:?}");
        for secret in ["pass-of-proxy", "pass-of-server", "secret", "dXNlcjp"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        error
    };
    DRIVERS.iter().map(fail).collect()
}

/// The same where the proxy reads this much, and then says something and goes on saying nothing.
macro_rules! answers {
    ($scheme:literal, $count:expr, $answer:expr) => {
        each($scheme, |peer| {
            let mut left: usize = $count;
            while left > 0 {
                let got = peer.one_read().len();
                left = left.saturating_sub(got);
            }
            peer.try_bytes(&$answer[..]);
        })
    };
}

/// The error expected for a proxy's fault.
fn problem(error: Error) -> ProxyProblem {
    match error {
        Error::Proxy(error) => {
            assert!(error.proxy.contains("127.0.0.1:"), "{error}");
            error.problem
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_http_proxy_that_refuses_is_told_of_with_its_answer() {
    bounded(|| {
        for (answer, status, body, says) in [
            (
                &b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 4\r\n\r\nwho?"[..],
                407,
                "who?",
                "refused with status 407 (Proxy Authentication Required), it asks for Negotiate",
            ),
            (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403, "", "refused with status 403 (Forbidden)"),
            (b"HTTP/1.0 502 \r\nContent-Length: 2\r\n\r\nno", 502, "no", "refused with status 502"),
            (
                b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n4\r\n now\r\n0\r\n\r\n",
                503,
                "not now",
                "refused with status 503 (Busy)",
            ),
            (b"HTTP/1.1 304 Same\r\n\r\n", 304, "", "refused with status 304 (Same)"),
            // Not the server's: it must not be followed.
            (b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302, "", "status 302"),
        ] {
            let errors = DRIVERS.iter().map(|face| {
                let host = Host::listen();
                let client = client("http", host.addr());
                let host = host.run(move |host| {
                    let mut peer = host.accept();
                    let request = peer.head();
                    peer.bytes(answer);
                    (peer, request)
                });
                let error = face.fails(&client);
                let (peer, request) = host.join().unwrap();
                assert!(request.starts_with("CONNECT feed.test:80 HTTP/1.1\r\nHost: feed.test:80\r\n"), "{request}");
                assert!(!request.contains("token") && !request.contains("\r\nAuthorization"), "{request}");
                drop(peer);
                error
            });
            for error in errors {
                let shown = error.to_string();
                assert!(shown.contains(says), "{shown}");
                match problem(error) {
                    ProxyProblem::Refused(answer) => {
                        assert_eq!((answer.status(), answer.body()), (status, body.as_bytes()));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    });
}

#[test]
fn a_refusal_whose_end_does_not_come_in_time_is_told_of() {
    bounded(|| {
        let limits = [
            (patient().open_timeout(SOON), Timeouts::default()),
            (patient(), Timeouts::default().proxy(SOON)),
        ];
        for (config, timeouts) in limits {
            for face in DRIVERS {
                let host = Host::listen();
                let client = client("http", host.addr()).config(config.clone()).timeouts(timeouts.clone());
                let host = host.run(move |host| {
                    let mut peer = host.accept();
                    peer.head();
                    peer.bytes("HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nhalf");
                    peer
                });
                match problem(face.fails(&client)) {
                    ProxyProblem::Refused(answer) => {
                        assert_eq!((answer.status(), answer.body()), (403, &b"half"[..]));
                    }
                    other => panic!("{face:?}: {other:?}"),
                }
                drop(host.join().unwrap());
            }
        }
    });
}

#[test]
fn what_is_no_answer_of_http_is_told_of() {
    bounded(|| {
        for error in each("http", |peer| {
            peer.head();
            peer.bytes("SSH-2.0-OpenSSH_9.9\r\n");
        }) {
            assert!(format!("{error:#}").contains("gave no answer of HTTP"), "{error:#}");
            let problem = problem(error);
            assert!(
                matches!(problem, ProxyProblem::BadAnswer(HandshakeError::NotHttp { .. })),
                "{problem:?}"
            );
        }
        // A header of a mebibyte, of which not all is read.
        for error in each("http", |peer| {
            peer.head();
            peer.bytes("HTTP/1.1 200 OK\r\nX-Long: ");
            peer.try_bytes(&vec![b'x'; 1 << 20]);
        }) {
            let problem = problem(error);
            assert!(
                matches!(problem, ProxyProblem::BadAnswer(HandshakeError::HeadTooLarge { .. })),
                "{problem:?}"
            );
        }
        // Bytes behind the proxy's answer can't be the server's, which was not asked yet.
        for error in each("http", |peer| {
            peer.head();
            peer.bytes("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n");
        }) {
            let problem = problem(error);
            assert!(matches!(problem, ProxyProblem::TooMuch { count: 36 }), "{problem:?}");
        }
    });
}

#[test]
fn a_socks_proxy_that_refuses_is_told_of_with_its_code() {
    bounded(|| {
        for scheme in [answers!("socks4", 9, b"\0\x5b\0\0\0\0\0\0"), answers!("socks4a", 9, b"\0\x5b")] {
            for error in scheme {
                assert!(error.to_string().ends_with("refused with code 91 (refused, or failed)"), "{error}");
                assert!(matches!(problem(error), ProxyProblem::Socks4(91)));
            }
        }
        for error in answers!("socks5h", 4, b"\x05\x00\x05\x02\x00\x01\0\0\0\0\0\0") {
            assert!(
                error.to_string().ends_with("refused with code 2 (its rules do not allow it)"),
                "{error}"
            );
            assert!(!error.is_transient());
            assert!(matches!(problem(error), ProxyProblem::Socks5(2)));
        }
        for error in answers!("socks5", 4, b"\x05\xff") {
            assert!(matches!(problem(error), ProxyProblem::NoLogin));
        }
        for error in answers!("socks5", 4, b"\x05\x02\x01\x01") {
            assert!(matches!(problem(error), ProxyProblem::LoginRefused));
        }
    });
}

#[test]
fn what_is_no_answer_of_socks_is_told_of() {
    bounded(|| {
        let garbage = [
            answers!("socks4", 9, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            answers!("socks4a", 9, b"\x05\x5a"),
            answers!("socks5", 4, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            answers!("socks5h", 4, b"\x05\x03"),
            answers!("socks5h", 4, b"\x05\x00\x05\x00\x00\x09\x00"),
        ];
        for error in garbage.into_iter().flatten() {
            let problem = problem(error);
            assert!(matches!(problem, ProxyProblem::BadReply(_)), "{problem:?}");
        }
        for error in answers!("socks5h", 4, b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\0!") {
            let problem = problem(error);
            assert!(matches!(problem, ProxyProblem::TooMuch { count: 1 }), "{problem:?}");
        }
    });
}

#[test]
fn a_proxy_that_goes_away_is_told_of() {
    bounded(|| {
        let gone = [
            each("http", |peer| {
                peer.head();
                peer.end();
            }),
            each("http", |peer| {
                peer.head();
                peer.bytes("HTTP/1.1 200 O");
                peer.end();
            }),
            each("socks4", |peer| {
                peer.skip(9);
                peer.end();
            }),
            each("socks5", |peer| {
                peer.skip(4);
                peer.bytes(b"\x05");
                peer.end();
            }),
        ];
        for error in gone.into_iter().flatten() {
            assert!(error.is_transient());
            assert!(matches!(problem(error), ProxyProblem::Ended));
        }
    });
}

#[test]
fn a_proxy_that_says_nothing_is_given_up() {
    bounded(|| {
        for scheme in ["http", "socks4", "socks4a", "socks5", "socks5h"] {
            for face in FACES {
                let host = Host::listen();
                let timeouts = Timeouts::default().proxy(SOON);
                let slow = client(scheme, host.addr()).timeouts(timeouts);
                let error = face.fails(&slow);
                let Error::Timeout(TimeoutKind::Step(stage)) = &error else { panic!("{error:?}") };
                let expected = format!("{scheme}://{}", host.addr());
                assert_eq!((stage.step, &*stage.at), (Step::Proxy, &*expected));
                assert_eq!(
                    error.to_string(),
                    format!("asking the proxy {expected} for a way through took too long")
                );

                // The whole may be over as well.
                let config = patient().open_timeout(SOON);
                let error = face.fails(&client(scheme, host.addr()).config(config));
                let Error::Timeout(TimeoutKind::Open { during: Some(stage) }) = &error else {
                    panic!("{error:?}")
                };
                assert_eq!((stage.step, &*stage.at), (Step::Proxy, &*expected));
            }
        }
    });
}

#[test]
fn a_proxy_that_can_not_be_reached_is_told_of() {
    bounded(|| {
        let (_taken, addr) = vacant();
        for face in FACES {
            let error = face.fails(&client("socks5h", addr));
            let expected = format!(
                "the proxy socks5h://{addr} can't be reached: can't connect to {addr}: connection refused"
            );
            assert_eq!(format!("{error:#}"), expected);
            match problem(error) {
                ProxyProblem::Unreachable(below) => assert!(
                    matches!(below, Error::Connect(error) if error.source.kind() == ErrorKind::ConnectionRefused)
                ),
                other => panic!("{other:?}"),
            }
            let proxy = Proxy::new("http://user:pass-of-proxy@nosuch.invalid:3128").unwrap();
            let error = face.fails(&Client::new(URL).unwrap().config(patient()).proxy(proxy));
            assert!(!format!("{error:?}").contains("pass-of"), "{error:?}");
            match error {
                Error::Proxy(error) => {
                    assert!(
                        matches!(error.problem, ProxyProblem::Unreachable(Error::Resolve(_))),
                        "{error:?}"
                    );
                    assert_eq!(error.proxy, "http://nosuch.invalid:3128");
                }
                // A resolver that does not answer at all.
                Error::Timeout(TimeoutKind::Open { during: Some(stage) }) => {
                    assert!(matches!(*stage, Stage { step: Step::Resolve, .. }));
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn what_a_proxy_can_not_be_asked_for_is_told_of() {
    bounded(|| {
        let host = Host::listen();
        for scheme in ["socks4", "socks4a"] {
            for face in DRIVERS {
                let url = "ws://[2001:db8::1]/";
                let proxy = Proxy::new(&format!("{scheme}://{}", host.addr())).unwrap();
                let error = face.fails(&Client::new(url).unwrap().config(patient()).proxy(proxy));
                assert!(error.to_string().contains("2001:db8::1"), "{error}");
                assert!(matches!(problem(error), ProxyProblem::Host(_)));
            }
        }
    });
}

#[test]
fn the_environment_says_which_hosts_go_through_a_proxy() {
    bounded(|| {
        let server = Serving::with(bind(), |_| Reply::with(echo));
        let proxy = Proxying::start(Kind::Http, "feed.test", server.addr);
        let addr = proxy.addr;
        let settings = move |name: &str| match name {
            "http_proxy" => Some(format!("http://{addr}")),
            "no_proxy" => Some("direct.test".to_owned()),
            _ => None,
        };
        let client = |host: &str| {
            let client = Client::new(&format!("ws://{host}:{}/", server.addr.port())).unwrap();
            client.proxy(Proxy::from_vars(settings))
        };
        for face in FACES {
            assert_eq!(face.echo(&client("feed.test"), "proxied").unwrap(), "proxied");
            let direct = client("direct.test").resolve("direct.test", [server.addr]);
            assert_eq!(face.echo(&direct, "direct").unwrap(), "direct");
            let direct = client("feed.test").proxy(Proxy::none()).resolve("feed.test", [server.addr]);
            assert_eq!(face.echo(&direct, "direct").unwrap(), "direct");
            // Through the proxy this address would be the proxy's own host.
            assert_eq!(face.echo(&client("127.0.0.1"), "here").unwrap(), "here");
        }
        assert_eq!(proxy.asked().len(), FACES.len());

        let bad =
            Proxy::from_vars(|name| (name == "all_proxy").then(|| "gopher://user:secret@proxy".to_owned()));
        for face in FACES {
            let error = face.fails(&client("feed.test").proxy(bad.clone()));
            assert!(matches!(error, Error::Url(_)) && !format!("{error:?}").contains("secret"), "{error:?}");
        }
    });
}

#[test]
fn an_http_proxy_is_told_the_headers_that_are_meant_for_it_and_the_server_is_not() {
    bounded(|| {
        for face in DRIVERS {
            let host = Host::listen();
            let proxy = Proxy::new(&format!("http://{}", host.addr())).unwrap();
            let proxy =
                proxy.header("X-Team", "blue").unwrap().header("Proxy-Authorization", "Bearer 1").unwrap();
            let client = Client::new("ws://feed.test/").unwrap().config(patient()).proxy(proxy);
            let client = client.header("X-Feed", "prices").unwrap();
            let host = host.run(|host| {
                let mut peer = host.accept();
                let connect = peer.head();
                peer.bytes("HTTP/1.1 200 OK\r\n\r\n");
                let upgrade = peer.head();
                peer.bytes("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
                (connect, upgrade, peer)
            });
            let error = face.fails(&client);
            let (connect, upgrade, _peer) = host.join().unwrap();
            assert!(
                connect.contains("\r\nX-Team: blue\r\n")
                    && connect.contains("\r\nProxy-Authorization: Bearer 1\r\n")
            );
            assert!(!connect.contains("X-Feed") && upgrade.contains("\r\nX-Feed: prices\r\n"));
            assert!(!upgrade.contains("X-Team") && !upgrade.contains("Proxy-Authorization"), "{upgrade}");
            // The refusal is the server's.
            assert!(matches!(error, Error::Status(_)), "{error:?}");
        }
        let proxy = Proxy::new("http://proxy.test").unwrap();
        assert!(proxy.clone().header("Host", "other.test").is_err());
        assert!(proxy.header("X-Odd", "a\r\nb").is_err());
    });
}

#[test]
fn a_trace_shows_the_server_and_not_the_proxy() {
    bounded(|| {
        let server = Serving::with(bind(), |_| Reply::with(echo));
        for face in FACES {
            let proxy = Proxying::with(Kind::Http, "feed.test", server.addr, Some(("user", "pass-of-proxy")));
            let lines = Arc::new(Mutex::new(String::new()));
            let notes = Arc::clone(&lines);
            let trace = Trace::to(move |line| notes.lock().unwrap().push_str(&format!("{line}\n")));
            let config = patient().trace(trace);
            let url = format!("ws://user:pass-of-server@feed.test:{}/", server.addr.port());
            let through = Proxy::new(&format!("http://user:pass-of-proxy@{}", proxy.addr)).unwrap();
            let client = Client::new(&url).unwrap().config(config).proxy(through);
            face.echo(&client, "hello").unwrap();
            let lines = lines.lock().unwrap().clone();
            assert!(lines.contains("GET / HTTP/1.1") && lines.contains("hello"), "{lines}");
            assert!(
                !lines.contains("CONNECT") && !lines.contains("pass-of") && !lines.contains("dXNlcj"),
                "{lines}"
            );
        }
    });
}

#[test]
fn a_stop_ends_an_attempt_that_waits_for_a_proxy() {
    bounded(|| {
        use threadwire::worker::Worker;
        let host = Host::listen();
        let client = client("socks5h", host.addr());
        let (tell, told) = std::sync::mpsc::channel();
        let worker = Worker::spawn(move || {
            let result = client.connect(echo);
            tell.send(matches!(result, Err(Error::Stopped))).unwrap();
            Ok(())
        });
        let mut peer = host.accept();
        peer.skip(4);
        worker.stop();
        assert!(told.recv_timeout(Duration::from_secs(10)).unwrap());
        assert_eq!(peer.rest(), "");
    });
}
