//! Admission limits, on all faces.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::doors::{FACES, Face, Plan, Served, status};
use crate::common::peer::{Peer, TEXT, request};
use crate::common::{SOON, bounded, patient};
use socket2::{Domain, Socket, Type};
use threadwire::server::{Admission, Router};
use threadwire::{Reply, Response};

/// A server that echoes at `/`, and has a page.
fn serve(face: Face, admission: Admission) -> Served {
    face.serve(plan(face).admission(admission))
}

fn plan(face: Face) -> Plan {
    let well = Response::new(200).unwrap().with_body("well\n");
    let router = Router::new().route("/", move |_| face.accept()).unwrap();
    Plan::new(router.page("/healthz", move |_| well.clone()).unwrap().hook())
}

/// Connects from an address of this machine.
fn connect_from(addr: SocketAddr, from: [u8; 4]) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::from(from), 0)).into()).unwrap();
    socket.connect(&addr.into()).unwrap();
    Peer::connected(TcpStream::from(socket))
}

/// Asks to upgrade, until that is answered with this status: what has ended is noticed soon, but not at once.
fn until(expected: u16, mut connect: impl FnMut() -> Peer) -> Peer {
    loop {
        let mut peer = connect();
        peer.bytes(request("/"));
        if status(&peer.head()) == expected {
            return peer;
        }
    }
}

fn echoes(peer: &mut Peer) -> bool {
    peer.send(TEXT, b"hello");
    peer.text() == "hello"
}

