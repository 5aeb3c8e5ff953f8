//! TLS transfer between this library's own ends on loops, of any length.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use crate::common::certificates::Authority;
use crate::common::peer::{BINARY, CLOSE, TEXT, farewell};
use crate::common::secure::{FACES, Secure, TlsPeer};
use crate::common::{bind, bounded, patient};
use threadwire::trace::Trace;
use threadwire::trace::TraceEvent;
use threadwire::{Client, Connection, Error, Listener, Message, Reply, Room, WhenFull, blocking, wait_until};

/// Opens a connection that gathers what comes.
fn gather(client: &Client) -> (Connection, Rc<RefCell<Vec<Vec<u8>>>>) {
    let got = Rc::new(RefCell::new(Vec::new()));
    let gathered = Rc::clone(&got);
    let ws = client
        .connect(move |_: &Connection, message: Message<'_>| {
            gathered.borrow_mut().push(message.as_bytes().to_vec());
            Ok(())
        })
        .unwrap();
    (ws, got)
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[test]
fn messages_of_all_sizes_come_back() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let (ws, got) = gather(&server.client(authority.trusted()));
        let sizes =
            [0, 1, 20, 125, 126, 4096, 16_383, 16_384, 16_385, 40_000, 65_536, 70_000, 1_000_000, 5_000_000];
        for size in sizes {
            ws.send(&pattern(size)[..]).unwrap();
            wait_until(None, || !got.borrow().is_empty()).unwrap();
            assert!(got.borrow_mut().remove(0) == pattern(size), "{size}");
        }
        ws.close().unwrap();
        ws.wait_closed().unwrap();
        let closed = ws.closed().unwrap();
        assert!(closed.is_normal() && closed.error.is_none(), "{closed:?}");
    });
}

#[test]
fn many_messages_at_once_come_back_in_order() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let (ws, got) = gather(&server.client(authority.trusted()));
        for number in 0..20_000_u32 {
            ws.send(&number.to_be_bytes()[..]).unwrap();
        }
        wait_until(None, || got.borrow().len() == 20_000).unwrap();
        assert!(got.borrow().iter().zip(0..).all(|(got, number): (_, u32)| got[..] == number.to_be_bytes()));
    });
}

#[test]
fn short_and_long_messages_mixed_come_back_in_order() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let (ws, got) = gather(&server.client(authority.trusted()));
        let sizes: Vec<usize> = (0..200).map(|number| number * number * 7 % 90_000).collect();
        for size in &sizes {
            ws.send(&pattern(*size)[..]).unwrap();
        }
        wait_until(None, || got.borrow().len() == sizes.len()).unwrap();
        assert!(got.borrow().iter().zip(&sizes).all(|(got, size)| *got == pattern(*size)));
    });
}

#[test]
fn the_blocking_face_speaks_it_on_both_sides() {
    bounded(|| {
        let authority = Authority::new("authority");
        let tls = authority.sign(&["localhost"]).server();
        let mut server = blocking::Server::bind("127.0.0.1:0").unwrap().tls(tls);
        let url = format!("wss://localhost:{}/", server.local_addr().unwrap().port());
        let trusted = authority.trusted();
        let client = thread::spawn(move || {
            let client = Client::new(&url).unwrap().tls(trusted);
            for (face, connect) in FACES {
                connect(&client).unwrap_or_else(|error| panic!("{face}: {error:#}"));
            }
        });
        for _ in FACES {
            let mut ws = server.accept().unwrap();
            assert!(ws.tls().is_some());
            while let Some(message) = ws.recv().unwrap() {
                ws.send(&message).unwrap();
            }
        }
        client.join().unwrap();
    });
}

#[test]
fn a_blocking_server_gives_it_to_other_threads() {
    bounded(|| {
        let authority = Authority::new("authority");
        let tls = authority.sign(&["localhost"]).server();
        let server = blocking::Server::bind("127.0.0.1:0").unwrap().tls(tls);
        let server = server
            .serve(2, |ws| {
                while let Some(message) = ws.recv()? {
                    ws.send(&message)?;
                }
                Ok(())
            })
            .unwrap();
        let url = format!("wss://localhost:{}/", server.local_addr().unwrap().port());
        let client = Client::new(&url).unwrap().tls(authority.trusted());
        let (ws, got) = gather(&client);
        for size in [10, 100_000] {
            ws.send(&pattern(size)[..]).unwrap();
            wait_until(None, || !got.borrow().is_empty()).unwrap();
            assert!(got.borrow_mut().remove(0) == pattern(size));
        }
        server.stop();
        server.join().unwrap();
    });
}

