//! Addresses and sockets of a client: several addresses, the program's own, unix sockets; and the requests sent over them.

#[cfg(feature = "tls")]
use crate::common::certificates::Authority;
use crate::common::faces::FACES;
use crate::common::files::Files;
use crate::common::peer::Host;
use crate::common::proxies::{Kind, Proxying};
use crate::common::recorder::{Call, Log};
use crate::common::{SOON, Serving, bind, bounded, echo, ignore, patient, vacant};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use threadwire::client::{Proxy, Timeouts};
use threadwire::error::{Step, TimeoutKind};
use threadwire::worker::{EventLoop, Worker};
use threadwire::{Client, Error, Reply, Server, wait_forever, wait_until};

/// An address where nobody answers: a socket whose queue is full drops what else wants to connect.
struct Silent {
    addr: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl Silent {
    fn start() -> Silent {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();
        let queued = (0..4).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&addr.into());
            socket
        });
        Silent { addr, _queued: queued.collect(), _listener: listener }
    }
}

/// A client to a name with these addresses.
fn named(addresses: &[SocketAddr]) -> Client {
    Client::new("ws://feed.test/").unwrap().config(patient()).resolve("feed.test", addresses.iter().copied())
}

#[test]
fn the_first_address_that_answers_wins_and_the_others_are_let_go() {
    bounded(|| {
        let server = Serving::with(bind(), |_| Reply::with(echo));
        let (_taken, refusing) = vacant();
        let silent = Silent::start();
        for face in FACES {
            for addresses in [
                &[silent.addr, server.addr][..],
                &[refusing, server.addr],
                &[refusing, silent.addr, server.addr],
            ] {
                assert_eq!(face.echo(&named(addresses), "hello").unwrap(), "hello", "{face:?}");
            }
        }
        let ws = named(&[silent.addr, server.addr]).connect(echo).unwrap();
        assert_eq!(EventLoop::current().source_count(), 1);
        ws.abort();
    });
}

#[test]
fn where_nobody_answers_all_that_was_tried_is_told() {
    bounded(|| {
        let ((_one, first), (_other, second)) = (vacant(), vacant());
        let silent = Silent::start();
        for face in FACES {
            let error = face.fails(&named(&[first, second]));
            let expected = format!(
                "can't connect to {first} (connection refused), can't connect to {second}: connection refused"
            );
            assert_eq!(format!("{error:#}"), expected);
            assert!(
                matches!(&error, Error::Connect(error) if error.addr == second && error.others.len() == 1)
            );

            // One that does not answer has its time, each has its own.
            let timeouts = Timeouts::default().connect(SOON);
            let error = face.fails(&named(&[silent.addr, first]).timeouts(timeouts.clone()));
            match error {
                Error::Connect(error) => {
                    assert_eq!((error.addr, error.source.kind()), (first, io::ErrorKind::ConnectionRefused));
                    let others = &error.others;
                    assert_eq!((others[0].0, others[0].1.kind()), (silent.addr, io::ErrorKind::TimedOut));
                }
                other => panic!("{other:?}"),
            }
            let error = face.fails(&named(&[silent.addr]).timeouts(timeouts));
            assert_eq!(error.to_string(), "connecting to feed.test took too long");
            assert!(
                matches!(&error, Error::Timeout(TimeoutKind::Step(stage)) if stage.step == Step::Connect)
            );

            let config = patient().open_timeout(SOON);
            let error = face.fails(&named(&[silent.addr]).config(config));
            let expected = "opening the connection took too long; it was connecting to feed.test";
            assert_eq!(error.to_string(), expected);

            let error = face.fails(&named(&[]));
            assert!(matches!(&error, Error::Resolve(error) if error.host == "feed.test"), "{error:?}");
            assert_eq!(EventLoop::current().source_count(), 0);
        }
    });
}

#[test]
fn a_server_that_does_not_answer_the_request_is_given_up() {
    bounded(|| {
        for face in FACES {
            let host = Host::listen();
            let timeouts = Timeouts::default().upgrade(SOON);
            let error = face.fails(&named(&[host.addr()]).timeouts(timeouts));
            assert_eq!(error.to_string(), "waiting for feed.test to answer the request took too long");
            assert!(
                matches!(&error, Error::Timeout(TimeoutKind::Step(stage)) if stage.step == Step::Upgrade)
            );
        }
    });
}

