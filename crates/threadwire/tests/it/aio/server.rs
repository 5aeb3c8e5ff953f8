//! Server and client of the async face: requests, refusals, slow peers, shutdown.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::peer::{Peer, TEXT, request, request_with};
use crate::common::tasks::{echo, join, on_runtimes};
use crate::common::{SOON, patient};
use threadwire::error::TimeoutKind;
use threadwire::server::{Admission, CloseProblem, Shutdown};
use threadwire::{Client, CloseCode, Config, Error, Headers, Response, aio};

async fn bind() -> aio::Server {
    aio::Server::bind("127.0.0.1:0").await.unwrap().config(patient())
}

#[test]
fn a_request_is_answered_as_the_program_wants() {
    on_runtimes(|| async {
        let mut server = bind().await;
        let addr = server.local_addr().unwrap();
        let url = format!("ws://{addr}/chat?room=1");
        let serving = tokio::spawn(async move {
            let request = server.accept().await.unwrap();
            assert_eq!((request.path(), request.query()), ("/chat", Some("room=1")));
            assert_eq!(request.header("X-Token"), Some("123"));
            assert!(request.peer_addr().unwrap().ip().is_loopback());
            let mut headers = Headers::new();
            headers.append("X-Room", "lobby").unwrap();
            let ws = request.upgrade_with(headers, Some("v2")).await.unwrap();
            assert_eq!(ws.subprotocol(), Some("v2"));
            echo(ws).await.unwrap();
            let request = server.accept().await.unwrap();
            request.respond(Response::new(403).unwrap().with_body("not you")).await.unwrap();
            let request = server.accept().await.unwrap();
            let refused = request.upgrade_with(Headers::new(), Some("v9")).await;
            assert!(matches!(refused, Err(Error::Handshake(_))), "it was not offered");
        });
        let client = Client::new(&url).unwrap().header("X-Token", "123").unwrap();
        let client = client.subprotocols(["v1", "v2"]).unwrap();
        let ws = aio::connect(&client).await.unwrap();
        assert_eq!(ws.subprotocol(), Some("v2"));
        assert_eq!(ws.response_headers().unwrap().get("X-Room"), Some("lobby"));
        assert_eq!(ws.peer_addr().unwrap(), addr);
        assert!(ws.local_addr().is_ok());
        ws.close().await.unwrap();
        for status in [403, 500] {
            match aio::connect(&client).await {
                Err(Error::Status(answer)) => assert_eq!(answer.status(), status),
                other => panic!("{other:?}"),
            }
        }
        serving.await.unwrap();
    });
}

#[test]
fn a_peer_that_is_slow_with_its_request_holds_up_nobody() {
    on_runtimes(|| async {
        let mut server = bind().await;
        let addr = server.local_addr().unwrap();
        let mut slow = Peer::connect(addr);
        slow.bytes(&request("/slow")[..20]);
        let fast = std::thread::spawn(move || Peer::open(addr, "/fast"));
        let request_of_fast = server.accept().await.unwrap();
        assert_eq!(request_of_fast.path(), "/fast");
        let _fast = request_of_fast.upgrade().await.unwrap();
        join(fast).await;
        slow.bytes(&request("/slow")[20..]);
        assert_eq!(server.accept().await.unwrap().path(), "/slow");
    });
}

#[test]
fn what_is_no_request_is_answered_and_dropped() {
    on_runtimes(|| async {
        let config = patient().open_timeout(SOON);
        let mut server = aio::Server::bind("127.0.0.1:0").await.unwrap().config(config);
        let addr = server.local_addr().unwrap();
        let peers = std::thread::spawn(move || {
            let mut nonsense = Peer::connect(addr);
            nonsense.bytes("this is not HTTP\r\n\r\n");
            assert!(nonsense.rest().starts_with("HTTP/1.1 400 "));
            let mut silent = Peer::connect(addr);
            assert!(silent.ended(), "it was given up");
            let mut old = Peer::connect(addr);
            old.bytes(request_with("/", "").replace("Version: 13", "Version: 8"));
            assert!(old.rest().starts_with("HTTP/1.1 426 "));
            Peer::open(addr, "/good")
        });
        let old = server.accept().await.unwrap();
        assert!(old.upgrade().await.is_err());
        assert_eq!(server.accept().await.unwrap().path(), "/good");
        // Unanswered, it is dropped.
        assert!(tokio::task::spawn_blocking(move || peers.join()).await.unwrap().is_err());
    });
}

