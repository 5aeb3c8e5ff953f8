//! Waiting callbacks: a connection waits for its own callback, and everything else goes on.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::common::peer::{BINARY, Host, PING, PONG, Peer, TEXT, masked, request};
use crate::common::recorder::{Call, End, Log};
use crate::common::{SOON, Serving, bind, bounded, echo, patient};
use threadwire::frame::OpCode;
use threadwire::worker::EventLoop;
use threadwire::{Connection, Error, Initiator, Message, Reply, connect, sleep, wait_until};

/// The gate that callbacks wait for. A message to `/open` opens it, so from within the waiting loop.
#[derive(Clone, Default)]
struct Gate(Arc<AtomicBool>);

impl Gate {
    fn wait(&self) -> Result<(), Error> {
        wait_until(None, || self.0.load(Ordering::SeqCst))?;
        Ok(())
    }

    fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A server on one worker, where callbacks can wait for gates: a message to `/gate/N` opens the Nth.
struct Hall {
    serving: Serving,
    log: Log,
}

impl Hall {
    fn new<F>(gates: usize, react: F) -> Hall
    where
        F: Fn(&[Gate], &Log, &Connection, &Call) -> Result<(), Error> + Clone + Send + Sync + 'static,
    {
        let gates: Vec<Gate> = (0..gates).map(|_| Gate::default()).collect();
        let log = Log::new();
        let theirs = log.clone();
        let serving = Serving::with(bind().config(patient()), move |request| {
            if let Some(number) = request.path().strip_prefix("/gate/") {
                let gate = gates[number.parse::<usize>().unwrap()].clone();
                return Reply::with(move |ws: &Connection, message: Message<'_>| {
                    gate.open();
                    ws.send(message)
                });
            }
            if request.path() == "/echo" {
                return Reply::with(echo);
            }
            let (gates, log, react) = (gates.clone(), theirs.clone(), react.clone());
            let notes = log.clone();
            Reply::with(log.listener(move |ws, call| react(&gates, &notes, ws, call)))
        });
        Hall { serving, log }
    }

    /// Opens a gate, and waits until it is.
    fn open(&self, number: usize) {
        let mut peer = Peer::open(self.serving.addr, &format!("/gate/{number}"));
        peer.send(TEXT, b"open");
        assert_eq!(peer.text(), "open");
    }

    /// Lets the server's loop deal with all that was sent to it before.
    fn settle(&self) {
        for _ in 0..2 {
            let mut peer = Peer::open(self.serving.addr, "/echo");
            peer.send(TEXT, b"through");
            assert_eq!(peer.text(), "through");
        }
    }
}

/// Waits where a message says so, and answers before and after.
fn wait_when_told(gates: &[Gate], log: &Log, ws: &Connection, call: &Call) -> Result<(), Error> {
    let Call::Text(text) = call else { return Ok(()) };
    match text.strip_prefix("wait ") {
        Some(number) => {
            let gate = &gates[number.parse::<usize>().unwrap()];
            ws.send("waiting")?;
            gate.wait()?;
            log.note(&format!("{number} waited"));
            ws.send("waited")
        }
        None => ws.send(text.as_str()),
    }
}

#[test]
fn what_comes_for_a_waiting_callback_comes_in_order_when_it_returns() {
    bounded(|| {
        let hall = Hall::new(1, wait_when_told);
        let mut peer = hall.serving.peer();
        peer.send(TEXT, b"wait 0");
        assert_eq!(peer.text(), "waiting");
        for text in ["one", "two", "three"] {
            peer.send(TEXT, text.as_bytes());
            hall.settle();
        }
        assert_eq!(hall.log.calls(), [Call::Open, Call::text("wait 0")], "it was not entered again");
        assert!(peer.is_silent());
        hall.open(0);
        for text in ["waited", "one", "two", "three"] {
            assert_eq!(peer.text(), text);
        }
    });
}

#[test]
fn what_was_read_together_with_what_waits_comes_after_it() {
    bounded(|| {
        let hall = Hall::new(1, wait_when_told);
        let mut peer = hall.serving.peer();
        let texts = ["zero", "wait 0", "one", "two"];
        peer.bytes(texts.map(|text| masked(TEXT, text.as_bytes())).concat());
        assert_eq!(peer.text(), "zero", "earlier replies leave before it waits");
        assert_eq!(peer.text(), "waiting");
        // More comes behind it, some of it in pieces.
        let three = masked(TEXT, b"three");
        peer.bytes(&three[..4]);
        hall.settle();
        peer.bytes(&three[4..]);
        hall.settle();
        assert!(peer.is_silent());
        hall.open(0);
        for text in ["waited", "one", "two", "three"] {
            assert_eq!(peer.text(), text);
        }
    });
}

