//! Receivers beside the listener of one connection, on any thread.

use std::sync::mpsc;
use std::thread;

use crate::common::peer::{Host, PING, PONG, TEXT};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{elsewhere, pair, serving_handles};
use crate::common::{PATIENCE, bounded, ignore, patient};
use threadwire::messages::{Backlog, Messages, WhenBehind};
use threadwire::worker::{Worker, block_on};
use threadwire::{CloseCode, Connection, Error, Handle, Message, blocking, update, wait_until};

fn at_most(messages: usize, when_behind: WhenBehind) -> Backlog {
    Backlog::default().messages(messages).when_behind(when_behind)
}

/// The texts of the next messages.
fn texts(messages: &mut Messages, count: usize) -> Vec<String> {
    (0..count).map(|_| messages.recv().unwrap().unwrap().to_string()).collect()
}

/// Gives this thread's loop so many turns that all that lies in its sockets is read, if it is to be.
fn turn() {
    (0..20).for_each(|_| update().unwrap());
}

/// Waits until the listener of this thread has heard this.
fn hear(log: &Log, text: &str) {
    wait_until(None, || log.calls().contains(&Call::text(text))).unwrap();
}

#[test]
fn each_receiver_and_the_listener_get_each_message_in_order() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let mut messages = ws.handle().messages(Backlog::default());
                thread::spawn(move || {
                    let texts: Vec<_> = messages.iter().map(|message| message.unwrap().to_string()).collect();
                    assert!(messages.recv().unwrap().is_none(), "the end stays");
                    texts
                })
            })
            .collect();
        let expected: Vec<_> = (0..500).map(|number| number.to_string()).collect();
        let sending = thread::spawn({
            let expected = expected.clone();
            move || {
                expected.iter().for_each(|text| peer.send(TEXT, text.as_bytes()));
                peer.close(1000, "");
                assert_eq!(peer.code(), 1000);
            }
        });
        ws.wait_closed().unwrap();
        sending.join().unwrap();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), expected);
        }
        let heard =
            log.calls().into_iter().filter(|call| expected.iter().any(|text| *call == Call::text(text)));
        assert_eq!(heard.count(), expected.len());
    });
}

#[test]
fn filters_tell_topics_apart() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let topic = |name: &'static str| {
            let is_of = move |message: &Message<'_>| message.as_text().unwrap().starts_with(name);
            ws.handle().messages_where(Backlog::default(), is_of)
        };
        let (mut trades, mut quotes) = (topic("trade"), topic("quote"));
        for text in ["trade 1", "quote 1", "hello", "trade 2", "quote 2"] {
            peer.send(TEXT, text.as_bytes());
        }
        assert_eq!(texts(&mut quotes, 2), ["quote 1", "quote 2"]);
        assert_eq!(texts(&mut trades, 2), ["trade 1", "trade 2"]);
        assert!(trades.try_recv().unwrap_err().is_timeout());
    });
}

/// Asks with a number, and waits for the answer that has it.
fn ask(handle: &Handle, number: usize) -> String {
    let mut answers = handle.messages_where(Backlog::default(), move |message| {
        message.as_text() == Some(number.to_string().as_str())
    });
    handle.send(&number.to_string()).unwrap();
    answers.recv_timeout(PATIENCE).unwrap().unwrap().to_string()
}

#[test]
fn threads_ask_and_are_answered_on_one_connection() {
    bounded(|| {
        let (serving, _handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut ws = blocking::connect(&serving.url("/echo")).unwrap();
        let handle = ws.handle();
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let handle = handle.clone();
                thread::spawn(move || {
                    for number in (0..50).map(|round| round * 8 + thread) {
                        assert_eq!(ask(&handle, number), number.to_string());
                    }
                })
            })
            .collect();
        // The connection's own receiver, on its own face, gets them all.
        for _ in 0..400 {
            assert!(ws.recv().unwrap().is_some());
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn one_that_is_behind_holds_the_connection_until_it_receives() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        let mut slow = ws.handle().messages(at_most(2, WhenBehind::Hold));
        peer.send(TEXT, b"1");
        peer.send(TEXT, b"2");
        hear(&log, "2");
        peer.send(TEXT, b"3");
        peer.send(PING, b"4");
        turn();
        assert_eq!(slow.len(), 2);
        assert!(!log.calls().contains(&Call::text("3")), "nothing more is read");
        assert!(!ws.is_reading_paused(), "that is the program's own");
        assert_eq!(texts(&mut slow, 3), ["1", "2", "3"]);
        turn();
        assert_eq!(peer.frame(), (PONG, b"4".to_vec()));
        assert_eq!((slow.dropped(), slow.is_empty()), (0, true));
    });
}

