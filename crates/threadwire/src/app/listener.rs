//! Listener of an app's run: calls the program's callbacks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use threadwire_proto::{Initiator, Message};

use super::callbacks::Callbacks;
use super::handle::AppState;
use crate::{Closed, Connection, Error, Listener};
use threadwire_core::panic::catch;

/// The callbacks while no run has them.
pub(super) type CallbackSlot = Rc<RefCell<Option<Callbacks>>>;

pub(super) struct AppListener {
    slot: CallbackSlot,
    /// There until the drop.
    callbacks: Option<Callbacks>,
    shared: Arc<AppState>,
    /// Whether the program knows of the error that the last attempt failed with.
    has_told: Rc<Cell<bool>>,
    /// Whether the next connection is the first of the run.
    is_first: bool,
    /// Whether a callback of this connection failed. Then the error with which it ends is known already.
    has_failed: bool,
}

impl AppListener {
    pub(super) fn new(
        slot: CallbackSlot,
        callbacks: Callbacks,
        shared: Arc<AppState>,
        has_told: Rc<Cell<bool>>,
    ) -> AppListener {
        let callbacks = Some(callbacks);
        AppListener { slot, callbacks, shared, has_told, is_first: true, has_failed: false }
    }

    /// Runs a callback, and tells the program if it fails.
    fn call(
        &mut self,
        ws: &Connection,
        call: impl FnOnce(&mut Callbacks, &AppState) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(callbacks) = &mut self.callbacks else { return Ok(()) };
        let shared = &*self.shared;
        shared.busy(|| {
            let result = catch(|| call(callbacks, shared));
            match &result {
                // Success and a stop are no failures of the callback.
                Ok(()) | Err(Error::Stopped) => {}
                Err(Error::Closed) if !ws.is_open() => {}
                Err(error) => {
                    // One that the connection outlives is not what it ends with.
                    self.has_failed = !ws.outlives(error);
                    callbacks.tell(Some(ws), error);
                }
            }
            result
        })
    }
}

impl Listener for AppListener {
    fn name(&self) -> &'static str {
        "an app"
    }

    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        self.shared.opened(ws.handle());
        let is_first = std::mem::replace(&mut self.is_first, false);
        self.call(ws, |callbacks, _| {
            let again = callbacks.on_reconnect.as_mut().filter(|_| !is_first);
            match again.or(callbacks.on_open.as_mut()) {
                Some(call) => call(ws),
                None => Ok(()),
            }
        })
    }

    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        self.call(ws, |callbacks, shared| {
            if let Some(on_data) = &mut callbacks.on_data {
                on_data(ws, message)?;
            }
            if shared.has_requests()
                && let Some(id) = callbacks.identify.as_mut().and_then(|identify| identify(message))
                && shared.answer(&id, message)
            {
                return Ok(());
            }
            callbacks.on_message.as_mut().map_or(Ok(()), |on_message| on_message(ws, message))
        })
    }

    fn on_ping(&mut self, ws: &Connection, payload: &[u8]) -> Result<(), Error> {
        self.call(ws, |callbacks, _| {
            callbacks.on_ping.as_mut().map_or(Ok(()), |on_ping| on_ping(ws, payload))
        })
    }

    fn on_pong(&mut self, ws: &Connection, payload: &[u8]) -> Result<(), Error> {
        self.call(ws, |callbacks, _| {
            callbacks.on_pong.as_mut().map_or(Ok(()), |on_pong| on_pong(ws, payload))
        })
    }

    fn on_close(&mut self, ws: &Connection, closed: &Closed) {
        let ended = ws.closed();
        self.shared.closed(ended.clone());
        let is_known = std::mem::take(&mut self.has_failed);
        let Some(callbacks) = &mut self.callbacks else { return };
        self.shared.busy(|| {
            match (&closed.error, ended) {
                _ if is_known => {}
                (Some(Error::Stopped), _) => {}
                (Some(error), _) => callbacks.tell(Some(ws), error),
                (None, Some(ended)) if closed.initiator == Initiator::Peer && !closed.is_normal() => {
                    callbacks.tell(Some(ws), &Error::Ended(ended));
                }
                _ => {}
            }
            let Some(on_close) = &mut callbacks.on_close else { return };
            match catch(|| on_close(ws, closed)) {
                // The connection has ended: `Closed` is no failure, and neither is a stop.
                Ok(()) | Err(Error::Closed | Error::Stopped) => {}
                Err(error) => {
                    callbacks.tell(Some(ws), &error);
                    threadwire_guard::discard(error);
                }
            }
        });
    }

    fn on_failed(&mut self, error: &Error) {
        // An attempt that this side gave up has not failed.
        if !matches!(error, Error::Closed | Error::Stopped)
            && let Some(callbacks) = &mut self.callbacks
        {
            self.has_told.set(true);
            self.shared.busy(|| callbacks.tell(None, error));
        }
    }
}

impl Drop for AppListener {
    fn drop(&mut self) {
        // Usually `on_close` has done this before.
        self.shared.closed(None);
        *self.slot.borrow_mut() = self.callbacks.take();
    }
}
