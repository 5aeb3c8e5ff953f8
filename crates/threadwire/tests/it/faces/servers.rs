//! Server features on each face.

use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};
use std::thread::{self, JoinHandle};

use super::scenarios;
use crate::common::certificates::Authority;
use crate::common::doors::{Plan, ask_for_note, attach};
use crate::common::faces::Face;
use crate::common::files::Files;
use crate::common::peer::{Peer, TEXT, masked, request, request_with};
use crate::common::{Serving, bind, echo, patient, tasks};
use threadwire::server::{
    Admission, Bearer, Forwarded, ListenSocket, ProxyProtocol, Router, ServerTls, Shutdown, Spread,
};
use threadwire::{Client, Config, Connection, Limits, Message, Reply, Request, blocking};

/// A peer of an echo that leaves when it is asked to.
fn leaving(addr: SocketAddr) -> JoinHandle<()> {
    let mut peer = Peer::open(addr, "/");
    // It is served now.
    peer.send(TEXT, b"hello");
    assert_eq!(peer.text(), "hello");
    thread::spawn(move || {
        let code = peer.code();
        peer.close(code, "");
        assert!(peer.ended_orderly());
    })
}

scenarios! {
    "answer a request" {
        listener blocking aio: server |face| {
            let served = face.serve(Plan::new(move |request| match request.path() {
                "/" => face.accept(),
                _ => Reply::status(404),
            }));
            assert_eq!((served.status("/", ""), served.status("/elsewhere", "")), (101, 404));
        };
    }
    "choose a subprotocol" {
        listener blocking aio: server |face| {
            let served = face.serve(Plan::new(move |_| face.accept().subprotocols(["v2", "v1"]).unwrap()));
            let mut peer = Peer::connect(served.addr());
            peer.bytes(request_with("/", "Sec-WebSocket-Protocol: v0, v1\r\n"));
            assert!(peer.head().to_lowercase().contains("sec-websocket-protocol: v1\r\n"));
        };
    }
    "attach values to a connection" {
        listener blocking aio: server |face| {
            let served = face.serve(Plan::new(move |request| {
                attach(request, "attached");
                face.accept()
            }));
            assert_eq!(served.note("/", ""), "attached");
        };
    }
    "keep the request" {
        listener blocking aio: server |face| {
            let served = face.serve(Plan::new(move |request: &Request| {
                request.keep();
                face.accept()
            }));
            assert_eq!(served.note("/kept?yes", "X-Name: value\r\n"), "/kept?yes Some(\"value\")");
        };
    }
    "route by path" {
        listener blocking aio: server |face| {
            let router = Router::new().route("/rooms/{id}", move |request| {
                attach(request, request.param("id").unwrap());
                face.accept()
            });
            let served = face.serve(Plan::new(router.unwrap().hook()));
            assert_eq!(served.note("/rooms/7", ""), "7");
            assert_eq!(served.status("/", ""), 404);
        };
    }
    "check who asks" {
        listener blocking aio: server |face| {
            let check = Bearer::new("rooms", |token: &str| (token == "good").then_some(()));
            let router = Router::new().check(check).route("/", move |_| face.accept()).unwrap();
            let served = face.serve(Plan::new(router.hook()));
            assert_eq!(served.status("/", ""), 401);
            assert_eq!(served.status("/", "Authorization: Bearer good\r\n"), 101);
        };
    }
    "limit how many are let in" {
        listener blocking aio: server |face| {
            let plan = Plan::new(move |_| face.accept());
            let served = face.serve(plan.admission(Admission::default().max_connections(1)));
            let _first = Peer::open(served.addr(), "/");
            assert_eq!(served.status("/", ""), 503);
        };
    }
    "who is behind a balancer" {
        listener blocking aio: server |face| {
            let said = move |request: &Request| {
                attach(request, request.client_ip().unwrap());
                face.accept()
            };
            let forwarded = Forwarded::from_peers(["127.0.0.0/8"]).unwrap();
            let served = face.serve(Plan::new(said).admission(Admission::default().forwarded(forwarded)));
            assert_eq!(served.note("/", "X-Forwarded-For: 192.0.2.1\r\n"), "192.0.2.1");
        };
    }
    "the PROXY protocol" {
        listener blocking aio: server |face| {
            let said = move |request: &Request| {
                attach(request, request.client_ip().unwrap());
                face.accept()
            };
            let protocol = ProxyProtocol::from_peers(["127.0.0.0/8"]).unwrap();
            let served = face.serve(Plan::new(said).admission(Admission::default().proxy_protocol(protocol)));
            let mut peer = Peer::connect(served.addr());
            peer.bytes(format!("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n{}", request("/")));
            assert_eq!(ask_for_note(&mut peer), "192.0.2.1");
        };
    }
    "several sockets, also Unix sockets" {
        listener blocking aio: server |face| {
            let files = Files::empty();
            let unix = ListenSocket::unix(files.path("socket")).unwrap();
            let sockets = vec![ListenSocket::tcp("127.0.0.1:0").unwrap(), unix];
            let served = face.serve_on(sockets, Plan::new(move |_| face.accept()));
            assert_eq!(served.status("/", ""), 101);
            let client = Client::new("ws://localhost/").unwrap().unix_socket(served.path());
            assert!(blocking::connect(&client).unwrap().is_open());
        };
    }
    "TLS" {
        listener blocking aio: server |face| {
            let authority = Authority::new("authority");
            let tls: ServerTls = authority.sign(&["localhost"]).server();
            let served = face.serve(Plan { tls: Some(tls), ..Plan::new(move |_| face.accept()) });
            let url = format!("wss://localhost:{}/", served.addr().port());
            let mut ws = blocking::connect(&Client::new(&url).unwrap().tls(authority.trusted())).unwrap();
            ws.send("hello").unwrap();
            assert_eq!(ws.recv().unwrap().unwrap(), "hello");
        };
    }
    "slow a peer down that does not read" {
        listener: server |face| {
            // More than all buffers between the two hold.
            const COUNT: usize = 400;
            let flood = |throttle| {
                let config = patient().max_buffered(1 << 20).throttle(throttle);
                let served = face.serve(Plan::new(move |_| face.accept()).config(config));
                let peer = Peer::open(served.addr(), "/");
                let mut writer = peer.writer();
                let long = masked(TEXT, &[b'x'; 100_000]);
                let flooding = thread::spawn(move || (0..COUNT).all(|_| writer.try_bytes(&long)));
                (served, peer, flooding)
            };
            let (_served, mut peer, flooding) = flood(true);
            (0..COUNT).for_each(|_| assert_eq!(peer.text().len(), 100_000));
            assert!(flooding.join().unwrap());
            let (_served, mut peer, flooding) = flood(false);
            flooding.join().unwrap();
            let answers = std::iter::repeat_with(|| peer.frame().0).take_while(|first| *first == TEXT).count();
            assert!(answers < COUNT);
        };
    }
    "on several threads" {
        listener: alone || {
            let server = bind().workers(2).spread(Spread::RoundRobin);
            let serving = Serving::with(server, |_| {
                let thread = format!("{:?}", thread::current().id());
                Reply::with(move |ws: &Connection, _: Message<'_>| ws.send(&thread))
            });
            let mut threads: Vec<_> = (0..2).map(|_| Face::Listener.echo(&Client::new(&serving.url("/")).unwrap(), "?").unwrap()).collect();
            threads.dedup();
            assert_eq!(threads.len(), 2);
        };
        blocking: alone || {
            let server = blocking::Server::bind("127.0.0.1:0").unwrap();
            let serving = server.serve(2, |ws| {
                let thread = format!("{:?}", thread::current().id());
                while ws.recv()?.is_some() {
                    ws.send(&thread)?;
                }
                Ok(())
            });
            let serving = serving.unwrap();
            let mut peers: Vec<_> = (0..2).map(|_| Peer::open(serving.local_addr().unwrap(), "/")).collect();
            peers.iter_mut().for_each(|peer| peer.send(TEXT, b"?"));
            let mut threads: Vec<_> = peers.iter_mut().map(Peer::text).collect();
            threads.dedup();
            assert_eq!(threads.len(), 2);
            serving.stop();
            serving.join().unwrap();
        };
    }
    "set up each thread" {
        listener: alone || {
            let (tell, told) = mpsc::channel();
            let tell = Mutex::new(tell);
            let server = bind().workers(2).on_worker(move |_| tell.lock().unwrap().send(thread::current().id()).unwrap());
            let _serving = Serving::with(server, |_| Reply::with(echo));
            assert_ne!(told.recv().unwrap(), told.recv().unwrap());
        };
    }
    "requests that another HTTP server has read" {
        aio: alone async || {
            #[cfg(feature = "axum")]
            {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let url = format!("ws://{}/", listener.local_addr().unwrap());
                let answer = |upgrade: threadwire::aio::Upgrade| async {
                    let answer: axum::response::Response =
                        upgrade.on_upgrade(|ws| async move { ws.send("upgraded").await });
                    answer
                };
                let app = axum::Router::new().route("/", axum::routing::get(answer));
                tokio::spawn(async move { axum::serve(listener, app).await });
                let mut ws = threadwire::aio::connect(&url).await.unwrap();
                assert_eq!(ws.recv().await.unwrap().unwrap(), "upgraded");
            }
        };
    }
    "accept one by one" {
        blocking: alone || {
            let mut server = blocking::Server::bind("127.0.0.1:0").unwrap();
            let addr = server.local_addr().unwrap();
            let peer = thread::spawn(move || Peer::open(addr, "/").send(TEXT, b"hello"));
            assert_eq!(server.accept().unwrap().recv().unwrap().unwrap(), "hello");
            peer.join().unwrap();
        };
        aio: alone async || {
            let mut server = threadwire::aio::Server::bind("127.0.0.1:0").await.unwrap();
            let addr = server.local_addr().unwrap();
            let peer = thread::spawn(move || Peer::open(addr, "/").send(TEXT, b"hello"));
            let mut ws = server.accept().await.unwrap().upgrade().await.unwrap();
            assert_eq!(ws.recv().await.unwrap().unwrap(), "hello");
            peer.join().unwrap();
        };
    }
    "settings of connections" {
        listener blocking aio: server |face| {
            let short: Config = patient().limits(Limits::default().max_message(4));
            let served = face.serve(Plan::new(move |_| face.accept()).config(short));
            let mut peer = Peer::open(served.addr(), "/");
            peer.send(TEXT, b"12345");
            assert_eq!(peer.code(), 1009);
        };
    }
    "shut down, with a report" {
        listener: alone || {
            let running = bind().serve(|_| Reply::with(echo)).unwrap();
            let peer = leaving(running.local_addr().unwrap());
            assert_eq!(running.shutdown(Shutdown::default()).unwrap().clean, 1);
            peer.join().unwrap();
        };
        blocking: alone || {
            let server = blocking::Server::bind("127.0.0.1:0").unwrap();
            let serving = server.serve(1, |ws| {
                while let Some(message) = ws.recv()? {
                    ws.send(&message)?;
                }
                Ok(())
            });
            let serving = serving.unwrap();
            let peer = leaving(serving.local_addr().unwrap());
            assert_eq!(serving.shutdown(Shutdown::default()).unwrap().clean, 1);
            peer.join().unwrap();
        };
        aio: alone async || {
            let server = threadwire::aio::Server::bind("127.0.0.1:0").await.unwrap();
            let (addr, stopper) = (server.local_addr().unwrap(), server.stopper());
            let serving = tokio::spawn(server.serve(|_, ws| tasks::echo(ws)));
            let peer = leaving(addr);
            assert_eq!(stopper.shutdown(Shutdown::default()).await.unwrap().clean, 1);
            serving.await.unwrap().unwrap();
            peer.join().unwrap();
        };
    }
}
