//! Listening sockets, on all faces: Unix sockets, several sockets, given sockets.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::common::doors::{FACES, Face, Plan, ask_for_note, attach};
use crate::common::peer::{Peer, TEXT, masked, request};
use crate::common::{PATIENCE, SOON, bounded};
use rustix::fs::{FlockOperation, flock};
use socket2::{Domain, SockAddr, Socket, Type};
use threadwire::server::{Admission, Forwarded, ListenAddr, ListenSocket, ProxyProtocol, Spread};
use threadwire::{Connection, Error, Reply, Request, Response, Server, blocking};

/// A directory that is gone with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("threadwire-{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Dir(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn plan(face: Face) -> Plan {
    Plan::new(move |request: &Request| {
        attach(request, format!("{:?} {:?}", request.peer_addr(), request.client_ip()));
        face.accept()
    })
}

/// Sends bytes and a request, and asks for the note that the connection has.
fn note(path: &Path, before: &[u8], headers: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(before).unwrap();
    stream.write_all(crate::common::peer::request_with("/", headers).as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 101 "), "{line}");
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    reader.get_mut().write_all(&masked(TEXT, b"note?")).unwrap();
    let mut head = [0; 2];
    reader.read_exact(&mut head).unwrap();
    let mut text = vec![0; usize::from(head[1])];
    reader.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_unix_socket_serves_as_an_address_does_but_has_none() {
    for &face in FACES {
        bounded(move || {
            let dir = Dir::new();
            let served = face.serve_on(vec![ListenSocket::unix(dir.path()).unwrap()], plan(face));
            assert_eq!(served.addrs, [ListenAddr::Unix(dir.path())]);
            assert_eq!(note(&served.path(), b"", ""), "None None", "{face:?}");
            served.stop();
            assert!(!dir.path().exists(), "{face:?}: the file is gone with the server");
        });
    }
}

#[test]
fn who_can_connect_to_a_unix_socket_is_trusted_to_speak_for_others() {
    for &face in FACES {
        bounded(move || {
            let dir = Dir::new();
            let admission = Admission::default()
                .proxy_protocol(ProxyProtocol::from_peers::<&str>([]).unwrap())
                .forwarded(Forwarded::from_peers(["192.0.2.0/24"]).unwrap());
            let plan = plan(face).admission(admission);
            let served = face.serve_on(vec![ListenSocket::unix(dir.path()).unwrap()], plan);
            let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 443\r\n";
            assert_eq!(note(&served.path(), line, ""), "None Some(192.0.2.1)");
            let headers = "X-Forwarded-For: 198.51.100.7\r\n";
            assert_eq!(note(&served.path(), line, headers), "None Some(198.51.100.7)");
            assert_eq!(note(&served.path(), b"PROXY UNKNOWN\r\n", headers), "None Some(198.51.100.7)");
        });
    }
}

#[test]
fn curl_finds_a_page_on_a_unix_socket() {
    for &face in FACES {
        bounded(move || {
            let dir = Dir::new();
            let well = Response::new(200).unwrap().with_body("well\n");
            let plan = Plan::new(move |_: &Request| Reply::respond(well.clone()));
            let served = face.serve_on(vec![ListenSocket::unix(dir.path()).unwrap()], plan);
            let curl = Command::new("curl")
                .args(["--silent", "--noproxy", "*", "--unix-socket"])
                .arg(served.path())
                .arg("http://localhost/healthz")
                .output();
            match curl {
                Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout), "well\n"),
                Err(_) => println!("skipped: there is no curl here"),
            }
        });
    }
}

#[test]
fn what_a_server_has_left_behind_is_removed_but_not_what_is_in_use_or_something_else() {
    bounded(|| {
        let dir = Dir::new();
        // A socket whose owner has gone without removing it.
        drop(UnixListener::bind(dir.path()).unwrap());
        assert!(dir.path().exists());
        let server = Server::bind_unix(dir.path()).unwrap();
        // Another one does not get it as long as this one listens.
        let Err(Error::Listen(error)) = Server::bind_unix(dir.path()) else { panic!("it is taken") };
        assert_eq!(error.addr, format!("unix:{}", dir.path().display()));
        assert_eq!(error.source.kind(), std::io::ErrorKind::AddrInUse);
        assert!(dir.path().exists(), "and does not remove it either");
        drop(server);
        assert!(!dir.path().exists(), "one that has never served removes it too");

        fs::write(dir.path(), "a letter").unwrap();
        assert!(blocking::Server::bind_unix(dir.path()).is_err());
        assert_eq!(fs::read_to_string(dir.path()).unwrap(), "a letter");

        // One that another server has taken over is not ours to remove.
        fs::remove_file(dir.path()).unwrap();
        let first = Server::bind_unix(dir.path()).unwrap();
        fs::rename(dir.path(), dir.0.join("moved")).unwrap();
        let second = Server::bind_unix(dir.path()).unwrap();
        drop(first);
        assert!(dir.path().exists());
        drop(second);
        assert!(!dir.path().exists());

        assert!(Server::bind_unix(dir.0.join("no/such/directory")).is_err());
        assert!(Server::bind_unix(dir.0.join("x".repeat(200))).is_err(), "too long for a socket");
    });
}

