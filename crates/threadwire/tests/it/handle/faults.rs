//! What was once wrong with handles and with the flow of messages, and must not come back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::common::peer::{BINARY, Peer, TEXT, masked};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{Halt, elsewhere, fill, meanwhile, pair, pair_with, serving_handles, there};
use crate::common::{Serving, bind, bounded, echo, patient};
use threadwire::{Accept, Closed, Config, Connection, Error, Listener, WhenFull, wait_until};

/// A handle whose connection has ended reaches another connection, whose handle has the same place.
#[test]
fn a_handle_of_an_ended_connection_reaches_no_other() {
    bounded(|| {
        let (first, mut peer) = pair(patient(), &Log::new());
        let old = first.handle();
        first.abort();
        first.wait_closed().unwrap();
        assert!(peer.ended());
        assert!(matches!(old.send("before"), Err(Error::Closed)));

        let (second, mut peer) = pair(patient(), &Log::new());
        let _new = second.handle();
        let sent = old.send("for the first one");
        let ran = Rc::new(Cell::new(false));
        old.close().unwrap();
        let _ = &ran;
        second.send("for the second one").ok();
        second.flush();
        assert_eq!(peer.text(), "for the second one");
        assert!(matches!(sent, Err(Error::Closed)));
        assert!(second.is_open());
    });
}

/// F: what comes while a call waits that has something behind it is never looked at.
#[test]
fn what_is_sent_while_a_call_waits_leaves_though_something_lay_behind_the_call() {
    bounded(|| {
        let (halt, reached, go) = Halt::new();
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, move |_, call| {
            if let Call::Text(_) = call {
                halt.here();
            }
            Ok(())
        });
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        peer.send(TEXT, b"halt");
        reached.recv().unwrap();
        let (waiting, waits) = mpsc::channel();
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        handle.run(move |_| {
            waiting.send(()).unwrap();
            wait_until(None, || is_done.load(Ordering::SeqCst)).unwrap();
        });
        handle.send("behind the call").unwrap();
        go.send(()).unwrap();
        waits.recv().unwrap();
        handle.send("while it waits").unwrap();
        assert_eq!(peer.text(), "behind the call");
        assert_eq!(peer.text(), "while it waits");
        done.store(true, Ordering::SeqCst);
        handle.worker().unwrap().wake();
        handle.send("after it").unwrap();
        assert_eq!(peer.text(), "after it");
    });
}

/// F2: x was sent with the same handle, after B.
#[test]
fn a_send_on_the_own_thread_within_a_call_does_not_overtake_what_lies_behind_the_call() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        let (inside, outside) = (handle.clone(), handle.clone());
        elsewhere(move || {
            outside.run(move |_| inside.send("second").unwrap());
            outside.send("first").unwrap();
        });
        handle.wait_drained().unwrap();
        assert_eq!(peer.text(), "first");
        assert_eq!(peer.text(), "second");
    });
}

/// F3: what lies behind a call that waits is not done inside of that wait, unless something else comes.
#[test]
fn what_lies_behind_a_call_that_waits_is_done_meanwhile() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        let (inside, outside) = (handle.clone(), handle.clone());
        elsewhere(move || {
            outside.run(move |_| inside.wait_drained().unwrap());
            outside.send("behind").unwrap();
        });
        handle.wait_drained().unwrap();
        assert_eq!(peer.text(), "behind");
    });
}

/// Nothing of it counts as waiting.
#[test]
fn wait_drained_waits_for_an_empty_message_too() {
    bounded(|| {
        let (halt, reached, go) = Halt::new();
        let (serving, handles) = serving_handles(patient(), &Log::new(), move |_, call| {
            if let Call::Text(_) = call {
                halt.here();
            }
            Ok(())
        });
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        peer.send(TEXT, b"halt");
        reached.recv().unwrap();
        handle.send("").unwrap();
        let gone = Rc::new(Cell::new(false));
        let goes = Rc::clone(&gone);
        meanwhile(move || {
            goes.set(true);
            go.send(()).unwrap();
        });
        handle.wait_drained().unwrap();
        let was_gone = gone.get();
        wait_until(None, || gone.get()).unwrap();
        assert!(was_gone, "it was not written yet");
        assert_eq!(peer.text(), "");
    });
}

