//! Broken TLS streams, on either side: no TLS at all, and bad ends.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::common::certificates::Authority;
use crate::common::peer::{CLOSE, Host, Peer, TEXT, client_hello, masked, request};
use crate::common::secure::{FACES, Secure, TlsPeer};
use crate::common::{PATIENCE, SOON, bind, bounded, patient};
use threadwire::error::{TimeoutKind, TlsProblem};
use threadwire::{Client, Config, Connection, Error, Message, Server, blocking};

/// A server of a face: its name, where it listens, and what ends it.
type Serving = (&'static str, SocketAddr, Box<dyn FnOnce()>);

/// One of each face that has a loop or a runtime of its own.
fn servers(authority: &Authority, config: Config) -> Vec<Serving> {
    let identity = authority.sign(&["localhost"]);
    let server = Secure::on(bind().config(config.clone()), identity.server());
    #[cfg_attr(not(feature = "aio"), allow(unused_mut, reason = "the async face adds the other one"))]
    let mut servers: Vec<Serving> = vec![("listener", server.addr(), Box::new(move || drop(server)))];
    #[cfg(feature = "aio")]
    {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(threadwire::aio::Server::bind("127.0.0.1:0")).unwrap();
        let server = server.config(config).tls(identity.server());
        let addr = server.local_addr().unwrap();
        runtime.spawn(server.serve(|_, mut ws| async move {
            while let Ok(Some(message)) = ws.recv().await {
                let _ = ws.send(&message).await;
            }
        }));
        servers.push(("aio", addr, Box::new(move || runtime.shutdown_background())));
    }
    servers
}

/// The server goes on to serve others.
fn still_serves(addr: SocketAddr, authority: &Authority) {
    let mut peer = TlsPeer::open(addr, authority);
    peer.send(TEXT, b"hello");
    assert_eq!(peer.frame(), (TEXT, b"hello".to_vec()));
}

/// All that comes until the end.
fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = socket.read_to_end(&mut bytes);
    bytes
}

fn connect(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn servers_drop_what_is_no_tls_and_say_so() {
    bounded(|| {
        let authority = Authority::new("authority");
        for (face, addr, stop) in servers(&authority, patient()) {
            let garbage = [(request("/").into_bytes(), true), (vec![0; 1000], true), (client_hello(), true)];
            // A message of the handshake of 6 MiB.
            let endless = (b"\x16\x03\x01\x00\x05hello".to_vec(), false);
            for (what, is_told) in garbage.into_iter().chain([endless]) {
                let mut socket = connect(addr);
                socket.write_all(&what).unwrap();
                let said = rest(&mut socket);
                // An alert, which is fatal.
                let is_alert = said.len() == 7 && said.starts_with(&[21, 3]) && said[5] == 2;
                assert!(is_alert || !is_told && said.is_empty(), "{face}, {what:?}: {said:?}");
            }
            still_serves(addr, &authority);
            stop();
        }
    });
}

#[test]
fn connections_that_come_and_leave_are_nothing() {
    bounded(|| {
        let authority = Authority::new("authority");
        for (_, addr, stop) in servers(&authority, patient()) {
            drop(connect(addr));
            let mut socket = connect(addr);
            socket.write_all(&[22, 3, 1]).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rest(&mut socket), b"");
            still_serves(addr, &authority);
            stop();
        }
    });
}

#[test]
fn tls_at_a_plain_port_is_answered_and_dropped() {
    bounded(|| {
        let server = crate::common::Serving::with(bind().config(patient()), |_| {
            threadwire::Reply::with(crate::common::echo)
        });
        let mut peer = Peer::connect(server.addr);
        peer.bytes(client_hello());
        assert!(peer.head().starts_with("HTTP/1.1 400"));
        // A client says that there is no TLS.
        let url = format!("wss://localhost:{}/", server.addr.port());
        let client = Client::new(&url).unwrap().tls(Authority::new("any").trusted()).config(patient());
        for (face, connect) in FACES {
            match connect(&client) {
                Err(Error::Tls(error)) => {
                    assert_eq!((&*error.host, error.problem), ("localhost", TlsProblem::NotTls), "{face}");
                }
                other => panic!("{face}: {other:?}"),
            }
        }
    });
}

