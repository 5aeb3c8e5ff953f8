//! The program's closures, and what they may return.

use std::error::Error as StdError;
use std::io;

use threadwire_proto::Message;
use threadwire_worker::Stopped;

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

/// Headers for a request: pairs of a name and a value in an array or a vector, or a result with such. Sealed: only these.
/// There is an example at [`App::headers`](super::App::headers).
pub trait HeaderList: sealed::HeaderList {}

impl<T: sealed::HeaderList> HeaderList for T {}

pub(super) mod sealed {
    use super::{Error, StdError, error_of};

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
            self.map_err(error_of)
        }
    }

    pub trait HeaderList {
        fn into_list(self) -> Result<Vec<(String, String)>, Error>;
    }

    impl<N: Into<String>, V: Into<String>> HeaderList for Vec<(N, V)> {
        fn into_list(self) -> Result<Vec<(String, String)>, Error> {
            Ok(self.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
        }
    }

    impl<N: Into<String>, V: Into<String>, const COUNT: usize> HeaderList for [(N, V); COUNT] {
        fn into_list(self) -> Result<Vec<(String, String)>, Error> {
            Ok(self.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
        }
    }

    impl<L: HeaderList, E: Into<Box<dyn StdError + Send + Sync>>> HeaderList for Result<L, E> {
        fn into_list(self) -> Result<Vec<(String, String)>, Error> {
            self.map_err(error_of)?.into_list()
        }
    }
}

/// An error of the program's as one of ours: what it was if it was one, so that it counts as such.
fn error_of(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    let error = match error.into().downcast::<Error>() {
        Ok(error) => return *error,
        Err(error) => error,
    };
    let error = match error.downcast::<Stopped>() {
        Ok(_) => return Error::Stopped,
        Err(error) => error,
    };
    match error.downcast::<io::Error>() {
        Ok(error) => Error::Io(*error),
        Err(error) => Error::Other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_what_it_was() {
        assert!(matches!(error_of(Error::Closed), Error::Closed));
        assert!(matches!(error_of(Box::<dyn StdError + Send + Sync>::from(Error::Lost)), Error::Lost));
        assert!(matches!(error_of(Stopped), Error::Stopped));
        assert!(matches!(error_of(io::Error::from(io::ErrorKind::NotFound)), Error::Io(_)));
        assert_eq!(error_of("a text").to_string(), "a text");
    }
}
