//! Servers behind a balancer, on all faces: the PROXY protocol and forwarding headers.

use std::process::Command;

use crate::common::bounded;
use crate::common::doors::{FACES, Face, Plan, Served, ask_for_note, attach, status};
use crate::common::peer::{Peer, request, request_with};
use threadwire::Request;
use threadwire::server::{Admission, Forwarded, ProxyProtocol};

/// Says whom it takes for the client.
fn plan(face: Face) -> Plan {
    Plan::new(move |request: &Request| {
        let ip = request.client_ip().map_or("unknown".to_owned(), |ip| ip.to_string());
        let by = request
            .proxied()
            .map_or(String::new(), |proxied| format!(" from {} at {}", proxied.source, proxied.destination));
        assert!(request.peer_addr().unwrap().ip().is_loopback(), "it stays the socket's");
        attach(request, ip + &by);
        face.accept()
    })
}

fn with_proxy_protocol(face: Face, protocol: ProxyProtocol) -> Served {
    face.serve(plan(face).admission(Admission::default().proxy_protocol(protocol)))
}

fn local() -> ProxyProtocol {
    ProxyProtocol::from_peers(["127.0.0.0/8"]).unwrap()
}

/// A header of version 2.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, rest].concat()
}

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 443\r\n";
const ADDRESSES: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0x01, 0xbb];
const SAID: &str = "192.0.2.1 from 192.0.2.1:12345 at 192.0.2.2:443";

