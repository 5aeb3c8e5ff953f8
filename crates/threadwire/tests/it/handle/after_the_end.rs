//! Handles of ended connections.

use std::cell::Cell;
use std::rc::Rc;

use crate::common::recorder::Log;
use crate::common::sharing::{elsewhere, pair, pair_with};
use crate::common::{bounded, patient};
use threadwire::{Closed, Connection, Error, Listener};

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