#[test]
fn what_came_with_the_handshake_waits_for_on_open() {
    bounded(|| {
        let hall = Hall::new(1, |gates, _, ws, call| match call {
            Call::Open => {
                ws.send("opening")?;
                gates[0].wait()?;
                ws.send("opened")
            }
            Call::Text(text) => ws.send(text.as_str()),
            _ => Ok(()),
        });
        let mut peer = Peer::connect(hall.serving.addr);
        peer.bytes([request("/").into_bytes(), masked(TEXT, b"early")].concat());
        assert!(peer.head().starts_with("HTTP/1.1 101 "), "the answer leaves before it waits");
        assert_eq!(peer.text(), "opening");
        peer.send(TEXT, b"later");
        hall.settle();
        assert!(peer.is_silent());
        hall.open(0);
        for text in ["opened", "early", "later"] {
            assert_eq!(peer.text(), text);
        }
    });
}

#[test]
fn others_go_on_while_a_callback_waits() {
    bounded(|| {
        let hall = Hall::new(1, wait_when_told);
        let bystander = hall.serving.bystander();
        let mut peer = hall.serving.peer();
        peer.send(TEXT, b"wait 0");
        assert_eq!(peer.text(), "waiting");
        bystander.noticed_nothing();
        let mut other = hall.serving.peer();
        other.send(PING, b"there?");
        assert_eq!(other.frame(), (PONG, b"there?".to_vec()));
        other.close(1000, "");
        assert_eq!(other.code(), 1000);
        assert!(other.ended_orderly());
        hall.open(0);
        assert_eq!(peer.text(), "waited");
    });
}

#[test]
fn a_callback_may_sleep() {
    bounded(|| {
        let hall = Hall::new(0, |_, _, ws, call| {
            if let Call::Text(_) = call {
                ws.send("before")?;
                sleep(Duration::from_millis(2))?;
                ws.send("after")?;
            }
            Ok(())
        });
        let mut peer = hall.serving.peer();
        for _ in 0..3 {
            peer.send(TEXT, b"go");
        }
        for _ in 0..3 {
            assert_eq!(peer.text(), "before");
            assert_eq!(peer.text(), "after");
        }
    });
}

#[test]
fn a_callback_may_connect_to_its_own_thread() {
    bounded(|| {
        let addr = Arc::new(std::sync::OnceLock::new());
        let known = Arc::clone(&addr);
        let hall = Hall::new(0, move |_, _, ws, call| {
            if let Call::Text(text) = call {
                let heard = Rc::new(RefCell::new(None));
                let hears = Rc::clone(&heard);
                // The server's end of this connection lives on this very thread.
                let url = format!("ws://{}/echo", known.get().unwrap());
                let inner = connect(&url, move |ws: &Connection, message: Message<'_>| {
                    *hears.borrow_mut() = Some(message.to_string());
                    ws.close()
                })?;
                inner.send(&format!("{text}, twice"))?;
                wait_until(None, || !inner.is_open() && heard.borrow().is_some())?;
                ws.send(heard.take().unwrap().as_str())?;
            }
            Ok(())
        });
        addr.set(hall.serving.addr).unwrap();
        let mut peer = hall.serving.peer();
        peer.send(TEXT, b"once");
        assert_eq!(peer.text(), "once, twice");
    });
}

#[test]
fn nested_waits_end_last_in_first_out() {
    bounded(|| {
        let hall = Hall::new(3, wait_when_told);
        let mut peers: Vec<Peer> = (0..3).map(|_| hall.serving.peer()).collect();
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.send(TEXT, format!("wait {number}").as_bytes());
            assert_eq!(peer.text(), "waiting");
        }
        hall.open(0);
        hall.open(1);
        hall.settle();
        for peer in &mut peers {
            assert!(peer.is_silent(), "the outer waits are due, but the innermost still waits");
        }
        hall.open(2);
        for peer in &mut peers {
            assert_eq!(peer.text(), "waited");
        }
        let notes = hall.log.calls().into_iter().filter_map(|call| match call {
            Call::Note(text) => Some(text),
            _ => None,
        });
        assert_eq!(notes.collect::<Vec<_>>(), ["2 waited", "1 waited", "0 waited"]);
    });
}

