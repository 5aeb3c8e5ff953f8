//! What was once wrong in some corner, and must not come back.

use crate::common::bounded;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use threadwire::worker::EventLoop;
use threadwire::*;

fn echo_server() -> (Running, String) {
    let s = Server::bind("127.0.0.1:0")
        .unwrap()
        .serve(|_| Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m)))
        .unwrap();
    let url = format!("ws://{}", s.local_addr().unwrap());
    (s, url)
}
fn quiet(_: &Connection, _: Message<'_>) -> Result<(), Error> {
    Ok(())
}

/// Calls that wait nest without end
#[test]
fn calls_that_wait_do_not_nest_past_the_limit() {
    bounded(|| {
        let (_s, url) = echo_server();
        let ws = connect(&url, quiet).unwrap();
        let h = ws.handle();
        let depth = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let n = 300;
        let (d, m, dn) = (depth.clone(), most.clone(), done.clone());
        thread::spawn(move || {
            for _ in 0..n {
                let (d, m, dn) = (d.clone(), m.clone(), dn.clone());
                h.run(move |_| {
                    let now = d.fetch_add(1, Ordering::SeqCst) + 1;
                    m.fetch_max(now, Ordering::SeqCst);
                    let _ = sleep(Duration::from_micros(10));
                    d.fetch_sub(1, Ordering::SeqCst);
                    dn.fetch_add(1, Ordering::SeqCst);
                });
            }
        })
        .join()
        .unwrap();
        wait_until(None, || done.load(Ordering::SeqCst) == n).unwrap();
        let most = most.load(Ordering::SeqCst);
        assert!(most <= EventLoop::MAX_NESTING + 1, "nested {most} deep");
    });
}

/// Calls that send by the handle nest without any wait; aborts the process by stack overflow
#[test]
fn calls_that_use_their_handle_do_not_overflow_the_stack() {
    let (_s, url) = echo_server();
    let ws = connect(&url, quiet).unwrap();
    let h = ws.handle();
    let done = Arc::new(AtomicUsize::new(0));
    let n = 20_000;
    let dn = done.clone();
    thread::spawn(move || {
        for _ in 0..n {
            let (dn, h2) = (dn.clone(), h.clone());
            h.run(move |_| {
                let _ = h2.send("x");
                dn.fetch_add(1, Ordering::SeqCst);
            });
        }
    })
    .join()
    .unwrap();
    wait_until(Some(Duration::from_secs(9)), || done.load(Ordering::SeqCst) == n).unwrap();
    assert_eq!(done.load(Ordering::SeqCst), n);
}

/// A backlog of calls is done in one turn, in spite of ROUNDS
#[test]
fn a_backlog_of_calls_leaves_others_their_turn() {
    bounded(|| {
        let (_s, url) = echo_server();
        let ws = connect(&url, quiet).unwrap();
        let h = ws.handle();
        let done = Arc::new(AtomicUsize::new(0));
        let n = 10_000;
        let dn = done.clone();
        thread::spawn(move || {
            for _ in 0..n {
                let dn = dn.clone();
                h.run(move |_| {
                    dn.fetch_add(1, Ordering::SeqCst);
                });
            }
        })
        .join()
        .unwrap();
        let at = Arc::new(AtomicUsize::new(usize::MAX));
        // a timer that rings in every turn: at which call do timers get their second turn?
        let turns = Arc::new(Mutex::new(Vec::new()));
        fn tick(t: Arc<Mutex<Vec<usize>>>, d: Arc<AtomicUsize>, n: usize) {
            t.lock().unwrap().push(d.load(Ordering::SeqCst));
            if d.load(Ordering::SeqCst) < n {
                EventLoop::current().after(Duration::ZERO, move || tick(t, d, n));
            }
        }
        let (t, d) = (turns.clone(), done.clone());
        EventLoop::current().after(Duration::ZERO, move || tick(t, d, n));
        wait_until(None, || done.load(Ordering::SeqCst) == n).unwrap();
        let _ = at;
        let turns = turns.lock().unwrap().clone();
        let gap = turns.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(n);
        assert!(gap <= 1000, "timers waited for {gap} calls: {turns:?}");
    });
}

