//! The client's side of the opening handshake: the request, the server's answer, and its verification (RFC 6455, section
//! 4.1).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::HandshakeError;
use super::extension::{self, Extension};
use super::headers::{Headers, is_token, write_field};
use super::quote::quote;
use super::redact;
use super::{HeadReader, Limits, accept_key, rules};

/// Describes a handshake request. It can be [built](Self::build) again and again, for each attempt to
/// connect, with a fresh key each time.
///
/// ```
/// use threadwire_proto::handshake::RequestBuilder;
///
/// let mut request = RequestBuilder::new("example.com:8080", "/chat?room=1")?;
/// request.header("Authorization", "Bearer 123")?.subprotocols(["chat", "superchat"])?;
/// let mut out = Vec::new();
/// request.build()?.encode(&mut out);
/// assert!(out.starts_with(b"GET /chat?room=1 HTTP/1.1\r\nHost: example.com:8080\r\n"));
/// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RequestBuilder {
    target: String,
    host: String,
    subprotocols: Vec<String>,
    extensions: Vec<Extension>,
    headers: Headers,
}

impl RequestBuilder {
    /// A request for `target`, a path with its query as `/chat?room=1`, at `host`, a name or address and,
    /// unless it is the scheme's default, a port. It has a `User-Agent` that names this crate, and no
    /// `Origin`.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Host`] or [`HandshakeError::Target`] if one of them is not that. Names and paths
    /// with other characters than ASCII must have been encoded before (IDNA, percent-encoding).
    pub fn new(host: &str, target: &str) -> Result<Self, HandshakeError> {
        if !(target.starts_with('/') && rules::is_target(target)) {
            return Err(HandshakeError::Target);
        }
        let mut headers = Headers::new();
        headers.append("User-Agent", concat!("threadwire/", env!("CARGO_PKG_VERSION")))?;
        Ok(Self {
            target: target.to_owned(),
            host: checked_host(host.as_bytes())?,
            subprotocols: Vec::new(),
            extensions: Vec::new(),
            headers,
        })
    }

    /// Sets or adds a header: `Host`, `Origin` and `User-Agent` take the place of what was there, all others
    /// are added.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Header`] if name or value may not be sent, or if the handshake writes this header
    /// itself: `Upgrade`, `Connection`, all `Sec-WebSocket-` ones, and those that announce a body.
    /// [`HandshakeError::Host`] for a `Host` that is none.
    ///
    /// ```
    /// use threadwire_proto::handshake::RequestBuilder;
    ///
    /// let mut request = RequestBuilder::new("127.0.0.1:8080", "/")?;
    /// request.header("Host", "example.com")?.origin("https://example.com")?.remove_header("User-Agent");
    /// assert!(request.header("Upgrade", "h2c").is_err(), "the handshake writes it");
    /// let mut out = Vec::new();
    /// request.build()?.encode(&mut out);
    /// assert!(out.starts_with(b"GET / HTTP/1.1\r\nHost: example.com\r\n"));
    /// assert!(out.ends_with(b"\r\nOrigin: https://example.com\r\n\r\n"));
    /// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
    /// ```
    pub fn header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<&mut Self, HandshakeError> {
        rules::refuse_reserved(name)?;
        if name.eq_ignore_ascii_case("Host") {
            self.host = checked_host(value.as_ref())?;
        } else if ["Origin", "User-Agent"].iter().any(|once| name.eq_ignore_ascii_case(once)) {
            self.headers.set(name, value)?;
        } else {
            self.headers.append(name, value)?;
        }
        Ok(self)
    }

    /// Sets the origin that the request claims to come from, as `https://example.com`.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Header`] if it holds a control character.
    pub fn origin(&mut self, origin: &str) -> Result<&mut Self, HandshakeError> {
        self.header("Origin", origin)
    }

    /// Removes all headers of that name, as the default `User-Agent`. `Host` and what the handshake writes
    /// stay.
    pub fn remove_header(&mut self, name: &str) -> &mut Self {
        self.headers.remove(name);
        self
    }