#[cfg(feature = "tls")]
#[test]
fn a_server_that_does_not_answer_in_tls_is_given_up() {
    bounded(|| {
        for face in FACES {
            let host = Host::listen();
            let timeouts = Timeouts::default().tls(SOON);
            let client = Client::new("wss://feed.test/").unwrap().config(patient());
            let error = face.fails(&client.resolve("FEED.test", [host.addr()]).timeouts(timeouts));
            assert_eq!(error.to_string(), "agreeing on TLS with feed.test took too long");
        }
    });
}

/// A server that writes down from where it is connected to.
fn observed() -> (Serving, Arc<Mutex<Vec<SocketAddr>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let serving = Serving::with(bind(), move |request| {
        notes.lock().unwrap().push(request.peer_addr().unwrap());
        Reply::with(echo)
    });
    (serving, seen)
}

#[test]
fn a_client_connects_from_the_address_that_it_is_bound_to() {
    bounded(|| {
        let (server, seen) = observed();
        let (_taken, port) = vacant();
        for face in FACES {
            let client = named(&[server.addr]).bind("127.0.0.2".parse().unwrap());
            face.echo(&client, "hello").unwrap();
            assert_eq!(seen.lock().unwrap().pop().unwrap().ip().to_string(), "127.0.0.2");
            // Of the other family; not of this machine; taken.
            for (address, why) in [
                ("[::1]:0".parse().unwrap(), "family"),
                ("192.0.2.1:0".parse().unwrap(), "assign"),
                (port, "in use"),
            ] {
                let error = face.fails(&named(&[server.addr]).bind_port(address));
                assert!(matches!(error, Error::Connect(_)), "{error:?}");
                assert!(format!("{error:#}").contains(why), "{error:#}");
            }
        }
    });
}

#[test]
fn each_socket_is_prepared_by_the_program() {
    bounded(|| {
        let (server, seen) = observed();
        let (_taken, refusing) = vacant();
        for face in FACES {
            let prepared = Arc::new(Mutex::new(Vec::new()));
            let sockets = Arc::new(Mutex::new(Vec::new()));
            let (notes, kept) = (Arc::clone(&prepared), Arc::clone(&sockets));
            let client = named(&[refusing, server.addr]).prepare_socket(move |socket, address| {
                notes.lock().unwrap().push(address);
                kept.lock().unwrap().push(socket.try_clone_to_owned()?);
                // The socket is the one that will be connected.
                SockRef::from(&socket).bind(&SockAddr::from("127.0.0.3:0".parse::<SocketAddr>().unwrap()))
            });
            for leaves_at_once in [true, false] {
                let client = client.clone().nodelay(leaves_at_once);
                face.echo(&client, "hello").unwrap();
                assert_eq!(seen.lock().unwrap().pop().unwrap().ip().to_string(), "127.0.0.3");
                assert_eq!(std::mem::take(&mut *prepared.lock().unwrap()), [refusing, server.addr]);
                let socket = sockets.lock().unwrap().pop().unwrap();
                assert_eq!(SockRef::from(&socket).tcp_nodelay().unwrap(), leaves_at_once);
                sockets.lock().unwrap().clear();
            }
            let refuses = named(&[server.addr]).prepare_socket(|_, _| Err(io::Error::other("not today")));
            assert!(format!("{:#}", face.fails(&refuses)).ends_with("not today"));
            let panics = named(&[server.addr]).prepare_socket(|_, _| panic!("a bug"));
            assert!(format!("{:#}", face.fails(&panics)).ends_with("a callback panicked: a bug"));
        }
    });
}

