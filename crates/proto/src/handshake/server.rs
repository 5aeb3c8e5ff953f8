//! The server's side of the opening handshake: a client's request, its checks, and the 101 that accepts it (RFC 6455, section 4.2).

use std::collections::HashSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::error::HandshakeError;
use super::extension::{self, Extension};
use super::headers::{HeaderError, Headers, is_token, write_field};
use super::quote::quote;
use super::redact;
use super::response::write_status_line;
use super::rules::{self, Rule};
use super::{HeadReader, Limits, accept_key};

/// A request as it was received. Not yet checked to be a handshake: a router can answer plain HTTP with it
/// too, and then call [`upgrade`](Self::upgrade) where a WebSocket is meant to be.
///
/// `Debug` hides the query, which often carries a token, and the headers that carry credentials.
///
/// ```
/// use threadwire_proto::handshake::{Limits, Request};
///
/// let head = b"GET /chat?room=1 HTTP/1.1\r\n\
///     Host: example.com\r\n\
///     Origin: https://example.com\r\n\
///     Sec-WebSocket-Protocol: v2, v1\r\n\r\n";
/// let (request, size) = Request::parse(head, &Limits::default())?.expect("a whole head");
/// assert_eq!(size, head.len());
/// assert_eq!((request.method(), request.path(), request.query()), ("GET", "/chat", Some("room=1")));
/// assert_eq!((request.host(), request.origin()), (Some("example.com"), Some("https://example.com")));
/// assert!(request.subprotocols().eq(["v2", "v1"]));
/// assert!(request.upgrade().is_err(), "it does not ask for it");
/// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    method: String,
    target: String,
    minor_version: u8,
    headers: Headers,
}

/// What decodes to 16 bytes is a key, whatever the bits of its last character that stand for none of them: those of the RFC's own example
/// in section 1.2 are not zero.
const ANY_TRAILING_BITS: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

impl Request {
    /// The request at the start of `buf` and the length of its head in bytes, or `None` if it is not all
    /// there yet. For a buffer that grows piece by piece use a [`HeadReader`], which does not begin anew each
    /// time.
    ///
    /// # Errors
    ///
    /// As soon as the bytes cannot become a request within the limits.
    pub fn parse(buf: &[u8], limits: &Limits) -> Result<Option<(Self, usize)>, HandshakeError> {
        HeadReader::new(*limits).request(buf)
    }

    pub(super) fn from_parsed(parsed: &httparse::Request<'_, '_>) -> Result<Self, HandshakeError> {
        let mut headers = Headers::new();
        for field in parsed.headers.iter() {
            headers.append(field.name, field.value)?;
        }
        Ok(Self {
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            minor_version: parsed.version.unwrap_or_default(),
            headers,
        })
    }

    /// The method, as `GET`. Methods are case-sensitive.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The target as it was sent: a path with its query, as `/chat?room=1`, or an absolute URI if a proxy is
    /// meant.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The path of the target without the query, still percent-encoded; `/` if an absolute URI has none.
    pub fn path(&self) -> &str {
        match self.split_target().0 {
            "" => "/",
            path => path,
        }
    }

    /// The query of the target without its question mark, still percent-encoded.
    pub fn query(&self) -> Option<&str> {
        self.split_target().1
    }