/// A panic in measure's callback at the end of a connection
#[test]
fn a_panic_in_a_measurements_callback_hurts_nobody_else() {
    bounded(|| {
        struct L(Arc<AtomicUsize>);
        impl Listener for L {
            fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
                ws.measure_roundtrip_then(3, |times| println!("{:?}", times.unwrap()));
                Ok(())
            }
            fn on_close(&mut self, _: &Connection, _: &Closed) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let closes = Arc::new(AtomicUsize::new(0));
        let c = closes.clone();
        let s = Server::bind("127.0.0.1:0")
            .unwrap()
            .serve(move |r| match r.path() {
                "/m" => Accept::with(L(c.clone())),
                _ => Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m)),
            })
            .unwrap();
        let url = format!("ws://{}", s.local_addr().unwrap());
        let mut bystander = blocking::connect(&url).unwrap();
        // a peer that shakes hands and leaves without a pong
        let mut raw = TcpStream::connect(s.local_addr().unwrap()).unwrap();
        raw.write_all(b"GET /m HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").unwrap();
        let mut buf = [0; 1024];
        let _ = raw.read(&mut buf).unwrap();
        drop(raw);
        let end = Duration::from_secs(2);
        wait_until(Some(end), || closes.load(Ordering::SeqCst) == 1).unwrap();
        let sent = bystander.send("hello");
        let got = bystander.recv_timeout(Duration::from_secs(2));
        assert!(
            sent.is_ok() && matches!(&got, Ok(Some(_))),
            "bystander: {sent:?} {got:?}; on_close {}",
            closes.load(Ordering::SeqCst)
        );
        assert_eq!(closes.load(Ordering::SeqCst), 1);
    });
}

/// What is held moves along, its count does not
#[test]
fn a_message_in_parts_survives_a_move() {
    bounded(|| {
        let (_s, url) = echo_server();
        let ws = blocking::connect(&url).unwrap();
        let h = ws.handle();
        let mut parts = h.start_text();
        parts.send("a").unwrap();
        let h2 = h.clone();
        thread::spawn(move || h2.send("held").unwrap()).join().unwrap();
        update().unwrap();
        let detached = ws.detach().unwrap();
        let t = thread::spawn(move || {
            let mut ws = detached.attach().unwrap();
            parts.finish().unwrap();
            let a = ws.recv_timeout(Duration::from_secs(2));
            let b = ws.recv_timeout(Duration::from_secs(2));
            (format!("{a:?}"), format!("{b:?}"), ws.connection().buffered())
        });
        while !t.is_finished() {
            sleep(Duration::from_millis(20)).unwrap();
        }
        println!("{:?}", t.join().unwrap());
    });
}

/// A Detached that is dropped
#[test]
fn handles_hear_of_a_detached_connection_that_is_dropped() {
    bounded(|| {
        let (_s, url) = echo_server();
        let ws = blocking::connect(&url).unwrap();
        let h = ws.handle();
        drop(ws.detach().unwrap());
        let sent = h.send("for nobody");
        let end = Duration::from_secs(1);
        wait_until(Some(end), || h.has_ended()).unwrap();
        assert!(h.has_ended(), "is_open {} send {sent:?}", h.is_open());
    });
}

/// Measuring with a full mailbox
#[test]
fn measuring_ends_also_while_messages_wait_to_be_received() {
    bounded(|| {
        struct Flood;
        impl Listener for Flood {
            fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
                for _ in 0..40 {
                    ws.send(&vec![0u8; 100_000][..])?;
                }
                Ok(())
            }
        }
        let s = Server::bind("127.0.0.1:0").unwrap().serve(|_| Accept::with(Flood)).unwrap();
        let keepalive = Some(Keepalive { reply_timeout: Duration::from_millis(200), ..Keepalive::default() });
        let client = Client::new(&format!("ws://{}", s.local_addr().unwrap()))
            .unwrap()
            .config(Config { keepalive, ..Config::default() });
        let mut ws = blocking::connect(&client).unwrap();
        sleep(Duration::from_millis(100)).unwrap();
        let stop = EventLoop::current().remote();
        let late = Arc::new(AtomicBool::new(false));
        let l = late.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(3));
            l.store(true, Ordering::SeqCst);
            stop.stop();
        });
        let r = ws.measure_roundtrip(1);
        assert!(!late.load(Ordering::SeqCst), "hung for 3 s: {r:?}");
    });
}

/// Blocking::Server::serve and a client that is quick
#[test]
fn a_handler_gets_what_a_quick_client_has_sent() {
    {
        let got = Arc::new(AtomicUsize::new(0));
        let (g, gate) = (got.clone(), Arc::new(AtomicBool::new(false)));
        let gt = gate.clone();
        let s = blocking::Server::bind("127.0.0.1:0")
            .unwrap()
            .serve(1, move |ws| {
                while !gt.load(Ordering::SeqCst) {
                    sleep(Duration::from_millis(5))?;
                }
                while let Some(_m) = ws.recv()? {
                    g.fetch_add(1, Ordering::SeqCst);
                }
                Ok(())
            })
            .unwrap();
        let url = format!("ws://{}", s.local_addr().unwrap());
        let mut ends = Vec::new();
        let ts: Vec<_> = (0..6)
            .map(|_| {
                let url = url.clone();
                thread::spawn(move || {
                    let mut ws = blocking::connect(&url).unwrap();
                    ws.send("job").unwrap();
                    ws.close().map(|c| c.clean)
                })
            })
            .collect();
        sleep(Duration::from_millis(1500)).unwrap();
        gate.store(true, Ordering::SeqCst);
        for t in ts {
            ends.push(format!("{:?}", t.join().unwrap()));
        }
        sleep(Duration::from_millis(1500)).unwrap();
        assert_eq!(got.load(Ordering::SeqCst), 6, "closed: {ends:?}");
    }
}