#[test]
fn a_socket_of_the_programs_own_is_used_for_each_attempt() {
    bounded(|| {
        let server = Serving::with(bind(), |request| match request.header("Host") {
            Some("feed.test") => Reply::with(echo),
            _ => Reply::status(404),
        });
        let addr = server.addr;
        for face in FACES {
            // The program opens the socket: no such host needs to exist.
            let opened = Arc::new(AtomicU32::new(0));
            let count = Arc::clone(&opened);
            let client = Client::new("ws://feed.test/").unwrap().open_socket(move |target| {
                assert_eq!(target.host(), "feed.test");
                count.fetch_add(1, Ordering::SeqCst);
                Ok(TcpStream::connect(addr)?.into())
            });
            for _ in 0..2 {
                assert_eq!(face.echo(&client, "hello").unwrap(), "hello");
            }
            assert_eq!(opened.load(Ordering::SeqCst), 2);

            let once = Client::new("ws://feed.test/").unwrap().over(TcpStream::connect(addr).unwrap());
            assert_eq!(face.echo(&once, "hello").unwrap(), "hello");
            let error = face.fails(&once);
            assert!(
                matches!(&error, Error::Io(source) if source.kind() == io::ErrorKind::NotConnected),
                "{error:?}"
            );
            assert!(error.to_string().contains("has been used"), "{error}");

            // With a proxy the program's socket leads to the proxy.
            let proxy = Proxying::start(Kind::Socks5, "feed.test", SocketAddr::new(addr.ip(), addr.port()));
            let url = format!("ws://feed.test:{}/", addr.port());
            let to_proxy = Client::new(&url)
                .unwrap()
                .host("feed.test")
                .unwrap()
                .proxy(Proxy::new("socks5h://nosuch.invalid").unwrap())
                .over(TcpStream::connect(proxy.addr).unwrap());
            assert_eq!(face.echo(&to_proxy, "hello").unwrap(), "hello");
            assert_eq!(proxy.asked().len(), 1);

            let fails =
                Client::new("ws://feed.test/").unwrap().open_socket(|_| Err(io::Error::other("no way")));
            assert_eq!(face.fails(&fails).to_string(), "no way");
            let panics = Client::new("ws://feed.test/").unwrap().open_socket(|_| panic!("a bug"));
            assert!(face.fails(&panics).to_string().contains("a bug"));
        }
    });
}

