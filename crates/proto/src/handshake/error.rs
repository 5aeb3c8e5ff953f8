//! Errors of the opening handshake, and the response of a server to each.

use super::client::Answer;
use super::headers::HeaderError;
use super::response::Response;
use crate::deflate::ParamError;

/// Why an opening handshake failed.
///
/// Every message names the value that was found, the expected one, and the section with the rule. Values from the peer
/// are quoted with control and non-ASCII bytes escaped, at most 64 bytes of them, and only from fields that
/// carry no credentials; a request's target is never quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer does not speak HTTP: known from its first bytes, before a whole head is there.
    #[error("not HTTP: found {found}, expected {expected} (RFC 9112, section 2.1)")]
    NotHttp {
        /// The bytes that the peer sent, quoted.
        found: String,
        /// The beginning of a head.
        expected: &'static str,
    },
    /// A line of the head breaks HTTP's grammar.
    #[error("line {line} of the head: {what} (RFC 9112)")]
    Malformed {
        /// The line, counted from 1.
        line: usize,
        /// The problem.
        what: &'static str,
    },
    /// The first line alone is longer than a whole head may be
    /// ([`Limits::max_head`](super::Limits::max_head)).
    #[error("the first line is longer than the limit of {limit} bytes for a whole head")]
    StartLineTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The head does not end within [`Limits::max_head`](super::Limits::max_head).
    #[error("the head is longer than the limit of {limit} bytes")]
    HeadTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The head has more fields than [`Limits::max_headers`](super::Limits::max_headers).
    #[error("the head has more headers than the limit of {limit}")]
    TooManyHeaders {
        /// The limit in header fields.
        limit: usize,
    },
    /// The peer speaks another version of HTTP than 1.1.
    #[error("the HTTP version is {found}, expected HTTP/1.1 (RFC 6455, section 4.1)")]
    HttpVersion {
        /// The version it named, quoted.
        found: String,
    },
    /// The request's method is not GET.
    #[error("the method is {found}, expected GET (RFC 6455, section 4.2.1)")]
    Method {
        /// The method, quoted.
        found: String,
    },
    /// The request's target is neither a path nor an absolute http URI. Targets may hold secrets and are not
    /// quoted.
    #[error(
        "the request target is not a path beginning with \"/\" or an http URI, in visible ASCII and \
         without \"#\" (RFC 6455, section 3)"
    )]
    Target,
    /// A plain HTTP request: it does not ask to upgrade to WebSocket.
    #[error(
        "Upgrade is {found}, expected websocket: this server speaks only WebSocket here \
         (RFC 6455, section 4.2.1)"
    )]
    UpgradeRequired {
        /// The request's `Upgrade`, quoted, or "missing".
        found: String,
    },
    /// The client asks for another version of the WebSocket protocol, or does not say which.
    #[error(
        "Sec-WebSocket-Version is {found}, expected 13, the only version there is here \
         (RFC 6455, section 4.4)"
    )]
    WebSocketVersion {
        /// The request's `Sec-WebSocket-Version`, quoted, or "missing".
        found: String,
    },
    /// The server accepts compression in a way that was not offered.
    #[error("the server accepts {found}, but {problem} (RFC 7692, section 7.1)")]
    Deflate {
        /// The extension as it was accepted.
        found: String,
        /// The problem.
        problem: ParamError,
    },
    /// A header that must be there is not.
    #[error("{name} is missing, expected {expected} ({rule})")]
    MissingHeader {
        /// The header's name.
        name: &'static str,
        /// The value that was expected.
        expected: &'static str,
        /// The section that says so.
        rule: &'static str,
    },
    /// A header that may appear once appears more often.
    #[error("{name} appears {count} times, expected at most once ({rule})")]
    RepeatedHeader {
        /// The header's name.
        name: &'static str,
        /// The number of times that it appears.
        count: usize,
        /// The section that says so.
        rule: &'static str,
    },
    /// A header's value is not what the protocol asks for.
    #[error("{name} is {found}, expected {expected} ({rule})")]
    InvalidHeader {
        /// The header's name.
        name: &'static str,
        /// The value, quoted.
        found: String,
        /// The value that was expected.
        expected: &'static str,
        /// The section that says so.
        rule: &'static str,
    },
    /// The request announces a body, which a handshake has not: what follows the head would be read as
    /// frames.
    #[error("{name} announces a body, a WebSocket handshake has none (RFC 6455, section 4.1)")]
    Body {
        /// `Content-Length` or `Transfer-Encoding`.
        name: &'static str,
    },
    /// The `Sec-WebSocket-Accept` of the answer does not belong to the key that was sent: something on the
    /// way answered for the server, or replayed an old answer.
    #[error("Sec-WebSocket-Accept is {found}, expected \"{expected}\" (RFC 6455, section 4.1)")]
    WrongAccept {
        /// The answer's value, quoted.
        found: String,
        /// The value that belongs to the key.
        expected: String,
    },
    /// A subprotocol was chosen that the client did not offer.
    #[error("the subprotocol {found} was chosen, the client offered {offered} (RFC 6455, section 4.1)")]
    SubprotocolNotOffered {
        /// The subprotocol, quoted, unless it [may be a secret](super::redact::subprotocol).
        found: String,
        /// The offers of the client, to be read by people, without those that may be secrets.
        offered: String,
    },
    /// An extension was chosen that the client did not offer.
    #[error("the extension {found} was chosen, the client offered {offered} (RFC 6455, section 4.1)")]
    ExtensionNotOffered {
        /// The extension's name, quoted.
        found: String,
        /// The offers of the client, to be read by people.
        offered: String,
    },
    /// The server answered with another status than 101. The answer is kept: a redirect, a challenge and a
    /// refusal are told from it.
    #[error("the server answered with status {}, expected 101 (RFC 6455, section 4.1)", .0.status())]
    Status(
        /// The server's answer, with as much of its body as was [given to it](Answer::with_body).
        Box<Answer>,
    ),
    /// A name for a subprotocol or an extension is not a token, or a subprotocol is named twice.
    #[error("{found} cannot be offered, expected tokens, each of them once (RFC 6455, section 4.1)")]
    Token {
        /// The text that was given, quoted.
        found: String,
    },
    /// A host to name in a request is not `host` or `host:port`.
    #[error(
        "{found} is not a host, expected a name or an address, and perhaps a port (RFC 9110, section 7.2)"
    )]
    Host {
        /// The text that was given, quoted, without anything in front of an `@`.
        found: String,
    },
    /// A response was asked for whose status is not a final one. A 101 is written by
    /// [`Upgrade`](super::Upgrade).
    #[error("{0} is not the status of a response, expected 200 to 599 (RFC 9110, section 15)")]
    InvalidStatus(
        /// The status asked for.
        u16,
    ),
    /// A header to send was refused.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The operating system gave no random bytes for a key.
    #[error("no random bytes for Sec-WebSocket-Key: {0}")]
    Random(
        /// The system's error.
        #[source]
        getrandom::Error,
    ),
}

