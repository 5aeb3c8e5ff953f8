//! Handles on other threads: all that they do, and their end with the connection.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::common::peer::{BINARY, CLOSE, PING, PONG, TEXT, farewell};
use crate::common::recorder::{Call, End, Log};
use crate::common::sharing::{
    Halt, drain, elsewhere, fill_there, meanwhile, pair, pair_with, serving_handles, there,
};
use crate::common::{bounded, ignore, patient};
use threadwire::error::SendError;
use threadwire::worker::{Worker, current};
use threadwire::{CloseCode, Closed, Connection, Error, Handle, Initiator, Listener, wait_until};

#[test]
fn a_handle_is_for_every_thread() {
    fn is_for_all<T: Clone + Send + Sync + 'static>() {}
    is_for_all::<Handle>();
}

#[test]
fn sends_pings_and_closes_from_another_thread() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        let handle = ws.handle();
        elsewhere(move || {
            handle.send("text").unwrap();
            handle.send(b"bytes").unwrap();
            handle.ping(b"ping").unwrap();
            handle.pong(b"pong").unwrap();
            handle.send("").unwrap();
            handle.close_with(CloseCode::new(4000), "enough").unwrap();
        });
        let reader = thread::spawn(move || {
            let expected = [
                (TEXT, b"text".to_vec()),
                (BINARY, b"bytes".to_vec()),
                (PING, b"ping".to_vec()),
                (PONG, b"pong".to_vec()),
                (TEXT, Vec::new()),
                (CLOSE, farewell(4000, "enough")),
            ];
            for frame in expected {
                assert_eq!(peer.frame(), frame);
            }
            peer.close(4000, "");
            peer.end();
        });
        ws.wait_closed().unwrap();
        reader.join().unwrap();
        assert_eq!(log.calls(), [Call::Open, Call::Closed(End::clean(Initiator::Local, 4000, "enough"))]);
    });
}

#[test]
fn a_sleeping_loop_is_woken_by_each_call() {
    bounded(|| {
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        // The answer to each is awaited: the loop has nothing else to do, and sleeps.
        handle.send("text").unwrap();
        assert_eq!(peer.text(), "text");
        handle.ping(b"ping").unwrap();
        assert_eq!(peer.frame(), (PING, b"ping".to_vec()));
        handle.run(|ws| ws.send("ran").unwrap());
        assert_eq!(peer.text(), "ran");
        let mut parts = handle.start_text();
        parts.send("part").unwrap();
        assert_eq!(peer.frame(), (0x01, b"part".to_vec()));
        parts.finish().unwrap();
        assert_eq!(peer.frame(), (0x80, Vec::new()));
        handle.close().unwrap();
        assert_eq!(peer.closed(), (1000, String::new()));
        peer.close(1000, "");
        assert!(peer.ended());
        assert_eq!(log.wait_end(), End::clean(Initiator::Local, 1000, ""));
    });
}

#[test]
fn an_abort_from_another_thread_ends_tcp_and_tells_the_listener_1006() {
    bounded(|| {
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        handle.abort();
        assert!(peer.ended());
        let closed = handle.wait_closed().unwrap();
        assert_eq!((closed.code, closed.clean), (CloseCode::ABNORMAL, false));
        assert_eq!(log.ends(), 1);
        assert!(matches!(handle.send("too late"), Err(Error::Closed)));
    });
}

#[test]
fn what_must_not_be_sent_is_refused_at_once() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        elsewhere(move || {
            let long = [0; 126];
            for refused in [handle.ping(&long), handle.pong(&long)] {
                let Err(Error::Send(SendError::ControlTooLong { length: 126, .. })) = refused else {
                    panic!("{refused:?}");
                };
            }
            assert!(matches!(handle.close_with(CloseCode::ABNORMAL, ""), Err(Error::Send(_))));
            assert!(handle.is_open());
            handle.send("unharmed").unwrap();
        });
        ws.handle().wait_drained().unwrap();
        assert_eq!(peer.text(), "unharmed");
        assert!(peer.is_silent());
    });
}

