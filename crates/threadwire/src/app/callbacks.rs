//! Callbacks of an app, and the values that they may return.

use std::error::Error as StdError;

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

/// What a callback of an [`App`](super::App) may return: nothing, or a result with any error. Sealed: only these.
///
/// ```
/// use threadwire::App;
///
/// App::new("ws://example.com/")?
///     .on_open(|ws| ws.send("hello")) // threadwire's error
///     .on_message(|_ws, message| println!("{message}")) // nothing
///     .on_pong(|_ws, payload| -> Result<(), std::num::ParseIntError> {
///         let number: u32 = String::from_utf8_lossy(payload).parse()?; // any other
///         println!("pong {number}");
///         Ok(())
///     });
/// # Ok::<(), threadwire::Error>(())
/// ```
pub trait Outcome: sealed::Outcome {}

impl<T: sealed::Outcome> Outcome for T {}

pub(super) mod sealed {
    use super::{Error, StdError};

    pub trait Outcome {
        fn into_result(self) -> Result<(), Error>;
    }

    impl Outcome for () {
        fn into_result(self) -> Result<(), Error> {
            Ok(())
        }
    }

    impl<E: Into<Box<dyn StdError + Send + Sync>>> Outcome for Result<(), E> {
        fn into_result(self) -> Result<(), Error> {
            self.map_err(Error::of_program)
        }
    }
}
