//! One connection after the other on tokio, each handed out to the program when it is open.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::connection::Connection;
use super::reconnecting::{ReconnectHandle, Reconnecting, reconnect};
use crate::Error;
use crate::client::AsClient;
use crate::reconnect::{Attempt, Backoff, Cause, Change};

/// Connections to one server, one after the other: [`connections`] makes it. Nothing happens before the first is asked for.
///
/// To ask for the next one is to be done with the last one: if it is open, it is closed with 1000, and where this side has ended it, by
/// closing or by dropping it, the next one is opened at once. Where the peer or the network did, that is an end as any other: the
/// [`Backoff`] says how long to wait, and whether it is worth another attempt is said by [`retry_if`](Connections::retry_if), or else by
/// this [table](crate::reconnecting). Attempts that fail are repeated likewise.
pub struct Connections(Reconnecting);

/// Connections to a URL, or as a [`Client`](crate::Client) says, one after the other, for programs whose work is with one connection at a time:
/// what has to be done on each anew stands in the body of a loop. To receive from all of them as from one, there is
/// [`reconnect`](super::reconnect).
///
/// ```
/// use std::time::Duration;
/// use threadwire::reconnect::Backoff;
/// use threadwire::{CloseCode, Error, aio};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let server = aio::Server::bind("127.0.0.1:0").await?;
/// # let url = format!("ws://{}", server.local_addr()?);
/// # tokio::spawn(server.serve(|_, mut ws| async move {
/// #     let subscribed = ws.recv().await.unwrap();
/// #     ws.send(&subscribed.unwrap()).await.unwrap();
/// #     ws.close_with(CloseCode::SERVICE_RESTART, "back soon").await.unwrap();
/// # }));
///
/// let backoff = Backoff::default().first(Duration::from_millis(1));
/// let mut connections = aio::connections(&url, backoff);
/// let mut prices = Vec::new();
/// while let Some(mut ws) = connections.next().await? {
///     ws.send("subscribe").await?;
///     while let Ok(Some(price)) = ws.recv().await {
///         prices.push(price);
///     }
///     if prices.len() == 2 {
///         break; // or go on with another connection
///     }
/// }
/// # assert_eq!(prices, ["subscribe", "subscribe"]);
/// # Ok(())
/// # }
/// ```
pub fn connections(target: impl AsClient, backoff: Backoff) -> Connections {
    Connections(reconnect(target, backoff))
}

impl Connections {
    /// Is called before each attempt: see [`Reconnecting::before`].
    pub fn before(self, hook: impl FnMut(&mut Attempt) -> Result<(), Error> + Send + 'static) -> Connections {
        Connections(self.0.before(hook))
    }

    /// Decides which ends are worth another attempt: see [`Reconnecting::retry_if`]. It is not asked about ends of this side's.
    pub fn retry_if(self, hook: impl FnMut(&Cause) -> bool + Send + 'static) -> Connections {
        Connections(self.0.retry_if(hook))
    }

    /// Is told of every state that is entered, while a connection is asked for: see [`Reconnecting::on_change`].
    pub fn on_change(self, hook: impl FnMut(&Change) + Send + 'static) -> Connections {
        Connections(self.0.on_change(hook))
    }

    /// The next connection, when it is open. `None` if a [handle](Connections::handle) has ended this. Where it gives up, it fails once
    /// with what ended the last connection or attempt, as [`Reconnecting::recv`] does; then it is `None`.
    ///
    /// Dropped before it is ready, it has lost nothing: an attempt or a wait goes on with the next call.
    pub fn next(&mut self) -> impl Future<Output = Result<Option<Connection>, Error>> + Send + '_ {
        poll_fn(|cx| self.0.poll_connection(cx))
    }

    /// A handle for other tasks and threads: to end this, to send over the connection that is open, and to see where it stands.
    pub fn handle(&self) -> ReconnectHandle {
        self.0.handle()
    }
}

/// The connections until it gives up, which is an error: as [`Connections::next`].
impl Stream for Connections {
    type Item = Result<Connection, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().0.poll_connection(cx).map(Result::transpose)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connections").field(&self.0).finish()
    }
}