#[test]
fn all_handles_of_a_connection_are_one() {
    bounded(|| {
        let (ws, _peer) = pair(patient(), &Log::new());
        let (other, _other_peer) = pair(patient(), &Log::new());
        let handles = [ws.handle(), ws.clone().handle(), ws.handle().clone(), other.handle()];
        assert_eq!(handles.iter().collect::<HashSet<_>>().len(), 2);
        assert_ne!(ws.handle().id(), other.handle().id());
        assert_eq!(ws.handle().id(), ws.handle().id());
        assert!(format!("{:?}", ws.handle()).contains("is_open: true"));
        assert_eq!(ws.handle().worker().unwrap(), current());
    });
}

#[test]
fn dropping_the_last_handle_closes_nothing() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        elsewhere(move || {
            handle.send("and gone").unwrap();
            drop(handle);
        });
        drop(ws.handle());
        ws.handle().wait_drained().unwrap();
        assert_eq!(peer.text(), "and gone");
        assert!(peer.is_silent() && ws.is_open());
    });
}

#[test]
fn a_call_runs_on_the_connections_thread_and_with_that_connection() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peers = [serving.peer(), serving.peer()];
        let handles = [handles.recv().unwrap(), handles.recv().unwrap()];
        for (peer, handle) in peers.iter_mut().zip(&handles) {
            let handle = handle.clone();
            let is_there = there(&handle.clone(), move |ws| {
                ws.send("mine").unwrap();
                handle.worker().unwrap().is_current() && ws.handle() == handle
            });
            assert!(is_there);
            assert_eq!(peer.text(), "mine");
            assert!(peer.is_silent());
        }
    });
}

#[test]
fn a_call_on_the_own_thread_runs_at_once() {
    bounded(|| {
        let (ws, _peer) = pair(patient(), &Log::new());
        let (ran, runs) = mpsc::channel();
        ws.handle().run(move |ws| ran.send(ws.is_open()).unwrap());
        assert_eq!(runs.try_recv(), Ok(true));
    });
}

#[test]
fn a_call_that_panics_hurts_nobody() {
    bounded(|| {
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        let bystander = serving.bystander();
        let (halt, reached, go) = Halt::new();
        handle.run(move |_| halt.here());
        reached.recv().unwrap();
        // All of them together.
        handle.run(|ws| ws.send("before").unwrap());
        handle.run(|_| panic!("a call of the test"));
        handle.run(|_| panic!("and another"));
        handle.send("after").unwrap();
        go.send(()).unwrap();
        assert_eq!(peer.text(), "before");
        assert_eq!(peer.text(), "after");
        assert!(there(&handle, |ws| ws.is_open()));
        bystander.noticed_nothing();
        assert_eq!(log.ends(), 0);
    });
}

#[test]
fn a_call_that_waits_holds_nobody_up() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        let go = Arc::new(AtomicUsize::new(0));
        let goes = Arc::clone(&go);
        let (waiting, waits) = mpsc::channel();
        handle.run(move |ws| {
            waiting.send(()).unwrap();
            wait_until(None, || goes.load(Ordering::SeqCst) == 1).unwrap();
            ws.send("it goes on").unwrap();
        });
        waits.recv().unwrap();
        handle.send("meanwhile").unwrap();
        assert_eq!(peer.text(), "meanwhile");
        assert!(there(&handle, |ws| ws.is_open()));
        go.store(1, Ordering::SeqCst);
        handle.worker().unwrap().wake();
        assert_eq!(peer.text(), "it goes on");
    });
}

#[test]
fn sends_after_a_close_fail_on_every_handle() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let (handle, same) = (ws.handle(), ws.handle());
        elsewhere(move || {
            handle.send("before").unwrap();
            handle.close().unwrap();
            assert!(matches!(handle.send("after"), Err(Error::Closed)));
            assert!(matches!(handle.ping(b""), Err(Error::Closed)));
            assert!(matches!(handle.start_text().send("after"), Err(Error::Closed)));
            assert!(!handle.is_open() && !handle.has_ended());
            handle.close_with(CloseCode::GOING_AWAY, "once is enough").unwrap();
        });
        assert!(matches!(same.send("after"), Err(Error::Closed)));
        let reader = thread::spawn(move || {
            assert_eq!(peer.text(), "before");
            assert_eq!(peer.closed(), (1000, String::new()));
            peer.close(1000, "");
            peer.end();
            assert!(peer.ended());
        });
        ws.wait_closed().unwrap();
        reader.join().unwrap();
        assert!(same.has_ended());
    });
}