#[test]
fn waits_nest_to_the_limit_and_the_loop_recovers() {
    bounded(|| {
        const PEERS: usize = EventLoop::MAX_NESTING + 8;
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let gate = Gate::default();
        let hall = Hall::new(0, {
            let (inside, most, gate) = (Arc::clone(&inside), Arc::clone(&most), gate.clone());
            move |_, _, ws, call| {
                if let Call::Text(text) = call {
                    let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    // Too deep for callbacks, time still passes.
                    while !gate.0.load(Ordering::SeqCst) {
                        sleep(Duration::from_millis(1))?;
                    }
                    inside.fetch_sub(1, Ordering::SeqCst);
                    ws.send(text.as_str())?;
                }
                Ok(())
            }
        });
        let mut peers: Vec<Peer> = (0..PEERS).map(|_| hall.serving.peer()).collect();
        for peer in &mut peers {
            peer.send(TEXT, b"down");
        }
        let entered = |calls: &[Call]| calls.iter().filter(|call| **call == Call::text("down")).count();
        hall.log.wait(|calls| entered(calls) == EventLoop::MAX_NESTING);
        gate.open();
        for peer in &mut peers {
            assert_eq!(peer.text(), "down");
        }
        assert_eq!(most.load(Ordering::SeqCst), EventLoop::MAX_NESTING);
        // Nothing is left of it.
        hall.settle();
        for peer in &mut peers {
            peer.send(TEXT, b"again");
            assert_eq!(peer.text(), "again");
        }
    });
}

#[test]
fn at_the_limit_output_still_leaves() {
    bounded(|| {
        let gate = Gate::default();
        let hall = Hall::new(0, {
            let gate = gate.clone();
            move |_, _, ws, call| {
                if let Call::Text(_) = call {
                    // More than the sockets hold, so that it has to be written when there is room again.
                    ws.send("down")?;
                    ws.send(&vec![1; 8 << 20])?;
                    while !gate.0.load(Ordering::SeqCst) {
                        sleep(Duration::from_millis(1))?;
                    }
                }
                Ok(())
            }
        });
        let mut peers: Vec<Peer> = (0..EventLoop::MAX_NESTING).map(|_| hall.serving.peer()).collect();
        for peer in &mut peers {
            peer.send(TEXT, b"down");
            assert_eq!(peer.text(), "down");
        }
        let mut last = peers.pop().unwrap();
        let (first, payload) = last.frame();
        assert_eq!((first, payload.len()), (BINARY, 8 << 20));
        gate.open();
    });
}

#[test]
fn a_stop_ends_all_nested_waits_and_closes_with_1001() {
    bounded(|| {
        let hall = Hall::new(1, |gates, log, ws, call| {
            if let Call::Text(text) = call {
                ws.send("waiting")?;
                let waited = gates[0].wait();
                assert!(matches!(waited, Err(Error::Stopped)));
                // So do those that begin now.
                assert!(sleep(Duration::ZERO).is_err());
                log.note(text);
                waited?;
            }
            Ok(())
        });
        let mut peers: Vec<Peer> = (0..4).map(|_| hall.serving.peer()).collect();
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.send(TEXT, number.to_string().as_bytes());
            assert_eq!(peer.text(), "waiting");
            // Comes too late to be heard.
            peer.send(TEXT, b"too late");
        }
        let Hall { serving, log } = hall;
        let running = serving.into_running();
        running.stop();
        for peer in &mut peers {
            assert_eq!(peer.closed(), (1001, String::new()));
            peer.close(1001, "");
            assert!(peer.ended_orderly());
        }
        running.join().unwrap();
        let calls = log.calls();
        let notes: Vec<_> = calls.iter().filter(|call| matches!(call, Call::Note(_))).collect();
        assert_eq!(
            notes,
            ["3", "2", "1", "0"].map(|text| Call::Note(text.to_owned())).iter().collect::<Vec<_>>()
        );
        let end = End::failed(Initiator::Local, 1001, true, "the worker was asked to stop");
        assert_eq!(calls.iter().filter(|call| **call == Call::Closed(end.clone())).count(), 4);
        assert!(!calls.contains(&Call::text("too late")));
    });
}

#[test]
fn a_connection_that_is_lost_while_its_callback_waits_ends_when_that_returns() {
    for resets in [false, true] {
        bounded(move || {
            let hall = Hall::new(1, |gates, log, _, call| {
                if let Call::Text(_) = call {
                    gates[0].wait()?;
                    log.note("returned");
                }
                Ok(())
            });
            let mut peer = hall.serving.peer();
            peer.send(TEXT, b"wait");
            hall.log.wait_for(&Call::text("wait"));
            if resets {
                peer.reset()
            } else {
                drop(peer)
            }
            hall.settle();
            assert_eq!(hall.log.ends(), 0);
            hall.open(0);
            let end = hall.log.wait_end();
            assert_eq!((end.code, end.initiator, end.clean), (1006, Initiator::Peer, false));
            assert_eq!(hall.log.calls()[2], Call::Note("returned".to_owned()));
        });
    }
}