#[test]
fn a_plain_client_at_a_tls_port_fails() {
    bounded(|| {
        let (server, _) = Secure::trusted();
        let client = Client::new(&format!("ws://{}", server.addr())).unwrap().config(patient());
        for (face, connect) in FACES {
            let error = connect(&client).unwrap_err();
            assert!(matches!(error, Error::Handshake(_)), "{face}: {error:?}");
        }
    });
}

#[test]
fn a_hello_without_end_takes_no_longer_than_opening_may() {
    bounded(|| {
        let authority = Authority::new("authority");
        for (_, addr, stop) in servers(&authority, patient().open_timeout(SOON)) {
            let mut silent = connect(addr);
            let mut slow = connect(addr);
            let mut trickle = slow.try_clone().unwrap();
            let trickling = thread::spawn(move || {
                // The beginning of a hello, a byte at a time.
                for byte in [22, 3, 1, 2, 0, 1].into_iter().chain(std::iter::repeat(0)) {
                    if trickle.write_all(&[byte]).is_err() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            });
            rest(&mut silent);
            rest(&mut slow);
            trickling.join().unwrap();
            stop();
        }
    });
}

#[test]
fn a_server_that_says_nothing_or_ends_is_given_up() {
    bounded(|| {
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("wss://{}/", host.local_addr().unwrap());
        let client = Client::new(&url).unwrap().tls(Authority::new("any").trusted());
        let hasty = client.clone().config(patient().open_timeout(SOON));
        for (face, connect) in FACES {
            let error = connect(&hasty).unwrap_err();
            assert!(matches!(error, Error::Timeout(TimeoutKind::Open { .. })), "{face}: {error:?}");
        }
        FACES.iter().for_each(|_| drop(host.accept().unwrap()));
        for (face, connect) in FACES {
            let ending = host.try_clone().unwrap();
            let ending = thread::spawn(move || {
                let (mut socket, _) = ending.accept().unwrap();
                socket.read_exact(&mut [0; 100]).unwrap();
                socket.shutdown(Shutdown::Write).unwrap();
                rest(&mut socket);
            });
            let error = connect(&client.clone().config(patient())).unwrap_err();
            assert!(
                matches!(&error, Error::Tls(error) if error.problem == TlsProblem::Refused),
                "{face}: {error:?}"
            );
            let said = format!("{error:#}");
            assert!(said.ends_with("the peer ended the stream during the TLS handshake"), "{said}");
            ending.join().unwrap();
        }
    });
}

/// Passes bytes between two sockets, in pieces of this size, until both have ended.
fn relay(to: SocketAddr, size: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let pass = move |mut from: TcpStream, mut to: TcpStream| {
        to.set_nodelay(true).unwrap();
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            for piece in bytes[..count].chunks(size) {
                if to.write_all(piece).is_err() {
                    return;
                }
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    };
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (here, there) = (socket.unwrap(), TcpStream::connect(to).unwrap());
            let (back, forth) = (there.try_clone().unwrap(), here.try_clone().unwrap());
            thread::spawn(move || pass(here, there));
            thread::spawn(move || pass(back, forth));
        }
    });
    addr
}

#[test]
fn it_makes_no_difference_how_little_arrives_at_once() {
    bounded(|| {
        let authority = Authority::new("authority");
        for (server, addr, stop) in servers(&authority, patient()) {
            for size in [1, 7, 100] {
                let slow = relay(addr, size);
                let url = format!("wss://localhost:{}/", slow.port());
                let client = Client::new(&url).unwrap().tls(authority.trusted()).config(patient());
                for (face, connect) in FACES {
                    connect(&client).unwrap_or_else(|error| panic!("{server}, {face}, {size}: {error:#}"));
                }
                let mut ws = blocking::connect(&client).unwrap();
                let long: Vec<u8> = (0..40_000).map(|at| (at * 7) as u8).collect();
                ws.send(&long).unwrap();
                assert!(ws.recv().unwrap().unwrap() == long[..]);
            }
            stop();
        }
    });
}

#[test]
fn an_end_without_a_word_in_tls_is_as_one_without_a_close_frame() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        // With close frames, nobody minds.
        let mut peer = TlsPeer::open(server.addr(), &authority);
        peer.send(CLOSE, &[3, 232]);
        assert_eq!(peer.frame(), (CLOSE, vec![3, 232]));
        peer.0.sock.shutdown(Shutdown::Write).unwrap();
        assert!(peer.ends());

        let cut = relay_that_ends(server.addr());
        let url = format!("wss://localhost:{}/", cut.port());
        let client = Client::new(&url).unwrap().tls(authority.trusted()).config(patient());
        let ws = client.connect(|_: &Connection, _: Message<'_>| Ok(())).unwrap();
        ws.send("hello").unwrap();
        ws.wait_closed().unwrap();
        let closed = ws.closed().unwrap();
        assert!(!closed.clean && matches!(closed.error, Some(Error::Lost)), "{closed:?}");
    });
}