    fn split_target(&self) -> (&str, Option<&str>) {
        let path_and_query = rules::split_absolute(&self.target).map_or(&*self.target, |(_, rest)| rest);
        match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        }
    }

    /// The minor version of HTTP: 1 for HTTP/1.1, 0 for HTTP/1.0. Others are refused when parsed.
    pub fn minor_version(&self) -> u8 {
        self.minor_version
    }

    /// All headers.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The first value of a header, if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// The host that is asked for, perhaps with a port: from the target if that is an absolute URI, which
    /// then counts more (RFC 9112, section 3.2.2), otherwise from `Host`.
    pub fn host(&self) -> Option<&str> {
        match rules::split_absolute(&self.target) {
            Some((authority, _)) => Some(authority),
            None => self.header("Host"),
        }
    }

    /// The origin of the page that asks, sent by browsers; `null` is one too. A server that trusts cookies
    /// must check it (RFC 6455, section 10.2).
    pub fn origin(&self) -> Option<&str> {
        self.header("Origin")
    }

    /// The subprotocols the client offers, the one it likes best first.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.headers.list("Sec-WebSocket-Protocol").filter_map(|name| str::from_utf8(name).ok())
    }

    /// Checks that this is a proper opening handshake, by every rule of RFC 6455, section 4.2.1.
    ///
    /// # Errors
    ///
    /// The first rule that is broken; [`HandshakeError::response`] is the answer to it.
    pub fn upgrade(&self) -> Result<Upgrade, HandshakeError> {
        let headers = &self.headers;
        if self.method != "GET" {
            return Err(HandshakeError::Method { found: quote(self.method.as_bytes()) });
        }
        if self.minor_version == 0 {
            return Err(HandshakeError::HttpVersion { found: "HTTP/1.0".to_owned() });
        }
        if !rules::is_target(&self.target) {
            return Err(HandshakeError::Target);
        }
        self.check_host()?;
        rules::ORIGIN.at_most_one(headers)?;
        self.has_no_body()?;
        if !headers.contains_token("Upgrade", "websocket") {
            return Err(HandshakeError::UpgradeRequired { found: self.quoted("Upgrade") });
        }
        rules::CONNECTION.lists(headers, "upgrade")?;
        // Two fields are joined to "13, 13", which is not 13 either.
        if rules::joined(headers, "Sec-WebSocket-Version").as_deref() != Some(b"13") {
            return Err(HandshakeError::WebSocketVersion { found: self.quoted("Sec-WebSocket-Version") });
        }
        let key = rules::KEY.one(headers)?;
        if !ANY_TRAILING_BITS.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
            return Err(rules::KEY.broken_by(key));
        }
        Ok(Upgrade {
            accept: accept_key(&String::from_utf8_lossy(key)),
            offered_subprotocols: self.proper_subprotocols(),
            offered_extensions: extension::parse(headers),
            subprotocol: None,
            extensions: Vec::new(),
            headers: Headers::new(),
        })
    }

    /// Checks that there is exactly one `Host`, whatever is asked for, and that it is a host with or without a port; HTTP/1.0 may have
    /// none (RFC 9112, section 3.2). Two of them are how proxies and servers come to see different requests in the same bytes.
    ///
    /// ```
    /// use threadwire_proto::handshake::{Limits, Request};
    ///
    /// let parse = |head: &[u8]| Request::parse(head, &Limits::default()).unwrap().unwrap().0;
    /// assert!(parse(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").check_host().is_ok());
    /// assert!(parse(b"GET / HTTP/1.1\r\n\r\n").check_host().is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// [`HandshakeError::MissingHeader`], [`HandshakeError::RepeatedHeader`] or [`HandshakeError::InvalidHeader`].
    pub fn check_host(&self) -> Result<(), HandshakeError> {
        let host = match self.minor_version {
            0 => rules::HOST.at_most_one(&self.headers)?,
            _ => Some(rules::HOST.one(&self.headers)?),
        };
        if host.is_none_or(rules::is_authority) {
            return Ok(());
        }
        let Rule { name, expected, rule } = rules::HOST;
        let found = rules::quote_host(host.unwrap_or_default());
        Err(HandshakeError::InvalidHeader { name, found, expected, rule })
    }

    /// The bytes behind the head are read as frames, so no header may say that they are a body.
    fn has_no_body(&self) -> Result<(), HandshakeError> {
        if rules::CONTENT_LENGTH.at_most_one(&self.headers)?.is_some_and(|length| length != b"0") {
            return Err(HandshakeError::Body { name: "Content-Length" });
        }
        match self.headers.contains("Transfer-Encoding") {
            true => Err(HandshakeError::Body { name: "Transfer-Encoding" }),
            false => Ok(()),
        }
    }

    /// The subprotocols that can be chosen. What is no token can't be, and passing over it offers nothing that the client did not.
    fn proper_subprotocols(&self) -> Vec<String> {
        // A set, as a head has room for thousands of names.
        let mut seen = HashSet::new();
        let names =
            self.headers.list(rules::SUBPROTOCOL.name).filter(|name| is_token(name) && seen.insert(*name));
        names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    fn quoted(&self, name: &str) -> String {
        rules::joined(&self.headers, name).map_or_else(|| "missing".to_owned(), |value| quote(&value))
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.query().is_some() { "?(hidden)" } else { "" };
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("target", &format_args!("{}{query}", self.path()))
            .field("minor_version", &self.minor_version)
            .field("headers", &self.headers)
            .finish()
    }
}

/// A checked handshake, and the 101 that accepts it: choose what to agree on, then [`encode`](Self::encode).
/// Whatever follows what was encoded is frames.
///
/// ```
/// use threadwire_proto::handshake::{Limits, Request};
///
/// let request = b"GET /chat HTTP/1.1\r\n\
///     Host: server.example.com\r\n\
///     Upgrade: websocket\r\n\
///     Connection: keep-alive, Upgrade\r\n\
///     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
///     Sec-WebSocket-Protocol: chat, superchat\r\n\
///     Sec-WebSocket-Version: 13\r\n\r\n";
/// let (request, _) = Request::parse(request, &Limits::default())?.expect("a whole head");
/// let mut upgrade = request.upgrade()?;
/// assert_eq!(upgrade.choose_subprotocol(["superchat"]), Some("superchat"));
/// let mut out = Vec::new();
/// upgrade.encode(&mut out);
/// assert!(String::from_utf8_lossy(&out).contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
/// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Upgrade {
    accept: String,
    offered_subprotocols: Vec<String>,
    /// An error if the list is malformed, which concerns only those who speak one of them.
    offered_extensions: Result<Vec<Extension>, HandshakeError>,
    subprotocol: Option<String>,
    extensions: Vec<Extension>,
    headers: Headers,
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offered = self.offered_subprotocols.iter().map(String::as_str);
        f.debug_struct("Upgrade")
            .field("accept", &self.accept)
            .field("offered_subprotocols", &redact::subprotocols(offered))
            .field("offered_extensions", &self.offered_extensions)
            .field("subprotocol", &self.subprotocol().map(redact::subprotocol))
            .field("extensions", &self.extensions)
            .field("headers", &self.headers)
            .finish()
    }
}

