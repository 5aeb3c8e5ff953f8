//! Rules of the opening handshake for headers, as data, and the checks that both sides share.

use super::error::HandshakeError;
use super::extension::{self, Extension};
use super::headers::{HeaderError, Headers};
use super::quote::quote;
use super::redact;

/// A rule for one header, in words that an error repeats.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) expected: &'static str,
    pub(super) rule: &'static str,
}

const CLIENT: &str = "RFC 6455, section 4.1";
const SERVER: &str = "RFC 6455, section 4.2.1";

// Rules of a server for a request.
pub(super) const HOST: Rule =
    Rule { name: "Host", expected: "one host and perhaps a port", rule: "RFC 9112, section 3.2" };
pub(super) const ORIGIN: Rule = Rule { name: "Origin", expected: "one origin", rule: "RFC 6454, section 7" };
pub(super) const CONNECTION: Rule =
    Rule { name: "Connection", expected: "a list with \"Upgrade\" in it", rule: SERVER };
pub(super) const KEY: Rule =
    Rule { name: "Sec-WebSocket-Key", expected: "16 bytes in base64, 24 characters", rule: SERVER };
pub(super) const CONTENT_LENGTH: Rule =
    Rule { name: "Content-Length", expected: "no body", rule: "RFC 9112, section 6.3" };

// Rules of a client for an answer.
pub(super) const UPGRADED: Rule = Rule { name: "Upgrade", expected: "\"websocket\"", rule: CLIENT };
pub(super) const CONNECTED: Rule =
    Rule { name: "Connection", expected: "a list with \"Upgrade\" in it", rule: CLIENT };
pub(super) const ACCEPT: Rule =
    Rule { name: "Sec-WebSocket-Accept", expected: "the hash of the key", rule: CLIENT };
pub(super) const SUBPROTOCOL: Rule =
    Rule { name: "Sec-WebSocket-Protocol", expected: "one of the subprotocols offered", rule: CLIENT };

// Rules of both for each other.
pub(super) const EXTENSIONS: Rule = Rule {
    name: "Sec-WebSocket-Extensions",
    expected: "a list of extensions, as name; parameter=value",
    rule: "RFC 6455, section 9.1",
};

impl Rule {
    /// The header's value, which must be there exactly once.
    pub(super) fn one<'h>(&self, headers: &'h Headers) -> Result<&'h [u8], HandshakeError> {
        let Self { name, expected, rule } = *self;
        self.at_most_one(headers)?.ok_or(HandshakeError::MissingHeader { name, expected, rule })
    }

    /// The header's value, if it is there, which it may be once.
    pub(super) fn at_most_one<'h>(&self, headers: &'h Headers) -> Result<Option<&'h [u8]>, HandshakeError> {
        let Self { name, rule, .. } = *self;
        match headers.get_all_bytes(name).count() {
            0 => Ok(None),
            1 => Ok(headers.get_bytes(name)),
            count => Err(HandshakeError::RepeatedHeader { name, count, rule }),
        }
    }

    /// Checks that the lists in the header's fields hold `token`, in any case.
    pub(super) fn lists(&self, headers: &Headers, token: &str) -> Result<(), HandshakeError> {
        let Self { name, expected, rule } = *self;
        match joined(headers, name) {
            None => Err(HandshakeError::MissingHeader { name, expected, rule }),
            Some(_) if headers.contains_token(name, token) => Ok(()),
            Some(found) => Err(self.broken_by(&found)),
        }
    }

    /// The error for a value that is something else.
    pub(super) fn broken_by(&self, found: &[u8]) -> HandshakeError {
        let Self { name, expected, rule } = *self;
        HandshakeError::InvalidHeader { name, found: quote(found), expected, rule }
    }
}

/// The values of all fields of a name as the one list they mean together (RFC 9110, section 5.3).
pub(super) fn joined(headers: &Headers, name: &str) -> Option<Vec<u8>> {
    let values: Vec<&[u8]> = headers.get_all_bytes(name).collect();
    if values.is_empty() { None } else { Some(values.join(&b", "[..])) }
}