#[test]
fn a_connection_takes_what_is_half_there_along_to_another_thread() {
    bounded(|| {
        let authority = Authority::new("authority");
        let tls = authority.sign(&["localhost"]).server();
        let mut server = blocking::Server::bind("127.0.0.1:0").unwrap().tls(tls).config(patient());
        let addr = server.local_addr().unwrap();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let client = thread::spawn(move || {
            let mut peer = TlsPeer::open(addr, &authority);
            // Many in one record, and the beginning of one in the next.
            let frames: Vec<u8> =
                (0..5).flat_map(|n| crate::common::peer::masked(TEXT, &[b'0' + n])).collect();
            let long = crate::common::peer::masked(BINARY, &pattern(50_000));
            std::io::Write::write_all(&mut peer.0, &frames).unwrap();
            std::io::Write::write_all(&mut peer.0, &long[..30_000]).unwrap();
            may_go_on.recv().unwrap();
            std::io::Write::write_all(&mut peer.0, &long[30_000..]).unwrap();
            peer.frame()
        });
        let mut ws = server.accept().unwrap();
        assert_eq!(ws.recv().unwrap().unwrap(), "0");
        let detached = ws.detach().unwrap();
        go_on.send(()).unwrap();
        thread::spawn(move || {
            let mut ws = detached.attach().unwrap();
            for number in ["1", "2", "3", "4"] {
                assert_eq!(ws.recv().unwrap().unwrap(), number);
            }
            assert!(ws.recv().unwrap().unwrap() == pattern(50_000)[..]);
            ws.send("all there").unwrap();
        })
        .join()
        .unwrap();
        assert_eq!(client.join().unwrap(), (TEXT, b"all there".to_vec()));
    });
}

/// Joins a room, and says when its messages have to wait.
struct Member {
    room: Room,
    opened: mpsc::Sender<()>,
}

impl Listener for Member {
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        self.room.join(ws);
        self.opened.send(()).unwrap();
        Ok(())
    }
}

#[test]
fn rooms_reach_members_who_are_slow_in_reading() {
    bounded(|| {
        let authority = Authority::new("authority");
        let (room, (opened, has_opened)) = (Room::new(), mpsc::channel());
        let (members, tls) = (room.clone(), authority.sign(&["localhost"]).server());
        let running = bind()
            .tls(tls)
            .config(patient())
            .serve(move |_| Reply::with(Member { room: members.clone(), opened: opened.clone() }))
            .unwrap();
        let mut peers: Vec<TlsPeer> =
            (0..3).map(|_| TlsPeer::open(running.local_addr().unwrap(), &authority)).collect();
        (0..3).for_each(|_| has_opened.recv().unwrap());
        // More than sockets take while nobody reads.
        let sent: Vec<Vec<u8>> = (0..400).map(|number| pattern(10 + number * 97)).collect();
        for message in &sent {
            room.send(&message[..]);
        }
        for peer in &mut peers {
            for message in &sent {
                assert!(peer.frame() == (BINARY, message.clone()));
            }
        }
        running.stop();
    });
}

#[test]
fn what_a_slow_reader_is_sent_waits_and_what_may_be_dropped_is_dropped_whole() {
    bounded(|| {
        for when_full in [WhenFull::Error, WhenFull::DropOldest] {
            let authority = Authority::new("authority");
            let config = patient().max_buffered(300_000).when_full(when_full);
            let (done, is_done) = mpsc::channel();
            let flood = move |ws: &Connection, _: Message<'_>| {
                for number in 0..2000_u32 {
                    let mut message = number.to_be_bytes().to_vec();
                    message.resize(5000, number as u8);
                    match ws.send(&message) {
                        Ok(()) => {}
                        Err(Error::Limit(_)) => break,
                        Err(error) => return Err(error),
                    }
                }
                ws.send_with("the end", WhenFull::DropOldest).or_else(|_| ws.ping(b""))?;
                done.send(()).unwrap();
                Ok(())
            };
            let tls = authority.sign(&["localhost"]).server();
            let running = bind().tls(tls).config(config).serve(move |_| Reply::with(flood.clone())).unwrap();
            let mut peer = TlsPeer::open(running.local_addr().unwrap(), &authority);
            peer.send(TEXT, b"go");
            is_done.recv().unwrap();
            let (mut last, mut count) = (None, 0);
            loop {
                let (first, payload) = peer.frame();
                if first != BINARY {
                    break;
                }
                let number = u32::from_be_bytes(payload[..4].try_into().unwrap());
                assert!(last.is_none_or(|last| number > last), "{number} behind {last:?}");
                assert!(payload.len() == 5000 && payload[4..].iter().all(|byte| *byte == number as u8));
                (last, count) = (Some(number), count + 1);
            }
            assert!(count > 10);
            if when_full == WhenFull::DropOldest {
                assert!(last == Some(1999) && count < 2000, "{count}, {last:?}");
            }
            running.stop();
        }
    });
}