#[test]
fn a_connection_that_is_aborted_while_its_callback_waits_ends_when_that_returns() {
    bounded(|| {
        let hall = Hall::new(1, |gates, log, ws, call| {
            if let Call::Text(_) = call {
                ws.abort();
                gates[0].wait()?;
                log.note("returned");
                assert!(matches!(ws.send("late"), Err(Error::Closed)));
            }
            Ok(())
        });
        let mut peer = hall.serving.peer();
        peer.bytes([masked(TEXT, b"wait"), masked(TEXT, b"unheard")].concat());
        assert!(peer.ended(), "TCP ends at once");
        hall.settle();
        assert_eq!(hall.log.ends(), 0);
        hall.open(0);
        let end = hall.log.wait_end();
        assert_eq!((end.code, end.initiator, end.clean, end.error), (1006, Initiator::Local, false, None));
        assert_eq!(
            hall.log.calls()[..3],
            [Call::Open, Call::text("wait"), Call::Note("returned".to_owned())]
        );
    });
}

#[test]
fn a_close_frame_of_a_callback_leaves_before_it_waits() {
    bounded(|| {
        let hall = Hall::new(1, |gates, _, ws, call| {
            if let Call::Text(_) = call {
                ws.close()?;
                gates[0].wait()?;
            }
            Ok(())
        });
        let mut peer = hall.serving.peer();
        peer.send(TEXT, b"close");
        assert_eq!(peer.code(), 1000);
        peer.close(1000, "");
        hall.settle();
        assert_eq!(hall.log.ends(), 0);
        hall.open(0);
        assert!(peer.ended_orderly());
        assert_eq!(hall.log.wait_end(), End::clean(Initiator::Local, 1000, ""));
    });
}

#[test]
fn others_may_send_through_a_connection_whose_callback_waits() {
    bounded(|| {
        let hall = Hall::new(1, |gates, _, ws, call| {
            if let Call::Text(_) = call {
                let timer = ws.clone();
                EventLoop::current().after(Duration::ZERO, move || {
                    timer.send("from a timer").unwrap();
                    timer.send(&vec![2; 50_000]).unwrap();
                });
                gates[0].wait()?;
                ws.send("from the callback")?;
            }
            Ok(())
        });
        let mut peer = hall.serving.peer();
        peer.send(TEXT, b"wait");
        assert_eq!(peer.text(), "from a timer");
        assert_eq!(peer.frame(), (BINARY, vec![2; 50_000]));
        hall.open(0);
        assert_eq!(peer.text(), "from the callback");
    });
}

#[test]
fn on_close_may_wait() {
    bounded(|| {
        let hall = Hall::new(1, |gates, log, _, call| {
            if let Call::Closed(_) = call {
                gates[0].wait()?;
                log.note("returned");
            }
            Ok(())
        });
        let mut peer = hall.serving.peer();
        peer.close(1000, "");
        assert_eq!(peer.code(), 1000);
        assert!(peer.ended_orderly(), "TCP has ended before");
        hall.settle();
        hall.open(0);
        let calls = hall.log.wait_for(&Call::Note("returned".to_owned()));
        assert_eq!(calls.len(), 3);
        assert_eq!(hall.log.ends(), 1);
    });
}

