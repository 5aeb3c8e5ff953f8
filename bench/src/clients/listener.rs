//! Client of Threadwire's callback face.

use super::arm::payload;
use super::meter::Meter;
use crate::fail;
use crate::fail::Result;
use std::cell::RefCell;
use std::rc::Rc;
use threadwire::{Connection, Error, Listener, Message, connect};

/// Sends a message for each echo.
struct Asker {
    payload: Vec<u8>,
    progress: Rc<RefCell<Progress>>,
}

/// The result for the caller of `ask`.
struct Progress {
    meter: Meter,
    is_wrong: bool,
}

impl Listener for Asker {
    fn on_open(&mut self, ws: &Connection) -> std::result::Result<(), Error> {
        let in_flight = {
            let mut progress = self.progress.borrow_mut();
            progress.meter.start();
            progress.meter.in_flight
        };
        (0..in_flight).try_for_each(|_| ws.send(&self.payload))
    }

    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> std::result::Result<(), Error> {
        let mut progress = self.progress.borrow_mut();
        if message.as_bytes() != self.payload {
            progress.is_wrong = true;
        }
        if progress.is_wrong || !progress.meter.lap() {
            // The server knows no closing handshake.
            ws.abort();
            return Ok(());
        }
        ws.send(&self.payload)
    }
}

/// Asks the server at `port` until the meter has enough.
pub(super) fn ask(port: u16, bytes: usize, meter: Meter) -> Result<Meter> {
    let progress = Rc::new(RefCell::new(Progress { meter, is_wrong: false }));
    let asker = Asker { payload: payload(bytes), progress: Rc::clone(&progress) };
    connect(&format!("ws://127.0.0.1:{port}"), asker)?.wait_closed()?;
    let progress = Rc::into_inner(progress).ok_or_else(|| fail!("a listener outlived its connection"))?;
    match progress.into_inner() {
        Progress { is_wrong: true, .. } => Err(fail!("the answer is not what was sent")),
        Progress { meter, is_wrong: false } => Ok(meter),
    }
}
