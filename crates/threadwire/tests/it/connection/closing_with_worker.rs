//! Closing with a worker: stops, ends and panics of workers, threads and servers close their connections.

use super::closing::obey;
use crate::common::peer::{CLOSE, Host, Peer, TEXT, farewell};
use crate::common::recorder::{Call, End, Log};
use crate::common::{PATIENCE, SOON, Serving, bind, bounded, echo, ignore, patient};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use threadwire::worker::{Ended, EventLoop, Worker};
use threadwire::{Client, Error, Initiator, Reply, blocking, wait_forever};

#[test]
fn a_thread_that_ends_says_goodbye_and_sends_what_was_to_be_sent() {
    bounded(|| {
        let log = Log::new();
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.upgrade(b"");
            assert_eq!(peer.text(), "last words");
            assert_eq!(peer.code(), 1001);
            assert!(peer.ended());
        });
        let theirs = log.clone();
        let thread = std::thread::spawn(move || {
            let ws = Client::new(&url).unwrap().connect(theirs.listener(ignore)).unwrap();
            ws.send("last words").unwrap();
        });
        thread.join().unwrap();
        host.join().unwrap();
        // The code that the peer was told; nobody waits for its answer.
        let end = End { clean: false, ..End::clean(Initiator::Local, 1001, "") };
        assert_eq!(log.calls(), [Call::Open, Call::Closed(end)]);
    });
}

#[test]
fn a_worker_that_stops_closes_its_connections_with_1001() {
    bounded(|| {
        let log = Log::new();
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peers = [host.upgrade(b""), host.upgrade(b"")];
            for peer in &mut peers {
                assert_eq!(peer.closed(), (1001, String::new()));
                peer.close(1001, "");
            }
        });
        let theirs = log.clone();
        let worker = Worker::spawn(move || {
            for _ in 0..2 {
                Client::new(&url).unwrap().connect(theirs.listener(ignore)).unwrap();
            }
            wait_forever()
        });
        log.wait(|calls| calls.len() == 2);
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
        let end = Call::Closed(End::clean(Initiator::Local, 1001, ""));
        assert_eq!(log.calls(), [Call::Open, Call::Open, end.clone(), end]);
        host.join().unwrap();
    });
}

#[test]
fn a_worker_that_comes_to_its_end_closes_its_connections_with_1001() {
    bounded(|| {
        let log = Log::new();
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.upgrade(b"");
            assert_eq!(peer.text(), "one thing more");
            assert_eq!(peer.closed(), (1001, String::new()));
            peer.close(1001, "");
        });
        let theirs = log.clone();
        let worker = Worker::spawn(move || {
            let ws = Client::new(&url).unwrap().connect(theirs.listener(ignore)).unwrap();
            ws.send("one thing more").unwrap();
            Ok(42)
        });
        assert_eq!(worker.join().unwrap().done(), Some(42));
        assert_eq!(log.calls(), [Call::Open, Call::Closed(End::clean(Initiator::Local, 1001, ""))]);
        host.join().unwrap();
    });
}

#[test]
fn a_worker_that_panics_closes_its_connections_with_1001() {
    bounded(|| {
        let log = Log::new();
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.upgrade(b"");
            assert_eq!(peer.closed(), (1001, String::new()));
            peer.close(1001, "");
        });
        let theirs = log.clone();
        let worker = Worker::<()>::spawn(move || {
            Client::new(&url).unwrap().connect(theirs.listener(ignore)).unwrap();
            panic!("boom");
        });
        assert!(matches!(worker.join().unwrap(), Ended::Panicked(_)));
        assert_eq!(log.calls(), [Call::Open, Call::Closed(End::clean(Initiator::Local, 1001, ""))]);
        host.join().unwrap();
    });
}

#[test]
fn a_worker_whose_task_returns_the_error_of_a_connection_gives_it_to_whoever_joins_and_a_stop_is_one() {
    bounded(|| {
        let refused = Worker::spawn_fallible(|| {
            let number: u16 = "0".parse()?;
            let _ws = blocking::connect(format!("ws://127.0.0.1:{number}"))?;
            Ok(())
        });
        let ended = refused.join().unwrap();
        assert!(matches!(&ended, Ended::Failed(error) if error.is::<Error>()), "{ended:?}");

        let host = Host::listen();
        let url = host.url();
        let (tell, is_open) = mpsc::channel();
        let host = host.run(|host| assert_eq!(host.upgrade(b"").code(), 1001));
        let stopped = Worker::spawn_fallible(move || {
            let mut ws = blocking::connect(url)?;
            tell.send(())?;
            loop {
                ws.recv()?;
            }
        });
        is_open.recv().unwrap();
        stopped.stop();
        assert!(Worker::<()>::join(stopped).unwrap().was_stopped());
        host.join().unwrap();
    });
}