#[test]
fn a_ping_read_together_with_what_waits_is_answered_before_it_waits() {
    bounded(|| {
        let gate = Arc::new(AtomicBool::new(false));
        let opened = Arc::clone(&gate);
        let serving = Serving::recording(patient(), &Log::new(), move |_, call| {
            if matches!(call, Call::Text(_)) {
                while !opened.load(Ordering::SeqCst) {
                    sleep(Duration::from_millis(1))?;
                }
            }
            Ok(())
        });
        let mut peer = serving.peer();
        peer.bytes([masked(PING, b"there?"), masked(TEXT, b"wait")].concat());
        assert_eq!(peer.frame(), (PONG, b"there?".to_vec()));
        gate.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_close_frame_is_answered_before_on_frame_waits() {
    bounded(|| {
        let gate = Arc::new(AtomicBool::new(false));
        let opened = Arc::clone(&gate);
        let serving = Serving::recording(patient(), &Log::new(), move |_, call| {
            if matches!(call, Call::Frame(OpCode::Close, ..)) {
                while !opened.load(Ordering::SeqCst) {
                    sleep(Duration::from_millis(1))?;
                }
            }
            Ok(())
        });
        let mut peer = Peer::open(serving.addr, "/frames");
        peer.close(1000, "");
        assert_eq!(peer.code(), 1000);
        gate.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_peer_that_answered_in_time_is_not_accused_of_being_late() {
    bounded(|| {
        let log = Log::new();
        let config = patient().close_timeout(SOON);
        let serving = Serving::recording(config, &log, |ws, call| {
            if matches!(call, Call::Text(_)) {
                ws.close()?;
                sleep(2 * SOON)?;
            }
            Ok(())
        });
        let mut peer = serving.peer();
        peer.send(TEXT, b"close");
        assert_eq!(peer.code(), 1000);
        peer.close(1000, "");
        assert_eq!(log.wait_end(), End::clean(Initiator::Local, 1000, ""));
    });
}

#[test]
fn on_close_is_not_called_deeper_than_the_limit() {
    bounded(|| {
        let serving = Serving::with(bind().config(patient()), |_| Reply::with(echo));
        thread_local! {
            static DEPTH: Cell<usize> = const { Cell::new(0) };
            static MOST: Cell<usize> = const { Cell::new(0) };
        }
        fn deeper(ws: Connection) {
            DEPTH.set(DEPTH.get() + 1);
            MOST.set(MOST.get().max(DEPTH.get()));
            let next = ws.clone();
            if DEPTH.get() == EventLoop::MAX_NESTING {
                ws.abort();
            } else {
                EventLoop::current().after(Duration::ZERO, move || deeper(next));
            }
            sleep(Duration::from_millis(1)).unwrap();
            DEPTH.set(DEPTH.get() - 1);
        }
        let log = Log::new();
        let ws = connect(
            &serving.url("/"),
            log.listener(|_, call| {
                if matches!(call, Call::Closed(_)) {
                    MOST.set(MOST.get().max(DEPTH.get() + 1));
                }
                Ok(())
            }),
        )
        .unwrap();
        EventLoop::current().after(Duration::ZERO, move || deeper(ws));
        wait_until(None, || log.end().is_some() && DEPTH.get() == 0).unwrap();
        assert_eq!(MOST.get(), EventLoop::MAX_NESTING);
    });
}

#[test]
fn an_accept_hook_may_wait_and_what_comes_meanwhile_is_not_lost() {
    bounded(|| {
        let gate = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        let opened = Arc::clone(&gate);
        let serving = Serving::with(bind().config(patient()), move |request| {
            if request.path() == "/slow" {
                tell.send(()).unwrap();
                while !opened.load(Ordering::SeqCst) {
                    sleep(Duration::from_millis(1)).unwrap();
                }
            }
            Reply::with(echo)
        });
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(request("/slow"));
        told.recv().unwrap();
        peer.bytes(masked(TEXT, b"early"));
        // The loop has seen it: others are served behind it.
        let mut other = serving.peer();
        other.send(TEXT, b"meanwhile");
        assert_eq!(other.text(), "meanwhile");
        gate.store(true, Ordering::SeqCst);
        assert!(peer.head().starts_with("HTTP/1.1 101 "));
        assert_eq!(peer.text(), "early");
    });
}

#[test]
fn an_accept_hook_that_waits_longer_than_a_handshake_may_take_is_dropped() {
    bounded(|| {
        let config = patient().open_timeout(SOON);
        let serving = Serving::with(bind().config(config), |_| {
            sleep(2 * SOON).unwrap();
            Reply::with(echo)
        });
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(request("/"));
        assert!(peer.ended());
    });
}

#[test]
fn the_answer_to_the_handshake_leaves_before_on_open_waits() {
    bounded(|| {
        let gate = Arc::new(AtomicBool::new(false));
        let opened = Arc::clone(&gate);
        let serving = Serving::recording(patient(), &Log::new(), move |_, call| {
            while matches!(call, Call::Open) && !opened.load(Ordering::SeqCst) {
                sleep(Duration::from_millis(1))?;
            }
            Ok(())
        });
        let peer = serving.peer();
        gate.store(true, Ordering::SeqCst);
        drop(peer);
    });
}

#[test]
fn what_was_sent_leaves_with_a_wait_that_has_nothing_to_wait_for() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| assert_eq!(host.upgrade(b"").text(), "hello"));
        let ws = connect(&url, echo).unwrap();
        ws.send("hello").unwrap();
        assert!(wait_until(None, || true).unwrap());
        host.join().unwrap();
    });
}