#[test]
fn of_servers_that_start_at_once_one_gets_the_path_and_keeps_it() {
    const SERVERS: usize = 4;
    bounded(|| {
        let dir = Dir::new();
        for _ in 0..50 {
            // A left-over socket file is in the way of all of them.
            drop(UnixListener::bind(dir.path()).unwrap());
            let (start, end) = (Barrier::new(SERVERS), Barrier::new(SERVERS));
            let listening = |_| {
                start.wait();
                let listening = ListenSocket::unix(dir.path());
                // The others have tried by then.
                end.wait();
                if listening.is_ok() {
                    UnixStream::connect(dir.path()).unwrap();
                }
                end.wait();
                usize::from(listening.is_ok())
            };
            let count: usize = thread::scope(|scope| {
                let servers: Vec<_> =
                    (0..SERVERS).map(|number| scope.spawn(move || listening(number))).collect();
                servers.into_iter().map(|server| server.join().unwrap()).sum()
            });
            assert_eq!(count, 1);
            assert!(!dir.path().exists());
        }
    });
}

#[test]
fn a_socket_that_is_about_to_listen_is_not_taken_for_one_that_was_left_behind() {
    bounded(|| {
        let dir = Dir::new();
        let locked = fs::File::open(&dir.0).unwrap();
        flock(&locked, FlockOperation::LockExclusive).unwrap();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(dir.path()).unwrap()).unwrap();
        let path = dir.path();
        let other = thread::spawn(move || ListenSocket::unix(path).is_ok());
        thread::sleep(SOON);
        socket.listen(1).unwrap();
        drop(locked);
        assert!(!other.join().unwrap(), "it is taken");
        UnixStream::connect(dir.path()).unwrap();
    });
}

#[test]
fn a_directory_that_others_have_locked_delays_a_server_but_does_not_keep_it() {
    bounded(|| {
        let dir = Dir::new();
        let locked = fs::File::open(&dir.0).unwrap();
        flock(&locked, FlockOperation::LockExclusive).unwrap();
        let server = Server::bind_unix(dir.path()).unwrap();
        drop(server);
        // Whether anybody is about to listen there can't be told now.
        drop(UnixListener::bind(dir.path()).unwrap());
        assert!(Server::bind_unix(dir.path()).is_err());
        drop(locked);
        assert!(Server::bind_unix(dir.path()).is_ok());
    });
}

#[test]
fn a_unix_socket_has_the_permissions_that_were_asked_for() {
    bounded(|| {
        let dir = Dir::new();
        for mode in [0o600, 0o660, 0o666] {
            let socket = ListenSocket::unix_with_mode(dir.path(), mode).unwrap();
            let metadata = fs::metadata(dir.path()).unwrap();
            assert!(metadata.file_type().is_socket());
            assert_eq!(metadata.permissions().mode() & 0o777, mode);
            drop(socket);
        }
    });
}

#[test]
fn one_server_listens_on_several_sockets_also_on_given_ones() {
    for &face in FACES {
        bounded(move || {
            let dir = Dir::new();
            let (tcp, path) = (TcpListener::bind("127.0.0.1:0").unwrap(), dir.0.join("given"));
            let unix = UnixListener::bind(&path).unwrap();
            let given = tcp.local_addr().unwrap();
            let sockets = vec![
                ListenSocket::unix(dir.path()).unwrap(),
                ListenSocket::tcp("127.0.0.1:0").unwrap(),
                ListenSocket::given_tcp(tcp).unwrap(),
                ListenSocket::given_unix(unix).unwrap(),
            ];
            let served = face.serve_on(sockets, plan(face));
            assert_eq!(served.addrs[2..], [ListenAddr::Tcp(given), ListenAddr::Unix(path.clone())]);
            for addr in served.addrs.clone() {
                // More than once: each of its workers serves all of them.
                for _ in 0..3 {
                    match &addr {
                        ListenAddr::Unix(path) => assert_eq!(note(path, b"", ""), "None None"),
                        addr => {
                            let mut peer = Peer::connect(addr.tcp().unwrap());
                            let client = peer.local_addr();
                            peer.bytes(request("/"));
                            let note = ask_for_note(&mut peer);
                            assert_eq!(note, format!("Some({client}) Some({})", client.ip()));
                        }
                    }
                }
            }
            served.stop();
            assert!(!dir.path().exists() && path.exists(), "a given one is not ours to remove");
            assert!(UnixStream::connect(&path).is_err() && std::net::TcpStream::connect(given).is_err());
        });
    }
}