#[test]
fn a_redirect_is_not_followed_over_a_socket_of_the_programs_own() {
    bounded(|| {
        let server = Serving::with(bind(), |_| {
            let response = threadwire::Response::new(302).unwrap();
            Reply::respond(response.with_header("Location", "/there").unwrap())
        });
        let addr = server.addr;
        for face in FACES {
            let client = Client::new("ws://feed.test/").unwrap();
            let client = client.open_socket(move |_| Ok(TcpStream::connect(addr)?.into()));
            match face.fails(&client) {
                Error::Status(answer) => assert_eq!(answer.status(), 302),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn unix_sockets_are_reached_by_their_path() {
    bounded(|| {
        let files = Files::empty();
        let path = files.write("a b.sock", "");
        std::fs::remove_file(&path).unwrap();
        let server = Server::bind_unix(&path).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        let running = server
            .serve(move |request| {
                let host = request.header("Host").unwrap().to_owned();
                notes.lock().unwrap().push((host, request.target().to_owned()));
                Reply::with(echo)
            })
            .unwrap();
        let place = path.display().to_string();
        for face in FACES {
            for (client, host, target) in [
                (Client::new(&format!("ws+unix:{place}:/feed?a=b")).unwrap(), "localhost", "/feed?a=b"),
                (Client::new(&format!("ws+unix://{place}").replace(' ', "%20")).unwrap(), "localhost", "/"),
                (Client::new("ws://example.com/feed").unwrap().unix_socket(&path), "example.com", "/feed"),
                (
                    Client::new("ws://example.com/over").unwrap().over(UnixStream::connect(&path).unwrap()),
                    "example.com",
                    "/over",
                ),
            ] {
                // The environment's proxies are not for these.
                let client = client.proxy(Proxy::from_vars(|_| Some("http://nosuch.invalid".to_owned())));
                assert_eq!(face.echo(&client, "hello").unwrap(), "hello", "{face:?} {client:?}");
                let asked = asked.lock().unwrap().pop().unwrap();
                assert_eq!((&*asked.0, &*asked.1), (host, target));
            }
            let error = face.fails(&Client::new("ws://localhost/").unwrap().unix_socket("/nosuch/socket"));
            assert_eq!(format!("{error:#}"), "can't connect to /nosuch/socket: no such file or directory");
            assert!(error.is_transient() && matches!(error, Error::ConnectUnix(_)));
        }
        running.stop();
        running.join().unwrap();
    });
}

#[cfg(feature = "tls")]
#[test]
fn unix_sockets_are_reached_in_tls() {
    bounded(|| {
        let files = Files::empty();
        let path = files.write("tls.sock", "");
        std::fs::remove_file(&path).unwrap();
        let authority = Authority::new("authority");
        let tls = authority.sign(&["localhost", "feed.test"]).server();
        let running = Server::bind_unix(&path).unwrap().tls(tls).serve(|_| Reply::with(echo)).unwrap();
        for face in FACES {
            for client in [
                Client::new(&format!("wss+unix:{}:/", path.display())).unwrap(),
                Client::new("wss://feed.test/").unwrap().unix_socket(&path),
            ] {
                assert_eq!(
                    face.echo(&client.tls(authority.trusted()), "hello").unwrap(),
                    "hello",
                    "{face:?}"
                );
            }
        }
        running.stop();
        running.join().unwrap();
    });
}

#[test]
fn a_unix_socket_whose_queue_is_full_is_waited_for() {
    bounded(|| {
        let files = Files::empty();
        let path = files.write("full.sock", "");
        std::fs::remove_file(&path).unwrap();
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        for face in FACES {
            let fill: Vec<UnixStream> = vec![UnixStream::connect(&path).unwrap()];
            let timeouts = Timeouts::default().connect(SOON);
            let client = Client::new("ws://localhost/").unwrap().config(patient()).unix_socket(&path);
            let error = face.fails(&client.clone().timeouts(timeouts));
            assert_eq!(error.to_string(), format!("connecting to {} took too long", path.display()));
            assert_eq!(EventLoop::current().source_count(), 0);

            let server = listener.try_clone().unwrap();
            let accept = std::thread::spawn(move || {
                // The one that was in the way, and the client.
                drop(server.accept().unwrap());
                drop(server.accept().unwrap());
            });
            // The client connected, and then lost the connection.
            let error = face.fails(&client);
            assert!(matches!(error, Error::Lost | Error::Io(_)), "{error:?}");
            accept.join().unwrap();
            drop(fill);
        }
    });
}

/// A unix socket whose queue is full.
fn crowded(files: &Files) -> (PathBuf, Socket, Vec<Socket>) {
    let path = files.write("crowded.sock", "");
    std::fs::remove_file(&path).unwrap();
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let addr = SockAddr::unix(&path).unwrap();
    listener.bind(&addr).unwrap();
    listener.listen(0).unwrap();
    let mut queued = Vec::new();
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&addr) {
            Ok(()) => queued.push(socket),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (path, listener, queued),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn an_attempt_that_waits_for_room_in_a_queue_is_told_of_its_end() {
    if cfg!(not(target_os = "linux")) {
        return; // Such a queue refuses.
    }
    bounded(|| {
        let files = Files::empty();
        let (path, listener, queued) = crowded(&files);
        for open_timeout in [None, Some(SOON)] {
            let log = Log::new();
            let (theirs, place) = (log.clone(), path.clone());
            let (tell, told) = mpsc::channel();
            let worker = Worker::spawn(move || {
                let mut config = patient();
                config.open_timeout = open_timeout.unwrap_or(config.open_timeout);
                let client = Client::new("ws://localhost/").unwrap().unix_socket(&place).config(config);
                client.start(theirs.listener(ignore)).unwrap();
                wait_until(Some(3 * SOON), || !theirs.calls().is_empty()).unwrap();
                tell.send(EventLoop::current().source_count()).unwrap();
                wait_forever()
            });
            let sources = told.recv().unwrap();
            worker.stop();
            assert!(worker.join().unwrap().was_stopped());
            match &log.calls()[..] {
                [Call::Failed(error)] if open_timeout.is_none() => {
                    assert_eq!((&**error, sources), ("the worker was asked to stop", 1));
                }
                [Call::Failed(error)] => assert!(error.contains("crowded.sock") && sources == 0, "{error}"),
                other => panic!("{other:?}"),
            }
        }

        // The attempt goes on when there is room.
        let log = Log::new();
        let theirs = log.clone();
        let worker = Worker::spawn(move || {
            let client = Client::new("ws://localhost/").unwrap().unix_socket(&path).config(patient());
            client.start(theirs.listener(ignore)).unwrap();
            wait_forever()
        });
        for _ in &queued {
            listener.accept().unwrap();
        }
        let (mut accepted, _) = listener.accept().unwrap();
        let mut first = [0; 4];
        accepted.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"GET ");
        worker.stop();
        worker.join().unwrap();
        assert_eq!(log.calls(), [Call::Failed("the worker was asked to stop".to_owned())]);
    });
}