impl Upgrade {
    /// The value of `Sec-WebSocket-Accept`.
    pub fn accept_key(&self) -> &str {
        &self.accept
    }

    /// The subprotocols the client offers, the one it likes best first.
    pub fn offered_subprotocols(&self) -> impl Iterator<Item = &str> {
        self.offered_subprotocols.iter().map(String::as_str)
    }

    /// The extensions the client offers, the one it likes best first.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::InvalidHeader`] if the list is malformed. A server that speaks extensions must refuse the request then
    /// (RFC 6455, section 9.1); to one that speaks none it makes no difference.
    pub fn offered_extensions(&self) -> Result<&[Extension], HandshakeError> {
        self.offered_extensions.as_deref().map_err(HandshakeError::clone)
    }

    /// The subprotocol chosen, if any.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The extensions agreed on, in the order they were agreed.
    pub fn extensions(&self) -> &[Extension] {
        &self.extensions
    }

    /// Chooses the first of `supported` that the client offers, and returns it. Without one in common, none
    /// is chosen: whether to go on is the server's decision.
    pub fn choose_subprotocol<S: AsRef<str>>(
        &mut self,
        supported: impl IntoIterator<Item = S>,
    ) -> Option<&str> {
        let in_common =
            |name: S| self.offered_subprotocols.iter().find(|offered| *offered == name.as_ref()).cloned();
        self.subprotocol = supported.into_iter().find_map(in_common);
        self.subprotocol()
    }

    /// Chooses this subprotocol.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::SubprotocolNotOffered`] if the client does not offer it; it would have to fail the
    /// connection.
    pub fn set_subprotocol(&mut self, name: &str) -> Result<(), HandshakeError> {
        match self.choose_subprotocol([name]) {
            Some(_) => Ok(()),
            None => Err(rules::subprotocol_not_offered(name.as_bytes(), &self.offered_subprotocols)),
        }
    }

    /// Agrees on an extension, which whoever calls this must then speak.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::ExtensionNotOffered`] if the client does not offer one of that name; it would have
    /// to fail the connection. As [`offered_extensions`](Self::offered_extensions) if the list of offers is malformed.
    pub fn add_extension(&mut self, extension: Extension) -> Result<(), HandshakeError> {
        rules::check_offered(&extension, self.offered_extensions()?)?;
        self.extensions.push(extension);
        Ok(())
    }

    /// Adds a header to the answer, as a cookie.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if name or value may not be sent, or if it is one that belongs to the handshake or to
    /// a body.
    ///
    /// ```
    /// # use threadwire_proto::handshake::{Limits, Request, RequestBuilder};
    /// # let mut sent = Vec::new();
    /// # RequestBuilder::new("example.com", "/")?.build()?.encode(&mut sent);
    /// # let (request, _) = Request::parse(&sent, &Limits::default())?.expect("a whole head");
    /// let mut upgrade = request.upgrade()?;
    /// upgrade.add_header("Set-Cookie", "seen=yes")?;
    /// assert!(upgrade.add_header("Content-Length", "5").is_err(), "a 101 has no body");
    /// let mut out = Vec::new();
    /// upgrade.encode(&mut out);
    /// assert!(out.ends_with(b"\r\nSet-Cookie: seen=yes\r\n\r\n"));
    /// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
    /// ```
    pub fn add_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HeaderError> {
        rules::refuse_reserved(name)?;
        self.headers.append(name, value)
    }

    /// Appends the answer to `out` as it goes on the wire: a 101 with the subprotocol and extensions that were chosen.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_status_line(out, 101);
        write_field(out, "Upgrade", "websocket");
        write_field(out, "Connection", "Upgrade");
        write_field(out, "Sec-WebSocket-Accept", &self.accept);
        if let Some(subprotocol) = &self.subprotocol {
            write_field(out, "Sec-WebSocket-Protocol", subprotocol);
        }
        if !self.extensions.is_empty() {
            write_field(out, "Sec-WebSocket-Extensions", extension::list(&self.extensions));
        }
        self.headers.encode(out);
        out.extend_from_slice(b"\r\n");
    }
}
