//! Reading of HTTP heads from a buffer that grows, with limits that refuse as early as possible.
//!
//! A head arrives in pieces of any size. [`HeadReader`] looks at each byte once, however it is cut, so that a
//! peer that sends byte by byte costs no more than one that sends all at once. On the way it refuses what can
//! never become a head: other protocols from their first bytes, each broken line where it ends, and what is
//! beyond the limits. httparse reads the lines; it is asked to take the whole head apart once, when the end
//! is there.
//!
//! Requests are read more strictly than RFC 9112 allows a recipient to, since proxies and servers that disagree
//! about where a line ends are how requests are smuggled: a line ends with CR LF and nothing else. Only empty
//! lines in front of a request are passed over (section 2.2).
//!
//! Nobody is behind a client whom an answer could be smuggled to. So what RFC 9112 lets a user agent take is
//! taken: lines that end with LF (section 2.2), folded lines (section 5.2), white space in front of a colon
//! (section 5.1) and several spaces behind the version (section 4). Such a head is straightened before it is
//! taken apart.

use std::borrow::Cow;

use super::client::Answer;
use super::error::HandshakeError;
use super::headers::{is_token_byte, trim};
use super::quote::quote;
use super::server::Request;

/// Limits on the size of a head. Past a limit a head is refused at once, complete or not.
///
/// ```
/// use threadwire_proto::handshake::{HandshakeError, Limits, Request};
///
/// let limits = Limits::default().max_headers(1);
/// let begun = b"GET / HTTP/1.1\r\nHost: example.com\r\nX-More: yes\r\n";
/// assert_eq!(Request::parse(begun, &limits), Err(HandshakeError::TooManyHeaders { limit: 1 }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of the whole head with its last, empty line. Default: 16 KiB.
    pub max_head: usize,
    /// Header fields. Default: 128.
    pub max_headers: usize,
}

crate::setters! {
    Limits { max_head: usize, max_headers: usize }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_head: 16 * 1024, max_headers: 128 }
    }
}

/// Reads one head from a buffer that grows. Keep one beside each buffer that waits for a head.
///
/// Each call gets the buffer from the same first byte on, with what it had before and whatever came since.
/// Once a head is returned the reader starts again: the next call expects a buffer without that head.
///
/// ```
/// use threadwire_proto::handshake::{HeadReader, Limits};
///
/// let mut reader = HeadReader::new(Limits::default());
/// let mut buffer = b"GET /chat HTTP/1.1\r\nHost: exam".to_vec();
/// assert!(reader.request(&buffer)?.is_none());
/// buffer.extend_from_slice(b"ple.com\r\n\r\n\x81\x80");
/// let (request, head) = reader.request(&buffer)?.unwrap();
/// assert_eq!((request.path(), request.host()), ("/chat", Some("example.com")));
/// assert_eq!(&buffer[head..], b"\x81\x80");
/// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct HeadReader {
    limits: Limits,
    at: ScanPosition,
}

/// The progress of the search for the end.
#[derive(Debug, Clone, Copy, Default)]
struct ScanPosition {
    /// Bytes looked at.
    scanned: usize,
    /// The beginning of the line that `scanned` is in.
    line_start: usize,
    /// The beginning of the first line, behind empty ones.
    start: usize,
    /// Whole lines seen.
    lines: usize,
    /// Whole fields among them.
    fields: usize,
    /// Whether a line has to be straightened.
    is_loose: bool,
    /// Whether the first word of the first line is complete.
    past_first_word: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum HeadKind {
    Request,
    Answer,
}

/// The extent of a complete head.
struct Extent {
    /// The beginning of its first line.
    start: usize,
    bytes: usize,
    headers: usize,
    is_loose: bool,
}

impl HeadReader {
    /// A reader at the start of a head.
    pub fn new(limits: Limits) -> Self {
        Self { limits, at: ScanPosition::default() }
    }

    /// The request at the start of `buf` and the length of its head in bytes, or `None` if it is not all
    /// there yet. What follows the head in `buf` is not looked at: it may be frames already.
    ///
    /// # Errors
    ///
    /// As soon as the bytes cannot become a request within the limits. Answer with
    /// [`HandshakeError::response`] and close.
    pub fn request(&mut self, buf: &[u8]) -> Result<Option<(Request, usize)>, HandshakeError> {
        let Some(head) = self.find_end(buf, HeadKind::Request)? else { return Ok(None) };
        let mut fields = vec![httparse::EMPTY_HEADER; head.headers];
        let mut parsed = httparse::Request::new(&mut fields);
        parsed.parse(&buf[head.start..head.bytes]).map_err(|error| malformed(1, error))?;
        Ok(Some((Request::from_parsed(&parsed)?, head.bytes)))
    }