    /// Offers these subprotocols behind those offered before, the one to be preferred first.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Token`] for a name that is not a token or that was offered before; those in front of
    /// it stay.
    pub fn subprotocols<S: AsRef<str>>(
        &mut self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<&mut Self, HandshakeError> {
        for name in names {
            let name = name.as_ref();
            if !is_token(name.as_bytes()) || self.subprotocols.iter().any(|other| other == name) {
                return Err(HandshakeError::Token { found: rules::quote_subprotocol(name.as_bytes()) });
            }
            self.subprotocols.push(name.to_owned());
        }
        Ok(self)
    }

    /// Offers an extension behind those offered before, which whoever calls this must speak if it is
    /// accepted.
    pub fn extension(&mut self, extension: Extension) -> &mut Self {
        self.extensions.push(extension);
        self
    }

    /// The request for one attempt to connect, with a random key from the operating system.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Random`] if the system gives no random bytes.
    pub fn build(&self) -> Result<ClientRequest, HandshakeError> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(HandshakeError::Random)?;
        Ok(self.build_with_nonce(nonce))
    }

    /// The request with a key made of these bytes, for tests. On a network they must be random
    /// (RFC 6455, section 10.3), as [`build`](Self::build) has them.
    pub fn build_with_nonce(&self, nonce: [u8; 16]) -> ClientRequest {
        ClientRequest { parts: self.clone(), key: STANDARD.encode(nonce) }
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) =
            self.target.split_once('?').map_or((&*self.target, ""), |(path, _)| (path, "?(hidden)"));
        f.debug_struct("RequestBuilder")
            .field("target", &format_args!("{path}{query}"))
            .field("host", &self.host)
            .field("subprotocols", &redact::subprotocols(self.subprotocols.iter().map(String::as_str)))
            .field("extensions", &self.extensions)
            .field("headers", &self.headers)
            .finish()
    }
}

/// A handshake request with its key: [encode](Self::encode) it, send it, and let it [verify](Self::verify)
/// the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRequest {
    parts: RequestBuilder,
    key: String,
}

impl ClientRequest {
    /// Appends the request to `out` as it goes on the wire.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let RequestBuilder { target, host, subprotocols, extensions, headers } = &self.parts;
        out.extend_from_slice(format!("GET {target} HTTP/1.1\r\n").as_bytes());
        write_field(out, "Host", host);
        write_field(out, "Upgrade", "websocket");
        write_field(out, "Connection", "Upgrade");
        write_field(out, "Sec-WebSocket-Key", &self.key);
        write_field(out, "Sec-WebSocket-Version", "13");
        if !subprotocols.is_empty() {
            write_field(out, "Sec-WebSocket-Protocol", subprotocols.join(", "));
        }
        if !extensions.is_empty() {
            write_field(out, "Sec-WebSocket-Extensions", extension::list(extensions));
        }
        headers.encode(out);
        out.extend_from_slice(b"\r\n");
    }

    /// Checks that the answer accepts this request, by every rule of RFC 6455, section 4.1.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Status`] with the answer in it if the status is not 101, otherwise the first rule
    /// that is broken. Either way the connection must be closed.
    ///
    /// ```
    /// use threadwire_proto::handshake::{Answer, Limits, RequestBuilder};
    ///
    /// let request = RequestBuilder::new("example.com", "/")?.build_with_nonce(*b"the sample nonce");
    /// let answer = b"HTTP/1.1 101 Switching Protocols\r\n\
    ///     Upgrade: websocket\r\n\
    ///     Connection: Upgrade\r\n\
    ///     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    ///     Server: example\r\n\r\n";
    /// let (answer, _) = Answer::parse(answer, &Limits::default())?.expect("a whole head");
    /// let accepted = request.verify(answer)?;
    /// assert_eq!(accepted.headers.get("Server"), Some("example"));
    /// assert!(accepted.subprotocol.is_none() && accepted.extensions.is_empty());
    /// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
    /// ```
    pub fn verify(&self, answer: Answer) -> Result<Accepted, HandshakeError> {
        if answer.status != 101 {
            return Err(HandshakeError::Status(Box::new(answer)));
        }
        let headers = &answer.headers;
        let upgrade = rules::UPGRADED.one(headers)?;
        if !upgrade.eq_ignore_ascii_case(b"websocket") {
            return Err(rules::UPGRADED.broken_by(upgrade));
        }
        rules::CONNECTED.lists(headers, "upgrade")?;
        let (found, expected) = (rules::ACCEPT.one(headers)?, accept_key(&self.key));
        if found != expected.as_bytes() {
            return Err(HandshakeError::WrongAccept { found: quote(found), expected });
        }
        let subprotocol = match rules::SUBPROTOCOL.at_most_one(headers)? {
            // Some servers name none in so many words.
            Some(b"") | None => None,
            Some(chosen) => Some(self.offered(chosen)?),
        };
        let extensions = extension::parse(headers)?;
        for extension in &extensions {
            rules::check_offered(extension, &self.parts.extensions)?;
        }
        Ok(Accepted { subprotocol, extensions, headers: answer.headers })
    }

    fn offered(&self, chosen: &[u8]) -> Result<String, HandshakeError> {
        let offered = &self.parts.subprotocols;
        let found = offered.iter().find(|name| name.as_bytes() == chosen);
        found.cloned().ok_or_else(|| rules::subprotocol_not_offered(chosen, offered))
    }
}

