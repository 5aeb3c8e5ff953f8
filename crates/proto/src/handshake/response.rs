//! The plain HTTP response of a server that refuses an upgrade, after which it closes.

use super::error::HandshakeError;
use super::headers::{HeaderError, Headers, write_field};

/// A plain HTTP response with a body: a refusal, a redirect, the answer to a health check. The connection
/// ends with it. The 101 that begins a WebSocket is not made here but by [`Upgrade`](super::Upgrade).
///
/// ```
/// use threadwire_proto::handshake::Response;
///
/// let mut out = Vec::new();
/// let refusal = Response::new(401)?.with_header("WWW-Authenticate", "Basic realm=\"feed\"")?;
/// refusal.with_body("who?\n").encode(&mut out);
/// assert!(out.starts_with(b"HTTP/1.1 401 Unauthorized\r\n"));
/// assert!(out.ends_with(b"\r\n\r\nwho?\n"));
/// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Headers,
    body: Vec<u8>,
}

impl Response {
    /// A response without headers and body.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::InvalidStatus`] unless the status is from 200 to 599.
    pub fn new(status: u16) -> Result<Self, HandshakeError> {
        match status {
            200..=599 => Ok(Self::of(status, &[])),
            _ => Err(HandshakeError::InvalidStatus(status)),
        }
    }

    /// A response of a status and with headers that are known to be right.
    pub(super) fn of(status: u16, headers: &[(&str, &str)]) -> Self {
        let mut response = Self { status, headers: Headers::new(), body: Vec::new() };
        for (name, value) in headers {
            let added = response.headers.append(name, value);
            debug_assert!(added.is_ok(), "{name}: {value}");
        }
        response
    }

    /// Adds a header behind those already there.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if name or value may not be sent, or if it is one that [`encode`](Self::encode)
    /// writes: `Connection`, `Content-Length`, `Transfer-Encoding`.
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Result<Self, HeaderError> {
        const OURS: [&str; 3] = ["Connection", "Content-Length", "Transfer-Encoding"];
        if OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            let instead = "it is written with the response, which ends the connection";
            return Err(HeaderError::Reserved { name: name.to_owned(), instead });
        }
        self.headers.append(name, value)?;
        Ok(self)
    }

    /// Sets the body. It is sent as `text/plain; charset=utf-8` unless a `Content-Type` header says
    /// otherwise, and not at all where HTTP allows none: with the statuses 204 and 304 (RFC 9110, section
    /// 6.4.1).
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The status, 200 to 599.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers added so far.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Appends the response to `out` as it goes on the wire, with `Content-Length`, `Connection: close` and,
    /// if there is a body without one, a `Content-Type`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_head(out);
        out.extend_from_slice(self.sent_body());
    }

    /// Appends the same without the body: what a HEAD request is answered (RFC 9110, section 9.3.2).
    ///
    /// ```
    /// use threadwire_proto::handshake::Response;
    ///
    /// let mut out = Vec::new();
    /// Response::new(200)?.with_body("well\n").encode_head(&mut out);
    /// let head = String::from_utf8_lossy(&out);
    /// assert!(head.contains("Content-Length: 5\r\n") && head.ends_with("\r\n\r\n"));
    /// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
    /// ```
    pub fn encode_head(&self, out: &mut Vec<u8>) {
        write_status_line(out, self.status);
        self.headers.encode(out);
        // A sender of Upgrade must name it in Connection too (RFC 9110, section 7.8).
        let upgrade = self.headers.contains("Upgrade");
        write_field(out, "Connection", if upgrade { "close, Upgrade" } else { "close" });
        let body = self.sent_body();
        if !body.is_empty() && !self.headers.contains("Content-Type") {
            write_field(out, "Content-Type", "text/plain; charset=utf-8");
        }
        if !matches!(self.status, 204 | 304) {
            write_field(out, "Content-Length", body.len().to_string());
        }
        out.extend_from_slice(b"\r\n");
    }

    fn sent_body(&self) -> &[u8] {
        if matches!(self.status, 204 | 304) { &[] } else { &self.body }
    }
}

/// Appends `HTTP/1.1 <status> <reason>`.
pub(super) fn write_status_line(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason(status)).as_bytes());
}

/// The reason phrase that the registry of status codes gives; an unknown status has an empty one (RFC 9112,
/// section 4).
fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        511 => "Network Authentication Required",
        _ => "",
    }
}
