//! Checks of upgrade requests: authentication, origins, host names, closures of the program.

mod basic;
mod bearer;
mod hosts;
mod origins;

pub use basic::{BasicAuth, BasicUser};
pub use bearer::Bearer;
pub use hosts::Hosts;
pub use origins::Origins;

use threadwire_proto::handshake::Response;

use super::request::Request;

/// What a request must be before it is looked at further: for [`Router::check`](crate::Router::check), or to be called in a hook of
/// one's own. Every `Fn(&Request) -> Result<(), Response>` is one; it may [attach](Request::attach) what it has found out.
///
/// ```
/// use threadwire::server::{Check, Origins};
/// use threadwire::{Connection, Message, Reply, Request, Response, Server};
///
/// let origins = Origins::new(["https://example.com"])?;
/// let server = Server::bind("127.0.0.1:0")?.serve(move |request| -> Result<Reply, Response> {
///     if request.path() != "/public" {
///         origins.check(request)?;
///     }
///     Ok(Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message)))
/// })?;
/// # let addr = server.local_addr()?;
/// # let at = |path| format!("ws://{addr}/{path}");
/// # assert!(threadwire::blocking::connect(&at("public")).is_ok());
/// # assert!(threadwire::blocking::connect(&at("private")).is_err());
/// # Ok::<(), threadwire::Error>(())
/// ```
pub trait Check: Send + Sync + 'static {
    /// Looks at a request. An error is what it is answered.
    fn check(&self, request: &Request) -> Result<(), Response>;
}

impl<F> Check for F
where
    F: Fn(&Request) -> Result<(), Response> + Send + Sync + 'static,
{
    fn check(&self, request: &Request) -> Result<(), Response> {
        self(request)
    }
}

/// A response of a status that is known to be one.
#[doc(hidden)]
pub fn plain(status: u16, body: &str) -> Response {
    match Response::new(status) {
        Ok(response) => response.with_body(body),
        Err(error) => unreachable!("{error}"),
    }
}

/// A response that asks who it is. The challenge was made of what may be sent.
fn challenge(challenge: &str, body: &str) -> Response {
    let response = plain(401, body);
    response.clone().with_header("WWW-Authenticate", challenge).unwrap_or(response)
}

/// A text as a quoted string (RFC 9110, section 5.6.4). Control characters, which it can't have, become spaces.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if character.is_control() => quoted.push(' '),
            _ => quoted.push(character),
        }
    }
    quoted + "\""
}

/// The credentials of a request that uses this scheme (RFC 9110, section 11.4). A header that appears twice is none.
fn credentials<'r>(request: &'r Request, scheme: &str) -> Option<&'r str> {
    let mut all = request.headers().get_all_bytes("Authorization");
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let (found, credentials) = str::from_utf8(only).ok()?.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| credentials.trim_matches(' '))
}