#[test]
fn the_programs_own_pause_and_a_hold_are_two_things() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        let mut slow = ws.handle().messages(at_most(1, WhenBehind::Hold));
        peer.send(TEXT, b"1");
        hear(&log, "1");
        peer.send(TEXT, b"2");
        ws.pause_reading();
        assert_eq!(texts(&mut slow, 1), ["1"]);
        turn();
        assert!(slow.is_empty(), "it is still paused");
        ws.resume_reading();
        hear(&log, "2");
        // Now it is held again, and the program's call does not change that.
        peer.send(TEXT, b"3");
        ws.resume_reading();
        turn();
        assert_eq!(slow.len(), 1);
        assert_eq!(texts(&mut slow, 2), ["2", "3"]);
    });
}

#[test]
fn one_that_is_behind_by_bytes_holds_the_connection() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        let mut slow = ws.handle().messages(Backlog::default().bytes(100));
        peer.send(TEXT, &[b'x'; 300]);
        wait_until(None, || log.calls().len() > 1).unwrap();
        peer.send(TEXT, b"next");
        turn();
        assert_eq!(slow.len(), 1);
        assert_eq!(slow.recv().unwrap().unwrap().len(), 300);
        assert_eq!(texts(&mut slow, 1), ["next"]);
        drop(ws);
    });
}

#[test]
fn one_that_goes_away_holds_nobody() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        let idle = ws.handle().messages(at_most(1, WhenBehind::Hold));
        let mut other = ws.handle().messages(Backlog::default());
        peer.send(TEXT, b"1");
        hear(&log, "1");
        peer.send(TEXT, b"2");
        turn();
        assert_eq!(other.len(), 1);
        elsewhere(move || drop(idle));
        assert_eq!(texts(&mut other, 2), ["1", "2"]);
    });
}

#[test]
fn closing_ends_a_hold() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        let mut idle = ws.handle().messages(at_most(1, WhenBehind::Hold));
        peer.send(TEXT, b"1");
        hear(&log, "1");
        ws.close().unwrap();
        let peer = thread::spawn(move || {
            assert_eq!(peer.code(), 1000);
            peer.close(1000, "");
        });
        ws.wait_closed().unwrap();
        peer.join().unwrap();
        assert_eq!(texts(&mut idle, 1), ["1"]);
        assert!(idle.recv().unwrap().is_none());
        assert!(idle.closed().unwrap().clean);
    });
}

#[test]
fn one_that_only_wants_the_newest_loses_the_oldest_and_knows_how_many() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        let mut newest = ws.handle().messages(at_most(2, WhenBehind::DropOldest));
        for number in 0..10 {
            peer.send(TEXT, number.to_string().as_bytes());
        }
        hear(&log, "9");
        assert_eq!((newest.dropped(), texts(&mut newest, 2)), (8, vec!["8".to_owned(), "9".to_owned()]));
    });
}

#[test]
fn an_end_that_is_not_normal_is_an_error_once_and_comes_last() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let mut messages = ws.handle().messages(Backlog::default());
        peer.send(TEXT, b"last words");
        peer.close(1011, "a bug");
        let peer = thread::spawn(move || assert_eq!(peer.code(), 1011));
        assert_eq!(messages.recv().unwrap().unwrap(), "last words");
        match messages.recv() {
            Err(Error::Ended(closed)) => assert_eq!(closed.code, CloseCode::INTERNAL_ERROR),
            other => panic!("{other:?}"),
        }
        assert!(messages.recv().unwrap().is_none());
        assert!(messages.try_recv().unwrap().is_none());
        assert!(block_on(messages.recv_async()).unwrap().unwrap().is_none());
        peer.join().unwrap();

        let mut late = ws.handle().messages(Backlog::default());
        assert!(matches!(late.recv(), Err(Error::Ended(_))), "too late is told the same");
        let handle = ws.handle();
        elsewhere(move || assert!(handle.messages(Backlog::default()).recv().is_err()));
    });
}