#[test]
fn a_server_that_is_full_says_so_until_somebody_leaves() {
    for &face in FACES {
        bounded(move || {
            let served = serve(face, Admission::default().max_connections(3));
            let open = || Peer::open(served.addr(), "/");
            let mut peers: Vec<Peer> = (0..3).map(|_| open()).collect();
            let refused = served.answer(request("/"));
            assert_eq!(status(&refused), 503, "{refused}");
            assert!(refused.ends_with("too many connections\n"), "{refused}");
            // A plain response needs no room.
            let page = served.answer("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
            assert_eq!(status(&page), 200, "{page}");
            // A request that is refused for another reason needs none either.
            assert_eq!(served.status("/", "Connection: close\r\nSec-WebSocket-Version: 8\r\n"), 426);
            assert!(peers.iter_mut().all(echoes));
            // However they leave: by a close, by the end of TCP, by a reset, by a broken rule.
            let mut first = peers.remove(0);
            first.close(1000, "");
            assert_eq!(first.code(), 1000);
            peers.push(until(101, || Peer::connect(served.addr())));
            drop(peers.remove(0));
            peers.push(until(101, || Peer::connect(served.addr())));
            peers.remove(0).reset();
            peers.push(until(101, || Peer::connect(served.addr())));
            peers[0].bytes([0xff; 2]);
            assert_eq!(peers[0].code(), 1002);
            drop(peers.remove(0));
            peers.push(until(101, || Peer::connect(served.addr())));
            assert_eq!(served.status("/", ""), 503);
            assert!(peers.iter_mut().all(echoes));
        });
    }
}

#[test]
fn one_address_has_so_many_connections_and_others_have_their_own() {
    for &face in FACES {
        bounded(move || {
            let served = serve(face, Admission::default().max_per_address(2));
            let connect = |last| connect_from(served.addr(), [127, 0, 0, last]);
            let mut peers = Vec::new();
            for last in [1, 2] {
                for _ in 0..2 {
                    peers.push(connect(last).upgrade("/"));
                }
                let mut refused = connect(last);
                refused.bytes(request("/"));
                let refused = refused.rest();
                assert_eq!(status(&refused), 429, "{refused}");
            }
            peers.remove(0);
            peers.push(until(101, || connect(1)));
            for last in [1, 2] {
                let mut refused = connect(last);
                refused.bytes(request("/"));
                assert_eq!(status(&refused.head()), 429);
            }
            assert!(peers.iter_mut().all(echoes));
        });
    }
}

#[test]
fn a_burst_of_connections_waits_its_turn_and_nobody_is_refused() {
    for &face in FACES {
        bounded(move || {
            let served = serve(face, Admission::default().max_per_second(20));
            // As many as in a second come at once; the others are a twentieth of a second apart.
            let begun = Instant::now();
            let mut peers: Vec<Peer> = (0..24).map(|_| Peer::connect(served.addr())).collect();
            peers.iter_mut().for_each(|peer| peer.bytes(request("/")));
            for peer in &mut peers {
                assert_eq!(status(&peer.head()), 101);
            }
            // Not sooner: that is what it promises. How much later depends on the machine.
            assert!(begun.elapsed() >= Duration::from_millis(190));
            assert!(echoes(&mut peers[0]));
        });
    }
}

#[test]
fn of_too_many_handshakes_the_oldest_are_dropped_and_a_good_client_gets_through() {
    for &face in FACES {
        bounded(move || {
            let served = serve(face, Admission::default().max_handshakes(8));
            let mut good = Peer::open(served.addr(), "/");
            let mut idle: Vec<Peer> = (0..40)
                .map(|number| {
                    let mut peer = Peer::connect(served.addr());
                    // Half of them have begun to ask.
                    if number % 2 == 0 {
                        peer.bytes("GET / HTTP/1.1\r\nHost: ");
                    }
                    peer
                })
                .collect();
            assert!(echoes(&mut good));
            let mut late = Peer::open(served.addr(), "/");
            assert!(echoes(&mut late));
            // The oldest is gone; and the newest is as good as ever.
            assert!(idle[0].ended());
            let mut newest = idle.pop().unwrap();
            newest.bytes(request("/"));
            assert_eq!(status(&newest.head()), 101, "{face:?}");
            assert!(echoes(&mut good));
        });
    }
}

#[test]
fn handshakes_that_are_over_make_room_and_none_is_dropped_for_nothing() {
    for &face in FACES {
        bounded(move || {
            let served = serve(face, Admission::default().max_handshakes(8));
            let mut slow = Peer::connect(served.addr());
            slow.bytes("GET / HTTP/1.1\r\n");
            // One after the other: hardly ever more than two at once.
            for _ in 0..20 {
                assert!(echoes(&mut Peer::open(served.addr(), "/")));
                let page = served.answer("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
                assert_eq!(status(&page), 200);
                served.answer("nonsense\r\n\r\n");
            }
            slow.bytes(&request("/")["GET / HTTP/1.1\r\n".len()..]);
            assert_eq!(status(&slow.head()), 101, "{face:?}");
        });
    }
}

#[test]
fn a_handshake_that_sends_a_byte_now_and_then_is_dropped_in_time() {
    for &face in FACES {
        bounded(move || {
            let asked = Arc::new(AtomicUsize::new(0));
            let counts = Arc::clone(&asked);
            let plan = Plan::new(move |_: &threadwire::Request| -> Reply {
                counts.fetch_add(1, Ordering::SeqCst);
                face.accept()
            });
            let served = face.serve(plan.config(patient().open_timeout(SOON)));
            for bytes in ["GET / HTTP/1.1\r\nX-Slow: ", "", "GET /"] {
                let mut loris = Peer::connect(served.addr());
                loris.bytes(bytes);
                // Sending bytes does not prolong the client's time.
                while loris.try_bytes(b"x") && loris.is_silent() {
                    std::thread::yield_now();
                }
                assert!(loris.ended(), "{face:?}");
            }
            assert_eq!(asked.load(Ordering::SeqCst), 0);
            assert!(echoes(&mut Peer::open(served.addr(), "/")));
        });
    }
}

#[test]
fn a_head_without_an_end_is_refused_when_it_is_too_long_and_not_kept() {
    for &face in FACES {
        bounded(move || {
            let config = patient().max_head(2048).max_headers(20);
            let served = face.serve(plan(face).config(config));
            let mut good = Peer::open(served.addr(), "/");
            for (begin, more, refusal) in [
                ("GET /", "a", 414),
                ("GET / HTTP/1.1\r\nX-Long: ", "a", 431),
                ("GET / HTTP/1.1\r\n", "X-Many: yes\r\n", 431),
            ] {
                let mut loris = Peer::connect(served.addr());
                loris.bytes(begin);
                let mut pieces = 0;
                while loris.try_bytes(more.as_bytes()) && loris.is_silent() {
                    pieces += 1;
                    assert!(pieces < 1_000_000, "nobody minds");
                }
                assert_eq!(status(&loris.rest()), refusal, "{face:?} {begin}");
                assert!(echoes(&mut good));
            }
        });
    }
}

#[test]
fn a_request_that_comes_byte_by_byte_is_as_good_as_any() {
    for &face in FACES {
        bounded(move || {
            let served = face.serve(plan(face));
            let mut slow = Peer::connect(served.addr());
            for byte in request("/").bytes() {
                slow.bytes([byte]);
            }
            assert_eq!(status(&slow.head()), 101);
            assert!(echoes(&mut slow));
        });
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_server_that_is_full_says_so_through_tls_too() {
    use threadwire::{Client, Error, blocking};

    for &face in FACES {
        bounded(move || {
            let authority = crate::common::certificates::Authority::new("authority");
            let identity = authority.sign(&["localhost"]);
            let plan = Plan { tls: Some(identity.server()), ..plan(face) };
            let served = face.serve(plan.admission(Admission::default().max_connections(1)));
            let url = format!("wss://localhost:{}/", served.addr().port());
            let client = Client::new(&url).unwrap().tls(authority.trusted());
            let mut first = blocking::connect(&client).unwrap();
            match blocking::connect(&client) {
                Err(Error::Status(answer)) => assert_eq!(answer.status(), 503),
                other => panic!("{face:?}: {other:?}"),
            }
            first.send("hello").unwrap();
            assert_eq!(first.recv().unwrap().unwrap(), "hello");
            first.close().unwrap();
        });
    }
}