#[test]
fn a_server_that_stops_closes_every_connection_with_1001_and_waits_for_the_handlers() {
    on_runtimes(|| async {
        let server = bind().await;
        let addr = server.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let ended = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ended);
        let serving = tokio::spawn(server.serve_until(stopped, move |_request, mut ws| {
            let count = Arc::clone(&count);
            async move {
                while let Ok(Some(_)) = ws.recv().await {
                    ws.send("got it").await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                count.fetch_add(1, Ordering::SeqCst);
            }
        }));
        let peers: Vec<_> = (0..5)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut peer = Peer::open(addr, "/");
                    peer.send(TEXT, b"hello");
                    assert_eq!(peer.text(), "got it");
                    peer
                })
            })
            .collect();
        let mut open = Vec::new();
        for peer in peers {
            open.push(join(peer).await);
        }
        stop.send(()).unwrap();
        let peers = std::thread::spawn(move || {
            for mut peer in open {
                assert_eq!(peer.code(), 1001);
                peer.close(1001, "");
                assert!(peer.ended_orderly());
            }
        });
        serving.await.unwrap().unwrap();
        assert_eq!(ended.load(Ordering::SeqCst), 5);
        join(peers).await;
        assert!(std::net::TcpStream::connect(addr).is_err(), "it does not listen any more");
    });
}

#[test]
fn a_server_stops_in_bounded_time_though_handlers_never_end() {
    on_runtimes(|| async {
        let config = patient().close_timeout(SOON);
        let server = aio::Server::bind("127.0.0.1:0").await.unwrap().config(config);
        let url = format!("ws://{}", server.local_addr().unwrap());
        let (begun, mut has_begun) = tokio::sync::mpsc::channel(1);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve_until(stopped, move |_request, ws| {
            let begun = begun.clone();
            async move {
                begun.send(()).await.unwrap();
                std::future::pending::<()>().await;
                drop(ws);
            }
        }));
        let _ws = aio::connect(&url).await.unwrap();
        has_begun.recv().await.unwrap();
        drop(stop);
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn a_panic_in_a_handler_ends_its_own_connection_only() {
    on_runtimes(|| async {
        let server = bind().await;
        let url = format!("ws://{}", server.local_addr().unwrap());
        let serving = tokio::spawn(server.serve(|_request, mut ws| async move {
            while let Ok(Some(message)) = ws.recv().await {
                assert!(message != "boom", "as it was told");
                ws.send(&message).await.unwrap();
            }
        }));
        let (mut good, mut bad) = (aio::connect(&url).await.unwrap(), aio::connect(&url).await.unwrap());
        bad.send("boom").await.unwrap();
        let Err(Error::Ended(closed)) = bad.recv().await else { panic!("it went well") };
        assert_eq!(closed.code.get(), 1011);
        good.send("hello").await.unwrap();
        assert_eq!(good.recv().await.unwrap().unwrap(), "hello");
        serving.abort();
    });
}

#[test]
fn connecting_says_what_is_wrong() {
    on_runtimes(|| async {
        assert!(matches!(aio::connect("http://127.0.0.1/").await, Err(Error::Url(_))));
        assert!(matches!(aio::connect("ws://no-such-host.invalid/").await, Err(Error::Resolve(_))));
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = silent.local_addr().unwrap();
        let hasty = Client::new(&format!("ws://{addr}")).unwrap();
        let hasty = hasty.config(Config::default().open_timeout(SOON));
        assert!(matches!(aio::connect(&hasty).await, Err(Error::Timeout(TimeoutKind::Open { .. }))));
        drop(silent);
        assert!(matches!(aio::connect(&hasty).await, Err(Error::Connect(error)) if error.addr == addr));
        let host = crate::common::peer::Host::listen();
        let url = host.url();
        let gone = host.run(|host| drop(host.accept().head()));
        assert!(matches!(aio::connect(&url).await, Err(Error::Lost)));
        join(gone).await;
        let taken = aio::Server::bind(addr).await.unwrap();
        assert!(matches!(aio::Server::bind(addr).await, Err(Error::Listen(_))));
        drop(taken);
    });
}

#[test]
fn a_connect_that_is_dropped_lets_go() {
    on_runtimes(|| async {
        let host = crate::common::peer::Host::listen();
        let url = host.url();
        let peer = host.run(|host| {
            let mut peer = host.accept();
            peer.head();
            assert!(peer.ended());
        });
        assert!(tokio::time::timeout(SOON, aio::connect(&url)).await.is_err());
        join(peer).await;
    });
}

#[test]
fn a_server_that_stops_answers_503_to_handshakes_under_way() {
    on_runtimes(|| async {
        let server = bind().await;
        let addr = server.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve_until(stopped, |_request, ws| async move {
            echo(ws).await.unwrap();
        }));
        let peers = std::thread::spawn(move || {
            let mut open = Peer::open(addr, "/");
            // All have been accepted before this one is answered.
            let mut silent = Peer::connect(addr);
            let mut half = Peer::connect(addr);
            half.bytes(&request("/")[..30]);
            let mut last = Peer::open(addr, "/");
            drop(stop);
            for peer in [&mut silent, &mut half] {
                let answer = peer.rest();
                assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
                peer.end();
            }
            for peer in [&mut open, &mut last] {
                assert_eq!(peer.code(), 1001);
                peer.close(1001, "");
            }
        });
        serving.await.unwrap().unwrap();
        join(peers).await;
    });
}

#[test]
fn a_server_that_stops_answers_503_to_who_waits_to_be_accepted() {
    on_runtimes(|| async {
        let server = bind().await;
        let addr = server.local_addr().unwrap();
        let mut waiting: Vec<Peer> = (0..3).map(|_| Peer::connect(addr)).collect();
        waiting.iter_mut().skip(1).for_each(|peer| peer.bytes(request("/")));
        let peers = std::thread::spawn(move || {
            for peer in &mut waiting {
                let answer = peer.rest();
                assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
                peer.end();
            }
        });
        let nobody = |_request, _ws| async { panic!("it is too late") };
        server.serve_until(std::future::ready(()), nobody).await.unwrap();
        join(peers).await;
        assert!(std::net::TcpStream::connect(addr).is_err(), "it does not listen any more");
    });
}

#[test]
fn a_refused_peer_that_stays_does_not_hold_a_shutdown_up() {
    on_runtimes(|| async {
        let server = bind().await;
        let addr = server.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve_until(stopped, |_request, ws| async move {
            let _ = echo(ws).await;
        }));
        let peers = std::thread::spawn(move || {
            let mut silent = Peer::connect(addr);
            let mut open = Peer::open(addr, "/");
            drop(stop);
            assert!(silent.rest().starts_with("HTTP/1.1 503 "));
            assert_eq!(open.code(), 1001);
            open.close(1001, "");
            silent
        });
        serving.await.unwrap().unwrap();
        // The silent client stayed connected until now.
        let mut silent = join(peers).await;
        let dropped = std::thread::spawn(move || while silent.try_bytes(b"am I here?") {});
        join(dropped).await;
    });
}