#[test]
fn a_handle_learns_of_a_close_by_the_peer() {
    bounded(|| {
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        assert!(handle.is_open() && handle.closed().is_none());
        peer.close(4001, "bye");
        let closed = handle.wait_closed().unwrap();
        assert_eq!((closed.code.get(), closed.reason.as_str()), (4001, "bye"));
        assert_eq!((closed.initiator, closed.clean), (Initiator::Peer, true));
        // `wait_closed` returns after `on_close`.
        assert_eq!(log.end(), Some(End::clean(Initiator::Peer, 4001, "bye")));
        assert!(handle.has_ended() && !handle.is_open());
        assert!(Arc::ptr_eq(&closed, &handle.closed().unwrap()));
        assert!(matches!(handle.send(""), Err(Error::Closed)));
        assert!(matches!(handle.ping(b""), Err(Error::Closed)));
        assert_eq!(handle.buffered(), 0);
        handle.close().unwrap();
        handle.abort();
        handle.run(|_| panic!("nothing is run any more"));
        handle.wait_drained().unwrap();
        assert!(handle.wait_closed().unwrap().clean);
    });
}

#[test]
fn a_handle_tells_what_went_wrong() {
    bounded(|| {
        let react = |_: &Connection, call: &Call| match call {
            Call::Text(_) => Err(Error::other("of the test")),
            _ => Ok(()),
        };
        let (serving, handles) = serving_handles(patient(), &Log::new(), react);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        peer.send(TEXT, b"fail");
        assert_eq!(peer.code(), 1011);
        peer.close(1011, "");
        let closed = handle.wait_closed().unwrap();
        assert_eq!(closed.error.as_ref().map(Error::to_string).as_deref(), Some("of the test"));
    });
}

#[test]
fn waits_for_the_end_on_every_kind_of_thread() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        let (waiting, waits) = mpsc::channel();
        let wait = |handle: Handle| {
            let (waiting, log) = (waiting.clone(), log.clone());
            move || {
                waiting.send(()).unwrap();
                let closed = handle.wait_closed()?;
                assert_eq!(log.ends(), 1, "on_close was called before");
                Ok(closed.code.get())
            }
        };
        let native = thread::spawn(wait(ws.handle()));
        let worker = {
            let work = wait(ws.handle());
            Worker::spawn(move || Ok(work().map_err(|error: Error| error.to_string())))
        };
        for _ in 0..2 {
            waits.recv().unwrap();
        }
        let closing = ws.handle();
        meanwhile(move || closing.close().unwrap());
        let reader = thread::spawn(move || {
            assert_eq!(peer.code(), 1000);
            peer.close(1000, "");
            peer.end();
        });
        // And on the connection's own.
        assert_eq!(wait(ws.handle())().unwrap(), 1000);
        assert_eq!(native.join().unwrap().unwrap(), 1000);
        assert_eq!(worker.join().unwrap().done(), Some(Ok(1000)));
        reader.join().unwrap();
    });
}

#[test]
fn waits_until_all_is_written_on_every_kind_of_thread() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        let count = fill_there(&handle);
        let (waiting, waits) = mpsc::channel();
        let read = Arc::new(AtomicUsize::new(0));
        let wait = |handle: Handle| {
            let (waiting, read) = (waiting.clone(), Arc::clone(&read));
            move || {
                handle.send(&[1; 64 << 10])?;
                assert!(handle.buffered() > 0);
                waiting.send(()).unwrap();
                handle.wait_drained()?;
                assert!(read.load(Ordering::SeqCst) > 0, "the peer has read nothing yet");
                assert_eq!(handle.buffered(), 0);
                Ok(())
            }
        };
        let own = {
            let (work, waiting) = (wait(handle.clone()), mpsc::channel());
            // Not on this thread, which reads: on the connection's.
            handle.run(move |_| waiting.0.send(work()).unwrap());
            waiting.1
        };
        waits.recv().unwrap();
        let native = thread::spawn(wait(handle.clone()));
        let worker = {
            let work = wait(handle.clone());
            Worker::spawn(move || Ok(work().map_err(|error: Error| error.to_string())))
        };
        for _ in 0..2 {
            waits.recv().unwrap();
        }
        read.store(1, Ordering::SeqCst);
        drain(&mut peer, count + 3);
        native.join().unwrap().unwrap();
        assert_eq!(worker.join().unwrap().done(), Some(Ok(())));
        own.recv().unwrap().unwrap();
    });
}

