//! Backpressure for handles: waiting bytes, bounds, and paused readers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use crate::common::peer::{BINARY, Peer, TEXT, masked};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{Halt, elsewhere, fill, meanwhile, pair, pair_with, serving_handles, there};
use crate::common::{Serving, bind, bounded, echo, patient};
use threadwire::{Connection, Error, Listener, Reply, WhenFull, wait_until};

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

/// Other threads know of the owner's gathered messages only after its next write.
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
        let config = patient().max_buffered(64 << 10).when_full(WhenFull::DropOldest);
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
        let (ws, _peer) = pair(patient().max_buffered(64 << 10), &Log::new());
        let handle = ws.handle();
        let mut parts = handle.start_text();
        parts.send("begun").unwrap();
        handle.wait_drained().unwrap();
        let refused = (0..100).find(|_| ws.send(&[0; 16 << 10]).is_err());
        assert!(refused.is_some(), "1600 KiB wait, {} KiB of them known", ws.buffered() >> 10);
    });
}

/// The event does not repeat when the callback has returned.
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
        let config = patient().max_buffered(160 << 10);
        let serving = Serving::with(bind().config(config), |_| Reply::with(echo));
        let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
        let bytes = masked(BINARY, &[7; LENGTH]).repeat(COUNT);
        let (sender, sends) = mpsc::channel();
        let mut writer = peer.writer();
        let thread = thread::spawn(move || {
            let all = writer.try_bytes(&bytes);
            let _ = sender.send(all);
        });
        // The peer only reads when it can write no more, or has written all.
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
        let config = patient().when_full(WhenFull::DropOldest);
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