    /// The server's answer at the start of `buf` and the length of its head in bytes, or `None` if it is not
    /// all there yet. What follows the head in `buf` is not looked at: frames after a 101, otherwise the
    /// body.
    ///
    /// # Errors
    ///
    /// As soon as the bytes cannot become an answer within the limits.
    pub fn answer(&mut self, buf: &[u8]) -> Result<Option<(Answer, usize)>, HandshakeError> {
        let Some(head) = self.find_end(buf, HeadKind::Answer)? else { return Ok(None) };
        let mut fields = vec![httparse::EMPTY_HEADER; head.headers];
        let mut parsed = httparse::Response::new(&mut fields);
        let straight = head.is_loose.then(|| straightened_head(&buf[..head.bytes]));
        let bytes = straight.as_deref().unwrap_or(&buf[..head.bytes]);
        parsed.parse(bytes).map_err(|error| malformed(1, error))?;
        Ok(Some((Answer::from_parsed(&parsed)?, head.bytes)))
    }

    fn find_end(&mut self, buf: &[u8], kind: HeadKind) -> Result<Option<Extent>, HandshakeError> {
        if buf.len() < self.at.scanned {
            self.at = ScanPosition::default();
        }
        let visible = &buf[..buf.len().min(self.limits.max_head)];
        while self.at.scanned < visible.len() {
            let byte = self.check_byte(visible, kind)?;
            self.at.scanned += 1;
            if byte != b'\n' {
                continue;
            }
            let line = &visible[self.at.line_start..self.at.scanned];
            let is_empty = matches!(line, b"\r\n" | b"\n");
            match (is_empty, self.at.lines) {
                (true, 0) => self.at.start = self.at.scanned,
                (true, _) => {
                    let ScanPosition { start, scanned: bytes, fields: headers, is_loose, .. } = self.at;
                    self.at = ScanPosition::default();
                    return Ok(Some(Extent { start, bytes, headers, is_loose }));
                }
                (false, _) => {
                    self.check_line(line, kind)?;
                    self.at.lines += 1;
                }
            }
            self.at.line_start = self.at.scanned;
        }
        let limit = self.limits.max_head;
        match buf.len() < limit {
            true => Ok(None),
            false if self.at.lines == 0 => Err(HandshakeError::StartLineTooLong { limit }),
            false => Err(HandshakeError::HeadTooLarge { limit }),
        }
    }

    /// Refuses the byte at `scanned` if no head can have it there.
    fn check_byte(&mut self, visible: &[u8], kind: HeadKind) -> Result<u8, HandshakeError> {
        let at = self.at.scanned;
        let byte = visible[at];
        if self.at.lines == 0 && !self.at.past_first_word {
            let word = &visible[self.at.line_start..=at];
            match kind {
                HeadKind::Request if byte == b' ' && word.len() > 1 => self.at.past_first_word = true,
                HeadKind::Request if is_token_byte(byte) || matches!(word, b"\r" | b"\r\n") => {}
                HeadKind::Request => return Err(not_http(word, "a request line, as GET / HTTP/1.1")),
                // The byte after these seven ends the word soon enough, or is refused with the line.
                HeadKind::Answer if b"HTTP/1.".get(at) == Some(&byte) => self.at.past_first_word = at == 6,
                HeadKind::Answer => return Err(not_http(word, "a status line, as HTTP/1.1 101")),
            }
        }
        let after_cr = at > 0 && visible[at - 1] == b'\r';
        match (after_cr, byte) {
            (true, b'\n') | (false, b'\r') => Ok(byte),
            (true, _) => Err(self.malformed("it has a CR that no LF follows")),
            (false, b'\n') if kind == HeadKind::Answer => {
                self.at.is_loose = true;
                Ok(byte)
            }
            (false, b'\n') => Err(self.malformed("it ends with a bare LF, expected CR LF")),
            (false, b' ' | b'\t') if at == self.at.line_start => match (kind, self.at.fields) {
                (HeadKind::Request, _) => {
                    Err(self.malformed("it begins with white space, folded headers are obsolete"))
                }
                (HeadKind::Answer, 0) => {
                    Err(self.malformed("it begins with white space, and no header is in front of it"))
                }
                (HeadKind::Answer, _) => Ok(byte),
            },
            (false, _) if byte.is_ascii_control() && byte != b'\t' => {
                Err(self.malformed("it has a control character"))
            }
            _ => Ok(byte),
        }
    }