#[test]
fn waits_end_with_the_stop_of_their_own_worker() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let _peer = serving.peer();
        let handle = handles.recv().unwrap();
        fill_there(&handle);
        for is_for_end in [true, false] {
            let handle = handle.clone();
            let (waiting, waits) = mpsc::channel();
            let worker = Worker::spawn(move || {
                waiting.send(()).unwrap();
                let waited = if is_for_end { handle.wait_closed().map(drop) } else { handle.wait_drained() };
                assert!(matches!(waited, Err(Error::Stopped)), "{waited:?}");
                Ok(())
            });
            waits.recv().unwrap();
            worker.stop();
            assert_eq!(worker.join().unwrap().done(), Some(()));
        }
        assert!(handle.is_open());
    });
}

#[test]
fn what_waits_for_room_ends_with_the_connection() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let peer = serving.peer();
        let handle = handles.recv().unwrap();
        fill_there(&handle);
        let (waiting, waits) = mpsc::channel();
        let same = handle.clone();
        let thread = thread::spawn(move || {
            waiting.send(()).unwrap();
            same.wait_drained().unwrap();
            assert!(!same.wait_closed().unwrap().clean);
        });
        waits.recv().unwrap();
        peer.reset();
        thread.join().unwrap();
    });
}

/// Takes a handle when it is told of its end.
#[derive(Clone, Default)]
struct Late(Rc<RefCell<Option<Handle>>>);

impl Listener for Late {
    fn on_close(&mut self, ws: &Connection, _closed: &Closed) {
        *self.0.borrow_mut() = Some(ws.handle());
    }
}

#[test]
fn a_handle_may_be_taken_in_on_close_and_after_the_end() {
    bounded(|| {
        let late = Late::default();
        let (ws, mut peer) = pair_with(patient(), late.clone());
        peer.close(4002, "bye");
        peer.end();
        ws.wait_closed().unwrap();
        let in_on_close = late.0.borrow_mut().take().unwrap();
        let (same, after) = (ws.handle(), pair(patient(), &Log::new()).0);
        after.abort();
        after.wait_closed().unwrap();
        assert_eq!(in_on_close, same);
        for (handle, code) in [(in_on_close, 4002), (after.handle(), 1006)] {
            elsewhere(move || {
                assert!(handle.has_ended() && !handle.is_open());
                assert!(matches!(handle.send("too late"), Err(Error::Closed)));
                assert_eq!(handle.wait_closed().unwrap().code.get(), code);
                handle.wait_drained().unwrap();
                handle.run(|_| panic!("nothing is run any more"));
            });
        }
    });
}

#[test]
fn a_handle_taken_while_the_connection_lingers_says_that_it_has_ended() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        // A broken rule: the listener is told at once, while TCP goes on until the peer ends it.
        peer.bytes([0xff, 0x00]);
        wait_until(None, || log.ends() == 1).unwrap();
        assert!(!ws.has_ended());
        let handle = ws.handle();
        assert!(handle.has_ended());
        assert!(matches!(handle.send("too late"), Err(Error::Closed)));
        assert_eq!(elsewhere(move || handle.wait_closed().unwrap().code.get()), 1002);
        peer.end();
        ws.wait_closed().unwrap();
        assert_eq!(ws.handle().closed().unwrap().code.get(), 1002);
        assert_eq!(log.ends(), 1);
    });
}

#[test]
fn a_handle_taken_while_closing_sends_nothing_and_learns_of_the_end() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        ws.close().unwrap();
        let handle = ws.handle();
        assert!(!handle.is_open() && !handle.has_ended());
        assert!(matches!(handle.send("too late"), Err(Error::Closed)));
        let reader = thread::spawn(move || {
            assert_eq!(peer.code(), 1000);
            peer.close(1000, "");
            peer.end();
        });
        assert!(handle.wait_closed().unwrap().clean);
        reader.join().unwrap();
    });
}

#[test]
fn stopping_a_worker_closes_with_1001_though_there_are_handles() {
    bounded(|| {
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        let running = serving.into_running();
        running.stop();
        assert_eq!(peer.closed(), (1001, String::new()));
        peer.close(1001, "");
        assert!(peer.ended());
        running.join().unwrap();
        // The worker is gone, and the handle knows all.
        assert_eq!(handle.wait_closed().unwrap().code.get(), 1001);
        assert!(matches!(handle.send("too late"), Err(Error::Closed)));
        handle.run(|_| panic!("nothing is run any more"));
        handle.close().unwrap();
        handle.wait_drained().unwrap();
        assert_eq!(log.ends(), 1);
    });
}

