//! Servers of the blocking face.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::peer::{PING, PONG, Peer, TEXT};
use crate::common::{SOON, bounded, patient};
use threadwire::blocking::{self, Connection, Server, Serving};
use threadwire::server::{CloseProblem, Shutdown};
use threadwire::worker::{Ended, Worker, later};
use threadwire::{CloseCode, Connection as Callback, Error, Message, Reply, Request};

fn bind() -> Server {
    Server::bind("127.0.0.1:0").unwrap().config(patient())
}

fn echo(ws: &mut Connection) -> Result<(), Error> {
    while let Some(message) = ws.recv()? {
        ws.send(&message)?;
    }
    Ok(())
}

fn url(serving: &Serving) -> String {
    format!("ws://{}/", serving.local_addr().unwrap())
}

fn finish(serving: Serving) {
    serving.stop();
    serving.join().unwrap();
}

#[test]
fn accepts_one_by_one() {
    bounded(|| {
        let mut server = bind();
        let url = format!("ws://{}", server.local_addr().unwrap());
        let clients = thread::spawn(move || {
            for _ in 0..3 {
                let mut ws = blocking::connect(&url).unwrap();
                ws.send("hello").unwrap();
                assert_eq!(ws.recv().unwrap().unwrap(), "hello");
                assert!(ws.close().unwrap().is_normal());
            }
        });
        for _ in 0..3 {
            echo(&mut server.accept().unwrap()).unwrap();
        }
        clients.join().unwrap();
    });
}

#[test]
fn connections_that_were_not_accepted_yet_keep_what_they_say() {
    bounded(|| {
        let mut server = bind();
        let addr = server.local_addr().unwrap();
        let (go, gone) = mpsc::channel();
        let clients = thread::spawn(move || {
            let peers: Vec<Peer> = (0..3)
                .map(|number| {
                    let mut peer = Peer::open(addr, "/");
                    peer.send(TEXT, number.to_string().as_bytes());
                    peer
                })
                .collect();
            go.send(()).unwrap();
            peers
        });
        let mut first = server.accept().unwrap();
        assert_eq!(first.recv().unwrap().unwrap(), "0");
        while gone.try_recv().is_err() {
            threadwire::sleep(Duration::from_millis(1)).unwrap();
        }
        for number in ["1", "2"] {
            assert_eq!(server.accept().unwrap().recv().unwrap().unwrap(), number);
        }
        clients.join().unwrap();
    });
}

#[test]
fn a_dropped_server_closes_those_that_nobody_accepted() {
    bounded(|| {
        let mut server = bind();
        let addr = server.local_addr().unwrap();
        let (give, given) = mpsc::channel();
        thread::spawn(move || (0..2).for_each(|_| give.send(Peer::open(addr, "/")).unwrap()));
        let accepted = server.accept().unwrap();
        let mut peers = Vec::new();
        while peers.len() < 2 {
            threadwire::sleep(Duration::from_millis(1)).unwrap();
            peers.extend(given.try_recv());
        }
        drop(server);
        assert_eq!(peers[1].code(), 1001);
        drop(accepted);
        assert_eq!(peers[0].code(), 1001);
        assert!(std::net::TcpStream::connect(addr).is_err(), "it still listens");
    });
}

#[test]
fn a_stop_ends_the_wait_for_a_connection() {
    bounded(|| {
        let (told, tells) = mpsc::channel();
        let worker = Worker::spawn(move || -> Result<(), threadwire::Stopped> {
            let mut server = bind();
            later(Duration::ZERO, move || told.send(()).unwrap());
            match server.accept() {
                Err(Error::Stopped) => Err(threadwire::Stopped),
                other => panic!("{other:?}"),
            }
        });
        tells.recv().unwrap();
        worker.stop();
        assert!(matches!(worker.join().unwrap(), Ended::Stopped));
    });
}

