//! Sends that wait for room inside of callbacks, for peers that take nothing: they give their callbacks back, and are few.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::peer::{Host, Peer, TEXT, frame, masked};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{elsewhere, fill_there, pair, pair_with, serving_handles};
use crate::common::{Bystander, SOON, Serving, bind, bounded, echo, patient};
use threadwire::app::App;
use threadwire::error::LimitKind;
use threadwire::worker::{EventLoop, later};
use threadwire::{
    CloseCode, Config, Connection, Error, Initiator, Message, Reply, WhenFull, blocking, update, wait_until,
};

/// What a connection is answered with, for each message of two bytes.
const ANSWER: usize = 20 << 10;
const LIMIT: usize = 256 << 10;

/// A peer that takes nothing is given up soon.
fn waiting() -> Config {
    patient().when_full(WhenFull::Wait).max_buffered(LIMIT).wait_timeout(SOON).close_timeout(SOON)
}

/// 64 KB of requests.
fn requests(masks: bool) -> Vec<u8> {
    match masks {
        true => masked(TEXT, b"hi").repeat(8192),
        false => frame(TEXT, false, b"hi").repeat(16 << 10),
    }
}

/// How many sends of a thread wait at a time, and have at most.
#[derive(Clone, Default)]
struct Waits {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Waits {
    fn answer(&self, ws: &Connection) -> Result<(), Error> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let sent = ws.send(&vec![7; ANSWER]);
        self.now.fetch_sub(1, Ordering::SeqCst);
        sent
    }

    fn assert_few(&self) {
        let most = self.most.load(Ordering::SeqCst);
        // One more is in a callback, and refused.
        assert!((2..=9).contains(&most), "{most} callbacks waited");
    }
}

fn assert_too_slow(log: &Log, peers: usize) {
    log.wait(|calls| calls.iter().filter(|call| matches!(call, Call::Closed(_))).count() == peers);
    for call in log.calls() {
        if let Call::Closed(end) = call {
            // The peer does not read the close frame either, so that is not clean.
            assert_eq!((end.initiator, end.clean), (Initiator::Local, false), "{end:?}");
        }
    }
}

fn is_limit<T: std::fmt::Debug>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Limit(error)) if error.kind == LimitKind::Buffered)
}

#[test]
fn peers_that_read_nothing_do_not_freeze_a_server_whose_callbacks_wait_for_room() {
    bounded(|| {
        const PEERS: usize = EventLoop::MAX_NESTING + 8;
        let (log, waits) = (Log::new(), Waits::default());
        let (theirs, answers) = (log.clone(), waits.clone());
        let serving = Serving::with(bind().config(waiting()), move |request| match request.path() {
            "/echo" => Reply::with(echo),
            _ => {
                let waits = answers.clone();
                Reply::with(theirs.listener(move |ws, call| match call {
                    Call::Text(_) => waits.answer(ws),
                    _ => Ok(()),
                }))
            }
        });
        let bystander: Bystander = serving.bystander();
        let mut peers: Vec<Peer> = (0..PEERS).map(|_| serving.peer()).collect();
        for peer in &mut peers {
            peer.bytes(requests(true));
            // Somebody who comes now is served, too.
            let mut newcomer = Peer::open(serving.addr, "/echo");
            newcomer.send(TEXT, b"there?");
            assert_eq!(newcomer.text(), "there?");
        }
        assert_too_slow(&log, PEERS);
        bystander.noticed_nothing();
        waits.assert_few();
    });
}

#[test]
fn nor_a_thread_with_clients() {
    bounded(|| {
        const PEERS: usize = EventLoop::MAX_NESTING + 8;
        let (log, waits) = (Log::new(), Waits::default());
        let mut clients: Vec<(Connection, Peer)> = (0..PEERS)
            .map(|_| {
                let waits = waits.clone();
                pair_with(
                    waiting(),
                    log.listener(move |ws, call| match call {
                        Call::Text(_) => waits.answer(ws),
                        _ => Ok(()),
                    }),
                )
            })
            .collect();
        for (_, peer) in &mut clients {
            peer.bytes(requests(false));
        }
        wait_until(None, || clients.iter().all(|(ws, _)| ws.has_ended())).unwrap();
        assert_too_slow(&log, PEERS);
        waits.assert_few();
    });
}