impl HandshakeError {
    /// The response that tells a client why its request was refused: the right status, the headers that
    /// status asks for, and the error's message as text.
    ///
    /// `OPTIONS` is answered with 200 and the method that there is (RFC 9110, section 9.3.7): balancers ask so whether a server is
    /// alive.
    ///
    /// Errors that no request can cause (a client's, or a server's own mistake) become a 500 that tells
    /// nothing.
    ///
    /// ```
    /// use threadwire_proto::handshake::{HandshakeError, Limits, Request};
    ///
    /// let plain = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    /// let (request, _) = Request::parse(plain, &Limits::default())?.expect("a whole head");
    /// let error = request.upgrade().unwrap_err();
    /// assert!(matches!(error, HandshakeError::UpgradeRequired { .. }));
    /// assert_eq!(error.response().status(), 426);
    /// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
    /// ```
    pub fn response(&self) -> Response {
        let response = match self {
            Self::NotHttp { .. }
            | Self::Malformed { .. }
            | Self::Target
            | Self::MissingHeader { .. }
            | Self::RepeatedHeader { .. }
            | Self::InvalidHeader { .. }
            | Self::Body { .. } => Response::of(400, &[]),
            Self::Method { found } if found == "\"OPTIONS\"" => {
                return Response::of(200, &[("Allow", "GET, OPTIONS")]);
            }
            Self::Method { .. } => Response::of(405, &[("Allow", "GET")]),
            Self::StartLineTooLong { .. } => Response::of(414, &[]),
            Self::UpgradeRequired { .. } | Self::WebSocketVersion { .. } => {
                Response::of(426, &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")])
            }
            Self::HeadTooLarge { .. } | Self::TooManyHeaders { .. } => Response::of(431, &[]),
            Self::HttpVersion { .. } => Response::of(505, &[]),
            _ => return Response::of(500, &[]),
        };
        response.with_body(format!("{self}\n"))
    }
}
