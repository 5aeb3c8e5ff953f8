//! Timers of a connection that callbacks are given: its next message, and its close.

use std::rc::Rc;

use threadwire::Connection;
use threadwire::worker::later;

use super::{Doing, Kept, PAUSE, TEXT};

/// Sets the timers of a connection that has opened.
pub(super) fn set(ws: &Connection, kept: &Rc<Kept>) {
    if kept.usage.doing == Doing::Send {
        send(ws.clone(), Rc::clone(kept));
    }
    if kept.usage.closes {
        let (ws, kept) = (ws.clone(), Rc::clone(kept));
        later(kept.left(), move || {
            if ws.is_open() {
                kept.begin_to_close();
                let _ = ws.close();
            }
        });
    }
}

/// Sends now, and again and again.
fn send(ws: Connection, kept: Rc<Kept>) {
    if kept.goes_on() && ws.send(TEXT).is_ok() {
        kept.count();
        later(PAUSE, move || send(ws, kept));
    }
}
