//! What becomes of a request.

use threadwire_proto::handshake::{Headers, Response, refuse_reserved};

use crate::{Error, Listener};

/// What becomes of a request: an upgrade to a connection, or a plain answer.
///
/// ```
/// use threadwire::{Accept, Connection, Error, Message, Request, Response};
///
/// fn accept(request: &Request) -> Result<Accept, Error> {
///     match request.header("Authorization") {
///         Some("Bearer 123") => Accept::with(|ws: &Connection, message: Message<'_>| ws.send(message))
///             .header("Set-Cookie", "seen=yes"),
///         Some(_) => Ok(Accept::respond(Response::new(403)?.with_body("not you\n"))),
///         None => Accept::status(401).header("WWW-Authenticate", "Bearer"),
///     }
/// }
///
/// let serve = |request: &Request| accept(request).unwrap_or_else(|_| Accept::status(500));
/// # let server = threadwire::Server::bind("127.0.0.1:0")?.serve(serve)?;
/// # let client = threadwire::Client::new(&format!("ws://{}", server.local_addr()))?;
/// # assert!(client.connect(|_: &Connection, _: Message<'_>| Ok(())).is_err());
/// # let client = client.header("Authorization", "Bearer 123")?;
/// # assert!(client.connect(|_: &Connection, _: Message<'_>| Ok(()))?.response_headers().is_some());
/// # Ok::<(), Error>(())
/// ```
pub struct Accept(pub(crate) Answer);

pub(crate) enum Answer {
    /// It is upgraded to a connection, if it asks for that as it must.
    Upgrade { listener: Option<Box<dyn Listener>>, headers: Headers, subprotocol: Option<String> },
    /// It is answered, and that is all.
    Respond(Response),
}

impl Accept {
    /// Upgrades to a connection that `listener` listens to. A request that does not ask for that as RFC 6455 (section
    /// 4.2.1) wants it is answered with what is wrong with it, and the listener is dropped.
    pub fn with(listener: impl Listener) -> Accept {
        let listener: Box<dyn Listener> = Box::new(listener);
        Accept(Answer::Upgrade { listener: Some(listener), headers: Headers::new(), subprotocol: None })
    }

    /// Upgrades to a connection for the face that has asked, such as a [`blocking::Server`](crate::blocking::Server). On a
    /// [`Server`](crate::Server), which only has listeners, to one that nobody listens to.
    pub fn upgrade() -> Accept {
        Accept(Answer::Upgrade { listener: None, headers: Headers::new(), subprotocol: None })
    }

    /// With the listener that `make` makes, if it is an upgrade that has none.
    pub(crate) fn or_listener(mut self, make: impl FnOnce() -> Box<dyn Listener>) -> Accept {
        if let Answer::Upgrade { listener, .. } = &mut self.0 {
            listener.get_or_insert_with(make);
        }
        self
    }

    /// Answers with a status: 403 to refuse, 404 for a path that is not there, 200 for a health check.
    ///
    /// ```
    /// use threadwire::{Accept, Connection, Message, Request};
    ///
    /// fn accept(request: &Request) -> Accept {
    ///     match request.path() {
    ///         "/echo" => Accept::with(|ws: &Connection, message: Message<'_>| ws.send(message)),
    ///         _ => Accept::status(404),
    ///     }
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// If the status is not from 200 to 599.
    pub fn status(status: u16) -> Accept {
        match Response::new(status) {
            Ok(response) => Accept::respond(response),
            Err(error) => panic!("{error}"),
        }
    }

    /// Answers with a response of your own; the connection ends with it.
    pub fn respond(response: Response) -> Accept {
        Accept(Answer::Respond(response))
    }

    /// Adds a header to the answer, whatever it is. Fails with [`Error::Handshake`] for a name or a value that must not
    /// be sent, and for the headers that belong to the handshake itself.
    pub fn header(mut self, name: &str, value: &str) -> Result<Accept, Error> {
        refuse_reserved(name)?;
        self.0 = match self.0 {
            Answer::Upgrade { listener, mut headers, subprotocol } => {
                headers.append(name, value)?;
                Answer::Upgrade { listener, headers, subprotocol }
            }
            Answer::Respond(response) => Answer::Respond(response.with_header(name, value)?),
        };
        Ok(self)
    }

    /// Chooses a subprotocol, one of those that the request offers; otherwise the request is answered with 500. Fails
    /// with [`Error::Other`] for an answer that is no upgrade. There is an example at [`Connection::subprotocol`].
    ///
    /// [`Connection::subprotocol`]: crate::Connection::subprotocol
    pub fn subprotocol(mut self, name: &str) -> Result<Accept, Error> {
        match &mut self.0 {
            Answer::Upgrade { subprotocol, .. } => *subprotocol = Some(name.to_owned()),
            Answer::Respond(_) => return Err(Error::other("only an upgrade has a subprotocol")),
        }
        Ok(self)
    }
}

/// An error is logged, and the request answered with 500, so that `?` works where a request is looked at.
impl From<Result<Accept, Error>> for Accept {
    fn from(result: Result<Accept, Error>) -> Accept {
        result.unwrap_or_else(|error| {
            tracing::error!(error = format!("{error:#}"), "accepting a request failed");
            Accept::status(500)
        })
    }
}

impl std::fmt::Debug for Accept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Answer::Upgrade { headers, subprotocol, .. } => {
                f.debug_struct("Upgrade").field("headers", headers).field("subprotocol", subprotocol).finish()
            }
            Answer::Respond(response) => f.debug_tuple("Respond").field(response).finish(),
        }
    }
}