#[test]
fn says_what_becomes_of_a_request() {
    bounded(|| {
        let hook = |request: &Request| match request.path() {
            "/blocking" => Reply::upgrade().header("X-Face", "blocking"),
            "/callback" => Ok(Reply::with(|ws: &Callback, _: Message<'_>| ws.send("by a callback"))),
            "/panic" => panic!("this is part of the test"),
            _ => Reply::status(403).header("X-Why", "no"),
        };
        let serving = bind().on_request(hook).serve(1, echo).unwrap();
        let connect =
            |path: &str| blocking::connect(&format!("ws://{}{path}", serving.local_addr().unwrap()));
        let mut ws = connect("/blocking").unwrap();
        assert_eq!(ws.response_headers().unwrap().get("X-Face"), Some("blocking"));
        ws.send("by a handler").unwrap();
        assert_eq!(ws.recv().unwrap().unwrap(), "by a handler");
        let mut other = connect("/callback").unwrap();
        other.send("?").unwrap();
        assert_eq!(other.recv().unwrap().unwrap(), "by a callback");
        for (path, status) in [("/panic", "500"), ("/", "403")] {
            let error = format!("{:#}", connect(path).unwrap_err());
            assert!(error.contains(status), "{error}");
        }
        finish(serving);
    });
}

#[test]
fn serves_more_connections_than_it_has_threads_one_after_the_other() {
    bounded(|| {
        const THREADS: usize = 2;
        let busy = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&most);
        let in_pairs = Barrier::new(THREADS);
        let serving = bind()
            .serve(THREADS, move |ws| {
                seen.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                in_pairs.wait();
                let result = echo(ws);
                busy.fetch_sub(1, Ordering::SeqCst);
                result
            })
            .unwrap();
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let url = url(&serving);
                thread::spawn(move || {
                    // All of them open, also those that have to wait for a thread.
                    let mut ws = blocking::connect(&url).unwrap();
                    ws.send(&format!("{number}")).unwrap();
                    assert_eq!(ws.recv().unwrap().unwrap(), format!("{number}").as_str());
                    assert!(ws.close().unwrap().is_normal());
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert_eq!(most.load(Ordering::SeqCst), THREADS);
        finish(serving);
    });
}

#[test]
fn a_connection_that_waits_for_a_thread_is_open_and_answers_pings() {
    bounded(|| {
        let serving = bind().serve(1, echo).unwrap();
        let mut peers: Vec<Peer> = (0..4).map(|_| Peer::open(serving.local_addr().unwrap(), "/")).collect();
        for peer in &mut peers {
            peer.send(PING, b"am I here?");
            assert_eq!(peer.frame(), (PONG, b"am I here?".to_vec()));
        }
        for mut peer in peers {
            peer.send(TEXT, b"my turn");
            assert_eq!(peer.text(), "my turn");
            peer.close(1000, "");
            assert_eq!(peer.code(), 1000);
        }
        finish(serving);
    });
}

#[test]
fn a_connection_that_is_long_in_closing_holds_up_nobody_who_waits_for_a_thread() {
    bounded(|| {
        // So that little is enough to have its answers wait.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_send_buffer_size(4096).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        socket.listen(16).unwrap();
        let server = Server::from_socket(threadwire::server::ListenSocket::given_tcp(socket.into()).unwrap());
        let config = patient().high_watermark(1 << 20);
        let serving = server.config(config).serve(1, echo).unwrap();
        let addr = serving.local_addr().unwrap();
        let mut first = Peer::open(addr, "/");
        first.send(TEXT, b"hello");
        assert_eq!(first.text(), "hello", "it has the thread");
        // This client reads nothing: the answer to its close frame can't leave.
        let mut deaf = Peer::connect_narrow(addr).upgrade("/");
        let mut next = Peer::open(addr, "/");
        // The server has read what was sent to it before.
        let mut catch_up = || {
            next.send(PING, b"am I here?");
            assert_eq!(next.frame(), (PONG, b"am I here?".to_vec()));
        };
        for _ in 0..64 {
            (0..16).for_each(|_| deaf.send(PING, &[b'x'; 125]));
            catch_up();
        }
        deaf.close(1000, "");
        (0..10).for_each(|_| catch_up());
        next.send(TEXT, b"my turn");
        first.close(1000, "");
        assert_eq!(first.code(), 1000);
        assert_eq!(next.text(), "my turn");
        deaf.reset();
        next.close(1000, "");
        assert_eq!(next.code(), 1000);
        finish(serving);
    });
}

#[test]
fn there_are_no_other_threads_than_those_asked_for() {
    bounded(|| {
        let named = |name: &str| {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let names =
                tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
            names.filter(|comm| comm.trim_end() == name).count()
        };
        let names = Arc::new(Mutex::new(HashSet::new()));
        let seen = Arc::clone(&names);
        let together = Arc::new(Barrier::new(3));
        let serving = bind()
            .serve(3, move |ws| {
                seen.lock().unwrap().insert(thread::current().id());
                together.wait();
                echo(ws)
            })
            .unwrap();
        // A name is cut after 15 characters.
        const HERE: &str = "blocking counts";
        let url = url(&serving);
        let client = thread::Builder::new().name(HERE.into());
        let client = client.spawn(move || {
            let before = named(HERE);
            let mut all: Vec<Connection> = (0..3).map(|_| blocking::connect(&url).unwrap()).collect();
            for ws in &mut all {
                ws.send("hello").unwrap();
                assert_eq!(ws.recv().unwrap().unwrap(), "hello");
            }
            // A thread inherits the name of the one that starts it, unless it is given another.
            assert_eq!(named(HERE), before, "connections have threads of their own");
            all.iter_mut().for_each(|ws| assert!(ws.close().unwrap().is_normal()));
        });
        client.unwrap().join().unwrap();
        assert_eq!(names.lock().unwrap().len(), 3);
        finish(serving);
    });
}

/// The end that a client sees of a connection whose handler does this.
fn end_of(handler: impl Fn(&mut Connection) -> Result<(), Error> + Send + Sync + 'static) -> u16 {
    let serving = bind().serve(1, handler).unwrap();
    let mut peer = Peer::open(serving.local_addr().unwrap(), "/");
    let code = peer.code();
    peer.close(code, "");
    assert!(peer.ended());
    // The thread is there for the next one.
    let mut peer = Peer::open(serving.local_addr().unwrap(), "/");
    assert_eq!(peer.code(), code);
    peer.close(code, "");
    finish(serving);
    code
}

#[test]
fn the_end_of_a_handler_closes_its_connection() {
    bounded(|| {
        assert_eq!(end_of(|_| Ok(())), 1000);
        assert_eq!(end_of(|_| Err(Error::other("this is part of the test"))), 1011);
        assert_eq!(end_of(|_| panic!("this is part of the test")), 1011);
        assert_eq!(end_of(|ws| ws.connection().close_with(CloseCode::new(4001), "")), 4001);
    });
}

#[test]
fn a_handler_whose_connection_ends_abnormally_does_no_harm() {
    bounded(|| {
        let serving = bind().serve(1, echo).unwrap();
        for end in [Peer::reset, drop] {
            let mut peer = Peer::open(serving.local_addr().unwrap(), "/");
            peer.send(TEXT, b"hello");
            assert_eq!(peer.text(), "hello");
            end(peer);
        }
        let mut ws = blocking::connect(&url(&serving)).unwrap();
        ws.send("still here").unwrap();
        assert_eq!(ws.recv().unwrap().unwrap(), "still here");
        finish(serving);
    });
}

#[test]
fn a_stop_ends_the_waits_of_all_handlers_and_join_waits_for_them() {
    bounded(|| {
        let ended = Arc::new(AtomicUsize::new(0));
        let ends = Arc::clone(&ended);
        let serving = bind()
            .serve(2, move |ws| {
                let result = echo(ws);
                assert!(matches!(result, Err(Error::Stopped)), "{result:?}");
                // The handler takes its time.
                thread::sleep(SOON);
                ends.fetch_add(1, Ordering::SeqCst);
                result
            })
            .unwrap();
        let mut peers: Vec<Peer> = (0..2).map(|_| Peer::open(serving.local_addr().unwrap(), "/")).collect();
        for peer in &mut peers {
            peer.send(TEXT, b"hello");
            assert_eq!(peer.text(), "hello");
        }
        let peers: Vec<_> = peers
            .into_iter()
            .map(|mut peer| {
                thread::spawn(move || {
                    assert_eq!(peer.code(), 1001);
                    peer.close(1001, "");
                    assert!(peer.ended());
                })
            })
            .collect();
        let addr = serving.local_addr().unwrap();
        finish(serving);
        assert_eq!(ended.load(Ordering::SeqCst), 2, "join did not wait for the handlers");
        peers.into_iter().for_each(|peer| peer.join().unwrap());
        assert!(std::net::TcpStream::connect(addr).is_err(), "it still listens");
    });
}

#[test]
fn a_stop_tells_those_that_wait_for_a_thread_too() {
    bounded(|| {
        let serving = bind().serve(1, echo).unwrap();
        let mut peers: Vec<Peer> = (0..5).map(|_| Peer::open(serving.local_addr().unwrap(), "/")).collect();
        peers[0].send(TEXT, b"hello");
        assert_eq!(peers[0].text(), "hello");
        let peers: Vec<_> = peers
            .into_iter()
            .map(|mut peer| {
                thread::spawn(move || {
                    let code = peer.code();
                    peer.close(code, "");
                    code
                })
            })
            .collect();
        finish(serving);
        let codes: Vec<u16> = peers.into_iter().map(|peer| peer.join().unwrap()).collect();
        assert_eq!(codes, [1001; 5]);
    });
}

#[test]
fn a_peer_that_does_not_answer_does_not_hold_the_join_up_for_long() {
    bounded(|| {
        let config = patient().close_timeout(SOON);
        let serving = Server::bind("127.0.0.1:0").unwrap().config(config).serve(1, echo).unwrap();
        let mut peer = Peer::open(serving.local_addr().unwrap(), "/");
        peer.send(TEXT, b"hello");
        assert_eq!(peer.text(), "hello");
        finish(serving);
        assert_eq!(peer.code(), 1001);
    });
}

#[test]
fn the_wait_of_a_join_ends_with_a_stop() {
    bounded(|| {
        let serving = bind().serve(1, echo).unwrap();
        let (told, tells) = mpsc::channel();
        let worker = Worker::spawn(move || -> Result<(), threadwire::Stopped> {
            later(Duration::ZERO, move || told.send(()).unwrap());
            match serving.join() {
                Err(Error::Stopped) => Err(threadwire::Stopped),
                other => panic!("{other:?}"),
            }
        });
        tells.recv().unwrap();
        worker.stop();
        assert!(matches!(worker.join().unwrap(), Ended::Stopped));
    });
}

#[test]
fn a_server_that_accepts_here_is_not_served_by_others() {
    bounded(|| {
        let mut server = bind();
        let addr = server.local_addr().unwrap();
        let client = thread::spawn(move || Peer::open(addr, "/"));
        drop(server.accept().unwrap());
        assert!(matches!(server.serve(1, echo), Err(Error::Other(_))));
        client.join().unwrap();
    });
}

#[test]
fn a_handler_that_panics_closes_with_1011() {
    bounded(|| {
        let serving = bind().serve(1, |ws| {
            ws.recv()?;
            panic!("on purpose")
        });
        let serving = serving.unwrap();
        let mut peer = Peer::open(serving.local_addr().unwrap(), "/");
        peer.send(TEXT, b"panic");
        assert_eq!(peer.code(), 1011);
        peer.close(1011, "");
        finish(serving);
    });
}

fn within(timeout: Duration) -> Shutdown {
    Shutdown::default().timeout(timeout)
}

#[test]
fn a_shutdown_closes_the_connections_of_all_handlers_and_reports_them() {
    bounded(|| {
        // Two are handled, and one waits for a thread.
        let serving = bind().serve(2, echo).unwrap();
        let mut peers: Vec<Peer> = (0..3).map(|_| Peer::open(serving.local_addr().unwrap(), "/")).collect();
        while serving.connections() < 3 {
            thread::sleep(Duration::from_millis(1));
        }
        let silent = peers.pop().unwrap();
        let answering = peers.into_iter().map(|mut peer| {
            thread::spawn(move || {
                assert_eq!(peer.closed(), (1012, "back soon".to_owned()));
                peer.close(1012, "");
            })
        });
        let answering: Vec<_> = answering.collect();
        let shutdown =
            within(Duration::from_millis(500)).code(CloseCode::SERVICE_RESTART).reason("back soon");
        let report = serving.stopper().shutdown(shutdown).unwrap();
        assert_eq!((report.connections, report.clean), (3, 2), "{report}");
        assert_eq!(report.unclean[0].problem, CloseProblem::Silent);
        assert_eq!((report.stuck.len(), serving.connections()), (0, 0));
        answering.into_iter().for_each(|peer| peer.join().unwrap());
        serving.join().unwrap();
        drop(silent);
    });
}

#[test]
fn a_handler_that_computes_is_named_as_stuck() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let goes = Mutex::new(goes);
        let serving = bind()
            .serve(1, move |_ws| {
                let _ = goes.lock().unwrap().recv();
                Ok(())
            })
            .unwrap();
        let peer = Peer::open(serving.local_addr().unwrap(), "/");
        thread::sleep(SOON);
        let report = serving.shutdown(within(Duration::from_millis(1))).unwrap();
        assert_eq!((report.clean, report.stuck.len()), (0, 1), "{report:?}");
        assert!(report.stuck[0].name.starts_with("threadwire handler"), "{report:?}");
        drop(go);
        drop(peer);
        serving.join().unwrap();
    });
}