/// What the owner has gathered is not known to others before its next write.
#[test]
fn wait_drained_waits_for_what_was_sent_on_the_own_thread() {
    bounded(|| {
        let (halt, reached, go) = Halt::new();
        let (serving, handles) = serving_handles(patient(), &Log::new(), move |ws, call| {
            if let Call::Text(_) = call {
                ws.handle().send("gathered")?;
                halt.here();
            }
            Ok(())
        });
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        peer.send(TEXT, b"halt");
        reached.recv().unwrap();
        let gone = Rc::new(Cell::new(false));
        let goes = Rc::clone(&gone);
        meanwhile(move || {
            goes.set(true);
            go.send(()).unwrap();
        });
        let buffered = handle.buffered();
        handle.wait_drained().unwrap();
        let was_gone = gone.get();
        wait_until(None, || gone.get()).unwrap();
        assert!(was_gone, "it was not written yet; buffered says {buffered}");
    });
}

#[test]
fn what_waits_behind_a_message_in_parts_is_bounded_where_the_oldest_are_dropped() {
    bounded(|| {
        let config = Config { max_buffered: 64 << 10, when_full: WhenFull::DropOldest, ..patient() };
        let (serving, handles) = serving_handles(config, &Log::new(), |_, _| Ok(()));
        let _peer = serving.peer();
        let handle = handles.recv().unwrap();
        let mut parts = handle.start_text();
        parts.send("begun").unwrap();
        for _ in 0..100 {
            handle.send(&[0; 16 << 10]).unwrap();
            there(&handle, |_| ());
        }
        let buffered = handle.buffered();
        assert!(buffered <= 128 << 10, "{buffered} bytes wait");
    });
}

#[test]
fn what_the_own_thread_sends_behind_a_message_in_parts_is_bounded() {
    bounded(|| {
        let (ws, _peer) = pair(Config { max_buffered: 64 << 10, ..patient() }, &Log::new());
        let handle = ws.handle();
        let mut parts = handle.start_text();
        parts.send("begun").unwrap();
        handle.wait_drained().unwrap();
        let refused = (0..100).find(|_| ws.send(&[0; 16 << 10]).is_err());
        assert!(refused.is_some(), "1600 KiB wait, {} KiB of them known", ws.buffered() >> 10);
    });
}

/// End_handles lets go of the place a second time.
#[test]
fn a_handle_first_taken_in_on_close_takes_no_place_from_another() {
    struct First(Connection);
    impl Listener for First {
        fn on_close(&mut self, ws: &Connection, _: &Closed) {
            assert!(!ws.handle().is_open());
            self.0.handle();
        }
    }
    bounded(|| {
        let (second, mut peer) = pair(patient(), &Log::new());
        let (first, _other) = pair_with(patient(), First(second.clone()));
        first.abort();
        first.wait_closed().unwrap();
        let handle = second.handle();
        let sender = handle.clone();
        elsewhere(move || sender.send("hello").unwrap());
        // A few turns: more than enough for what was posted.
        for _ in 0..8 {
            threadwire::update().unwrap();
        }
        second.send("after it").unwrap();
        second.flush();
        assert_eq!(peer.text(), "hello");
    });
}

/// Why it ended is told to `on_close` only.
#[test]
fn a_handle_taken_after_the_end_knows_why_the_connection_ended() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        peer.bytes([0xff, 0x00]);
        peer.end();
        ws.wait_closed().unwrap();
        assert!(log.wait_end().error.is_some());
        let closed = ws.handle().closed().unwrap();
        assert!(closed.error.is_some(), "{closed:?}");
    });
}

