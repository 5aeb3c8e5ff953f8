//! Callbacks of an app, and the values that they may return.

use threadwire_proto::Message;

use super::RequestId;
use crate::{Closed, Connection, Error};
use threadwire_core::panic::catch;

pub(super) type OnConnection = Box<dyn FnMut(&Connection) -> Result<(), Error>>;
pub(super) type OnMessage = Box<dyn FnMut(&Connection, Message<'_>) -> Result<(), Error>>;
pub(super) type OnPayload = Box<dyn FnMut(&Connection, &[u8]) -> Result<(), Error>>;
pub(super) type OnError = Box<dyn FnMut(Option<&Connection>, &Error) -> Result<(), Error>>;
pub(super) type OnClose = Box<dyn FnMut(&Connection, &Closed) -> Result<(), Error>>;
pub(super) type Identify = Box<dyn FnMut(Message<'_>) -> Option<RequestId>>;

/// The program's closures. They live over all runs of an app.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) on_open: Option<OnConnection>,
    pub(super) on_reconnect: Option<OnConnection>,
    pub(super) on_data: Option<OnMessage>,
    pub(super) on_message: Option<OnMessage>,
    pub(super) on_ping: Option<OnPayload>,
    pub(super) on_pong: Option<OnPayload>,
    pub(super) on_error: Option<OnError>,
    pub(super) on_close: Option<OnClose>,
    pub(super) identify: Option<Identify>,
}

impl Callbacks {
    /// Tells the program of an error; the log, if it does not want to know.
    pub(super) fn tell(&mut self, ws: Option<&Connection>, error: &Error) {
        let Some(on_error) = &mut self.on_error else {
            return tracing::error!(error = format!("{error:#}"), "an app met an error");
        };
        if let Err(error) = catch(|| on_error(ws, error)) {
            tracing::error!(error = format!("{error:#}"), "on_error failed");
            threadwire_guard::discard(error);
        }
    }
}
