//! File descriptors: none leaks, whatever peers do.

use std::fs::read_dir;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::common::peer::{CLOSE, Host, Peer, TEXT, farewell, frame, masked, request, upgraded};
use crate::common::process::alone;
use crate::common::recorder::{Call, End, Log};
use crate::common::{PATIENCE, SOON, Serving, bounded, ignore, patient};
use threadwire::client::Proxy;
use threadwire::worker::EventLoop;
use threadwire::{Client, Connection, Error, Initiator, wait_until};

fn descriptors() -> usize {
    read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until no more are open than before: other threads may be about to close theirs.
fn wait_for_descriptors(before: usize) {
    let begin = Instant::now();
    while descriptors() > before {
        assert!(begin.elapsed() < PATIENCE, "{} are open, and {before} were before", descriptors());
        thread::yield_now();
    }
}

/// Says hello.
fn greet(ws: &Connection, call: &Call) -> Result<(), Error> {
    if *call == Call::Open { ws.send("hello") } else { Ok(()) }
}

#[test]
fn no_descriptor_is_left_behind() {
    alone(|| {
        bounded(|| {
            // The loop of this thread, and what it needs for sockets, is made once.
            let host = Host::listen();
            let client = Client::new(&host.url()).unwrap();
            let host = host.run(|host| drop(host.accept()));
            client.connect(|_: &Connection, _: threadwire::Message<'_>| Ok(())).unwrap_err();
            host.join().unwrap();

            a_server_that_restarts();
            servers_that_break();
            ways_that_break();
            clients_that_break();
        });
    });
}

/// A server that goes away and comes back, twenty times, at the same address. It has an address of its own, so that
/// nobody else takes its port meanwhile.
fn a_server_that_restarts() {
    let before = descriptors();
    let mut addr: SocketAddr = "127.0.0.2:0".parse().unwrap();
    for _ in 0..20 {
        let socket = TcpListener::bind(addr).unwrap();
        addr = socket.local_addr().unwrap();
        let url = format!("ws://{addr}/");
        let (stop, stopped) = mpsc::channel::<()>();
        let host = thread::spawn(move || {
            let mut peer = Peer::accepted(socket.accept().unwrap().0);
            let answer = upgraded(&peer.head());
            peer.bytes(answer);
            assert_eq!(peer.text(), "hello");
            // The server ends without a close frame, when the test says so.
            let _ = stopped.recv();
        });
        let log = Log::new();
        let client = Client::new(&url).unwrap().config(patient());
        let ws = client.connect(log.listener(greet)).unwrap();
        ws.flush();
        drop(stop);
        wait_until(None, || ws.has_ended()).unwrap();
        host.join().unwrap();
        let lost = "the peer ended the connection without a close frame";
        let end = End::failed(Initiator::Peer, 1006, false, lost);
        assert_eq!(log.calls(), [Call::Open, Call::Closed(end)]);

        let refused = client.connect(log.listener(ignore));
        assert!(matches!(refused, Err(Error::Connect(_))), "{refused:?}");
        assert_eq!(log.ends(), 1);
        assert_eq!(EventLoop::current().source_count(), 0);
        drop(ws);
        wait_for_descriptors(before);
    }
}

/// The behaviour of a server.
type Serve = fn(Peer);

/// A server that says nothing, however long the client waits.
fn say_nothing(mut peer: Peer) {
    peer.rest();
}

fn servers_that_break() {
    let before = descriptors();
    let faults: [Serve; 9] = [
        say_nothing,
        |peer| peer.reset(),
        |mut peer| drop(peer.head()),
        |mut peer| {
            peer.head();
            peer.bytes("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        },
        |mut peer| {
            let answer = upgraded(&peer.head());
            peer.bytes(answer);
            peer.reset();
        },
        |mut peer| {
            let answer = upgraded(&peer.head());
            peer.bytes([answer.as_bytes(), &frame(TEXT, false, b"hello")[..4]].concat());
        },
        |mut peer| {
            let answer = upgraded(&peer.head());
            peer.bytes([answer.as_bytes(), &masked(TEXT, b"?")].concat());
            while peer.frame_or_end().is_some() {}
        },
        |mut peer| {
            let answer = upgraded(&peer.head());
            peer.bytes([answer.into_bytes(), frame(CLOSE, false, &farewell(1000, ""))].concat());
            while peer.frame_or_end().is_some() {}
        },
        |mut peer| {
            let answer = upgraded(&peer.head());
            peer.bytes([answer.into_bytes(), frame(TEXT, false, &[b'x'; 100_000])].concat());
            peer.reset();
        },
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        for _ in 0..5 {
            let host = Host::listen();
            // Only the silent server is to be given up before the connection is open.
            let open_timeout = if number == 0 { SOON } else { PATIENCE };
            let config = patient().open_timeout(open_timeout).close_timeout(SOON);
            let client = Client::new(&host.url()).unwrap().config(config);
            let host = host.run(move |host| fault(host.accept()));
            let log = Log::new();
            client.start(log.listener(ignore)).unwrap();
            wait_until(None, || EventLoop::current().source_count() == 0).unwrap();
            host.join().unwrap();
            let calls = log.calls();
            let ends = |call: &&Call| matches!(call, Call::Failed(_) | Call::Closed(_));
            assert_eq!(calls.iter().filter(ends).count(), 1, "{calls:?}");
            assert!(calls.last().is_some_and(|call| ends(&call)), "{calls:?}");
        }
    }
    wait_for_descriptors(before);
}

/// A way of a client, and the behaviour of the host at its first address.
type Way = (fn(Client, SocketAddr) -> Client, Serve);

fn through(scheme: &str, client: Client, addr: SocketAddr) -> Client {
    let proxy = Proxy::new(&format!("{scheme}://user@{addr}")).unwrap();
    client.proxy(proxy)
}

/// Ways through proxies, over redirects and in TLS that end early.
fn ways_that_break() {
    // DNS threads are started once, before the count.
    let before = descriptors();
    let ways: [Way; 8] = [
        (|client, addr| through("http", client, addr), say_nothing),
        (|client, addr| through("socks5", client, addr), say_nothing),
        (|client, addr| through("socks4a", client, addr), |peer| peer.reset()),
        (
            |client, addr| through("http", client, addr),
            |mut peer| {
                peer.head();
                peer.bytes("HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n");
            },
        ),
        (
            |client, addr| through("http", client, addr),
            |mut peer| {
                peer.head();
                peer.bytes("HTTP/1.1 200 OK\r\nX: ");
                peer.try_bytes(&[b'x'; 1 << 20]);
            },
        ),
        (
            |client, addr| through("socks5h", client, addr),
            |mut peer| {
                peer.skip(4);
                peer.bytes(b"\x05\x00\x05\x01");
            },
        ),
        // Over and over, until the limit; only the first time comes to this peer.
        (
            |client, addr| client.resolve("feed.test", [addr]).redirects(1),
            |mut peer| {
                peer.head();
                peer.bytes("HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n");
            },
        ),
        // Others are still being connected to when the first answers.
        (
            |client, addr| {
                let nobody = "127.0.0.1:1".parse().unwrap();
                client.resolve("feed.test", [nobody, addr, nobody, "[::1]:1".parse().unwrap()])
            },
            |mut peer| drop(peer.head()),
        ),
    ];
    for (way, serve) in ways {
        for _ in 0..5 {
            let host = Host::listen();
            let addr = host.addr();
            let config = patient().open_timeout(SOON * 4).close_timeout(SOON);
            let client = Client::new("ws://feed.test/").unwrap().config(config);
            let client = way(client.resolve("feed.test", ["127.0.0.1:1".parse().unwrap()]), addr);
            let host = host.run(move |host| serve(host.accept()));
            let log = Log::new();
            client.start(log.listener(ignore)).unwrap();
            wait_until(None, || EventLoop::current().source_count() == 0).unwrap();
            host.join().unwrap();
            assert!(matches!(log.calls()[..], [Call::Failed(_)]), "{:?}", log.calls());
        }
    }
    wait_for_descriptors(before);
}

/// The behaviour of a client.
type Annoy = fn(SocketAddr) -> Peer;

fn clients_that_break() {
    let log = Log::new();
    let config = patient().open_timeout(SOON).close_timeout(SOON);
    let serving = Serving::recording(config, &log, ignore);
    // The worker's own are there when it serves.
    serving.bystander().noticed_nothing();
    let before = descriptors();
    let faults: [Annoy; 6] = [
        Peer::connect,
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.try_bytes(&request("/").as_bytes()[..20]);
            peer
        },
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.try_bytes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
            peer
        },
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.try_bytes(&[request("/").as_bytes(), b"\x81\x01?"].concat());
            peer
        },
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.try_bytes(&[request("/").as_bytes(), &masked(CLOSE, &farewell(1000, ""))].concat());
            peer
        },
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.try_bytes(&[request("/").as_bytes(), &masked(TEXT, b"hello")[..8]].concat());
            peer
        },
    ];
    for leave in [drop, Peer::reset] {
        for fault in faults {
            (0..5).for_each(|_| leave(fault(serving.addr)));
        }
    }
    wait_for_descriptors(before);
    // Clients that stay are dropped by the server in time, except those with an open connection.
    let staying: Vec<Peer> = faults[..5].iter().map(|fault| fault(serving.addr)).collect();
    wait_for_descriptors(before + staying.len());
    drop(staying);
    let running = serving.into_running();
    running.stop();
    running.join().unwrap();
    let opened = log.calls().iter().filter(|call| **call == Call::Open).count();
    assert_eq!(log.ends(), opened);
}