/// It is not told again when the callback has returned.
#[test]
fn resume_follows_a_pause_whose_callback_has_waited_until_all_was_written() {
    struct Waits(Rc<RefCell<Vec<&'static str>>>);
    impl Listener for Waits {
        fn on_pause_writing(&mut self, ws: &Connection) -> Result<(), Error> {
            self.0.borrow_mut().push("pause");
            Ok(wait_until(None, || ws.buffered() == 0).map(drop)?)
        }
        fn on_resume_writing(&mut self, _: &Connection) -> Result<(), Error> {
            self.0.borrow_mut().push("resume");
            Ok(())
        }
    }
    bounded(|| {
        let heard = Rc::default();
        let (ws, mut peer) = pair_with(patient(), Waits(Rc::clone(&heard)));
        let count = fill(&ws);
        ws.send(&[0; 128 << 10]).unwrap();
        let reader = thread::spawn(move || {
            for _ in 0..count + 1 {
                assert_eq!(peer.frame().0, BINARY);
            }
            peer
        });
        wait_until(None, || ws.buffered() == 0).unwrap();
        let _peer = reader.join().unwrap();
        for _ in 0..8 {
            threadwire::update().unwrap();
        }
        assert_eq!(*heard.borrow(), ["pause", "resume"]);
    });
}

#[test]
fn a_burst_that_the_system_takes_at_once_pauses_nobody() {
    struct Notes(Rc<RefCell<Vec<&'static str>>>);
    impl Listener for Notes {
        fn on_pause_writing(&mut self, _: &Connection) -> Result<(), Error> {
            self.0.borrow_mut().push("pause");
            Ok(())
        }
        fn on_resume_writing(&mut self, _: &Connection) -> Result<(), Error> {
            self.0.borrow_mut().push("resume");
            Ok(())
        }
    }
    bounded(|| {
        let heard = Rc::default();
        let (ws, _peer) = pair_with(patient(), Notes(Rc::clone(&heard)));
        let handle = ws.handle();
        elsewhere(move || (0..100).for_each(|_| handle.send(&[0; 1 << 10]).unwrap()));
        ws.handle().wait_drained().unwrap();
        assert_eq!(*heard.borrow(), [""; 0]);
    });
}

/// Throttled only when more than half of it waits: then a message of more than half is too much.
#[test]
fn a_slow_peer_gets_the_echoes_of_messages_longer_than_half_of_what_may_wait() {
    bounded(|| {
        // Longer than what one read takes, so that no read holds two of them.
        const LENGTH: usize = 100 << 10;
        const COUNT: usize = 200;
        let config = Config { max_buffered: 160 << 10, ..patient() };
        let serving = Serving::with(bind().config(config), |_| Accept::with(echo));
        let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
        let bytes = masked(BINARY, &[7; LENGTH]).repeat(COUNT);
        let (sender, sends) = mpsc::channel();
        let mut writer = peer.writer();
        let thread = thread::spawn(move || {
            let all = writer.try_bytes(&bytes);
            let _ = sender.send(all);
        });
        // It only reads when it can write no more, or has written all.
        let _ = sends.recv_timeout(std::time::Duration::from_millis(500));
        for number in 0..COUNT {
            let (first, payload) = peer.frame();
            assert_eq!(
                (first, payload.len()),
                (BINARY, LENGTH),
                "{number} {:?}",
                &payload[..payload.len().min(40)]
            );
        }
        thread.join().unwrap();
    });
}

/// A long frame sent while the socket is thought to be writable is appended unmarked, though nothing of it has left.
#[test]
fn a_message_that_was_sent_while_the_socket_took_more_can_still_be_dropped() {
    fn numbered(number: u32) -> Vec<u8> {
        let mut bytes = vec![0; 100 << 10];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes
    }
    bounded(|| {
        let config = Config { when_full: WhenFull::DropOldest, ..patient() };
        let (halt, reached, go) = Halt::new();
        let (tell, told) = mpsc::channel();
        let (serving, _handles) = serving_handles(config, &Log::new(), move |ws, call| {
            if *call == Call::text("fill") {
                tell.send(fill(ws)).unwrap();
                (0..120).try_for_each(|number| ws.send(&numbered(number)))?;
                halt.here();
            } else if *call == Call::text("go") {
                ws.send(&numbered(1000))?;
                (2000..2300).try_for_each(|number| ws.send(&numbered(number)))?;
                tell.send(0).unwrap();
            }
            Ok(())
        });
        let mut peer = serving.peer();
        peer.send(TEXT, b"fill");
        let count = told.recv().unwrap();
        reached.recv().unwrap();
        // The system takes a little more, but by far not all that waits before the message sent now.
        crate::common::sharing::drain(&mut peer, count - 2);
        peer.send(TEXT, b"go");
        go.send(()).unwrap();
        told.recv().unwrap();
        crate::common::sharing::drain(&mut peer, 2);
        let mut came = Vec::new();
        while came.last() != Some(&2299) {
            came.push(u32::from_be_bytes(peer.brief(4).2.try_into().unwrap()));
        }
        assert!(!came.contains(&1000), "{:?}", &came[..60]);
    });
}