    /// Refuses a whole line, with its end, if no head can have it there.
    fn check_line(&mut self, line: &[u8], kind: HeadKind) -> Result<(), HandshakeError> {
        if is_folded(line) {
            self.at.is_loose = true;
            return match trim(without_end(line)) {
                [] => Err(self.malformed("it has nothing but white space")),
                _ => Ok(()),
            };
        }
        let line = match kind {
            HeadKind::Request => Cow::Borrowed(line),
            HeadKind::Answer => straightened(line, self.at.lines == 0),
        };
        self.at.is_loose |= matches!(line, Cow::Owned(_));
        let parsed = match (self.at.lines, kind) {
            (0, HeadKind::Request) => httparse::Request::new(&mut []).parse(&line).map(|_| ()),
            (0, HeadKind::Answer) => httparse::Response::new(&mut []).parse(&line).map(|_| ()),
            _ if self.at.fields >= self.limits.max_headers => {
                return Err(HandshakeError::TooManyHeaders { limit: self.limits.max_headers });
            }
            _ => {
                self.at.fields += 1;
                httparse::parse_headers(&line, &mut [httparse::EMPTY_HEADER]).map(|_| ())
            }
        };
        parsed.map_err(|error| match error {
            httparse::Error::Version => wrong_version(&line, kind),
            error => malformed(self.at.lines + 1, error),
        })
    }

    fn malformed(&self, what: &'static str) -> HandshakeError {
        HandshakeError::Malformed { line: self.at.lines + 1, what }
    }
}

/// Whether a line belongs to the one in front of it (RFC 9112, section 5.2).
fn is_folded(line: &[u8]) -> bool {
    matches!(line, [b' ' | b'\t', ..])
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A line of an answer as it should have been: with CR LF at its end, one space behind the version, and none in front of the colon.
fn straightened(line: &[u8], is_first: bool) -> Cow<'_, [u8]> {
    let content = without_end(line);
    let separator = if is_first { b' ' } else { b':' };
    let (before, behind) =
        content.split_at(content.iter().position(|&byte| byte == separator).unwrap_or(content.len()));
    let (name, rest) = match is_first {
        true => (
            before,
            behind.iter().position(|&byte| byte != b' ').map_or(behind, |at| &behind[at.saturating_sub(1)..]),
        ),
        false => (trim(before), behind),
    };
    if name.len() + rest.len() == content.len() && line.ends_with(b"\r\n") {
        return Cow::Borrowed(line);
    }
    Cow::Owned([name, rest, b"\r\n"].concat())
}

/// The head of an answer as it should have been, each folded line behind the one to which it belongs.
fn straightened_head(head: &[u8]) -> Vec<u8> {
    let mut straight = Vec::with_capacity(head.len());
    for (number, line) in head.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if is_folded(line) {
            straight.truncate(without_end(&straight).len());
            straight.extend([b" ", trim(without_end(line)), b"\r\n"].concat());
        } else {
            straight.extend_from_slice(&straightened(line, number == 0));
        }
    }
    straight
}

fn malformed(line: usize, error: httparse::Error) -> HandshakeError {
    use httparse::Error::*;
    let what = match error {
        HeaderName => "it has no header name, expected a token and a colon right behind it",
        HeaderValue => "its header value has a character that is not allowed",
        Token => "it has a method or target with a character that is not allowed",
        Status => "its status is not three digits and a reason",
        Version => "its HTTP version cannot be read",
        NewLine => "its end is not CR LF",
        TooManyHeaders => "it is one header too many",
    };
    HandshakeError::Malformed { line, what }
}

/// A first line with another version than HTTP/1.0 or 1.1, or with something else where the version should
/// be.
fn wrong_version(line: &[u8], kind: HeadKind) -> HandshakeError {
    let mut words = line.trim_ascii_end().split(|&byte| byte == b' ');
    let version = match kind {
        HeadKind::Request => words.nth(2),
        HeadKind::Answer => words.next(),
    };
    match version {
        Some(b"HTTP/1.0" | b"HTTP/1.1") => malformed(1, httparse::Error::Status),
        Some(version) if version.starts_with(b"HTTP/") => {
            HandshakeError::HttpVersion { found: quote(version) }
        }
        _ => malformed(1, httparse::Error::Version),
    }
}

fn not_http(start: &[u8], expected: &'static str) -> HandshakeError {
    let tls = start[0] == 0x16;
    let found = if tls { "0x16, the start of a TLS handshake".to_owned() } else { quote(start) };
    HandshakeError::NotHttp { found, expected }
}