/// Asks for what is answered with this status, and stays.
fn stay(addr: std::net::SocketAddr, request: &str, status: &str) -> Peer {
    let mut peer = Peer::connect(addr);
    peer.bytes(request);
    let answer = peer.rest();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    peer
}

#[test]
fn peers_that_were_answered_and_stay_count_as_handshakes_and_the_oldest_are_dropped() {
    on_runtimes(|| async {
        let admission = Admission::default().max_handshakes(4);
        let mut server = bind().await.admission(admission);
        let addr = server.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let request = server.accept().await.unwrap();
                request.respond(Response::new(404).unwrap()).await.unwrap();
            }
        });
        let peers = std::thread::spawn(move || {
            let mut stayers: Vec<Peer> = (0..8).map(|_| stay(addr, &request("/"), "404")).collect();
            // The server neither reads from the client nor holds its socket any more.
            while stayers[0].try_bytes(b"am I here?") {
                std::thread::yield_now();
            }
            let newest = stayers.last_mut().unwrap();
            assert!((0..100).all(|_| newest.try_bytes(b"am I here?")), "there is room for it");
        });
        join(peers).await;
        serving.abort();
    });
}

#[test]
fn peers_that_were_answered_and_stay_are_dropped_with_the_server() {
    on_runtimes(|| async {
        let server = bind().await;
        let addr = server.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve_until(stopped, |_request, _ws| async {}));
        let old = request_with("/", "").replace("Version: 13", "Version: 8");
        let mut peer = join(std::thread::spawn(move || stay(addr, &old, "426"))).await;
        drop(stop);
        serving.await.unwrap().unwrap();
        let dropped = std::thread::spawn(move || while peer.try_bytes(b"am I here?") {});
        join(dropped).await;
    });
}

