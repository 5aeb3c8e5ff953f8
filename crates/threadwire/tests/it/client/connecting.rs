//! Opening connections, and the failures of it.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use crate::common::peer::{Host, Peer, TEXT, farewell, frame, upgraded};
use crate::common::recorder::{Call, End, Log};
use crate::common::{PATIENCE, SOON, Serving, bind, bounded, echo, ignore, patient};
use threadwire::client::Target;
use threadwire::error::{TimeoutKind, UrlPart};
use threadwire::worker::{EventLoop, Worker};
use threadwire::{Client, Config, Connection, Error, Initiator, Message, Reply, connect, update, wait_until};
use threadwire_proto::handshake::{Answer, HandshakeError};

/// A port where nobody listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Tries to connect to a server that is made by hand. What `serve` returns stays open until the client has its result.
fn attempt(
    config: Config,
    serve: impl FnOnce(Peer) -> Option<Peer> + Send + 'static,
) -> Result<Connection, Error> {
    let host = Host::listen();
    let url = host.url();
    let host = host.run(|host| serve(host.accept()));
    let log = Log::new();
    let result = Client::new(&url).unwrap().config(config).connect(log.listener(ignore));
    drop(host.join().unwrap());
    if result.is_err() {
        assert_eq!(log.calls(), [], "an attempt that fails is told by its result alone");
        assert_eq!(EventLoop::current().source_count(), 0, "its socket is closed");
    }
    result
}

/// The same beside other connections.
fn attempt_beside(serve: impl FnOnce(Peer) + Send + 'static) -> Result<Connection, Error> {
    let host = Host::listen();
    let url = host.url();
    let host = host.run(|host| serve(host.accept()));
    let result = Client::new(&url).unwrap().config(patient()).connect(echo);
    host.join().unwrap();
    result
}

/// The error of an attempt if the server answers with these bytes, and then stays or ends the stream.
fn answered(answer: impl Into<Vec<u8>>, stays: bool) -> Error {
    let answer = answer.into();
    let result = attempt(patient(), move |mut peer| {
        peer.head();
        peer.bytes(answer);
        if !stays {
            peer.end();
        }
        Some(peer)
    });
    result.expect_err("it connected")
}

