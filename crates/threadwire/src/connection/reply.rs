//! The answer of a server's program to a request, with a listener if it is an upgrade.

use threadwire_core::server::reply::{Answer, Subprotocol};
use threadwire_proto::handshake::Response;

use crate::{Error, Listener};

/// What becomes of a request: an upgrade to a connection, or a plain answer.
///
/// ```
/// use threadwire::{Reply, Connection, Error, Message, Request, Response};
///
/// fn accept(request: &Request) -> Result<Reply, Error> {
///     match request.header("Authorization") {
///         Some("Bearer 123") => Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message))
///             .header("Set-Cookie", "seen=yes"),
///         Some(_) => Ok(Reply::respond(Response::new(403)?.with_body("not you\n"))),
///         None => Reply::status(401).header("WWW-Authenticate", "Bearer"),
///     }
/// }
///
/// let serve = |request: &Request| accept(request).unwrap_or_else(|_| Reply::status(500));
/// # let server = threadwire::Server::bind("127.0.0.1:0")?.serve(serve)?;
/// # let client = threadwire::Client::new(&format!("ws://{}", server.local_addr()?))?;
/// # assert!(client.connect(|_: &Connection, _: Message<'_>| Ok(())).is_err());
/// # let client = client.header("Authorization", "Bearer 123")?;
/// # assert!(client.connect(|_: &Connection, _: Message<'_>| Ok(()))?.response_headers().is_some());
/// # Ok::<(), Error>(())
/// ```
pub struct Reply(pub(crate) Answer<Box<dyn Listener>>);

impl Reply {
    /// Upgrades to a connection that `listener` listens to. A request that does not ask for that as RFC 6455 (section
    /// 4.2.1) wants it is answered with what is wrong with it, and the listener is dropped.
    pub fn with(listener: impl Listener) -> Reply {
        let listener: Box<dyn Listener> = Box::new(listener);
        Reply(Answer::upgrade(Some(listener)))
    }

    /// Upgrades to a connection for the face that has asked, such as a [`blocking::Server`](crate::blocking::Server). On a
    /// [`Server`](crate::Server), which only has listeners, to one that nobody listens to.
    pub fn upgrade() -> Reply {
        Reply(Answer::upgrade(None))
    }

    /// Answers with a status: 403 to refuse, 404 for a path that is not there, 200 for a health check.
    ///
    /// ```
    /// use threadwire::{Reply, Connection, Message, Request};
    ///
    /// fn accept(request: &Request) -> Reply {
    ///     match request.path() {
    ///         "/echo" => Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message)),
    ///         _ => Reply::status(404),
    ///     }
    /// }
    /// ```
    ///
    /// A number that is no status of a response, below 200 or above 599, is logged and answered with 500. [`Response::new`] returns
    /// an error for it.
    pub fn status(status: u16) -> Reply {
        match Response::new(status) {
            Ok(response) => Reply::respond(response),
            Err(error) => {
                tracing::error!(%error, "answering with 500");
                Reply::status(500)
            }
        }
    }

    /// Answers with a response of your own; the connection ends with it.
    pub fn respond(response: Response) -> Reply {
        Reply(Answer::Respond(response))
    }

    /// Adds a header to the answer, whatever it is. Fails with [`Error::Handshake`] for a name or a value that must not
    /// be sent, and for the headers that belong to the handshake itself.
    pub fn header(self, name: &str, value: &str) -> Result<Reply, Error> {
        self.0.header(name, value).map(Reply)
    }

    /// Chooses a subprotocol, one of those that the request offers; otherwise the request is answered with 500. Fails
    /// with [`Error::Other`] for an answer that is no upgrade. There is an example at [`Connection::subprotocol`].
    ///
    /// [`Connection::subprotocol`]: crate::Connection::subprotocol
    pub fn subprotocol(self, name: &str) -> Result<Reply, Error> {
        self.0.choose(Subprotocol::Exactly(name.to_owned())).map(Reply)
    }

    /// Chooses the first of these subprotocols that the request offers; without one in common, the connection has none. Fails
    /// with [`Error::Other`] for an answer that is no upgrade.
    ///
    /// ```
    /// use threadwire::{Reply, Client, Connection, Message, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?.serve(|_| {
    ///     Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message)).subprotocols(["v2", "v1"])
    /// })?;
    /// let client = Client::new(&format!("ws://{}", server.local_addr()?))?.subprotocols(["v0", "v1", "v2"])?;
    /// let ws = threadwire::blocking::connect(&client)?;
    /// assert_eq!(ws.subprotocol(), Some("v2"));
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn subprotocols<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Result<Reply, Error> {
        let names = names.into_iter().map(Into::into).collect();
        self.0.choose(Subprotocol::FirstOf { names, is_required: false }).map(Reply)
    }

    /// The same, but without one in common the request is answered with 400, and the listener is dropped.
    pub fn require_subprotocol<N: Into<String>>(
        self,
        names: impl IntoIterator<Item = N>,
    ) -> Result<Reply, Error> {
        let names = names.into_iter().map(Into::into).collect();
        self.0.choose(Subprotocol::FirstOf { names, is_required: true }).map(Reply)
    }
}

/// [`Reply::respond`].
impl From<Response> for Reply {
    fn from(response: Response) -> Reply {
        Reply::respond(response)
    }
}

/// An error is logged, and the request answered with 500, so that `?` works where a request is looked at.
impl From<Result<Reply, Error>> for Reply {
    fn from(result: Result<Reply, Error>) -> Reply {
        result.unwrap_or_else(|error| {
            tracing::error!(error = format!("{error:#}"), "accepting a request failed");
            Reply::status(500)
        })
    }
}

/// What a [check](crate::server::Check) answers is answered, so that `?` works with checks.
impl From<Result<Reply, Response>> for Reply {
    fn from(result: Result<Reply, Response>) -> Reply {
        result.unwrap_or_else(Reply::respond)
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