#[test]
fn a_server_that_stops_closes_every_connection_with_1001() {
    bounded(|| {
        let log = Log::new();
        let theirs = log.clone();
        let serving =
            Serving::with(bind().workers(2).config(patient()), move |_| Reply::with(theirs.listener(ignore)));
        // One never gets beyond its handshake. It is accepted before those that come after it.
        let mut unfinished = Peer::connect(serving.addr);
        let mut peers: Vec<Peer> = (0..5).map(|_| serving.peer()).collect();
        let addr = serving.addr;
        let running = serving.into_running();
        running.stop();
        for peer in &mut peers {
            assert_eq!(peer.closed(), (1001, String::new()));
            peer.close(1001, "");
            assert!(peer.ended_orderly());
        }
        assert!(unfinished.ended());
        running.join().unwrap();
        assert_eq!(log.ends(), 5);
        let end = End::clean(Initiator::Local, 1001, "");
        assert!(log.calls().iter().all(|call| *call == Call::Open || *call == Call::Closed(end.clone())));
        assert!(std::net::TcpStream::connect(addr).is_err(), "nobody listens there any more");
    });
}

#[test]
fn a_server_stops_in_bounded_time_though_its_peers_never_answer() {
    bounded(|| {
        let log = Log::new();
        let config = patient().close_timeout(SOON);
        let theirs = log.clone();
        let serving =
            Serving::with(bind().workers(2).config(config), move |_| Reply::with(theirs.listener(ignore)));
        let mut peers: Vec<Peer> = (0..5).map(|_| serving.peer()).collect();
        let running = serving.into_running();
        let start = Instant::now();
        running.stop();
        running.join().unwrap();
        assert!(start.elapsed() >= SOON, "they had their time");
        assert!(start.elapsed() < PATIENCE / 2);
        assert_eq!(log.ends(), 5);
        for call in log.calls() {
            let Call::Closed(end) = call else { continue };
            assert_eq!((end.code, end.clean, end.initiator), (1006, false, Initiator::Local));
        }
        for peer in &mut peers {
            assert_eq!(peer.code(), 1001);
            assert!(peer.ended());
        }
    });
}

#[test]
fn stopping_does_not_begin_again_what_is_closing_already() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, obey);
        let mut peer = serving.peer();
        peer.send(TEXT, b"close");
        assert_eq!(peer.code(), 4000);
        let running = serving.into_running();
        running.stop();
        peer.close(4000, "");
        assert!(peer.ended_orderly(), "there is no second close frame");
        running.join().unwrap();
        assert_eq!(log.wait_end(), End::clean(Initiator::Local, 4000, "done"));
    });
}

#[test]
fn a_client_started_while_the_worker_ends_does_not_hold_it_up() {
    bounded(|| {
        let serving = Serving::recording(patient(), &Log::new(), ignore);
        let url = serving.url("/echo");
        let log = Log::new();
        let theirs = log.clone();
        let worker = Worker::builder()
            .grace(PATIENCE / 2)
            .spawn(move || {
                let again = Client::new(&url).unwrap();
                let (next, second) = (again.clone(), theirs.clone());
                again
                    .connect(theirs.listener(move |_, call| {
                        if let Call::Closed(_) = call {
                            next.start(second.listener(ignore)).unwrap();
                        }
                        Ok(())
                    }))
                    .unwrap();
                wait_forever()
            })
            .unwrap();
        log.wait_for(&Call::Open);
        let start = Instant::now();
        worker.stop();
        worker.join().unwrap();
        assert!(start.elapsed() < PATIENCE / 4, "it took {:?}: {:?}", start.elapsed(), log.calls());
    });
}

#[test]
fn a_panic_in_a_last_call_does_not_keep_connections_from_being_closed() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.upgrade(b"");
            assert_eq!(peer.frame_or_end(), Some((CLOSE, farewell(1001, ""))));
            peer.close(1001, "");
        });
        let log = Log::new();
        let theirs = log.clone();
        let worker = Worker::spawn(move || {
            Client::new(&url).unwrap().connect(theirs.listener(ignore)).unwrap();
            EventLoop::current().remote().post(|_| panic!("boom")).unwrap();
            Ok(())
        });
        worker.join().unwrap();
        host.join().unwrap();
        assert_eq!(log.wait_end(), End::clean(Initiator::Local, 1001, ""));
    });
}

#[test]
fn a_peer_that_never_answers_at_a_stop_is_told_as_a_timeout() {
    bounded(|| {
        let log = Log::new();
        let (go, goes) = mpsc::channel::<()>();
        let goes = Arc::new(Mutex::new(goes));
        let notes = log.clone();
        let serving = Serving::recording(patient().close_timeout(SOON), &log, move |_, call| {
            if matches!(call, Call::Text(_)) {
                // Done at the end, before the sources are told to stop.
                EventLoop::current().remote().post(|_| std::thread::sleep(SOON / 2)).unwrap();
                notes.note("posted");
                goes.lock().unwrap().recv().unwrap();
            }
            Ok(())
        });
        let mut peer = serving.peer();
        peer.send(TEXT, b"go");
        log.wait_for(&Call::Note("posted".to_owned()));
        let running = serving.into_running();
        running.stop();
        go.send(()).unwrap();
        running.join().unwrap();
        let error = "the peer's answer to our close frame took too long";
        assert_eq!(log.wait_end(), End::failed(Initiator::Local, 1006, false, error));
    });
}

#[test]
fn a_client_that_closes_as_its_last_act_is_heard_with_its_own_code() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| assert_eq!(host.upgrade(b"").code(), 1000));
        std::thread::spawn(move || Client::new(&url).unwrap().connect(echo).unwrap().close().unwrap())
            .join()
            .unwrap();
        host.join().unwrap();
    });
}
