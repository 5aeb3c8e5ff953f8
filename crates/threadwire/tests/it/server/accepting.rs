//! Accepting: listening, spreading over workers, and answers to requests.

use super::upgrades::route;
use crate::common::peer::{Peer, TEXT, masked, request};
use crate::common::recorder::{Call, Log};
use crate::common::{PATIENCE, Serving, bind, bounded, echo, patient};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use threadwire::server::Spread;
use threadwire::worker::{EventLoop, Remote};
use threadwire::{Client, Connection, Error, Message, Reply, Server};

/// A listener that answers every message with the name of its thread.
fn name_thread(ws: &Connection, _message: Message<'_>) -> Result<(), Error> {
    ws.send(thread::current().name().unwrap_or_default())
}

/// How many of `count` connections live on which thread.
fn spread_of(serving: &Serving, count: usize) -> HashMap<String, usize> {
    let mut peers: Vec<Peer> = (0..count).map(|_| serving.peer()).collect();
    let mut threads = HashMap::new();
    for peer in &mut peers {
        peer.send(TEXT, b"where?");
        let name = peer.text();
        // The connection stays on its worker.
        peer.send(TEXT, b"and now?");
        assert_eq!(peer.text(), name);
        *threads.entry(name).or_default() += 1;
    }
    threads
}

#[test]
fn round_robin_spreads_connections_evenly() {
    bounded(|| {
        let serving = Serving::with(bind().workers(3), |_| Reply::with(name_thread));
        let threads = spread_of(&serving, 12);
        let expected = (0..3).map(|number| (format!("threadwire {number}"), 4)).collect();
        assert_eq!(threads, expected);
    });
}

#[test]
fn the_hook_is_asked_on_the_thread_of_the_connection() {
    bounded(|| {
        let serving = Serving::with(bind().workers(2), |_| {
            let asked = thread::current().id();
            Reply::with(move |ws: &Connection, _: Message<'_>| {
                assert_eq!(thread::current().id(), asked);
                ws.send("same")
            })
        });
        for _ in 0..4 {
            let mut peer = serving.peer();
            peer.send(TEXT, b"?");
            assert_eq!(peer.text(), "same");
        }
    });
}

#[test]
fn connections_handed_to_another_worker_live_there_whatever_the_first_does() {
    bounded(|| {
        let busy = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
        let blocks = Arc::clone(&busy);
        let serving = Serving::with(bind().workers(2).config(patient()), move |_| {
            let blocks = Arc::clone(&blocks);
            Reply::with(move |ws: &Connection, message: Message<'_>| {
                if message == Message::Text("block") {
                    // Blocks its thread, not only its callback.
                    let (released, condition) = &*blocks;
                    drop(condition.wait_while(released.lock().unwrap(), |released| !*released).unwrap());
                }
                ws.send(thread::current().name().unwrap_or_default())
            })
        });
        let mut peers = [serving.peer(), serving.peer()];
        for peer in &mut peers {
            peer.send(TEXT, b"where?");
        }
        let names = peers.each_mut().map(Peer::text);
        let first = names.iter().position(|name| name == "threadwire 0").unwrap();
        assert_eq!(names[1 - first], "threadwire 1");
        peers[first].send(TEXT, b"block");
        for _ in 0..10 {
            peers[1 - first].send(TEXT, b"going on?");
            assert_eq!(peers[1 - first].text(), "threadwire 1");
        }
        *busy.0.lock().unwrap() = true;
        busy.1.notify_all();
        assert_eq!(peers[first].text(), "threadwire 0");
    });
}

#[test]
fn zero_workers_count_as_one() {
    bounded(|| {
        let serving = Serving::with(bind().workers(0), |_| Reply::with(name_thread));
        assert_eq!(spread_of(&serving, 2), HashMap::from([("threadwire 0".to_owned(), 2)]));
    });
}

#[cfg(unix)]
#[test]
fn a_shared_port_is_served_by_several_workers() {
    bounded(|| {
        let serving =
            Serving::with(bind().workers(4).spread(Spread::ReusePort), |_| Reply::with(name_thread));
        // The system chooses by a hash of the addresses: over 64 ports it can't always be the same worker.
        let threads = spread_of(&serving, 64);
        assert_eq!(threads.values().sum::<usize>(), 64);
        assert!(threads.len() > 1, "{threads:?}");
        let names: HashSet<String> = (0..4).map(|number| format!("threadwire {number}")).collect();
        assert!(threads.keys().all(|name| names.contains(name)), "{threads:?}");
        let running = serving.into_running();
        running.stop();
        running.join().unwrap();
    });
}

