//! Connections from requests that an HTTP server has received: hyper 1, and whatever is built on it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use http::{HeaderValue, Request, Response, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use threadwire_proto::handshake::{self, Answer, HandshakeError, Headers};
use threadwire_proto::{Level, Role};

use super::connection::Connection;
use super::core::Opening;
use super::guarded::guarded;
use super::stream::Stream;
use crate::{Config, Error};
use threadwire_core::config::Budgets;
use threadwire_core::config::setting::Way;
use threadwire_core::server::opening_handshake::{agree, agreed};

/// A request for a connection that an HTTP server has received (features `hyper` and `axum`).
///
/// Answer the request with [`response`](Upgrade::response), then the server lets go of its connection, and
/// [`connection`](Upgrade::connection) has it. [`on_upgrade`](Upgrade::on_upgrade) does both.
///
/// # hyper
///
/// ```
/// use http_body_util::Full;
/// use hyper::body::{Bytes, Incoming};
/// use hyper::{Request, Response};
/// use threadwire::aio;
///
/// /// To be used in a `service_fn`; the server's connection has to be served `with_upgrades`.
/// async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
///     Ok(match aio::Upgrade::new(&mut request) {
///         Ok(upgrade) => upgrade.on_upgrade(|mut ws| async move {
///             while let Ok(Some(message)) = ws.recv().await {
///                 if ws.send(&message).await.is_err() {
///                     break;
///                 }
///             }
///         }),
///         Err(error) => aio::Upgrade::refusal(&error),
///     })
/// }
/// ```
#[cfg_attr(
    feature = "axum",
    doc = r#"
# axum

It is an extractor; a request that asks for no connection is answered with what is wrong with it.

```
use axum::{Router, response::Response, routing::get};
use threadwire::aio;

async fn echo(upgrade: aio::Upgrade) -> Response {
    upgrade.on_upgrade(|mut ws| async move {
        while let Ok(Some(message)) = ws.recv().await {
            if ws.send(&message).await.is_err() {
                break;
            }
        }
    })
}

let app: Router = Router::new().route("/echo", get(echo));
```
"#
)]
pub struct Upgrade {
    upgrade: handshake::Upgrade,
    headers: Headers,
    on_upgrade: OnUpgrade,
    config: Config,
}

impl Upgrade {
    /// Looks at a request, and takes what it needs out of its extensions.
    ///
    /// Fails with [`Error::Handshake`] if it does not ask for a connection as RFC 6455 (section 4.2.1) wants it, and with
    /// [`Error::Other`] if the server can't let go of its connection.
    pub fn new<B>(request: &mut Request<B>) -> Result<Upgrade, Error> {
        let asked = read(request.method(), request.uri(), request.version(), request.headers())?;
        Upgrade::with(&asked, request.extensions_mut())
    }

    /// The same for a request without its body.
    pub fn from_parts(parts: &mut Parts) -> Result<Upgrade, Error> {
        let asked = read(&parts.method, &parts.uri, parts.version, &parts.headers)?;
        Upgrade::with(&asked, &mut parts.extensions)
    }

    fn with(asked: &handshake::Request, extensions: &mut http::Extensions) -> Result<Upgrade, Error> {
        let upgrade = asked.upgrade()?;
        let on_upgrade = extensions.remove::<OnUpgrade>();
        let on_upgrade = on_upgrade.ok_or_else(|| Error::other("the HTTP server does not allow upgrades"))?;
        Ok(Upgrade { upgrade, headers: Headers::new(), on_upgrade, config: Config::default() })
    }

    /// What a request is answered of which [`new`](Upgrade::new) says that it can't be upgraded.
    pub fn refusal<B: From<Vec<u8>>>(error: &Error) -> Response<B> {
        let (status, headers, body) = match error {
            Error::Handshake(error) => {
                let response = error.response();
                (response.status(), response.headers().clone(), response.body().to_vec())
            }
            _ => (500, Headers::new(), Vec::new()),
        };
        assemble(status, &headers, body.into())
    }

    /// Limits and timeouts; [`Config::default`] without this. Fails with [`Error::Setting`] for what the HTTP server has dealt
    /// with already: [`open_timeout`](Config::open_timeout), [`max_head`](Config::max_head) and [`max_headers`](Config::max_headers).
    pub fn config(mut self, config: Config) -> Result<Upgrade, Error> {
        config.check(&Way::UPGRADE)?;
        self.config = config;
        Ok(self)
    }