#[test]
fn a_peer_that_takes_something_now_and_then_is_waited_for() {
    bounded(|| {
        let log = Log::new();
        let sent = Rc::new(RefCell::new(None));
        let sends = Rc::clone(&sent);
        let host = Host::listen();
        let url = host.url();
        let reader = host.run(|host| {
            let mut peer = host.upgrade(&frame(TEXT, false, b"hi"));
            let count = (8 << 20) / ANSWER;
            for number in 0..count {
                peer.brief(0);
                if number % 16 == 0 {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let config = waiting().wait_timeout(Duration::from_secs(20));
        let listener = log.listener(move |ws, call| {
            if let Call::Text(_) = call {
                let result = (0..(8 << 20) / ANSWER).try_for_each(|_| ws.send(&vec![7; ANSWER]));
                *sends.borrow_mut() = Some(result);
            }
            Ok(())
        });
        let ws = threadwire::Client::new(&url).unwrap().config(config).connect(listener).unwrap();
        wait_until(None, || sent.borrow().is_some()).unwrap();
        sent.take().unwrap().unwrap();
        ws.wait_closed().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn outside_of_callbacks_a_send_waits_on() {
    bounded(|| {
        let (ws, mut peer) = pair(waiting().wait_timeout(Duration::ZERO), &Log::new());
        while ws.buffered() < LIMIT / 2 {
            ws.send(&vec![7; ANSWER]).unwrap();
            ws.flush();
        }
        let reader = thread::spawn(move || {
            thread::sleep(SOON);
            while peer.brief(0).1 == ANSWER {}
        });
        (0..20).for_each(|_| ws.send(&vec![7; ANSWER]).unwrap());
        ws.close().unwrap();
        wait_until(None, || ws.buffered() == 0).unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn a_callback_that_waits_for_another_connection_gets_that_closed() {
    bounded(|| {
        let (serving, handles) =
            serving_handles(waiting().max_buffered(64 << 20), &Log::new(), |_, _| Ok(()));
        let _peer = serving.peer();
        let handle = handles.recv().unwrap();
        fill_there(&handle);
        let same = handle.clone();
        let results = elsewhere(move || {
            let results = Rc::new(RefCell::new(Vec::new()));
            let (notes, handle) = (Rc::clone(&results), same.clone());
            later(Duration::ZERO, move || {
                let drained = handle.wait_drained();
                notes.borrow_mut().push(drained);
            });
            let (notes, handle) = (Rc::clone(&results), same);
            later(SOON, move || {
                let sent = handle.send_with(&vec![0; 63 << 20], WhenFull::Wait);
                notes.borrow_mut().push(sent);
            });
            wait_until(None, || results.borrow().len() == 2).unwrap();
            results.take()
        });
        assert!(results.iter().any(is_limit), "{results:?}");
        let closed = handle.wait_closed().unwrap();
        assert_eq!((closed.initiator, closed.clean), (Initiator::Local, false));
    });
}

#[test]
fn a_blocking_connection_is_waited_for_in_a_callback_as_long() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| host.upgrade(b""));
        let client = threadwire::Client::new(&url).unwrap().config(waiting());
        let ws = Rc::new(RefCell::new(blocking::connect(&client).unwrap()));
        let _peer = host.join().unwrap();
        let sent = Rc::new(Cell::new(None));
        let (same, sends) = (Rc::clone(&ws), Rc::clone(&sent));
        later(Duration::ZERO, move || {
            let result = (0..).find_map(|_| same.borrow_mut().send(&vec![7; ANSWER]).err());
            sends.set(Some(Result::<(), Error>::Err(result.unwrap())));
        });
        let mut result = None;
        wait_until(None, || {
            result = sent.take();
            result.is_some()
        })
        .unwrap();
        assert!(is_limit(&result.unwrap()));
        assert!(!ws.borrow().is_open());
    });
}

#[test]
fn an_app_goes_on_when_its_server_takes_nothing() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| host.upgrade(&requests(false)));
        let client = threadwire::Client::new(&url).unwrap().config(waiting());
        let mut app = App::new(&client).unwrap().on_message(|ws, _: Message<'_>| ws.send(&vec![7; ANSWER]));
        let Err(Error::Ended(closed)) = app.run_forever() else { panic!("it ended well") };
        assert!(matches!(closed.error, Some(Error::Limit(_))), "{closed}");
        assert_ne!(closed.code, CloseCode::NORMAL);
        host.join().unwrap();
        update().unwrap();
    });
}