/// The same where it must be an answer that is none to a handshake.
fn refused(answer: &str, stays: bool) -> Box<Answer> {
    match answered(answer, stays) {
        Error::Status(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refused_connection_names_the_address() {
    bounded(|| {
        let addr = format!("127.0.0.1:{}", closed_port());
        let error = connect(&format!("ws://{addr}/path?token=secret"), echo).unwrap_err();
        assert!(matches!(&error, Error::Connect(error) if error.addr.to_string() == addr), "{error:?}");
        assert_eq!(format!("{error:#}"), format!("can't connect to {addr}: connection refused"));
        assert_eq!(EventLoop::current().source_count(), 0);
    });
}

#[test]
fn a_bad_url_names_the_part_that_is_wrong() {
    for (url, wrong) in [
        ("example.com", UrlPart::Scheme),
        ("http://127.0.0.1/", UrlPart::Scheme),
        ("ws://127.0.0.1:port/", UrlPart::Port),
        ("ws://127.0.0.1/#there", UrlPart::Fragment),
    ] {
        match connect(url, echo) {
            Err(Error::Url(error)) => assert_eq!(error.part, wrong, "{url}"),
            other => panic!("{url}: {other:?}"),
        }
    }
}

#[test]
fn a_host_that_has_no_address_is_named() {
    bounded(|| {
        let error = Client::new("ws://nosuch.invalid/").unwrap().config(patient()).connect(echo).unwrap_err();
        match &error {
            Error::Resolve(error) => assert_eq!(error.host, "nosuch.invalid"),
            // A resolver that does not answer at all.
            Error::Timeout(TimeoutKind::Open { .. }) => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_refusal_keeps_status_headers_and_body() {
    bounded(|| {
        let answer = refused(
            "HTTP/1.1 404 Not Found\r\nX-Reason: gone\r\nContent-Length: 8\r\n\r\nnot here and more",
            true,
        );
        assert_eq!((answer.status(), answer.header("x-reason")), (404, Some("gone")));
        assert!(answer.body().starts_with(b"not here"));

        // A redirect without a target.
        let answer = refused("HTTP/1.1 301 Moved Permanently\r\n\r\n", false);
        assert_eq!((answer.status(), answer.header("Location")), (301, None));
        assert_eq!(answer.body(), b"");

        let answer = refused("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true);
        assert_eq!((answer.status(), answer.reason()), (200, "OK"));

        // A body without a length goes on to the end of the stream.
        let answer = refused("HTTP/1.1 401 Unauthorized\r\n\r\nwho are you?", false);
        assert_eq!((answer.status(), answer.body()), (401, &b"who are you?"[..]));

        // One that is announced and does not come is what came of it.
        let answer = refused("HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nhalf", false);
        assert_eq!((answer.status(), answer.body()), (500, &b"half"[..]));
    });
}

#[test]
fn a_refusal_with_an_endless_body_is_cut_off() {
    bounded(|| {
        let result = attempt(patient(), |mut peer| {
            peer.head();
            peer.bytes("HTTP/1.1 403 Forbidden\r\n\r\n");
            while peer.try_bytes(&[b'x'; 1000]) {}
            None
        });
        match result {
            Err(Error::Status(answer)) => {
                assert_eq!(answer.status(), 403);
                assert!((1000..=64 << 10).contains(&answer.body().len()), "{}", answer.body().len());
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn an_answer_that_does_not_belong_to_the_request_is_refused() {
    bounded(|| {
        let other_key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let error = answered(upgraded(other_key), true);
        assert!(
            matches!(&error, Error::Handshake(error) if matches!(**error, HandshakeError::WrongAccept { .. })),
            "{error:?}"
        );

        let fine = upgraded(other_key);
        for (from, to) in [
            ("Upgrade: websocket\r\n", ""),
            ("Connection: Upgrade\r\n", ""),
            ("HTTP/1.1", "HTTP/1.0"),
            ("Upgrade: websocket", "Upgrade: h2c"),
        ] {
            let error = answered(fine.replace(from, to), true);
            assert!(matches!(error, Error::Handshake(_)), "{error:?}");
        }
    });
}

#[test]
fn a_subprotocol_that_was_not_offered_is_refused() {
    bounded(|| {
        let result = attempt(patient(), |mut peer| {
            let answer = upgraded(&peer.head());
            peer.bytes(answer.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n"));
            Some(peer)
        });
        let error = result.unwrap_err();
        assert!(
            matches!(&error, Error::Handshake(error) if matches!(**error, HandshakeError::SubprotocolNotOffered { .. })),
            "{error:?}"
        );
    });
}

#[test]
fn garbage_is_no_answer() {
    bounded(|| {
        for garbage in
            [&b"\x16\x03\x01\x02\x00"[..], b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0"]
        {
            let error = answered(garbage, true);
            assert!(matches!(error, Error::Handshake(_)), "{error:?}");
        }
        let config = patient().max_head(1000);
        let error = attempt(config, |mut peer| {
            peer.head();
            peer.bytes("HTTP/1.1 101 Switching Protocols\r\nX-Long: ");
            peer.bytes([b'x'; 2000]);
            Some(peer)
        });
        assert!(
            matches!(&error, Err(Error::Handshake(error)) if **error == HandshakeError::HeadTooLarge { limit: 1000 }),
            "{error:?}"
        );
    });
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    bounded(|| {
        let result = attempt(patient().open_timeout(SOON), Some);
        assert!(matches!(result, Err(Error::Timeout(TimeoutKind::Open { .. }))), "{result:?}");
        // So is one that does not finish its answer.
        let result = attempt(patient().open_timeout(SOON), |mut peer| {
            peer.bytes("HTTP/1.1 101 Switching");
            Some(peer)
        });
        assert!(matches!(result, Err(Error::Timeout(TimeoutKind::Open { .. }))), "{result:?}");
    });
}

#[test]
fn an_open_connection_outlives_the_open_timeout() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| host.upgrade(b""));
        let config = patient().open_timeout(SOON);
        let ws = Client::new(&url).unwrap().config(config).connect(echo).unwrap();
        assert!(!wait_until(Some(2 * SOON), || !ws.is_open()).unwrap());
        drop(host.join().unwrap());
    });
}

#[test]
fn a_server_that_ends_during_the_handshake_is_lost() {
    bounded(|| {
        let result = attempt(patient(), |mut peer| {
            peer.head();
            None
        });
        assert!(matches!(result, Err(Error::Lost)), "{result:?}");
        let result = attempt(patient(), |mut peer| {
            peer.head();
            peer.bytes("HTTP/1.1 101 Swi");
            None
        });
        assert!(matches!(result, Err(Error::Lost)), "{result:?}");
        let result = attempt(patient(), |mut peer| {
            peer.head();
            peer.reset();
            None
        });
        match result {
            Err(Error::Io(error)) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn frames_that_come_together_with_the_101_are_heard() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let early = [frame(TEXT, false, b"one"), frame(TEXT, false, b"two")].concat();
            let mut peer = host.upgrade(&early);
            let three = frame(TEXT, false, b"three");
            assert_eq!(peer.text(), "go on");
            peer.bytes(&three[..3]);
            assert_eq!(peer.text(), "go on");
            peer.bytes(&three[3..]);
            peer
        });
        let log = Log::new();
        let ws = connect(
            &url,
            log.listener(|ws, call| match call {
                Call::Open => ws.send("go on"),
                _ => Ok(()),
            }),
        )
        .unwrap();
        wait_until(None, || log.calls().len() >= 3).unwrap();
        ws.send("go on").unwrap();
        wait_until(None, || log.calls().len() >= 4).unwrap();
        let expected = [Call::Open, Call::text("one"), Call::text("two"), Call::text("three")];
        assert_eq!(log.calls(), expected);
        drop(host.join().unwrap());
    });
}

#[test]
fn a_close_frame_that_comes_together_with_the_101_is_heard() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.upgrade(&frame(0x88, false, &farewell(1013, "full")));
            assert_eq!(peer.code(), 1013);
            peer.end();
            assert!(peer.ended());
        });
        let log = Log::new();
        let ws = connect(&url, log.listener(ignore)).unwrap();
        assert!(!ws.is_open());
        wait_until(None, || log.end().is_some()).unwrap();
        assert_eq!(log.calls(), [Call::Open, Call::Closed(End::clean(Initiator::Peer, 1013, "full"))]);
        host.join().unwrap();
    });
}

#[test]
fn a_101_in_pieces_is_an_answer() {
    bounded(|| {
        let result = attempt(patient(), |mut peer| {
            let answer = upgraded(&peer.head());
            for byte in answer.bytes() {
                peer.bytes([byte]);
            }
            peer.send(TEXT, b"hello");
            Some(peer)
        });
        assert!(result.unwrap().peer_addr().is_ok());
    });
}

#[test]
fn interim_answers_are_passed_over() {
    bounded(|| {
        let result = attempt(patient(), |mut peer| {
            let answer = upgraded(&peer.head());
            let hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
            peer.bytes(format!("HTTP/1.1 100 Continue\r\n\r\n{hints}{hints}{answer}"));
            Some(peer)
        });
        assert!(result.unwrap().is_open());
    });
}

#[test]
fn the_request_is_as_it_was_asked_for() {
    bounded(|| {
        let host = Host::listen();
        let addr = host.addr();
        let host = host.run(|host| {
            let mut peer = host.accept();
            let head = peer.head();
            let answer = upgraded(&head).replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat.v1\r\n\r\n");
            peer.bytes(answer);
            (head, peer)
        });
        let client = Client::new(&format!("ws://{addr}/feed?symbols=all"))
            .unwrap()
            .header("Authorization", "Bearer 1234")
            .unwrap()
            .header("Origin", "https://example.com")
            .unwrap()
            .subprotocols(["chat.v2", "chat.v1"])
            .unwrap();
        client.connect(echo).unwrap();
        let (head, _peer) = host.join().unwrap();
        assert!(head.starts_with("GET /feed?symbols=all HTTP/1.1\r\n"), "{head}");
        for line in [
            &format!("Host: {addr}")[..],
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Authorization: Bearer 1234",
            "Origin: https://example.com",
            "Sec-WebSocket-Protocol: chat.v2, chat.v1",
        ] {
            assert_eq!(head.lines().filter(|found| *found == line).count(), 1, "{line}\n{head}");
        }
    });
}

#[test]
fn a_client_connects_more_than_once_with_another_key_each_time() {
    bounded(|| {
        let host = Host::listen();
        let client = Client::new(&host.url()).unwrap();
        let host = host.run(|host| {
            [(); 2].map(|()| {
                let mut peer = host.accept();
                let head = peer.head();
                peer.bytes(upgraded(&head));
                (head, peer)
            })
        });
        client.connect(echo).unwrap();
        client.connect(echo).unwrap();
        let [(one, _), (two, _)] = &host.join().unwrap();
        assert_ne!(one, two);
    });
}

#[test]
fn headers_cannot_be_injected() {
    let client = || Client::new("ws://127.0.0.1/").unwrap();
    for (name, value) in [
        ("X-A", "1\r\nX-B: 2"),
        ("X-A", "1\nX-B: 2"),
        ("X-A", "1\r"),
        ("X-A", "\0"),
        ("X-A\r\nX-B", "1"),
        ("X-A:", "1"),
        ("", "1"),
    ] {
        let refused = client().header(name, value);
        assert!(matches!(refused, Err(Error::Handshake(_))), "{name:?}: {value:?}");
    }
    for name in
        ["Upgrade", "Connection", "sec-websocket-key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions"]
    {
        assert!(matches!(client().header(name, "1"), Err(Error::Handshake(_))), "{name}");
    }
    for names in [&["a b"][..], &[""], &["a", "a"], &["a\r\nX: 1"]] {
        assert!(matches!(client().subprotocols(names), Err(Error::Handshake(_))), "{names:?}");
    }
    // Nor through the URL.
    let target = Target::parse("ws://127.0.0.1/a\r\nX-A: 1").map(|target| target.resource().to_owned());
    assert!(target.is_err() || !target.unwrap().contains(['\r', '\n', ' ']));
}

#[test]
fn a_name_with_several_addresses_is_reached_at_the_one_that_answers() {
    bounded(|| {
        // `localhost` may have an IPv6 address too, where nobody listens.
        let serving = Serving::with(bind(), |_| Reply::with(echo));
        let log = Log::new();
        let url = format!("ws://localhost:{}/", serving.addr.port());
        let ws = connect(&url, log.listener(ignore)).unwrap();
        assert_eq!(ws.peer_addr().unwrap(), serving.addr);
        ws.send("hello").unwrap();
        wait_until(None, || log.calls().len() == 2).unwrap();
        assert_eq!(log.calls()[1], Call::text("hello"));
    });
}

#[test]
fn a_name_of_which_no_address_answers_fails_with_the_last() {
    bounded(|| {
        let port = closed_port();
        let error = connect(&format!("ws://localhost:{port}/"), echo).unwrap_err();
        assert!(matches!(&error, Error::Connect(error) if error.addr.port() == port), "{error:?}");
        assert_eq!(EventLoop::current().source_count(), 0);
    });
}

#[test]
fn start_tells_the_listener_that_it_is_open() {
    bounded(|| {
        let serving = Serving::with(bind(), |_| Reply::with(echo));
        let log = Log::new();
        let client = Client::new(&serving.url("/")).unwrap();
        client
            .start(log.listener(|ws, call| match call {
                Call::Open => ws.send("hello"),
                _ => ws.close(),
            }))
            .unwrap();
        assert_eq!(log.calls(), [], "it takes a wait to hear anything");
        wait_until(None, || log.end().is_some()).unwrap();
        let end = Call::Closed(End::clean(Initiator::Local, 1000, ""));
        assert_eq!(log.calls(), [Call::Open, Call::text("hello"), end]);
    });
}

#[test]
fn start_tells_the_listener_that_it_failed() {
    bounded(|| {
        let addr = format!("127.0.0.1:{}", closed_port());
        let log = Log::new();
        Client::new(&format!("ws://{addr}/")).unwrap().start(log.listener(ignore)).unwrap();
        wait_until(None, || !log.calls().is_empty()).unwrap();
        update().unwrap();
        assert_eq!(log.calls(), [Call::Failed(format!("can't connect to {addr}: connection refused"))]);
    });
}

#[test]
fn many_attempts_of_one_thread_go_on_at_once() {
    bounded(|| {
        let serving = Serving::with(bind(), |_| Reply::with(echo));
        let log = Log::new();
        // By name, so that each waits for the resolver too.
        let client = Client::new(&format!("ws://localhost:{}/", serving.addr.port())).unwrap();
        for number in 0..20 {
            let listener = log.listener(move |ws, call| match call {
                Call::Open => ws.send(&number.to_string()),
                _ => Ok(()),
            });
            client.start(listener).unwrap();
        }
        wait_until(None, || log.calls().len() == 40).unwrap();
        let mut heard: Vec<usize> = log
            .calls()
            .iter()
            .filter_map(|call| if let Call::Text(text) = call { text.parse().ok() } else { None })
            .collect();
        heard.sort_unstable();
        assert_eq!(heard, (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_callback_may_connect_and_send_through_both() {
    bounded(|| {
        let serving = Serving::with(bind(), |_| Reply::with(echo));
        let url = serving.url("/");
        let log = Log::new();
        let heard = log.clone();
        let inner_url = url.clone();
        let ws = connect(
            &url,
            log.listener(move |ws, call| {
                if *call == Call::text("outer") {
                    let answers = Rc::new(RefCell::new(Vec::new()));
                    let hears = Rc::clone(&answers);
                    let inner = connect(&inner_url, move |ws: &Connection, message: Message<'_>| {
                        hears.borrow_mut().push(message.to_string());
                        ws.close()
                    })?;
                    inner.send("inner")?;
                    // Sent before the wait, so it leaves during it; the answer waits for this callback.
                    ws.send("meanwhile")?;
                    wait_until(None, || !answers.borrow().is_empty())?;
                    heard.note(&answers.borrow()[0]);
                }
                Ok(())
            }),
        )
        .unwrap();
        ws.send("outer").unwrap();
        wait_until(None, || log.calls().len() == 4).unwrap();
        let expected =
            [Call::Open, Call::text("outer"), Call::Note("inner".to_owned()), Call::text("meanwhile")];
        assert_eq!(log.calls(), expected);
    });
}

#[test]
fn a_stop_ends_an_attempt() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let worker = Worker::spawn(move || {
            let result = Client::new(&url).unwrap().config(patient()).connect(echo);
            assert!(matches!(result, Err(Error::Stopped)), "{result:?}");
            assert_eq!(EventLoop::current().source_count(), 0, "its socket is closed");
            // So do those that begin afterwards.
            let result = Client::new(&url).unwrap().config(patient()).connect(echo);
            assert!(matches!(result, Err(Error::Stopped)), "{result:?}");
            Ok(())
        });
        let mut peer = host.accept();
        assert!(peer.head().starts_with("GET / HTTP/1.1\r\n"));
        worker.stop();
        assert!(peer.ended());
        assert_eq!(worker.join().unwrap().done(), Some(()));
    });
}

#[test]
fn a_stop_ends_an_attempt_that_nobody_waits_for() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let log = Log::new();
        let theirs = log.clone();
        let worker = Worker::spawn(move || {
            Client::new(&url).unwrap().config(patient()).start(theirs.listener(ignore)).unwrap();
            threadwire::wait_forever()
        });
        let mut peer = host.accept();
        peer.head();
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
        assert_eq!(log.calls(), [Call::Failed("the worker was asked to stop".to_owned())]);
    });
}

#[test]
fn an_error_in_on_open_is_not_one_of_connecting() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.upgrade(b"");
            assert_eq!(peer.code(), 1011);
            peer.close(1011, "");
        });
        let log = Log::new();
        let react = |_: &Connection, call: &Call| match call {
            Call::Open => Err(Error::other("changed my mind")),
            _ => Ok(()),
        };
        let ws = connect(&url, log.listener(react)).unwrap();
        assert!(!ws.is_open());
        wait_until(Some(PATIENCE), || log.end().is_some()).unwrap();
        assert_eq!(log.wait_end(), End::failed(Initiator::Local, 1011, true, "changed my mind"));
        host.join().unwrap();
    });
}

