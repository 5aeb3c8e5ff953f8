//! Basic authentication: names and passwords (RFC 7617).

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use threadwire_proto::handshake::Response;

use super::{Check, challenge, credentials, quoted};
use crate::error::Error;
use crate::server::request::Request;

/// Lets in who knows a name and its password (Basic authentication, RFC 7617). Others are answered with 401, and what is wanted of
/// them. Who it is stays with the request and its connection as a [`BasicUser`].
///
/// How long a comparison takes says nothing about names and passwords: what is compared are their hashes, with those of all users,
/// and in constant time. Passwords go over the wire as they are, so this wants TLS; and as anybody can try as often as they like,
/// it wants long passwords.
///
/// ```
/// use threadwire::server::{BasicAuth, BasicUser, Router};
/// use threadwire::{Connection, Message, Reply};
///
/// let router = Router::new()
///     .check(BasicAuth::new("the feed").user("ann", "a long password")?.user("bob", "another one")?)
///     .route("/feed", |request| {
///         let user = request.attached::<BasicUser>();
///         Reply::with(move |ws: &Connection, _: Message<'_>| match &user {
///             Some(user) => ws.send(user.name()),
///             None => ws.close(),
///         })
///     })?;
/// # let server = threadwire::Server::bind("127.0.0.1:0")?.serve(router.hook())?;
/// # let client = threadwire::Client::new(&format!("ws://{}/feed", server.local_addr()?))?;
/// # assert!(threadwire::blocking::connect(&client).is_err());
/// # let mut ws = threadwire::blocking::connect(&client.header("Authorization", "Basic Ym9iOmFub3RoZXIgb25l")?)?;
/// # ws.send("who?")?;
/// # assert_eq!(ws.recv()?.unwrap(), "bob");
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone)]
pub struct BasicAuth {
    challenge: String,
    users: Vec<User>,
    verify: Option<Arc<Verify>>,
}

type Verify = dyn Fn(&str, &str) -> bool + Send + Sync;

#[derive(Clone)]
struct User {
    name: [u8; 32],
    password: [u8; 32],
}

/// The authenticated user: attached by [`BasicAuth`] to the request, and with it to the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicUser(String);

impl BasicUser {
    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl BasicAuth {
    /// Lets nobody in. The realm is what people are shown when they are asked for a password.
    pub fn new(realm: &str) -> BasicAuth {
        let challenge = format!("Basic realm={}, charset=\"UTF-8\"", quoted(realm));
        BasicAuth { challenge, users: Vec::new(), verify: None }
    }

    /// Lets this user in. Fails with [`Error::Other`] if the name has a colon, which it can't have (RFC 7617, section 2).
    pub fn user(mut self, name: &str, password: &str) -> Result<BasicAuth, Error> {
        if name.contains(':') {
            return Err(Error::other("a user name with a colon can't be sent (RFC 7617, section 2)"));
        }
        self.users.push(User { name: hash(name), password: hash(password) });
        Ok(self)
    }

    /// Lets in whom the closure knows, besides the users that were named: it is given a name and a password. What it compares, it
    /// should compare in constant time, or as hashes that are made for passwords.
    pub fn or_if(mut self, verify: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> BasicAuth {
        self.verify = Some(Arc::new(verify));
        self
    }

    fn knows(&self, name: &str, password: &str) -> bool {
        let (name_hash, password_hash) = (hash(name), hash(password));
        let mut known = Choice::from(0);
        for user in &self.users {
            known |= user.name.ct_eq(&name_hash) & user.password.ct_eq(&password_hash);
        }
        known.into() || self.verify.as_ref().is_some_and(|verify| verify(name, password))
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The name and the password of a request.
fn read(request: &Request) -> Option<(String, String)> {
    let decoded = STANDARD.decode(credentials(request, "Basic")?).ok()?;
    let (name, password) = str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

impl Check for BasicAuth {
    fn check(&self, request: &Request) -> Result<(), Response> {
        match read(request) {
            Some((name, password)) if self.knows(&name, &password) => {
                request.attach(BasicUser(name));
                Ok(())
            }
            _ => Err(challenge(&self.challenge, "expected a user name and a password\n")),
        }
    }
}

/// Neither names nor passwords.
impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicAuth").field("users", &self.users.len()).finish_non_exhaustive()
    }
}