/// Whether this is `host` or `host:port`, with a name, an IPv4 address or an IPv6 address in brackets as the
/// host (RFC 3986, section 3.2.2), which may have a zone (RFC 6874, section 2). A comma is refused, though a name could hold
/// one: it is how two hosts become one header.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let host_len = match text {
        [b'[', rest @ ..] => match rest.iter().position(|&byte| byte == b']') {
            Some(end) if is_address(&rest[..end]) => end + 2,
            _ => return false,
        },
        _ => text.iter().position(|&byte| byte == b':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(host_len);
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    let port_is_fine = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    !host.is_empty() && (host[0] == b'[' || host.iter().all(plain)) && port_is_fine
}

/// What may stand between brackets: an IPv6 address, and the zone that some clients leave there.
fn is_address(text: &[u8]) -> bool {
    let (address, zone) = match text.iter().position(|&byte| byte == b'%') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let in_zone = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(byte);
    !address.is_empty()
        && address.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte))
        && zone.is_none_or(|zone| !zone.is_empty() && zone.iter().all(in_zone))
}

/// A host that was refused, quoted without the user and password that may stand in front of it.
pub(super) fn quote_host(text: &[u8]) -> String {
    match text.iter().rposition(|&byte| byte == b'@') {
        Some(at) => quote(&[b"(hidden)", &text[at..]].concat()),
        None => quote(text),
    }
}

/// Whether a request may have this target: a path, or an absolute http or ws URI (RFC 6455, section 4.2.1, point
/// 1).
pub(super) fn is_target(target: &str) -> bool {
    let visible = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    visible
        && (target.starts_with('/')
            || split_absolute(target).is_some_and(|(host, _)| is_authority(host.as_bytes())))
}

/// The authority of an absolute http or ws URI, and its path with the query, which may be empty. Clients are to write http
/// (RFC 6455, section 4.1, point 2); those that write ws mean the same.
pub(super) fn split_absolute(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    Some(rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

/// Refuses the headers that a user may not set, since the handshake writes them or has no place for them.
///
/// ```
/// use threadwire_proto::handshake::refuse_reserved;
/// assert!(refuse_reserved("Set-Cookie").is_ok());
/// assert!(refuse_reserved("sec-websocket-accept").is_err());
/// ```
///
/// # Errors
///
/// [`HeaderError::Reserved`], which says what to do instead.
pub fn refuse_reserved(name: &str) -> Result<(), HeaderError> {
    const RESERVED: [(&str, &str); 9] = [
        ("Upgrade", "the handshake writes it"),
        ("Connection", "the handshake writes it"),
        ("Sec-WebSocket-Key", "the handshake writes it"),
        ("Sec-WebSocket-Version", "the handshake writes it"),
        ("Sec-WebSocket-Accept", "the handshake writes it"),
        ("Sec-WebSocket-Protocol", "offer or choose subprotocols by their own method"),
        ("Sec-WebSocket-Extensions", "offer or agree on extensions by their own method"),
        ("Content-Length", "a WebSocket handshake has no body"),
        ("Transfer-Encoding", "a WebSocket handshake has no body"),
    ];
    match RESERVED.iter().find(|(reserved, _)| reserved.eq_ignore_ascii_case(name)) {
        Some((_, instead)) => Err(HeaderError::Reserved { name: name.to_owned(), instead }),
        None => Ok(()),
    }
}

pub(super) fn subprotocol_not_offered(found: &[u8], offered: &[String]) -> HandshakeError {
    HandshakeError::SubprotocolNotOffered {
        found: quote_subprotocol(found),
        offered: or_none(redact::subprotocols(offered.iter().map(String::as_str))),
    }
}

/// A subprotocol that was refused, quoted unless it may be a token.
pub(super) fn quote_subprotocol(name: &[u8]) -> String {
    match redact::subprotocol(&String::from_utf8_lossy(name)) {
        redact::HIDDEN => quote(redact::HIDDEN.as_bytes()),
        _ => quote(name),
    }
}

/// Checks that an extension of that name was offered. Whether its parameters fit the offer only the extension can
/// tell.
pub(super) fn check_offered(extension: &Extension, offered: &[Extension]) -> Result<(), HandshakeError> {
    if offered.iter().any(|offer| offer.name() == extension.name()) {
        return Ok(());
    }
    let found = quote(extension.name().as_bytes());
    Err(HandshakeError::ExtensionNotOffered { found, offered: or_none(extension::list(offered)) })
}

fn or_none(list: String) -> String {
    if list.is_empty() { "none".to_owned() } else { list }
}