#[test]
fn a_request_can_be_answered_by_a_router_after_it_was_accepted() {
    on_runtimes(|| async {
        let router = threadwire::server::Router::new()
            .route("/rooms/{id}", |request| {
                request.attach(request.param("id").unwrap_or_default().to_owned());
                threadwire::Reply::upgrade().subprotocols(["v1"])
            })
            .unwrap();
        let mut server = bind().await;
        let addr = server.local_addr().unwrap();
        let peers = std::thread::spawn(move || {
            let mut lost = Peer::connect(addr);
            lost.bytes(request("/nowhere"));
            assert!(lost.rest().starts_with("HTTP/1.1 404 "));
            let mut peer = Peer::connect(addr);
            peer.bytes(request_with("/rooms/7", "Sec-WebSocket-Protocol: v0, v1\r\n"));
            assert!(peer.head().contains("\r\nSec-WebSocket-Protocol: v1\r\n"));
            assert_eq!(peer.text(), "7");
        });
        let request = server.accept().await.unwrap();
        let accept = router.answer(&request);
        assert!(request.answer(accept).await.unwrap().is_none());
        let request = server.accept().await.unwrap();
        let accept = router.answer(&request);
        let ws = request.answer(accept).await.unwrap().unwrap();
        let room = ws.attached::<String>().unwrap();
        ws.send(room.as_str()).await.unwrap();
        join(peers).await;
    });
}

#[test]
fn a_shutdown_closes_the_connections_and_reports_them() {
    on_runtimes(|| async {
        let server = bind().await;
        let addr = server.local_addr().unwrap();
        let stopper = server.stopper();
        let serving = tokio::spawn(server.serve(|_request, ws| async move {
            let _ = echo(ws).await;
        }));
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let peers = std::thread::spawn(move || {
            let mut answering = Peer::open(addr, "/");
            let silent = Peer::open(addr, "/");
            let mut half = Peer::connect(addr);
            half.bytes("GET / HTTP/1.1\r\nHost");
            // All that was sent before this answer has come.
            answering.send(TEXT, b"here?");
            answering.frame();
            std::thread::sleep(SOON);
            tell.send(()).unwrap();
            assert_eq!(answering.closed(), (1012, "back soon".to_owned()));
            answering.close(1012, "");
            let refused = half.rest();
            assert!(
                refused.starts_with("HTTP/1.1 503 ") && refused.contains("Retry-After: 2\r\n"),
                "{refused}"
            );
            silent
        });
        told.await.unwrap();
        assert_eq!(stopper.connections(), 2);
        let shutdown = Shutdown::default().code(CloseCode::SERVICE_RESTART).reason("back soon");
        let shutdown = shutdown.timeout(Duration::from_millis(500)).retry_after(Some(Duration::from_secs(2)));
        let (report, same) = tokio::join!(stopper.shutdown(shutdown), stopper.shutdown(Shutdown::default()));
        let report = report.unwrap();
        assert_eq!((report.connections, report.clean, report.refused), (2, 1, 1), "{report:?}");
        assert_eq!(report.unclean[0].problem, CloseProblem::Silent);
        assert!(report.unclean[0].peer.is_some() && report.stuck.is_empty(), "{report:?}");
        assert_eq!(same.unwrap().to_string(), report.to_string(), "the first order and its deadline hold");
        serving.await.unwrap().unwrap();
        assert_eq!(stopper.connections(), 0);
        drop(join(peers).await);
    });
}

#[test]
fn a_code_that_must_not_be_sent_shuts_nothing_down() {
    on_runtimes(|| async {
        let server = bind().await;
        let (stopper, addr) = (server.stopper(), server.local_addr().unwrap());
        let serving = tokio::spawn(server.serve(|_request, ws| async move {
            let _ = echo(ws).await;
        }));
        let wrong = stopper.shutdown(Shutdown::default().code(CloseCode::ABNORMAL)).await;
        assert!(matches!(wrong, Err(Error::Send(_))));
        let mut ws = aio::connect(&format!("ws://{addr}")).await.unwrap();
        ws.send("still here?").await.unwrap();
        assert_eq!(ws.recv().await.unwrap().unwrap(), "still here?");
        stopper.stop();
        assert!(ws.recv().await.unwrap().is_none());
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn a_server_that_was_stopped_accepts_no_more() {
    on_runtimes(|| async {
        let mut server = bind().await;
        let stopper = server.stopper();
        let accepting = tokio::spawn(async move { server.accept().await.map(drop) });
        stopper.stop();
        assert!(matches!(accepting.await.unwrap(), Err(Error::Stopped)));
    });
}