#[test]
fn two_servers_cannot_listen_on_the_same_port() {
    bounded(|| {
        for spread in [Spread::RoundRobin, Spread::ReusePort] {
            let serving = Serving::with(bind().workers(2).spread(spread), |_| Reply::with(echo));
            let addr = serving.addr.to_string();
            match Server::bind(&*addr) {
                Err(error @ Error::Listen(_)) => {
                    let text = format!("{error:#}");
                    assert!(text.starts_with(&format!("can't listen on {addr}: ")), "{text}");
                    assert!(text.contains("in use") && !text.contains("os error"), "{text}");
                }
                other => panic!("{other:?}"),
            }
            // The same by an address that is no text.
            let error = Server::bind(serving.addr).unwrap_err();
            assert_eq!(error.to_string(), format!("can't listen on {addr}"));
        }
    });
}

#[test]
fn an_address_that_is_none_is_named() {
    let error = Server::bind("127.0.0.1:http").unwrap_err();
    assert!(matches!(&error, Error::Listen(error) if error.addr == "127.0.0.1:http"), "{error:?}");
    // 192.0.2.0/24 belongs to nobody (RFC 5737).
    let error = Server::bind("192.0.2.1:0").unwrap_err();
    assert!(matches!(&error, Error::Listen(error) if error.addr == "192.0.2.1:0"), "{error:?}");
}

#[test]
fn connections_that_came_before_the_server_served_are_served() {
    for spread in [Spread::RoundRobin, Spread::ReusePort] {
        bounded(move || {
            let server = bind().workers(2).spread(spread);
            let mut peer = Peer::connect(server.local_addr().unwrap());
            peer.bytes([request("/").into_bytes(), masked(TEXT, b"early")].concat());
            let _serving = Serving::with(server, |_| Reply::with(echo));
            assert!(peer.head().starts_with("HTTP/1.1 101 "));
            assert_eq!(peer.text(), "early");
        });
    }
}

#[test]
fn a_stopper_stops_from_another_thread() {
    bounded(|| {
        let running = bind().workers(2).serve(route).unwrap();
        let stopper = running.stopper();
        let thread = thread::spawn(move || stopper.stop());
        running.join().unwrap();
        thread.join().unwrap();
    });
}

/// A server that runs on a thread called `main`: its address, what stops it, and the thread.
fn run(server: Server) -> (SocketAddr, Remote, thread::JoinHandle<Result<(), Error>>) {
    let addr = server.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    let thread = thread::Builder::new().name("main".to_owned()).spawn(move || {
        tell.send(EventLoop::current().remote()).unwrap();
        server.run(|_| Reply::with(name_thread))
    });
    let remote = told.recv().unwrap();
    // The server listens when its loop turns.
    let (tell, told) = mpsc::channel();
    remote.post(move |_| tell.send(()).unwrap()).unwrap();
    told.recv().unwrap();
    (addr, remote, thread.unwrap())
}

#[test]
fn serves_on_the_calling_thread() {
    for (workers, spread) in [(1, Spread::RoundRobin), (3, Spread::RoundRobin), (3, Spread::ReusePort)] {
        bounded(move || {
            let (addr, stopper, thread) = run(bind().workers(workers).spread(spread).config(patient()));
            let mut peers: Vec<Peer> = (0..6).map(|_| Peer::open(addr, "/")).collect();
            let mut threads: HashMap<String, usize> = HashMap::new();
            for peer in &mut peers {
                peer.send(TEXT, b"where?");
                *threads.entry(peer.text()).or_default() += 1;
            }
            match (workers, spread) {
                (1, _) => assert_eq!(threads, HashMap::from([("main".to_owned(), 6)])),
                (_, Spread::RoundRobin) => {
                    let names = ["main", "threadwire 1", "threadwire 2"].map(|name| (name.to_owned(), 2));
                    assert_eq!(threads, HashMap::from(names));
                }
                _ => assert_eq!(threads.values().sum::<usize>(), 6),
            }
            stopper.stop();
            // The workers need not end in the order of the peers.
            let closing = peers.into_iter().map(|mut peer| {
                thread::spawn(move || {
                    assert_eq!(peer.code(), 1001);
                    peer.close(1001, "");
                    assert!(peer.ended_orderly());
                })
            });
            for thread in closing.collect::<Vec<_>>() {
                thread.join().unwrap();
            }
            thread.join().unwrap().unwrap();
        });
    }
}