#[test]
fn a_handle_outlives_a_thread_that_ends_with_its_connection_open() {
    bounded(|| {
        for is_worker in [true, false] {
            let log = Log::new();
            let (give, given) = mpsc::channel();
            let heard = log.clone();
            let (halt, reached, go) = Halt::new();
            let work = move || {
                let (ws, peer) = pair(patient().close_timeout(crate::common::SOON), &heard);
                give.send((ws.handle(), peer)).unwrap();
                halt.here();
            };
            let thread = thread::spawn(move || {
                if is_worker {
                    drop(Worker::builder().run(|| {
                        work();
                        Ok(())
                    }))
                } else {
                    work()
                }
            });
            let (handle, mut peer) = given.recv().unwrap();
            reached.recv().unwrap();
            let waiter = handle.clone();
            let waiter = thread::spawn(move || waiter.wait_closed().unwrap().code.get());
            handle.send("left behind").unwrap();
            go.send(()).unwrap();
            thread.join().unwrap();
            assert!(waiter.join().unwrap() >= 1001);
            assert!(handle.has_ended());
            assert!(matches!(handle.send("too late"), Err(Error::Closed)));
            while peer.frame_or_end().is_some() {}
            assert_eq!(log.ends(), 1);
        }
    });
}

#[test]
fn what_is_captured_by_calls_that_never_run_is_dropped() {
    bounded(|| {
        let (ws, peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        let kept = Arc::new(());
        let captured = Arc::clone(&kept);
        let sender = handle.clone();
        ws.abort();
        elsewhere(move || {
            // Taken up, but only when the connection has ended.
            sender.run(|ws| assert!(!ws.is_open()));
            sender.run(move |_| drop(captured));
        });
        drop(peer);
        ws.wait_closed().unwrap();
        assert_eq!(Arc::strong_count(&kept), 1);
        let captured = Arc::clone(&kept);
        elsewhere(move || handle.run(move |_| drop(captured)));
        assert_eq!(Arc::strong_count(&kept), 1);
    });
}

#[test]
fn handles_of_a_hundred_connections_reach_each_its_own() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), |ws, call| match call {
            Call::Text(text) => {
                let (handle, text) = (ws.handle(), text.clone());
                thread::spawn(move || handle.send(&*text).unwrap());
                Ok(())
            }
            _ => Ok(()),
        });
        // Twice, so that places are used again.
        for _ in 0..2 {
            let mut peers: Vec<_> = (0..50).map(|_| serving.peer()).collect();
            for (number, peer) in peers.iter_mut().enumerate() {
                peer.send(TEXT, number.to_string().as_bytes());
            }
            for (number, peer) in peers.iter_mut().enumerate() {
                assert_eq!(peer.text(), number.to_string());
                peer.close(1000, "");
                assert_eq!(peer.code(), 1000);
            }
            for handle in handles.iter().take(50) {
                handle.wait_closed().unwrap();
            }
        }
    });
}

#[test]
fn a_message_goes_from_worker_to_worker_by_handles() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        let workers: Vec<_> = (0..4u8)
            .map(|number| {
                let handle = handle.clone();
                Worker::spawn(move || {
                    handle.send(&[number]).unwrap();
                    Ok(())
                })
            })
            .collect();
        let mut came: Vec<_> = (0..4).map(|_| peer.frame().1[0]).collect();
        came.sort();
        assert_eq!(came, [0, 1, 2, 3]);
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

#[test]
fn a_handle_sends_while_the_listener_of_its_connection_waits() {
    bounded(|| {
        let go = Arc::new(AtomicUsize::new(0));
        let goes = Arc::clone(&go);
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, move |ws, call| {
            if let Call::Text(_) = call {
                wait_until(None, || goes.load(Ordering::SeqCst) == 1)?;
                ws.send("it goes on")?;
            }
            Ok(())
        });
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        peer.send(TEXT, b"wait");
        log.wait_for(&Call::text("wait"));
        handle.send("meanwhile").unwrap();
        assert_eq!(peer.text(), "meanwhile");
        go.store(1, Ordering::SeqCst);
        handle.worker().unwrap().wake();
        assert_eq!(peer.text(), "it goes on");
    });
}