#[test]
fn a_worker_that_is_stopped_stops_receiving() {
    bounded(|| {
        let (ws, _peer) = pair(patient(), &Log::new());
        let mut messages = ws.handle().messages(Backlog::default());
        let (begun, begins) = mpsc::channel();
        let worker: Worker<()> = Worker::spawn(move || {
            begun.send(()).unwrap();
            match messages.recv() {
                Err(Error::Stopped) => Err(threadwire::Stopped),
                other => panic!("{other:?}"),
            }
        });
        begins.recv().unwrap();
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
    });
}

#[test]
fn a_receive_that_is_dropped_has_lost_nothing() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let mut messages = ws.handle().messages(Backlog::default());
        for _ in 0..3 {
            let mut receive = Box::pin(messages.recv_async());
            let polled =
                block_on(std::future::poll_fn(|cx| std::task::Poll::Ready(receive.as_mut().poll(cx))));
            assert!(polled.unwrap().is_pending());
        }
        peer.send(TEXT, b"still there");
        assert_eq!(block_on(messages.recv_async()).unwrap().unwrap().unwrap(), "still there");
        drop(ws);
    });
}

#[test]
fn a_connection_that_moves_takes_its_receivers_along() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| host.upgrade(b""));
        let mut ws = blocking::connect(&url).unwrap();
        let mut peer = host.join().unwrap();
        let mut messages = ws.handle().messages(at_most(1, WhenBehind::Hold));
        peer.send(TEXT, b"1");
        assert_eq!(ws.recv().unwrap().unwrap(), "1");
        peer.send(TEXT, b"2");
        let moving = ws.detach().unwrap();
        // Reading is held, and is freed while the connection is on no thread.
        assert_eq!(texts(&mut messages, 1), ["1"]);
        let thread = thread::spawn(move || {
            let mut ws = moving.attach().unwrap();
            let message = ws.recv().unwrap().unwrap();
            (message, ws.close())
        });
        assert_eq!(texts(&mut messages, 1), ["2"]);
        assert_eq!(peer.code(), 1000);
        peer.close(1000, "");
        peer.end();
        let (message, closed) = thread.join().unwrap();
        assert_eq!(message, "2");
        assert!(closed.unwrap().clean && messages.recv().unwrap().is_none());
    });
}

#[test]
fn a_filter_that_panics_closes_the_connection_as_a_callback_does() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        let mut messages = ws.handle().messages_where(Backlog::default(), |_| panic!("no"));
        peer.send(TEXT, b"1");
        assert!(update().is_ok());
        turn();
        assert_eq!(peer.code(), 1011);
        peer.close(1011, "");
        peer.end();
        assert!(
            matches!(messages.recv(), Err(Error::Ended(closed)) if matches!(closed.error, Some(Error::Panicked(_))))
        );
    });
}

#[test]
fn a_filter_may_use_the_connection() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        let counts = handle.clone();
        let mut messages = handle.messages_where(Backlog::default(), move |message| {
            let more = counts.messages(Backlog::default());
            counts.send("seen").unwrap();
            drop(more);
            message.as_text() != Some("1")
        });
        peer.send(TEXT, b"1");
        peer.send(TEXT, b"2");
        assert_eq!(texts(&mut messages, 1), ["2"]);
        turn();
        assert_eq!((peer.text(), peer.text()), ("seen".to_owned(), "seen".to_owned()));
    });
}

#[test]
fn one_that_receives_in_a_timer_of_the_connections_own_thread_is_served() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let mut messages = ws.handle().messages(Backlog::default());
        let same: Connection = ws.clone();
        let (give, given) = mpsc::channel();
        threadwire::worker::later(std::time::Duration::ZERO, move || {
            give.send(messages.recv().unwrap().unwrap().to_string()).unwrap();
            same.abort();
        });
        peer.send(TEXT, b"inside");
        ws.wait_closed().unwrap();
        assert_eq!(given.recv().unwrap(), "inside");
    });
}