#[test]
fn waiting_for_an_attempt_serves_timers_and_other_connections() {
    bounded(|| {
        let serving = Serving::with(bind(), |_| Reply::with(echo));
        let log = Log::new();
        let ws = connect(&serving.url("/"), log.listener(ignore)).unwrap();
        let timed = ws.clone();
        EventLoop::current().after(Duration::ZERO, move || timed.send("from a timer").unwrap());
        // The second server answers only when the first one has.
        let heard = log.clone();
        let result = attempt_beside(move |mut peer| {
            heard.wait_for(&Call::text("from a timer"));
            peer.bytes("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        });
        assert!(matches!(result, Err(Error::Status(_))), "{result:?}");
        assert_eq!(log.calls(), [Call::Open, Call::text("from a timer")]);
    });
}

#[test]
fn a_stop_ends_an_attempt_that_is_still_resolving() {
    bounded(|| {
        let log = Log::new();
        let theirs = log.clone();
        let worker = Worker::spawn(move || {
            Client::new("ws://nosuch.invalid/").unwrap().start(theirs.listener(ignore)).unwrap();
            Ok(())
        });
        worker.join().unwrap();
        assert!(matches!(log.calls()[..], [Call::Failed(_)]), "{:?}", log.calls());
    });
}

#[test]
fn start_calls_nothing_before_it_returns() {
    bounded(|| {
        let log = Log::new();
        // The system refuses a broadcast address without sending anything.
        Client::new("ws://255.255.255.255:9/").unwrap().start(log.listener(ignore)).unwrap();
        assert_eq!(log.calls(), []);
        wait_until(None, || log.calls().len() == 1).unwrap();
    });
}
