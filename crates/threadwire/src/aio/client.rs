//! Connections that this side opens.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use threadwire_proto::Role;
use threadwire_proto::handshake::ClientRequest;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::connection::Connection;
use super::core::Opening;
use super::stream::Stream;
use crate::dial::answer::{Accepted, AnswerReader};
use crate::error::TimeoutKind;
#[cfg(feature = "tls")]
use crate::tls::{ClientTls, Failed, session::Session};
use crate::{Config, Error, IntoClient, Target};

/// Opens a connection to a URL, or as a [`Client`](crate::Client) says.
///
/// Fails with [`Error::Url`], [`Error::Resolve`], [`Error::Connect`], [`Error::Handshake`], or [`Error::Timeout`] after
/// [`Config::open_timeout`]; with [`Error::Lost`] or [`Error::Io`] if the server goes away before it has answered. Dropped before
/// it is ready, it lets go of all.
///
/// ```
/// use threadwire::{Client, Error, HandshakeError, aio};
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
///     Err(Error::Handshake(HandshakeError::Status(answer))) => assert_eq!(answer.status(), 401),
///     other => panic!("{other:?}"),
/// }
/// let client = Client::new(&url)?.header("Authorization", "Bearer 1234")?;
/// let ws = aio::connect(&client).await?;
/// assert!(ws.is_open());
/// # Ok(())
/// # }
/// ```
pub fn connect(target: impl IntoClient) -> impl Future<Output = Result<Connection, Error>> + Send + 'static {
    let prepared = prepare(&target);
    // In a box: what it needs is needed only now, and the future of a whole life would have to have room for it.
    Box::pin(async move {
        let prepared = prepared?;
        let config = &prepared.config;
        in_time(config, async {
            let stream = Stream::tcp(reach(&prepared.target).await?);
            let stream = secure(stream, &prepared).await?;
            upgrade(stream, &prepared.request, config).await
        })
        .await
    })
}

/// Opens a connection over a stream that is connected already: a tunnel, a Unix socket, TLS of one's own. The target only says
/// what is asked for.
///
/// Fails as [`connect`] does.
///
/// ```
/// use threadwire::{Config, Error, aio};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
///
/// let (here, there) = tokio::io::duplex(4096);
/// let server = tokio::spawn(async move {
///     let mut ws = aio::accept(there, Config::default()).await?;
///     while let Some(message) = ws.recv().await? {
///         ws.send(&message).await?;
///     }
///     Ok::<(), Error>(())
/// });
/// let mut ws = aio::client(here, "ws://example.com/").await?;
/// ws.send("through memory").await?;
/// assert_eq!(ws.recv().await?.unwrap(), "through memory");
/// ws.close().await?;
/// server.await.unwrap()?;
/// # Ok(())
/// # }
/// ```
pub fn client<S>(
    stream: S,
    target: impl IntoClient,
) -> impl Future<Output = Result<Connection, Error>> + Send + 'static
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let prepared = prepare(&target);
    Box::pin(async move {
        let Prepared { request, config, .. } = prepared?;
        in_time(&config, upgrade(Stream::of(stream), &request, &config)).await
    })
}

struct Prepared {
    target: Target,
    request: ClientRequest,
    config: Arc<Config>,
    #[cfg(feature = "tls")]
    tls: ClientTls,
}

fn prepare(target: &impl IntoClient) -> Result<Prepared, Error> {
    let client = target.client()?;
    let (target, request, config) = client.parts()?;
    Ok(Prepared {
        target: target.clone(),
        request,
        config: Arc::new(config.clone()),
        #[cfg(feature = "tls")]
        tls: client.tls_settings().clone(),
    })
}

/// Makes TLS on a connected stream, if the URL wants it.
#[cfg(feature = "tls")]
async fn secure(stream: Stream, prepared: &Prepared) -> Result<Stream, Error> {
    let Prepared { target, tls, .. } = prepared;
    if !target.is_secure() {
        return Ok(stream);
    }
    let (config, name) = tls.prepare(target.host())?;
    let explain = |error| Failed::explain(error, target.host());
    let session = Session::client(config, name).map_err(Failed::io).map_err(explain)?;
    stream.secured(session).await.map_err(explain)
}

/// A URL that wants TLS was refused.
#[cfg(not(feature = "tls"))]
async fn secure(stream: Stream, _prepared: &Prepared) -> Result<Stream, Error> {
    Ok(stream)
}

/// Gives up after [`Config::open_timeout`].
pub(super) async fn in_time<T>(
    config: &Config,
    opening: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let result = timeout(config.open_timeout, opening).await;
    result.unwrap_or(Err(Error::Timeout(TimeoutKind::Open)))
}

/// Connects to one of the addresses, tried one after the other.
async fn reach(target: &Target) -> Result<TcpStream, Error> {
    let (host, port) = (target.host(), target.port());
    let unresolved = |source| Error::Resolve { host: host.to_owned(), source };
    let addresses: Vec<SocketAddr> = match host.parse() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => lookup_host((host, port)).await.map_err(unresolved)?.collect(),
    };
    let mut result = Err(unresolved(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(source) => {
                tracing::debug!(%address, error = %source, "can't connect");
                result = Err(Error::Connect { addr: address, source });
            }
        }
    }
    result
}

/// Sends the request, and reads the answer.
async fn upgrade(stream: Stream, request: &ClientRequest, config: &Arc<Config>) -> Result<Connection, Error> {
    let mut stream = stream.traced(config, Role::Client);
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    // A server that takes no more of the request may still have said why.
    let mut written = stream.write_all(&bytes).await;
    if written.is_ok() {
        written = stream.flush().await;
    }
    let mut answer = AnswerReader::new(config);
    loop {
        let count = stream.read_buf(&mut answer.received).await?;
        if let Some(Accepted { head, agreed, deflate }) = answer.look(request, count == 0)? {
            return Ok(Connection::open(Opening {
                role: Role::Client,
                stream,
                config: Arc::clone(config),
                agreed: Some(agreed),
                deflate,
                output: Vec::new(),
                received: answer.received,
                early: head,
            }));
        }
        if count == 0 {
            written?;
            return Err(Error::Lost);
        }
    }
}