/// Whether there is IPv6 here.
fn has_v6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        println!("skipped: there is no IPv6 here");
    }
    has
}

/// Says whom a server takes the client at this address for.
fn seen_from(addr: SocketAddr) -> String {
    let mut peer = Peer::connect(addr);
    peer.bytes(request("/"));
    ask_for_note(&mut peer)
}

#[test]
fn both_unspecified_addresses_can_be_listened_on_in_any_order() {
    for &face in FACES {
        bounded(move || {
            if !has_v6() {
                return;
            }
            for addrs in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"]] {
                // A port that is free at both.
                let port = ListenSocket::tcp("[::]:0").unwrap().local_addr().tcp().unwrap().port();
                let sockets = ListenSocket::tcp_all(addrs.map(|addr| format!("{addr}:{port}"))).unwrap();
                let served = face.serve_on(sockets, plan(face));
                assert!(
                    seen_from((Ipv4Addr::LOCALHOST, port).into()).starts_with("Some(127.0.0.1:"),
                    "{face:?}"
                );
                assert!(seen_from((Ipv6Addr::LOCALHOST, port).into()).starts_with("Some([::1]:"), "{face:?}");
                served.stop();
                // One alone is for both, as the system has it.
                let _served =
                    face.serve_on(ListenSocket::tcp_all([format!("[::]:{port}")]).unwrap(), plan(face));
                assert!(seen_from((Ipv4Addr::LOCALHOST, port).into()).contains("127.0.0.1"), "{face:?}");
                assert!(seen_from((Ipv6Addr::LOCALHOST, port).into()).starts_with("Some([::1]:"), "{face:?}");
            }
        });
    }
}

