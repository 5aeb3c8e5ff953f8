//! Closures as callbacks: their arguments are inferred, and they may return any error.

use std::error::Error as StdError;

use threadwire_proto::Message;

use crate::{Connection, Error, Listener};

/// A listener that is a closure, which is called for each message. It need not name the types of its arguments, and may return nothing, or a
/// result with any error, so that `?` works for all of them.
///
/// (Where a closure is given as a listener itself, Rust asks for the types, `|ws: &Connection, message: Message<'_>|`, and says "implementation
/// of `FnOnce` is not general enough" otherwise.)
///
/// ```
/// use std::error::Error;
/// use threadwire::{Reply, Server, connect, on_message};
///
/// let server = Server::bind("127.0.0.1:0")?.serve(|_| {
///     Reply::with(on_message(|ws, message| -> Result<(), Box<dyn Error + Send + Sync>> {
///         let number: u32 = message.as_text().unwrap_or_default().parse()?; // what is no number closes with 1011
///         Ok(ws.send(format!("{}", 2 * number))?)
///     }))
/// })?;
/// let ws = connect(
///     format!("ws://{}", server.local_addr()?),
///     on_message(|ws, message| {
///         assert_eq!(message.as_text(), Some("42"));
///         ws.close()
///     }),
/// )?;
/// ws.send("21")?;
/// ws.wait_closed()?;
/// # server.stop();
/// # server.join()?;
/// # Ok::<(), threadwire::Error>(())
/// ```
pub fn on_message<R: Outcome>(
    mut call: impl FnMut(&Connection, Message<'_>) -> R + 'static,
) -> impl Listener {
    move |ws: &Connection, message: Message<'_>| call(ws, message).into_result()
}

/// What a callback that is a closure may return, of an [`App`](crate::App) or in [`on_message`]: nothing, or a result with any error.
/// Sealed: only these.
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

mod sealed {
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