    /// The subprotocols that the client offers, the best one first.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.upgrade.offered_subprotocols()
    }

    /// Chooses one of them. Fails with [`Error::Handshake`] if it was not offered.
    pub fn subprotocol(mut self, name: &str) -> Result<Upgrade, Error> {
        self.upgrade.set_subprotocol(name)?;
        Ok(self)
    }

    /// Adds a header to the answer. Fails with [`Error::Handshake`] for a name or a value that must not be sent, and for the
    /// headers that belong to the handshake itself.
    pub fn header(mut self, name: &str, value: &str) -> Result<Upgrade, Error> {
        self.upgrade.add_header(name, value)?;
        self.headers.append(name, value)?;
        Ok(self)
    }

    /// The answer to the request: a consent, unless compression is asked for in a way that can't be read.
    pub fn response<B: Default>(&self) -> Response<B> {
        if Budgets::of(self.config.budget.as_ref()).admit().is_err() {
            return assemble(503, &Headers::new(), B::default());
        }
        // As the protocol writes it: it knows what belongs in there.
        let mut bytes = Vec::new();
        let mut upgrade = self.upgrade.clone();
        if let Err(error) = agree(&mut upgrade, &self.config) {
            let refusal = error.response();
            return assemble(refusal.status(), refusal.headers(), B::default());
        }
        upgrade.encode(&mut bytes);
        let limits = handshake::Limits::default().max_head(usize::MAX);
        match Answer::parse(&bytes, &limits) {
            Ok(Some((answer, _))) => assemble(answer.status(), answer.headers(), B::default()),
            _ => assemble(500, &Headers::new(), B::default()),
        }
    }

    /// The connection, once the request was answered with [`response`](Upgrade::response): to be awaited in another task than
    /// the one that answers. Fails with [`Error::Other`] if the server never lets go of it.
    pub fn connection(self) -> impl Future<Output = Result<Connection, Error>> + Send + 'static {
        let Upgrade { mut upgrade, headers, on_upgrade, config } = self;
        let deflate = agree(&mut upgrade, &config);
        Box::pin(async move {
            let deflate = deflate?;
            let upgraded = on_upgrade.await.map_err(Error::other)?;
            Ok(Connection::open(Opening {
                level: Level::Messages,
                role: Role::Server,
                stream: Stream::of(TokioIo::new(upgraded)).traced_from_now_on(&config, Role::Server),
                config: Arc::new(config),
                agreed: agreed(&upgrade, headers, None),
                deflate,
                output: Vec::new(),
                received: Vec::new(),
                early: 0,
            }))
        })
    }

    /// Answers the request, and runs `handler` with the connection, in a task of its own.
    pub fn on_upgrade<B, F>(self, handler: impl FnOnce(Connection) -> F + Send + 'static) -> Response<B>
    where
        B: Default,
        F: Future<Output: Send> + Send + 'static,
    {
        let response = self.response();
        let connection = self.connection();
        tokio::spawn(async move {
            match connection.await {
                Ok(connection) => {
                    if let Err(panicked) = guarded(async { drop(handler(connection).await) }).await {
                        tracing::error!(error = %Error::panicked(panicked), "a handler panicked");
                    }
                }
                Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
            }
        });
        response
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("upgrade", &self.upgrade).finish_non_exhaustive()
    }
}

/// The request as the protocol knows it.
fn read(
    method: &http::Method,
    uri: &http::Uri,
    version: http::Version,
    headers: &http::HeaderMap,
) -> Result<handshake::Request, HandshakeError> {
    if !matches!(version, http::Version::HTTP_10 | http::Version::HTTP_11) {
        return Err(HandshakeError::HttpVersion { found: format!("{version:?}") });
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut head = format!("{method} {target} {version:?}\r\n").into_bytes();
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    // The server has limits of its own, and has accepted it.
    let limits = handshake::Limits::default().max_head(head.len()).max_headers(headers.len().max(1));
    match handshake::Request::parse(&head, &limits)? {
        Some((request, _)) => Ok(request),
        None => Err(HandshakeError::Target),
    }
}

fn assemble<B>(status: u16, headers: &Headers, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers.iter() {
        if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), HeaderValue::from_bytes(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

#[cfg(feature = "axum")]
impl<S: Send + Sync> axum_core::extract::FromRequestParts<S> for Upgrade {
    type Rejection = axum_core::response::Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Upgrade, Self::Rejection> {
        Upgrade::from_parts(parts).map_err(|error| Upgrade::refusal(&error))
    }
}