#[test]
fn the_hook_may_keep_state() {
    bounded(|| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sees = Arc::clone(&seen);
        let serving = Serving::with(bind().workers(2), move |request| {
            sees.lock().unwrap().push((request.path().to_owned(), request.header("Host").map(str::to_owned)));
            Reply::with(echo)
        });
        for path in ["/a", "/b", "/c"] {
            Peer::open(serving.addr, path);
        }
        let host = || Some("127.0.0.1".to_owned());
        let expected = ["/a", "/b", "/c"].map(|path| (path.to_owned(), host()));
        assert_eq!(*seen.lock().unwrap(), expected);
    });
}

#[test]
fn half_a_request_and_the_end_of_tcp_end_at_once() {
    bounded(|| {
        let server = bind().config(patient());
        let mut peer = Peer::connect(server.local_addr().unwrap());
        peer.bytes("GET / HT");
        peer.end();
        let start = Instant::now();
        let _serving = Serving::with(server, |_| Reply::with(echo));
        assert!(peer.ended());
        assert!(start.elapsed() < PATIENCE / 2);
    });
}

#[test]
fn an_endless_open_timeout_is_no_timeout() {
    bounded(|| {
        let config = patient().open_timeout(Duration::MAX);
        let serving = Serving::with(bind().config(config.clone()), |_| Reply::with(echo));
        let mut peer = serving.peer();
        peer.send(TEXT, b"hello");
        assert_eq!(peer.text(), "hello");
        Client::new(&serving.url("/")).unwrap().config(config).connect(echo).unwrap();
    });
}

#[test]
fn the_hook_sees_where_a_request_comes_from() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let serving = Serving::with(bind(), move |request| {
            tell.send((request.peer_addr(), request.path().to_owned())).unwrap();
            Reply::with(echo)
        });
        let ws = Client::new(&serving.url("/here")).unwrap().connect(echo).unwrap();
        assert_eq!(told.recv().unwrap(), (ws.local_addr().ok(), "/here".to_owned()));
    });
}

#[test]
fn both_sides_know_the_subprotocol_and_the_headers_that_were_agreed_on() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let serving = Serving::with(bind(), move |_| {
            let tell = tell.clone();
            Reply::with(move |ws: &Connection, _: Message<'_>| {
                tell.send(ws.subprotocol().map(str::to_owned)).unwrap();
                ws.close()
            })
            .subprotocol("b")
            .and_then(|accept| accept.header("X-Server", "one"))
            .unwrap()
        });
        let client = Client::new(&serving.url("/")).unwrap().subprotocols(["a", "b"]).unwrap();
        let ws = client.connect(echo).unwrap();
        assert_eq!(ws.subprotocol(), Some("b"));
        assert_eq!(ws.response_headers().and_then(|headers| headers.get("X-Server")), Some("one"));
        ws.send("tell").unwrap();
        ws.wait_closed().unwrap();
        assert_eq!(told.recv().unwrap().as_deref(), Some("b"));
    });
}

#[test]
fn a_refusal_has_headers_and_no_subprotocol() {
    bounded(|| {
        assert!(Reply::status(403).subprotocol("a").is_err());
        let serving = Serving::with(bind(), |_| Reply::status(403).header("X-Why", "no").unwrap());
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(request("/"));
        assert!(peer.head().contains("\r\nX-Why: no\r\n"));
    });
}

#[test]
fn a_panic_in_a_timer_of_a_connection_leaves_its_worker_alive() {
    bounded(|| {
        let serving = Serving::recording(patient(), &Log::new(), |_, call| {
            if matches!(call, Call::Text(_)) {
                EventLoop::current().after(Duration::ZERO, || panic!("boom"));
            }
            Ok(())
        });
        let bystander = serving.bystander();
        let mut peer = serving.peer();
        peer.send(TEXT, b"panic");
        peer.close(1000, "");
        assert_eq!(peer.code(), 1000);
        bystander.noticed_nothing();
    });
}

#[test]
fn a_hook_may_fail_and_that_is_answered_with_500() {
    bounded(|| {
        let serving = Serving::with(bind(), |request| {
            let accept = Reply::with(echo).header("X-Path", request.path())?;
            if request.path() == "/fails" { Err(Error::other("no")) } else { Ok(accept) }
        });
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(request("/fails"));
        assert!(peer.head().starts_with("HTTP/1.1 500 "));
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(request("/fine"));
        assert!(peer.head().contains("X-Path: /fine"));
    });
}
