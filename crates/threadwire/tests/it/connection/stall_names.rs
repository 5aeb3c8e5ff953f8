//! Names in stall reports, for callbacks that are not called for a message.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use crate::common::keeping::{MOMENT, pinging};
use crate::common::peer::TEXT;
use crate::common::sharing::pair_with;
use crate::common::{SOON, bounded, patient};
use threadwire::worker::{Event, EventLoop, Stalled, listen};
use threadwire::{Connection, Error, Listener, Message, sleep};

struct Spins(bool);
impl Listener for Spins {
    fn name(&self) -> &'static str {
        "the spinner"
    }
    fn on_message(&mut self, ws: &Connection, _message: Message<'_>) -> Result<(), Error> {
        thread::sleep(Duration::from_millis(5));
        if self.0 {
            sleep(MOMENT)?;
        }
        ws.close()
    }
    fn on_close(&mut self, _ws: &Connection, _closed: &threadwire::Closed) {
        thread::sleep(Duration::from_millis(5));
    }
    fn on_ping_due(&mut self, ws: &Connection) -> Result<(), Error> {
        thread::sleep(Duration::from_millis(5));
        ws.probe()
    }
}

fn stalls() -> Rc<RefCell<Vec<String>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sees = Rc::clone(&seen);
    listen(move |stall: &Event<Stalled>| sees.borrow_mut().push(stall.what.clone()));
    EventLoop::current().set_stall_limit(Some(Duration::from_millis(2)));
    seen
}

fn named(seen: &Rc<RefCell<Vec<String>>>, name: &str) {
    let seen = seen.take();
    assert!(!seen.is_empty() && seen.iter().all(|what| what.contains(name)), "{seen:?}");
}

/// A callback that holds the loop and then waits: the listener is out of its cell when it is asked for its name.
#[test]
fn a_callback_that_holds_the_loop_before_it_waits_is_named() {
    bounded(|| {
        let (_ws, mut peer) = pair_with(patient(), Spins(true));
        let seen = stalls();
        peer.send(TEXT, b"spin");
        sleep(SOON).unwrap();
        named(&seen, "the spinner");
    });
}

/// On_ping_due is a timer of keeping.rs.
#[test]
fn on_ping_due_is_named() {
    bounded(|| {
        let (_ws, _peer) = pair_with(pinging(), Spins(false));
        let seen = stalls();
        sleep(SOON).unwrap();
        named(&seen, "the spinner");
    });
}

/// On_close: "a connection that has ended (a listener)".
#[test]
fn on_close_is_named() {
    bounded(|| {
        let (ws, mut peer) = pair_with(patient(), Spins(false));
        let seen = stalls();
        peer.close(1000, "");
        peer.end();
        ws.handle().wait_closed().unwrap();
        sleep(SOON).unwrap();
        named(&seen, "the spinner");
    });
}