/// A handler that panics
#[test]
fn a_handler_that_panics_closes_with_1011() {
    bounded(|| {
        let s = blocking::Server::bind("127.0.0.1:0")
            .unwrap()
            .serve(1, move |ws| {
                ws.recv()?;
                panic!("on purpose")
            })
            .unwrap();
        let mut ws = blocking::connect(&format!("ws://{}", s.local_addr().unwrap())).unwrap();
        ws.send("x").unwrap();
        let _ = ws.recv();
        sleep(Duration::from_millis(50)).unwrap();
        assert_eq!(ws.closed().unwrap().code, CloseCode::INTERNAL_ERROR);
    });
}

/// A second error of the program's own is dropped under a borrow
#[test]
fn an_error_whose_drop_uses_a_handle() {
    bounded(|| {
        #[derive(Debug)]
        struct E(Handle);
        impl std::fmt::Display for E {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("e")
            }
        }
        impl std::error::Error for E {}
        impl Drop for E {
            fn drop(&mut self) {
                let _ = self.0.send("bye");
            }
        }
        struct L;
        impl Listener for L {
            fn on_message(&mut self, ws: &Connection, _: Message<'_>) -> Result<(), Error> {
                ws.send(&vec![0u8; 12_000_000][..])?;
                Err(Error::other(E(ws.handle())))
            }
            fn on_pause_writing(&mut self, ws: &Connection) -> Result<(), Error> {
                Err(Error::other(E(ws.handle())))
            }
        }
        let s = Server::bind("127.0.0.1:0")
            .unwrap()
            .serve(move |r| match r.path() {
                "/m" => Accept::with(L),
                _ => Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m)),
            })
            .unwrap();
        let url = format!("ws://{}", s.local_addr().unwrap());
        let mut bystander = blocking::connect(&url).unwrap();
        let t = thread::spawn(move || {
            let mut ws = blocking::connect(&format!("{url}/m")).unwrap();
            ws.send("x").unwrap();
            thread::sleep(Duration::from_millis(500));
        });
        while !t.is_finished() {
            sleep(Duration::from_millis(20)).unwrap();
        }
        let sent = bystander.send("hello");
        let got = bystander.recv_timeout(Duration::from_secs(2));
        assert!(sent.is_ok() && matches!(&got, Ok(Some(_))), "bystander: {sent:?} {got:?}");
    });
}

/// Callbacks after the program has closed
#[test]
fn no_callback_but_on_close_after_closing() {
    bounded(|| {
        struct L(Arc<Mutex<Vec<&'static str>>>);
        impl Listener for L {
            fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
                ws.send(&vec![0u8; 12_000_000][..])?;
                Ok(())
            }
            fn on_pause_writing(&mut self, ws: &Connection) -> Result<(), Error> {
                self.0.lock().unwrap().push("pause");
                ws.close()
            }
            fn on_resume_writing(&mut self, ws: &Connection) -> Result<(), Error> {
                self.0.lock().unwrap().push(if ws.is_open() { "resume" } else { "resume after close" });
                Ok(())
            }
            fn on_close(&mut self, _: &Connection, _: &Closed) {
                self.0.lock().unwrap().push("close");
            }
        }
        let log = Arc::new(Mutex::new(Vec::new()));
        let l = log.clone();
        let s = Server::bind("127.0.0.1:0").unwrap().serve(move |_| Accept::with(L(l.clone()))).unwrap();
        let t = {
            let url = format!("ws://{}", s.local_addr().unwrap());
            thread::spawn(move || {
                let mut ws = blocking::connect(&url).unwrap();
                thread::sleep(Duration::from_millis(200));
                while let Ok(Some(_)) = ws.recv() {}
            })
        };
        while !log.lock().unwrap().contains(&"close") {
            sleep(Duration::from_millis(20)).unwrap();
        }
        let _ = t;
        assert_eq!(*log.lock().unwrap(), ["pause", "close"]);
    });
}

/// A clone of a connection that has left the thread
#[test]
fn a_connection_that_has_left_has_a_handle_that_has_ended() {
    bounded(|| {
        let (_s, url) = echo_server();
        let ws = blocking::connect(&url).unwrap();
        let old = ws.connection().clone();
        let _d = ws.detach().unwrap();
        let h = old.handle();
        assert!(
            h.has_ended(),
            "has_ended of the connection {}; of its handle {}; closed {:?}",
            old.has_ended(),
            h.has_ended(),
            old.closed()
        );
    });
}