#[test]
fn a_shutdown_on_the_accepting_thread_ends_its_connections_and_leaves_the_thread() {
    bounded(|| {
        let mut server = bind();
        let addr = server.local_addr().unwrap();
        let peer = thread::spawn(move || {
            let mut peer = Peer::open(addr, "/");
            let mut half = Peer::connect(addr);
            half.bytes("GET / HTTP/1.1\r\nHost");
            assert_eq!(peer.code(), 1001);
            peer.close(1001, "");
            assert!(half.rest().starts_with("HTTP/1.1 503 "));
        });
        let ws = server.accept().unwrap();
        assert_eq!(server.connections(), 1);
        // The half request has come.
        threadwire::sleep(SOON).unwrap();
        let report = server.shutdown(within(Duration::from_secs(5))).unwrap();
        assert_eq!((report.connections, report.clean, report.refused), (1, 1, 1), "{report}");
        assert!(!ws.is_open());
        assert!(matches!(server.accept(), Err(Error::Stopped)));
        peer.join().unwrap();
        threadwire::sleep(Duration::from_millis(1)).expect("the thread goes on");
    });
}

#[test]
fn a_stopper_ends_an_accept_on_another_thread() {
    bounded(|| {
        let mut server = bind();
        let stopper = server.stopper();
        let other = thread::spawn(move || stopper.stop());
        assert!(matches!(server.accept(), Err(Error::Stopped)));
        other.join().unwrap();
    });
}

