//! The listener of one connection: lent the program's for as long as it lives.

use std::rc::Rc;

use threadwire_core::panic::catch;
use threadwire_proto::{Frame, Level, Message};

use super::driver::Driver;
use crate::{Closed, Connection, Error, Listener};

/// Passes on what happens to the program's listener, and gives it back to the driver when it is dropped: at the end of its
/// connection, or of an attempt that opened none.
pub(super) struct LentListener {
    driver: Rc<Driver>,
    /// There until the drop.
    listener: Option<Box<dyn Listener>>,
}

impl LentListener {
    pub(super) fn new(driver: Rc<Driver>, listener: Box<dyn Listener>) -> LentListener {
        LentListener { driver, listener: Some(listener) }
    }

    #[inline]
    fn pass_on(
        &mut self,
        ws: &Connection,
        call: impl FnOnce(&mut dyn Listener) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(listener) = &mut self.listener else { return Ok(()) };
        let result = call(&mut **listener);
        match result {
            // Sending on a closed connection is no failure.
            Err(Error::Closed) if !ws.is_open() => Err(Error::Closed),
            Err(error) if ws.outlives(&error) => {
                ws.callback_failed(error);
                Ok(())
            }
            Err(error) => {
                self.driver.callback_failed();
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }
}

impl Listener for LentListener {
    fn level(&self) -> Level {
        self.listener.as_ref().map_or(Level::Messages, |listener| listener.level())
    }

    fn name(&self) -> &'static str {
        self.listener.as_ref().map_or("none", |listener| listener.name())
    }

    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        self.driver.opened(ws);
        let result = match catch(|| self.pass_on(ws, |listener| listener.on_open(ws))) {
            // A panic that the connection outlives.
            Err(error) if ws.outlives(&error) => {
                ws.callback_failed(error);
                Ok(())
            }
            result => result,
        };
        if result.is_ok() {
            self.driver.ready();
        }
        result
    }

    #[inline]
    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        self.pass_on(ws, |listener| listener.on_message(ws, message))
    }

    fn on_frame(&mut self, ws: &Connection, frame: &Frame<'_>) -> Result<(), Error> {
        self.pass_on(ws, |listener| listener.on_frame(ws, frame))
    }

    fn on_ping(&mut self, ws: &Connection, payload: &[u8]) -> Result<(), Error> {
        self.pass_on(ws, |listener| listener.on_ping(ws, payload))
    }

    fn on_pong(&mut self, ws: &Connection, payload: &[u8]) -> Result<(), Error> {
        self.pass_on(ws, |listener| listener.on_pong(ws, payload))
    }

    fn on_ping_due(&mut self, ws: &Connection) -> Result<(), Error> {
        self.pass_on(ws, |listener| listener.on_ping_due(ws))
    }

    fn is_pong(&mut self, ws: &Connection, message: Message<'_>) -> bool {
        self.listener.as_mut().is_some_and(|listener| listener.is_pong(ws, message))
    }

    fn on_pause_writing(&mut self, ws: &Connection) -> Result<(), Error> {
        self.pass_on(ws, |listener| listener.on_pause_writing(ws))
    }

    fn on_resume_writing(&mut self, ws: &Connection) -> Result<(), Error> {
        self.pass_on(ws, |listener| listener.on_resume_writing(ws))
    }

    fn on_close(&mut self, ws: &Connection, closed: &Closed) {
        if let Some(listener) = &mut self.listener {
            self.driver.calling(|| listener.on_close(ws, closed));
        }
    }

    fn on_failed(&mut self, error: &Error) {
        if let Some(listener) = &mut self.listener {
            self.driver.calling(|| listener.on_failed(error));
        }
    }
}

impl Drop for LentListener {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.take() {
            self.driver.take_back(listener);
        }
    }
}
