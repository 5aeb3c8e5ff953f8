//! Requests of the async face: one that waits for the program's answer.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use threadwire_proto::handshake::{Headers, Response};
use threadwire_proto::{Level, Role};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::connection::Connection;
use super::core::Opening;
use super::partial::PartialReceiver;
use super::pending::{Place, go_on};
use super::reception::{Reception, receive};
use super::stream::Stream;
use crate::{Config, Error, Reply};
use threadwire_core::config::setting::Way;
use threadwire_core::server::check::plain;
use threadwire_core::server::opening_handshake::Refusal;
use threadwire_core::server::reply::{Answer, Subprotocol};
use threadwire_core::server::settings::ServerSettings;
use threadwire_core::server::tally::ShutdownOrder;

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
    pub(super) reception: Reception,
    /// What was received behind the request.
    pub(super) early: Vec<u8>,
    pub(super) given: Given,
    /// Among those of its server that are no connections yet.
    pub(super) place: Option<Place>,
}

/// What a hook has said that goes into the answer.
#[derive(Default)]
pub(super) struct Given {
    pub(super) headers: Headers,
    pub(super) subprotocol: Subprotocol,
}

impl Given {
    /// What of an answer is for this face.
    pub(super) fn of(accept: Reply) -> Result<Given, Response> {
        match accept.0 {
            Answer::Respond(response) => Err(response),
            Answer::Upgrade { listener: Some(_), .. } => {
                tracing::error!("a listener has no place on the async face, expected Reply::upgrade");
                Err(plain(500, ""))
            }
            Answer::Upgrade { listener: None, headers, subprotocol } => Ok(Given { headers, subprotocol }),
        }
    }
}

impl Request {
    /// Upgrades to a connection, with what the server's [hook](super::Server::on_request) has said, if it has one.
    ///
    /// A request that does not ask for that as RFC 6455 (section 4.2.1) wants it is answered with what is wrong with it; this
    /// fails with [`Error::Handshake`] then. Where there is no room for it ([`Admission`](crate::server::Admission)), it is answered so, and this
    /// fails with [`Error::Limit`].
    pub async fn upgrade(self) -> Result<Connection, Error> {
        self.open(Level::Messages).await.map(|(_, connection)| connection)
    }

    /// The same, for messages that are received in parts, as they come: see [`PartialReceiver`], and an example there. A part is no
    /// longer than [`Limits::max_frame`](crate::Limits::max_frame), nor than a
    /// [`Limits::max_message`](crate::Limits::max_message) that the server has for its other connections.
    pub async fn upgrade_in_parts(self) -> Result<PartialReceiver, Error> {
        self.open(Level::Frames).await.map(|(_, connection)| PartialReceiver::new(connection))
    }

    /// The same, with headers to add to the answer, and a subprotocol, which must be one of those that the request offers:
    /// otherwise it is answered with 500, and this fails with [`Error::Handshake`].
    pub async fn upgrade_with(
        mut self,
        headers: Headers,
        subprotocol: Option<&str>,
    ) -> Result<Connection, Error> {
        for (name, value) in headers.iter() {
            self.given.headers.append(name, value)?;
        }
        if let Some(subprotocol) = subprotocol {
            self.given.subprotocol = Subprotocol::Exactly(subprotocol.to_owned());
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
        let given = Given::of(accept.into());
        async move {
            match given {
                Ok(given) => {
                    self.given = given;
                    self.upgrade().await.map(Some)
                }
                Err(response) => self.respond(response).await.map(|()| None),
            }
        }
    }

    /// Upgrades; the request goes on to live.
    pub(super) async fn open(self, level: Level) -> Result<(crate::Request, Connection), Error> {
        let Request { head, reception, early, given, place } = self;
        let granted = match reception.opening.grant(&head, given.headers, &given.subprotocol) {
            Ok(granted) => granted,
            Err(refused) => {
                let Refusal { response, error } = *refused;
                respond(reception, place, &response).await?;
                return Err(error);
            }
        };
        let mut output = Vec::new();
        granted.encode(&mut output);
        let connection = Connection::open(Opening {
            role: Role::Server,
            level,
            stream: reception.stream,
            config: bounded(&reception.opening.settings().config, level),
            agreed: granted.agreed,
            deflate: granted.deflate,
            output,
            received: early,
            early: 0,
        });
        Ok((head, connection))
    }

    /// Answers with a response of one's own, and that is all; a HEAD request gets no body. Returns when it is written. Dropped before, it
    /// is written all the same.
    ///
    /// Until the peer has ended, it counts for [`max_handshakes`](crate::server::Admission::max_handshakes). Fails with [`Error::Closed`] if it is
    /// dropped for that, or with its server, and with [`Error::Timeout`] after [`Config::open_timeout`]; with [`Error::Io`] if the peer
    /// goes away.
    pub async fn respond(self, response: Response) -> Result<(), Error> {
        respond(self.reception, self.place, &response).await
    }

    /// The server shuts down. Returns when the peer has seen that.
    pub(super) async fn turn_away(mut self, order: Arc<ShutdownOrder>) {
        self.reception.opening.restart(Instant::now());
        let step = self.reception.opening.refuse(&order.refusal, Ok(()));
        if let Err(error) = self.reception.finish(step).await {
            tracing::debug!(%error, "a request was not answered");
        }
    }
}

/// The settings of a connection of a server. Its limit of messages bounds their parts, too.
fn bounded(config: &Arc<Config>, level: Level) -> Arc<Config> {
    let mut config = Arc::clone(config);
    if level == Level::Frames && config.limits.max_message < config.limits.max_frame {
        let config = Arc::make_mut(&mut config);
        config.limits.max_frame = config.limits.max_message;
    }
    config
}

/// Answers with a response, and returns when it is written; the peer's end is awaited in a task.
async fn respond(reception: Reception, place: Option<Place>, response: &Response) -> Result<(), Error> {
    let mut reception = reception;
    reception.opening.restart(Instant::now());
    let step = reception.opening.refuse(response, Ok(()));
    let (tell, told) = oneshot::channel();
    go_on(place, reception.finish_telling(step, tell));
    told.await.unwrap_or(Err(Error::Closed))
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
/// [`connect_over`](super::connect_over).
pub async fn accept_over<S>(stream: S, config: Config) -> Result<Connection, Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    accept_request(stream, None, config).await?.upgrade().await
}

/// Reads the request from a stream that was accepted, to be looked at before it is answered. `peer_addr` is what
/// [`Request::peer_addr`](crate::Request::peer_addr) will say, if there is anything to say.
///
/// Fails as [`accept_over`] does.
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
    config.check(&Way::TASKS)?;
    let mut settings = ServerSettings::default();
    settings.set_config(config);
    let receiving = receive(Stream::of(stream), peer_addr.into(), Arc::new(settings), None, None, None);
    // There is neither a hook nor a shutdown that could have answered it.
    Box::pin(receiving).await?.ok_or(Error::Closed)
}