/// A server of threads where only so few descriptors are left that not all connections can have a thread: it serves some, and refuses
/// the others before they are open.
#[cfg(target_os = "linux")]
#[test]
fn with_few_descriptors_a_connection_is_refused_with_503_before_it_is_open() {
    use std::io::Read;
    use std::net::TcpStream;

    use crate::common::PATIENCE;
    use crate::common::process::with_descriptors;

    const CLIENTS: usize = 60;
    // The clients of this process would take descriptors of the same limit: they stand in the process that started it.
    with_descriptors(
        64,
        || {
            let serving = bind().serve(CLIENTS, echo).unwrap();
            println!("listening on {}", serving.local_addr().unwrap());
            // Until the test has seen enough.
            let _ = std::io::stdin().read(&mut [0]);
            finish(serving);
        },
        |addr| {
            let (mut open, mut others) = (Vec::new(), Vec::new());
            for _ in 0..CLIENTS {
                let stream = TcpStream::connect(addr).unwrap();
                let mut peer = Peer::connected(stream.try_clone().unwrap());
                stream.set_read_timeout(Some(10 * SOON)).unwrap();
                peer.bytes(crate::common::peer::request("/"));
                let is_answered = stream.peek(&mut [0]).is_ok();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                if !is_answered {
                    // There may be no descriptor left to accept it with. The next ones would find the same.
                    others.push(peer);
                    break;
                }
                match peer.head() {
                    head if head.starts_with("HTTP/1.1 101 ") => open.push(peer),
                    head if head.starts_with("HTTP/1.1 503 ") => others.push(peer),
                    head => panic!("{head}"),
                }
            }
            assert!(open.len() >= 5 && !others.is_empty(), "{} open", open.len());
            for peer in &mut open {
                peer.send(TEXT, b"hello");
                assert_eq!(peer.text(), "hello");
            }
            for mut peer in open {
                peer.close(1000, "");
                assert_eq!(peer.code(), 1000);
            }
        },
    );
}
