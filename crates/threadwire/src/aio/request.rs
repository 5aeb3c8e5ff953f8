//! A request that asks for a connection, and its answer.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use threadwire_proto::Role;
use threadwire_proto::handshake::{Headers, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::client::in_time;
use super::connection::Connection;
use super::core::Opening;
use super::newcomers::{Place, go_on};
use super::reception::{Reception, discard, receive, shutting_down, write};
use super::stream::Stream;
use crate::on_loop::server::upgrade::{Refusal, agree, agreed, grant};
use crate::{Config, Error, Reply};
use threadwire_core::server::admission::Gate;
use threadwire_core::server::answer::Subprotocol;

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
    pub(super) head: crate::Request,
    pub(super) stream: Stream,
    /// What was received, of which the request ends at `early`.
    pub(super) received: Vec<u8>,
    pub(super) early: usize,
    pub(super) config: Arc<Config>,
    pub(super) gate: Arc<Gate>,
    pub(super) granted: Granted,
    /// Among those of its server that are no connections yet.
    pub(super) place: Option<Place>,
}

/// What a hook has said that goes into the answer.
#[derive(Default)]
pub(super) struct Granted {
    pub(super) headers: Headers,
    pub(super) subprotocol: Subprotocol,
}

impl Request {
    /// Upgrades to a connection, with what the server's [hook](super::Server::on_request) has said, if it has one.
    ///
    /// A request that does not ask for that as RFC 6455 (section 4.2.1) wants it is answered with what is wrong with it; this
    /// fails with [`Error::Handshake`] then. Where there is no room for it ([`Admission`](crate::server::Admission)), it is answered so, and this
    /// fails with [`Error::Limit`].
    pub async fn upgrade(self) -> Result<Connection, Error> {
        self.open().await.map(|(_, connection)| connection)
    }

    /// The same, with headers to add to the answer, and a subprotocol, which must be one of those that the request offers:
    /// otherwise it is answered with 500, and this fails with [`Error::Handshake`].
    pub async fn upgrade_with(
        mut self,
        headers: Headers,
        subprotocol: Option<&str>,
    ) -> Result<Connection, Error> {
        for (name, value) in headers.iter() {
            self.granted.headers.append(name, value)?;
        }
        if let Some(subprotocol) = subprotocol {
            self.granted.subprotocol = Subprotocol::Exactly(subprotocol.to_owned());
        }
        self.upgrade().await
    }

    /// Does what a hook says of it, a [`Router`](crate::server::Router) say: upgrades, or answers otherwise; then there is no connection.
    ///
    /// Fails as [`upgrade`](Request::upgrade) and [`respond`](Request::respond) do. A listener has no place on this face: an answer that has one
    /// becomes a 500.
    ///
    /// ```
    /// use threadwire::server::Router;
    /// use threadwire::{Error, Reply, aio};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let router = Router::new().route("/feed/{name}", |_| Reply::upgrade())?;
    /// let mut server = aio::Server::bind("127.0.0.1:0").await?;
    /// # let url = format!("ws://{}/feed/news", server.local_addr()?);
    /// # let client = tokio::spawn(async move { aio::connect(&url).await });
    /// let request = server.accept().await?;
    /// let accept = router.answer(&request);
    /// let name = request.param("name").map(str::to_owned);
    /// if let Some(ws) = request.answer(accept).await? {
    ///     ws.send(&name.unwrap_or_default()).await?;
    /// }
    /// # assert_eq!(client.await.unwrap()?.recv().await?.unwrap(), "news");
    /// # Ok(())
    /// # }
    /// ```
    pub fn answer(
        mut self,
        accept: impl Into<Reply>,
    ) -> impl Future<Output = Result<Option<Connection>, Error>> + Send {
        // A listener can't travel with the future.
        let granted = Granted::of(accept.into());
        async move {
            match granted {
                Ok(granted) => {
                    self.granted = granted;
                    self.upgrade().await.map(Some)
                }
                Err(response) => self.respond(response).await.map(|()| None),
            }
        }
    }

    /// Upgrades; the request goes on to live.
    pub(super) async fn open(self) -> Result<(crate::Request, Connection), Error> {
        let Granted { headers, subprotocol } = &self.granted;
        let (mut upgrade, guest) = match grant(&self.gate, &self.head, headers, subprotocol) {
            Ok(granted) => granted,
            Err(refused) => {
                let Refusal { response, error } = *refused;
                self.respond(response).await?;
                return Err(error);
            }
        };
        let deflate = agree(&mut upgrade, &self.config);
        let mut output = Vec::new();
        upgrade.encode(&mut output);
        let connection = Connection::open(Opening {
            role: Role::Server,
            stream: self.stream,
            config: self.config,
            agreed: agreed(&upgrade, self.granted.headers, guest),
            deflate,
            output,
            received: self.received,
            early: self.early,
        });
        Ok((self.head, connection))
    }

    /// Answers with a response of one's own, and that is all; a HEAD request gets no body. Returns when it is written. Dropped before, it
    /// is written all the same.
    ///
    /// Until the peer has ended, it counts for [`max_handshakes`](crate::server::Admission::max_handshakes). Fails with [`Error::Closed`] if it is
    /// dropped for that, or with its server, and with [`Error::Timeout`] after [`Config::open_timeout`]; with [`Error::Io`] if the peer
    /// goes away.
    pub async fn respond(self, response: Response) -> Result<(), Error> {
        let Request { head, mut stream, config, place, .. } = self;
        let is_head = head.method() == "HEAD";
        let (tell, told) = oneshot::channel();
        go_on(place, async move {
            let written = in_time(&config, write(&mut stream, &response, is_head)).await;
            let is_written = written.is_ok();
            // Perhaps nobody wants to know.
            let _ = tell.send(written);
            if is_written {
                // Closing the socket under what the peer still sends would reset the connection, and the peer might never see it.
                let _ = timeout(config.open_timeout, discard(&mut stream)).await;
            }
        });
        told.await.unwrap_or(Err(Error::Closed))
    }

    /// The server shuts down. Returns when the peer has seen that.
    pub(super) async fn turn_away(mut self) {
        let is_head = self.head.method() == "HEAD";
        let told = async {
            write(&mut self.stream, &shutting_down(), is_head).await?;
            discard(&mut self.stream).await;
            Ok(())
        };
        if let Err(error) = in_time(&self.config, told).await {
            tracing::debug!(%error, "a request was not answered");
        }
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
    accept_request(stream, None, config).await?.upgrade().await
}

/// Reads the request from a stream that was accepted, to be looked at before it is answered. `peer_addr` is what
/// [`Request::peer_addr`](crate::Request::peer_addr) will say, if there is anything to say.
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
pub async fn accept_request<S>(
    stream: S,
    peer_addr: impl Into<Option<SocketAddr>>,
    config: Config,
) -> Result<Request, Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let reception = Arc::new(Reception::alone(config));
    let request = Box::pin(receive(Stream::of(stream), peer_addr.into(), reception, None)).await?;
    // There is neither a hook nor a shutdown that could have answered it.
    request.ok_or(Error::Closed)
}
