//! A request that asks for a connection, and its answer.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use threadwire_proto::Role;
use threadwire_proto::handshake::{HeadReader, Headers, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::client::in_time;
use super::connection::Connection;
use super::core::Opening;
use super::stream::Stream;
use crate::server::upgrade::{agreed, prepare, refuse};
#[cfg(feature = "tls")]
use crate::tls::{Failed, rustls::ServerConfig, session::Session};
use crate::{Config, Error};

/// A request that waits for its answer: everything that [`threadwire::Request`](crate::Request) knows, to which this
/// dereferences. Dropped unanswered, it ends the connection.
///
/// ```
/// use threadwire::{Connection, Error, Headers, Response, aio};
///
/// async fn answer(request: aio::Request) -> Result<Option<aio::Connection>, Error> {
///     match request.path() {
///         "/chat" => {
///             let chosen = request.subprotocols().find(|name| *name == "chat.v2").map(str::to_owned);
///             Ok(Some(request.upgrade_with(Headers::new(), chosen.as_deref()).await?))
///         }
///         "/health" => {
///             request.respond(Response::new(200)?.with_body("well\n")).await?;
///             Ok(None)
///         }
///         _ => {
///             request.respond(Response::new(404)?).await?;
///             Ok(None)
///         }
///     }
/// }
/// ```
pub struct Request {
    head: crate::Request,
    stream: Stream,
    /// What was received, of which the request ends at `early`.
    received: Vec<u8>,
    early: usize,
    config: Arc<Config>,
}

impl Request {
    /// Upgrades to a connection.
    ///
    /// A request that does not ask for that as RFC 6455 (section 4.2.1) wants it is answered with what is wrong with it; this
    /// fails with [`Error::Handshake`] then.
    pub async fn upgrade(self) -> Result<Connection, Error> {
        self.upgrade_with(Headers::new(), None).await
    }

    /// The same, with headers to add to the answer, and a subprotocol, which must be one of those that the request offers:
    /// otherwise it is answered with 500, and this fails with [`Error::Handshake`].
    pub async fn upgrade_with(
        self,
        headers: Headers,
        subprotocol: Option<&str>,
    ) -> Result<Connection, Error> {
        self.open(headers, subprotocol).await.map(|(_, connection)| connection)
    }

    /// The same; the request goes on to live.
    pub(super) async fn open(
        self,
        headers: Headers,
        subprotocol: Option<&str>,
    ) -> Result<(crate::Request, Connection), Error> {
        let upgrade = match prepare(&self.head, &headers, subprotocol) {
            Ok(upgrade) => upgrade,
            Err(error) => {
                self.respond(refuse(&error)).await?;
                return Err(error.into());
            }
        };
        let mut output = Vec::new();
        upgrade.encode(&mut output);
        let connection = Connection::open(Opening {
            role: Role::Server,
            stream: self.stream,
            config: self.config,
            agreed: agreed(&upgrade, headers),
            output,
            received: self.received,
            early: self.early,
        });
        Ok((self.head, connection))
    }

    /// Answers with a response of one's own, and that is all. Returns when it is written.
    pub async fn respond(mut self, response: Response) -> Result<(), Error> {
        in_time(&self.config, write(&mut self.stream, &response)).await?;
        // Closing the socket under what the peer still sends would reset the connection, and the peer might never see it.
        tokio::spawn(timeout(self.config.open_timeout, read_away(self.stream)));
        Ok(())
    }
}

impl Deref for Request {
    type Target = crate::Request;

    fn deref(&self) -> &crate::Request {
        &self.head
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head.fmt(f)
    }
}

/// Reads the request from a stream that was accepted, and upgrades it to a connection.
///
/// Fails with [`Error::Handshake`] if it does not ask for that as it must, which it is answered, and with [`Error::Timeout`] after
/// [`Config::open_timeout`]; with [`Error::Lost`] or [`Error::Io`] if the peer goes away. There is an example at
/// [`client`](super::client).
pub async fn accept<S>(stream: S, config: Config) -> Result<Connection, Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // A stream like that has no address, and nobody sees this one.
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    accept_request(stream, nowhere, config).await?.upgrade().await
}

/// Reads the request from a stream that was accepted, to be looked at before it is answered. `peer_addr` is what
/// [`Request::peer_addr`](crate::Request::peer_addr) will say.
///
/// Fails as [`accept`] does.
///
/// ```no_run
/// use threadwire::{Config, Error, Response, aio};
///
/// async fn serve(listener: tokio::net::TcpListener) -> Result<(), Error> {
///     loop {
///         let (stream, peer_addr) = listener.accept().await?;
///         let request = aio::accept_request(stream, peer_addr, Config::default()).await?;
///         if request.path() == "/" {
///             request.upgrade().await?.send("hello").await?;
///         } else {
///             request.respond(Response::new(404)?).await?;
///         }
///     }
/// }
/// ```
pub async fn accept_request<S>(stream: S, peer_addr: SocketAddr, config: Config) -> Result<Request, Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Box::pin(receive(Stream::of(stream), peer_addr, Arc::new(config))).await
}

/// Makes TLS, and reads the request, both within [`Config::open_timeout`].
#[cfg(feature = "tls")]
pub(super) async fn receive_in_tls(
    stream: Stream,
    tls: Arc<ServerConfig>,
    peer_addr: SocketAddr,
    config: Arc<Config>,
) -> Result<Request, Error> {
    let opening = async {
        let session = Session::server(tls).map_err(Failed::io)?;
        read(stream.secured(session).await?, peer_addr, Arc::clone(&config)).await
    };
    in_time(&config, opening).await
}

/// Reads the request. One that is none is answered with what is wrong with it.
pub(super) async fn receive(
    stream: Stream,
    peer_addr: SocketAddr,
    config: Arc<Config>,
) -> Result<Request, Error> {
    in_time(&config, read(stream, peer_addr, Arc::clone(&config))).await
}

async fn read(stream: Stream, peer_addr: SocketAddr, config: Arc<Config>) -> Result<Request, Error> {
    let mut stream = stream.traced(&config, Role::Server);
    let mut received = Vec::new();
    let read = async {
        let mut head = HeadReader::new(config.head_limits());
        loop {
            if stream.read_buf(&mut received).await? == 0 {
                return Err(Error::Lost);
            }
            match head.request(&received) {
                Ok(Some(request)) => return Ok(request),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "refused a request");
                    write(&mut stream, &error.response()).await?;
                    discard(&mut stream).await;
                    return Err(error.into());
                }
            }
        }
    };
    let (head, early) = read.await?;
    let head = crate::Request::new(head, peer_addr);
    #[cfg(feature = "tls")]
    let head = head.secured(stream.tls());
    Ok(Request { head, stream, received, early, config })
}

/// Writes a response, and says that nothing more will come.
async fn write(stream: &mut Stream, response: &Response) -> Result<(), Error> {
    let mut bytes = Vec::new();
    response.encode(&mut bytes);
    stream.write_all(&bytes).await?;
    Ok(stream.shutdown().await?)
}

/// Reads what the peer still sends, until it ends.
async fn discard(stream: &mut Stream) {
    let mut bytes = vec![0; 1024];
    while let Ok(1..) = stream.read(&mut bytes).await {}
}

async fn read_away(mut stream: Stream) {
    discard(&mut stream).await;
}