/// Passes bytes on, until the client has sent something behind the handshake and the request: then it ends.
fn relay_that_ends(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut here, _) = listener.accept().unwrap();
        let mut there = TcpStream::connect(to).unwrap();
        let (mut back, mut forth) = (there.try_clone().unwrap(), here.try_clone().unwrap());
        let passing = thread::spawn(move || std::io::copy(&mut back, &mut forth));
        // Records: the hello, perhaps a change of ciphers, the end of the handshake, the request, a message.
        let mut records = 0;
        while records < 3 {
            let mut header = [0; 5];
            here.read_exact(&mut header).unwrap();
            let mut record = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
            here.read_exact(&mut record).unwrap();
            records += usize::from(header[0] == 23);
            if records < 3 {
                there.write_all(&[&header[..], &record].concat()).unwrap();
            }
        }
        here.shutdown(Shutdown::Write).unwrap();
        there.shutdown(Shutdown::Both).unwrap();
        let _ = passing.join();
    });
    addr
}

#[test]
fn garbage_in_the_middle_ends_that_connection_with_an_error() {
    bounded(|| {
        let authority = Authority::new("authority");
        let (told, is_told) = std::sync::mpsc::channel();
        struct Ends(std::sync::mpsc::Sender<String>);
        impl threadwire::Listener for Ends {
            fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
                ws.send(message)
            }
            fn on_close(&mut self, _: &Connection, closed: &threadwire::Closed) {
                self.0
                    .send(closed.error.as_ref().map(|error| format!("{error:#}")).unwrap_or_default())
                    .unwrap();
            }
        }
        let tls = authority.sign(&["localhost"]).server();
        let serve = move |_: &threadwire::Request| threadwire::Reply::with(Ends(told.clone()));
        let running = Server::bind("127.0.0.1:0").unwrap().config(patient()).tls(tls).serve(serve).unwrap();
        let addr = running.local_addr().unwrap();
        let mut bystander = TlsPeer::open(addr, &authority);
        let garbage: [(&[u8], &str); 4] = [
            (b"GET / HTTP/1.1\r\n", "InvalidContentType"),
            (&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "decrypt"),
            (&[23, 3, 3, 0xff, 0xff, 0], "MessageTooLarge"),
            (&[21, 3, 3, 0, 2, 2, 40], ""),
        ];
        for (bytes, expected) in garbage {
            let mut peer = TlsPeer::open(addr, &authority);
            peer.send(TEXT, b"before");
            assert_eq!(peer.frame(), (TEXT, b"before".to_vec()));
            peer.0.sock.write_all(bytes).unwrap();
            let said = is_told.recv().unwrap();
            assert!(said.starts_with("TLS failed: ") && said.contains(expected), "{said}");
            // The peer gets an alert or a reset.
            assert!(peer.0.read(&mut [0]).is_err());
        }
        bystander.send(TEXT, b"well");
        assert_eq!(bystander.frame(), (TEXT, b"well".to_vec()));
        running.stop();
    });
}

#[test]
fn frames_that_break_rules_are_answered_in_tls() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let mut peer = TlsPeer::open(server.addr(), &authority);
        // A frame that is not masked.
        peer.0.write_all(&[TEXT, 1, b'a']).unwrap();
        let (first, payload) = peer.frame();
        assert_eq!((first, &payload[..2]), (CLOSE, &1002_u16.to_be_bytes()[..]));
        assert!(peer.ends());
        // Later bytes of the peer are read, so that nothing is reset.
        let _ = peer.0.write_all(&masked(TEXT, &[0; 100_000]));
    });
}

#[test]
fn a_host_that_has_no_tls_name_is_refused_before_anything_is_sent() {
    let host = Host::listen();
    let client = Client::new(&format!("wss://{}/", host.addr())).unwrap();
    let client = client.tls(Authority::new("any").trusted());
    assert!(matches!(
        threadwire::client::ClientTls::new().server_name("not a name"),
        Err(Error::Tls(error)) if error.problem == TlsProblem::Name
    ));
    drop(client);
}