#[test]
fn closing_is_clean_on_both_sides_whoever_begins() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let mut peer = TlsPeer::open(server.addr(), &authority);
        peer.send(CLOSE, &farewell(1000, "bye"));
        assert_eq!(peer.frame(), (CLOSE, farewell(1000, "")));
        assert!(peer.ends(), "the server says that nothing more will come");
        drop(peer);

        let authority = Authority::new("authority");
        let (told, is_told) = mpsc::channel();
        struct Closer(mpsc::Sender<Arc<threadwire::Closed>>);
        impl Listener for Closer {
            fn on_message(&mut self, ws: &Connection, _: Message<'_>) -> Result<(), Error> {
                ws.close()
            }
            fn on_close(&mut self, ws: &Connection, _: &threadwire::Closed) {
                self.0.send(ws.closed().unwrap()).unwrap();
            }
        }
        let tls = authority.sign(&["localhost"]).server();
        let serve = move |_: &threadwire::Request| Reply::with(Closer(told.clone()));
        let running = bind().tls(tls).config(patient()).serve(serve).unwrap();
        let url = format!("wss://localhost:{}/", running.local_addr().unwrap().port());
        let (ws, _) = gather(&Client::new(&url).unwrap().tls(authority.trusted()).config(patient()));
        ws.send("close, please").unwrap();
        ws.wait_closed().unwrap();
        for closed in [ws.closed().unwrap(), is_told.recv().unwrap()] {
            assert!(closed.is_normal() && closed.error.is_none(), "{closed:?}");
        }
        running.stop();
    });
}

#[test]
fn a_server_that_stops_takes_leave_of_clients() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let mut peer = TlsPeer::open(server.addr(), &authority);
        server.running.stop();
        assert_eq!(peer.frame(), (CLOSE, farewell(1001, "")));
        peer.send(CLOSE, &farewell(1001, ""));
        assert!(peer.ends());
    });
}

#[test]
fn traces_show_what_is_inside() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&lines);
        let trace = Trace::to(move |line| {
            let text = match line.event {
                TraceEvent::Head(head) => head.lines().next().unwrap().to_owned(),
                event => event.to_string(),
            };
            seen.lock().unwrap().push(text);
        });
        let client = server.client(authority.trusted()).config(patient().trace(trace));
        for (face, connect) in FACES {
            lines.lock().unwrap().clear();
            connect(&client).unwrap();
            let lines = lines.lock().unwrap().clone();
            let expected = [
                "GET / HTTP/1.1",
                "HTTP/1.1 101 Switching Protocols",
                "text, 5 bytes: \"hello\"",
                "text, 5 bytes: \"hello\"",
            ];
            assert_eq!(lines[..4], expected, "{face}");
        }
    });
}

#[test]
fn keys_are_exchanged_in_the_middle() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let mut peer = TlsPeer::open(server.addr(), &authority);
        for number in 0..20_u8 {
            peer.0.conn.refresh_traffic_keys().unwrap();
            peer.send(TEXT, &[b'a' + number]);
            assert_eq!(peer.frame(), (TEXT, vec![b'a' + number]));
        }
    });
}

#[test]
fn callbacks_that_wait_hold_up_nobody() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let client = server.client(authority.trusted());
        let (other, got) = gather(&client);
        let count = Rc::new(Cell::new(0));
        let heard = Rc::clone(&count);
        let ws = client
            .connect(move |_: &Connection, _: Message<'_>| {
                // The loop turns in here, and the shared memory is lent to another.
                let before = got.borrow().len();
                other.send(&pattern(100_000)[..])?;
                wait_until(None, || got.borrow().len() > before)?;
                heard.set(heard.get() + 1);
                Ok(())
            })
            .unwrap();
        for _ in 0..3 {
            ws.send("hello").unwrap();
        }
        wait_until(None, || count.get() == 3).unwrap();
    });
}