fn headers() -> Vec<(Vec<u8>, &'static str)> {
    let additions = [&ADDRESSES[..], &[0xea, 0, 3, 1, 2, 3], &[0x04, 0x03, 0xe8], &[7; 1000]].concat();
    vec![
        (LINE.to_vec(), SAID),
        (b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n".to_vec(), "2001:db8::1 from [2001:db8::1]:1 at [::1]:2"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (binary(1, 0x11, &ADDRESSES), SAID),
        (binary(1, 0x11, &additions), SAID),
        (binary(0, 0x00, &[]), "127.0.0.1"),
        (binary(0, 0x11, &ADDRESSES), "127.0.0.1"),
        (binary(1, 0x31, &[0; 216]), "127.0.0.1"),
    ]
}

#[test]
fn a_header_says_whose_connection_it_is_however_it_arrives() {
    for &face in FACES {
        bounded(move || {
            let served = with_proxy_protocol(face, local());
            for (header, said) in headers() {
                // In one piece with the request, by itself, and byte by byte.
                let mut whole = Peer::connect(served.addr());
                whole.bytes([&header, request("/").as_bytes()].concat());
                assert_eq!(ask_for_note(&mut whole), said, "{face:?}");
                let mut alone = Peer::connect(served.addr());
                alone.bytes(&header);
                alone.bytes(request("/"));
                assert_eq!(ask_for_note(&mut alone), said, "{face:?}");
                let mut slow = Peer::connect(served.addr());
                for byte in [&header[..header.len().min(150)]].concat() {
                    slow.bytes([byte]);
                }
                slow.bytes(&header[header.len().min(150)..]);
                slow.bytes(request("/"));
                assert_eq!(ask_for_note(&mut slow), said, "{face:?}");
            }
        });
    }
}

#[test]
fn what_begins_without_a_header_is_dropped_without_an_answer() {
    for &face in FACES {
        bounded(move || {
            let served = with_proxy_protocol(face, local());
            let too_long = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec();
            for bytes in [
                request("/").into_bytes(),
                b"PROXY TCP4 192.0.2.1 192.0.2.2 12345\r\n".to_vec(),
                b"PROXY TCP4 example.com 192.0.2.2 12345 443\r\n".to_vec(),
                [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(),
                binary(2, 0x11, &ADDRESSES),
                binary(1, 0x11, &ADDRESSES[..8]),
                too_long,
                crate::common::peer::client_hello(),
            ] {
                assert_eq!(served.answer(&bytes), "", "{face:?} {}", bytes.escape_ascii());
            }
            // One that ends within its header.
            let mut ends = Peer::connect(served.addr());
            ends.bytes(&LINE[..20]);
            ends.end();
            assert_eq!(ends.rest(), "");
            let mut good = Peer::connect(served.addr());
            good.bytes([LINE, request("/").as_bytes()].concat());
            assert_eq!(ask_for_note(&mut good), SAID);
        });
    }
}

#[test]
fn only_peers_that_are_named_may_speak_for_others() {
    for &face in FACES {
        bounded(move || {
            let elsewhere = || ProxyProtocol::from_peers(["10.0.0.0/8", "2001:db8::/32"]).unwrap();
            let strict = with_proxy_protocol(face, elsewhere());
            assert_eq!(strict.answer(request("/")), "", "nobody else may connect");
            assert_eq!(strict.answer([LINE, request("/").as_bytes()].concat()), "");
            let lax = with_proxy_protocol(face, elsewhere().or_direct());
            assert_eq!(lax.note("/", ""), "127.0.0.1");
            let refused = lax.answer([LINE, request("/").as_bytes()].concat());
            assert_eq!(status(&refused), 400, "to others it is no request: {refused}");
        });
    }
}

#[test]
fn without_being_asked_for_no_header_is_believed() {
    for &face in FACES {
        bounded(move || {
            let served = face.serve(plan(face));
            assert_eq!(status(&served.answer([LINE, request("/").as_bytes()].concat())), 400);
            let headers = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n";
            assert_eq!(served.note("/", headers), "127.0.0.1");
        });
    }
}

#[test]
fn headers_count_as_far_as_trusted_proxies_have_written_them() {
    for &face in FACES {
        bounded(move || {
            let peers = || Forwarded::from_peers(["127.0.0.1", "10.0.0.0/8"]).unwrap();
            for (forwarded, headers, client) in [
                (peers(), "X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.1.2.3\r\n", "192.0.2.1"),
                (peers(), "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
                (peers(), "Forwarded: for=6.6.6.6\r\n", "127.0.0.1"),
                (peers(), "", "127.0.0.1"),
                (peers(), "X-Forwarded-For: 6.6.6.6, unknown\r\n", "unknown"),
                (Forwarded::from_peers(["10.0.0.0/8"]).unwrap(), "X-Forwarded-For: 6.6.6.6\r\n", "127.0.0.1"),
                (Forwarded::hops(1), "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n", "192.0.2.1"),
                (Forwarded::hops(2), "X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.1\r\n", "192.0.2.1"),
                (peers().standard(), "Forwarded: for=\"[2001:db8::1]:80\";proto=https\r\n", "2001:db8::1"),
                (peers().standard(), "X-Forwarded-For: 6.6.6.6\r\n", "127.0.0.1"),
            ] {
                let admission = Admission::default().forwarded(forwarded);
                let served = face.serve(plan(face).admission(admission));
                assert_eq!(served.note("/", headers), client, "{face:?} {headers}");
            }
            let admission = Admission::default().forwarded(peers().standard());
            let served = face.serve(plan(face).admission(admission));
            assert_eq!(served.status("/", "Forwarded: for=\"6.6.6.6, for=192.0.2.1\r\n"), 400);
        });
    }
}

#[test]
fn headers_go_on_where_the_proxy_protocol_ends_and_limits_count_by_the_client() {
    for &face in FACES {
        bounded(move || {
            let admission = Admission::default()
                .proxy_protocol(local())
                .forwarded(Forwarded::from_peers(["192.0.2.0/24"]).unwrap())
                .max_per_address(1);
            let served = face.serve(plan(face).admission(admission));
            let ask = |source: &str, client: &str| {
                let line = format!("PROXY TCP4 {source} 192.0.2.2 12345 443\r\n");
                let mut peer = Peer::connect(served.addr());
                peer.bytes(line + &request_with("/", &format!("X-Forwarded-For: {client}\r\n")));
                (status(&peer.head()), peer)
            };
            let (first, _first) = ask("192.0.2.1", "198.51.100.7");
            let (second, _second) = ask("192.0.2.1", "198.51.100.7");
            let (other, _other) = ask("192.0.2.1", "198.51.100.8");
            assert_eq!((first, second, other), (101, 429, 101));
            // A peer that is not trusted can't hide behind forwarding headers.
            let (direct, _direct) = ask("203.0.113.1", "198.51.100.9");
            let (again, _again) = ask("203.0.113.1", "198.51.100.10");
            assert_eq!((direct, again), (101, 429));
        });
    }
}

#[cfg(feature = "tls")]
#[test]
fn the_header_comes_before_tls() {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use rustls::{ClientConnection, StreamOwned};

    for &face in FACES {
        bounded(move || {
            let authority = crate::common::certificates::Authority::new("authority");
            let identity = authority.sign(&["localhost"]);
            let admission = Admission::default().proxy_protocol(local());
            let plan = Plan { tls: Some(identity.server()), ..plan(face).admission(admission) };
            let served = face.serve(plan);
            let mut roots = rustls::RootCertStore::empty();
            roots.add_parsable_certificates(pem(&authority.text()));
            let config = rustls::ClientConfig::builder_with_provider(Arc::new(
                rustls::crypto::ring::default_provider(),
            ))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
            let config = Arc::new(config);
            for (header, said) in headers() {
                let mut socket = std::net::TcpStream::connect(served.addr()).unwrap();
                socket.set_read_timeout(Some(crate::common::PATIENCE)).unwrap();
                socket.write_all(&header).unwrap();
                let name = "localhost".try_into().unwrap();
                let session = ClientConnection::new(Arc::clone(&config), name).unwrap();
                let mut tls = StreamOwned::new(session, socket);
                tls.write_all(request("/").as_bytes()).unwrap();
                let mut received = Vec::new();
                while !received.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    tls.read_exact(&mut byte).unwrap();
                    received.push(byte[0]);
                }
                assert_eq!(status(&String::from_utf8(received).unwrap()), 101);
                tls.write_all(&crate::common::peer::masked(crate::common::peer::TEXT, b"note?")).unwrap();
                let mut answer = vec![0; 2 + said.len()];
                tls.read_exact(&mut answer).unwrap();
                assert_eq!(&answer[2..], said.as_bytes(), "{face:?}");
            }
            // A header within TLS is none.
            assert_eq!(served.answer(crate::common::peer::client_hello()), "");
        });
    }
}

#[cfg(feature = "tls")]
fn pem(text: &str) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::pem_slice_iter(text.as_bytes()).map(Result::unwrap).collect()
}

#[test]
fn curl_says_whose_request_it_passes_on() {
    for &face in FACES {
        bounded(move || {
            let plan = Plan::new(|request: &Request| {
                let proxied = request.proxied().map(|proxied| proxied.source.ip());
                let body = format!("{:?} {:?}", proxied, request.client_ip());
                threadwire::Reply::respond(threadwire::Response::new(200).unwrap().with_body(body))
            });
            let admission = Admission::default().proxy_protocol(local());
            let served = face.serve(plan.admission(admission));
            let url = served.url("/").replace("ws://", "http://");
            let curl = Command::new("curl")
                .args(["--silent", "--noproxy", "*", "--haproxy-protocol", &url])
                .output();
            let Ok(output) = curl else {
                println!("skipped: there is no curl here");
                return;
            };
            assert_eq!(String::from_utf8_lossy(&output.stdout), "Some(127.0.0.1) Some(127.0.0.1)");
            let curl = Command::new("curl").args(["--silent", "--noproxy", "*", &url]).output().unwrap();
            assert!(!curl.status.success() && curl.stdout.is_empty());
        });
    }
}