/// A server's answer as it was received: not yet [verified](ClientRequest::verify).
///
/// ```
/// use threadwire_proto::handshake::{Answer, HandshakeError, Limits, RequestBuilder};
///
/// let bytes = b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnone\n";
/// let (answer, head) = Answer::parse(bytes, &Limits::default())?.expect("a whole head");
/// assert_eq!((answer.status(), answer.reason()), (404, "Not Found"));
/// assert_eq!(answer.content_length(), Some(5));
///
/// let request = RequestBuilder::new("example.com", "/")?.build()?;
/// match request.verify(answer.with_body(&bytes[head..])) {
///     Err(HandshakeError::Status(refusal)) => assert_eq!(refusal.body(), b"none\n"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    reason: String,
    headers: Headers,
    body: Vec<u8>,
}

impl Answer {
    /// The answer at the start of `buf` and the length of its head in bytes, or `None` if it is not all there
    /// yet. For a buffer that grows piece by piece use a [`HeadReader`], which does not begin anew each time.
    ///
    /// # Errors
    ///
    /// As soon as the bytes cannot become an answer within the limits.
    pub fn parse(buf: &[u8], limits: &Limits) -> Result<Option<(Self, usize)>, HandshakeError> {
        HeadReader::new(*limits).answer(buf)
    }

    pub(super) fn from_parsed(parsed: &httparse::Response<'_, '_>) -> Result<Self, HandshakeError> {
        let mut headers = Headers::new();
        for field in parsed.headers.iter() {
            headers.append(field.name, field.value)?;
        }
        Ok(Self {
            status: parsed.code.unwrap_or_default(),
            reason: parsed.reason.unwrap_or_default().to_owned(),
            headers,
            body: Vec::new(),
        })
    }

    /// The status: three digits, which need not be a status that HTTP knows.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase, for people only: often empty, sometimes nonsense.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// All headers.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The first value of a header, if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Whether the answer is an interim one: a 100 or 103 may come before the one that counts (RFC 9110, section
    /// 15.2).
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// The length of the body in bytes as the server states it; `None` if it does not, or not clearly. The
    /// body of an answer to reject a handshake then ends where the connection does, unless it is chunked.
    pub fn content_length(&self) -> Option<u64> {
        let mut lengths = self.headers.get_all("Content-Length");
        let length = lengths.next().filter(|length| length.bytes().all(|byte| byte.is_ascii_digit()))?;
        if self.headers.contains("Transfer-Encoding") || lengths.next().is_some() {
            return None;
        }
        length.parse().ok()
    }

    /// The same answer with the part of its body that was read, to be found again in [`HandshakeError::Status`].
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The part of the body that was read.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// The agreement of client and server, as [`ClientRequest::verify`] finds it in the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The subprotocol the server chose, if it chose one of those offered.
    pub subprotocol: Option<String>,
    /// The extensions the server accepted; only names that were offered. Their parameters are as the server
    /// sent them.
    pub extensions: Vec<Extension>,
    /// All headers of the answer.
    pub headers: Headers,
}

fn checked_host(host: &[u8]) -> Result<String, HandshakeError> {
    match str::from_utf8(host) {
        Ok(host) if rules::is_authority(host.as_bytes()) => Ok(host.to_owned()),
        _ => Err(HandshakeError::Host { found: rules::quote_host(host) }),
    }
}