/// Buffered() at the end
#[test]
fn nothing_is_buffered_after_the_end() {
    bounded(|| {
        let (_s, url) = echo_server();
        let ws = connect(&url, quiet).unwrap();
        let h = ws.handle();
        let mut parts = h.start_text();
        parts.send("a").unwrap();
        h.send("held").unwrap();
        update().unwrap();
        ws.abort();
        ws.wait_closed().unwrap();
        assert_eq!(ws.buffered(), 0);
        std::mem::forget(parts);
    });
}

/// The cause of an end is dropped under the link's lock
#[test]
fn an_error_whose_drop_looks_at_the_link() {
    bounded(|| {
        #[derive(Debug)]
        struct E(Link);
        impl std::fmt::Display for E {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("e")
            }
        }
        impl std::error::Error for E {}
        impl Drop for E {
            fn drop(&mut self) {
                let _ = self.0.state();
            }
        }
        let s = Server::bind("127.0.0.1:0")
            .unwrap()
            .serve(|_| {
                struct G;
                impl Listener for G {
                    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
                        ws.send("hi")
                    }
                }
                Accept::with(G)
            })
            .unwrap();
        let backoff =
            Backoff { first: Duration::from_millis(5), max_attempts: Some(4), ..Backoff::default() };
        let link = Client::new(&format!("ws://{}", s.local_addr().unwrap()))
            .unwrap()
            .reconnect(backoff)
            .retry_if(|_: &Cause| true)
            .start_with(|link| {
                let link = link.clone();
                move |_: &Connection, _: Message<'_>| Err(Error::other(E(link.clone())))
            });
        println!("{}", link.wait_ended().unwrap());
    });
}

/// Waiting for the end by a handle, in a callback of that connection
#[test]
fn waiting_for_the_end_in_the_connections_own_callback_says_so() {
    bounded(|| {
        let (_s, url) = echo_server();
        let ws = connect(&url, |ws: &Connection, _: Message<'_>| {
            ws.close()?;
            println!("{:?}", ws.handle().wait_closed());
            Ok(())
        })
        .unwrap();
        ws.send("x").unwrap();
        let end = Duration::from_secs(8);
        assert!(wait_until(Some(end), || ws.closed().is_some()).unwrap(), "hung");
    });
}

/// A measurement's callback that closes, while the connection is taken off
#[test]
fn taking_off_survives_a_measurement_that_aborts() {
    bounded(|| {
        let (_s, url) = echo_server();
        let ws = blocking::connect(&url).unwrap();
        let h = ws.handle();
        let c = ws.connection().clone();
        ws.connection().measure_roundtrip_then(1000, move |_| {
            c.abort();
            let _ = sleep(Duration::from_millis(5));
        });
        let r = ws.detach();
        sleep(Duration::from_millis(200)).unwrap();
        assert!(r.is_err() && h.has_ended(), "detach {r:?}, handle ended {}", h.has_ended());
    });
}

fn order(then: impl FnOnce(&Connection, &Handle, &Room)) -> Vec<String> {
    let (_s, url) = echo_server();
    let got = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let g = got.clone();
    let ws = connect(&url, move |_: &Connection, m: Message<'_>| {
        g.borrow_mut().push(m.to_string());
        Ok(())
    })
    .unwrap();
    let (h, room) = (ws.handle(), Room::new());
    room.join(&ws);
    then(&ws, &h, &room);
    wait_until(Some(Duration::from_secs(1)), || got.borrow().len() == 3).unwrap();
    got.take()
}
/// One thread, a room and a message in parts
#[test]
fn parts_keep_their_place_before_what_a_room_sends() {
    let got = order(|_, h, room| {
        let mut p = h.start_text();
        p.send("1").unwrap();
        p.finish().unwrap();
        room.send("2");
        h.send("3").unwrap();
    });
    assert_eq!(got, ["1", "2", "3"]);
}
/// And behind
#[test]
fn parts_keep_their_place_behind_what_a_room_sends() {
    let got = order(|_, h, room| {
        room.send("1");
        let mut p = h.start_text();
        p.send("2").unwrap();
        p.finish().unwrap();
        h.send("3").unwrap();
    });
    assert_eq!(got, ["1", "2", "3"]);
}
/// One thread, one connection: parts, then the connection's own send
#[test]
fn parts_keep_their_place_before_the_connections_own_messages() {
    let got = order(|ws, h, _| {
        let mut p = h.start_text();
        p.send("1").unwrap();
        p.finish().unwrap();
        ws.send("2").unwrap();
        ws.send("3").unwrap();
    });
    assert_eq!(got, ["1", "2", "3"]);
}
