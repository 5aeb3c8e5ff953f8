//! Connections that this side opens.

use std::future::Future;

use threadwire_proto::Level;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Connection;
use super::dial;
use super::partial::PartialReceiver;
use super::stream::Stream;
use crate::Error;
use crate::client::AsClient;
use threadwire_core::client::route::Route;
use threadwire_core::client::settings::Settings;

/// Opens a connection to a URL, or as a [`Client`](crate::Client) says.
///
/// Fails with [`Error::Url`], [`Error::Resolve`], [`Error::Connect`], [`Error::Proxy`], [`Error::Redirect`], [`Error::Status`], [`Error::Handshake`], or
/// [`Error::Timeout`] after [`Config::open_timeout`](crate::Config::open_timeout); with [`Error::Lost`] or [`Error::Io`] if the server goes away before it has answered. Dropped before
/// it is ready, it lets go of all.
///
/// ```
/// use threadwire::{Client, Error, aio};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let mut server = aio::Server::bind("127.0.0.1:0").await?;
/// # let url = format!("ws://{}", server.local_addr()?);
/// # tokio::spawn(async move {
/// #     let refused = threadwire::Response::new(401).unwrap();
/// #     server.accept().await.unwrap().respond(refused).await.unwrap();
/// #     let ws = server.accept().await.unwrap().upgrade().await.unwrap();
/// #     ws.handle().wait_closed().await
/// # });
///
/// match aio::connect(&url).await {
///     Err(Error::Status(answer)) => assert_eq!(answer.status(), 401),
///     other => panic!("{other:?}"),
/// }
/// let client = Client::new(&url)?.header("Authorization", "Bearer 1234")?;
/// let ws = aio::connect(&client).await?;
/// assert!(ws.is_open());
/// # Ok(())
/// # }
/// ```
pub fn connect(target: impl AsClient) -> impl Future<Output = Result<Connection, Error>> + Send + 'static {
    let route = target.client().and_then(|client| Route::new(client.settings()));
    drive(route, Level::Messages)
}

/// As [`connect`], for messages that are received in parts, as they come: see [`PartialReceiver`]. Fails with [`Error::Setting`] for a
/// [`Limits::max_message`](crate::Limits::max_message), too, as a message may have any length there.
///
/// ```
/// use threadwire::{Error, aio};
///
/// async fn length(url: &str) -> Result<usize, Error> {
///     let mut ws = aio::connect_in_parts(url).await?;
///     ws.send("the whole story").await?;
///     let mut length = 0;
///     if let Some(mut story) = ws.recv().await? {
///         while let Some(part) = story.next_part().await? {
///             length += part.len();
///         }
///     }
///     Ok(length)
/// }
/// ```
pub fn connect_in_parts(
    target: impl AsClient,
) -> impl Future<Output = Result<PartialReceiver, Error>> + Send + 'static {
    let route = target.client().and_then(|client| Route::new(client.settings()));
    let opening = drive(route, Level::Frames);
    async move { opening.await.map(PartialReceiver::new) }
}

/// The same for an attempt of a connection that comes back.
pub(super) fn connect_by(
    settings: &Settings,
) -> impl Future<Output = Result<Connection, Error>> + Send + 'static {
    drive(Route::new(settings), Level::Messages)
}

fn drive(
    route: Result<Route, Error>,
    level: Level,
) -> impl Future<Output = Result<Connection, Error>> + Send + 'static {
    // In a box: what it needs is needed only now, and the future of a whole life would have to have room for it.
    Box::pin(async move { dial::drive(route?, None, level).await })
}

/// Opens a connection over a stream that is connected already: a tunnel, a Unix socket, TLS of one's own. The target says what is
/// asked for, and with `wss` also that TLS is to be spoken over the stream, as [`Client::tls`](crate::Client::tls) has it; over TLS
/// of one's own it is `ws`.
///
/// Fails as [`connect`] does, and with [`Error::Setting`] for settings of the way to the server, as there is none:
/// [`proxy`](crate::Client::proxy), [`bind`](crate::Client::bind) and the like.
///
/// ```
/// use threadwire::{Config, Error, aio};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
///
/// let (here, there) = tokio::io::duplex(4096);
/// let server = tokio::spawn(async move {
///     let mut ws = aio::accept_over(there, Config::default()).await?;
///     while let Some(message) = ws.recv().await? {
///         ws.send(&message).await?;
///     }
///     Ok::<(), Error>(())
/// });
/// let mut ws = aio::connect_over(here, "ws://example.com/").await?;
/// ws.send("through memory").await?;
/// assert_eq!(ws.recv().await?.unwrap(), "through memory");
/// ws.close().await?;
/// server.await.unwrap()?;
/// # Ok(())
/// # }
/// ```
pub fn connect_over<S>(
    stream: S,
    target: impl AsClient,
) -> impl Future<Output = Result<Connection, Error>> + Send + 'static
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let route = target.client().and_then(|client| Route::over_stream(client.settings()));
    Box::pin(async move { dial::drive(route?, Some(Stream::of(stream)), Level::Messages).await })
}