#[test]
fn a_name_is_listened_on_at_all_of_its_addresses() {
    fn check(addrs: &[ListenAddr], expected: &[IpAddr]) {
        let tcp: Vec<SocketAddr> = addrs.iter().filter_map(ListenAddr::tcp).collect();
        assert_eq!(tcp.iter().map(SocketAddr::ip).collect::<Vec<_>>(), expected);
        assert!(tcp.iter().all(|addr| addr.port() == tcp[0].port()), "they have one port: {tcp:?}");
    }
    bounded(|| {
        // As many as a name may have: one of them twice, and one that this machine does not have.
        let of_a_name: Vec<SocketAddr> = ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.1:0", "192.0.2.1:0"]
            .map(|addr| addr.parse().unwrap())
            .into();
        let expected: Vec<IpAddr> = ["127.0.0.1", "127.0.0.2"].map(|addr| addr.parse().unwrap()).into();
        check(Server::bind(&of_a_name[..]).unwrap().local_addrs(), &expected);
        check(blocking::Server::bind(&of_a_name[..]).unwrap().local_addrs(), &expected);
        #[cfg(feature = "aio")]
        crate::common::tasks::single().block_on(async {
            check(threadwire::aio::Server::bind(&of_a_name[..]).await.unwrap().local_addrs(), &expected);
        });
        for &face in FACES {
            let served = face.serve_on(ListenSocket::tcp_all([&of_a_name[..]]).unwrap(), plan(face));
            for addr in &served.addrs {
                assert!(seen_from(addr.tcp().unwrap()).starts_with("Some(127.0.0."), "{face:?}");
            }
        }
        // Its name in the machine's own table.
        let names: Vec<IpAddr> = ("localhost", 0).to_socket_addrs().unwrap().map(|addr| addr.ip()).collect();
        let server = Server::bind("localhost:0").unwrap();
        let listening = server.local_addrs().iter().filter_map(ListenAddr::tcp).map(|addr| addr.ip());
        let here: Vec<IpAddr> = names.into_iter().filter(|&ip| TcpListener::bind((ip, 0)).is_ok()).collect();
        assert!(listening.clone().all(|ip| here.contains(&ip)) && listening.count() > 0);

        // An address that is taken is no reason to be content with the others.
        let taken = TcpListener::bind("127.0.0.2:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let same_port =
            of_a_name[..2].iter().map(|addr| SocketAddr::new(addr.ip(), port)).collect::<Vec<_>>();
        let Err(Error::Listen(error)) = Server::bind(&same_port[..]) else { panic!("it is taken") };
        assert_eq!(error.source.kind(), std::io::ErrorKind::AddrInUse);
        // Other ports are for where that one is taken.
        let or_another = [same_port[1], "127.0.0.1:0".parse().unwrap()];
        check(Server::bind(&or_another[..]).unwrap().local_addrs(), &expected[..1]);
        // One that is nowhere here is an error.
        assert!(Server::bind("192.0.2.1:0").is_err());
    });
}

#[test]
fn limits_count_over_all_sockets_and_workers() {
    for &face in FACES {
        bounded(move || {
            let dir = Dir::new();
            let sockets =
                vec![ListenSocket::tcp("127.0.0.1:0").unwrap(), ListenSocket::unix(dir.path()).unwrap()];
            let admission = Admission::default().max_connections(2);
            let served = face.serve_on(sockets, plan(face).admission(admission));
            let _first = Peer::open(served.addr(), "/");
            let _second = Peer::open(served.addr(), "/");
            let mut third = UnixStream::connect(served.path()).unwrap();
            third.write_all(request("/").as_bytes()).unwrap();
            let mut answer = String::new();
            third.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        });
    }
}

#[test]
fn workers_that_accept_for_themselves_share_what_can_be_shared() {
    bounded(|| {
        let dir = Dir::new();
        let server = Server::bind("127.0.0.1:0").unwrap().add_socket(ListenSocket::unix(dir.path()).unwrap());
        let server = server.workers(3).spread(Spread::ReusePort);
        let running = server
            .serve(|request| {
                attach(request, "served");
                Face::Listener.accept()
            })
            .unwrap();
        for _ in 0..6 {
            assert_eq!(note(&dir.path(), b"", ""), "served");
            let mut peer = Peer::connect(running.local_addr().unwrap());
            peer.bytes(request("/"));
            assert_eq!(ask_for_note(&mut peer), "served");
        }
        assert_eq!(running.local_addrs().len(), 2);
        running.stop();
        running.join().unwrap();
    });
}

#[test]
fn a_shutdown_frees_every_socket_and_its_file() {
    bounded(|| {
        let dir = Dir::new();
        let server = Server::bind("127.0.0.1:0").unwrap().add_socket(ListenSocket::unix(dir.path()).unwrap());
        let running = server.serve(|_| Reply::with(crate::common::echo)).unwrap();
        let addr = running.local_addr().unwrap();
        assert_eq!(note_of_echo(&dir.path()), "note?");
        running.shutdown(threadwire::server::Shutdown::default()).unwrap();
        running.join().unwrap();
        assert!(!dir.path().exists());
        assert!(std::net::TcpStream::connect(addr).is_err());
        let again = Server::bind_unix(dir.path()).unwrap();
        drop(again);
    });
}

fn note_of_echo(path: &Path) -> String {
    note(path, b"", "")
}

#[test]
fn a_connection_over_a_unix_socket_says_that_it_has_no_address() {
    bounded(|| {
        let dir = Dir::new();
        let mut server = blocking::Server::bind_unix(dir.path()).unwrap();
        let path = dir.path();
        let client = thread::spawn(move || {
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(request("/").as_bytes()).unwrap();
            stream
        });
        let ws = server.accept().unwrap();
        assert_eq!(ws.peer_addr().unwrap_err().kind(), std::io::ErrorKind::Unsupported);
        assert_eq!(ws.local_addr().unwrap_err().kind(), std::io::ErrorKind::Unsupported);
        drop(client.join().unwrap());
    });
}

#[test]
fn a_server_of_unix_sockets_alone_has_no_address_to_name() {
    let dir = Dir::new();
    let server = Server::bind_unix(dir.path()).unwrap();
    assert_eq!(server.local_addr().unwrap_err().kind(), std::io::ErrorKind::AddrNotAvailable);
    let running = server.serve(|_| Reply::with(|_: &Connection, _: threadwire::Message<'_>| Ok(()))).unwrap();
    assert_eq!(running.local_addr().unwrap_err().kind(), std::io::ErrorKind::AddrNotAvailable);
    assert_eq!(running.local_addrs().len(), 1);
    running.stop();
    running.join().unwrap();
}
