//! Bearer tokens (RFC 6750).

use std::fmt;

use threadwire_proto::handshake::Response;

use super::{Check, challenge, credentials, quoted};
use crate::server::request::Request;

/// Lets in who has a token in its `Authorization` header (RFC 6750): a closure says whether it is good, and who that is, which stays
/// with the request and its connection. Others are answered with 401.
///
/// Browsers can't send that header with a WebSocket. What comes in a cookie, a subprotocol or the query is for a
/// [closure](crate::Check) of one's own.
///
/// ```
/// use threadwire::server::{Bearer, Router};
/// use threadwire::{Connection, Message, Reply};
///
/// struct User(&'static str);
///
/// // Compare secrets in constant time, or look up their hashes.
/// let router = Router::new()
///     .check(Bearer::new("the feed", |token| (token == "1234").then_some(User("ann"))))
///     .route("/feed", |_| {
///         Reply::with(|ws: &Connection, _: Message<'_>| match ws.attached::<User>() {
///             Some(user) => ws.send(user.0),
///             None => ws.close(),
///         })
///     })?;
/// # let server = threadwire::Server::bind("127.0.0.1:0")?.serve(router.hook())?;
/// # let client = threadwire::Client::new(&format!("ws://{}/feed", server.local_addr()?))?;
/// # assert!(threadwire::blocking::connect(&client).is_err());
/// # let mut ws = threadwire::blocking::connect(&client.header("Authorization", "Bearer 1234")?)?;
/// # ws.send("who?")?;
/// # assert_eq!(ws.recv()?.unwrap(), "ann");
/// # Ok::<(), threadwire::Error>(())
/// ```
pub struct Bearer<F> {
    challenge: String,
    verify: F,
}

impl<F, T> Bearer<F>
where
    F: Fn(&str) -> Option<T> + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    /// Lets in whom `verify` knows by a token. The realm names what is protected.
    pub fn new(realm: &str, verify: F) -> Bearer<F> {
        Bearer { challenge: format!("Bearer realm={}", quoted(realm)), verify }
    }
}

impl<F, T> Check for Bearer<F>
where
    F: Fn(&str) -> Option<T> + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    fn check(&self, request: &Request) -> Result<(), Response> {
        let Some(token) = credentials(request, "Bearer") else {
            return Err(challenge(&self.challenge, "expected a bearer token\n"));
        };
        match (self.verify)(token) {
            Some(user) => {
                request.attach(user);
                Ok(())
            }
            None => {
                let refused = format!("{}, error=\"invalid_token\"", self.challenge);
                Err(challenge(&refused, "this token is not good\n"))
            }
        }
    }
}

impl<F> fmt::Debug for Bearer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer").finish_non_exhaustive()
    }
}
