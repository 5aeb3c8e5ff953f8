//! Target of a client: scheme, host, port and path of a WebSocket URL.

use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::{Host, ParseError, Url};

use super::redact::redacted;
use crate::error::{Error, UrlError, UrlPart};

/// The schemes of WebSocket URLs.
const SCHEMES: &str = "ws, wss, ws+unix or wss+unix";

/// A URL that can be connected to, taken apart (RFC 6455, section 3).
///
/// | URL | leads to |
/// | --- | --- |
/// | `ws://HOST[:PORT][/PATH][?QUERY]` | a host, by default at port 80 |
/// | `wss://...` | the same with TLS, by default at port 443 |
/// | `ws+unix:/SOCKET[:/PATH][?QUERY]`, `wss+unix:...` | a unix socket, named by an absolute path; `localhost` is asked for |
///
/// Names that are not ASCII are encoded (IDNA, UTS #46). A host may be an address, IPv6 in brackets and without a zone.
/// `USER:PASSWORD@` in front of the host, percent-encoded, is sent as Basic authentication (RFC 7617), unless the program sets
/// an `Authorization` header itself. A colon in the name of a unix socket is written `%3A`.
///
/// ```
/// use threadwire::client::Target;
/// let target = Target::parse("ws://example.com/feed?symbols=all")?;
/// assert_eq!((target.host(), target.port(), target.resource()), ("example.com", 80, "/feed?symbols=all"));
///
/// let target = Target::parse("ws+unix:/run/feed.sock:/prices")?;
/// assert_eq!(target.unix_path(), Some("/run/feed.sock".as_ref()));
/// assert_eq!((target.host(), target.resource()), ("localhost", "/prices"));
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    is_secure: bool,
    host: String,
    port: u16,
    is_ip: bool,
    resource: String,
    unix: Option<PathBuf>,
    /// The value of an `Authorization` header.
    login: Option<String>,
}

impl Target {
    /// Takes a URL apart. Fails with [`Error::Url`], which names the part that is wrong.
    pub fn parse(url: &str) -> Result<Target, Error> {
        let fail = |part, problem: String| Error::from(UrlError { url: redacted(url), part, problem });
        let parsed = Url::parse(url).map_err(|error| explain(url, error))?;
        if parsed.fragment().is_some() {
            return Err(fail(UrlPart::Fragment, "has no meaning here (RFC 6455, section 3)".to_owned()));
        }
        let is_secure = match parsed.scheme() {
            "ws" | "ws+unix" => false,
            "wss" | "wss+unix" if cfg!(feature = "tls") => true,
            scheme @ ("wss" | "wss+unix") => {
                let problem = format!("is {scheme}: this build can't encrypt, its feature `tls` is off");
                return Err(fail(UrlPart::Scheme, problem));
            }
            scheme => return Err(fail(UrlPart::Scheme, format!("is {scheme:?}, expected {SCHEMES}"))),
        };
        if parsed.scheme().ends_with("+unix") {
            let (socket, resource) =
                unix_parts(&parsed).map_err(|problem| fail(UrlPart::Path, problem.to_owned()))?;
            let (host, port) = ("localhost".to_owned(), default_port(is_secure));
            return Ok(Target {
                is_secure,
                host,
                port,
                is_ip: false,
                resource,
                unix: Some(socket),
                login: None,
            });
        }
        let (host, is_ip) = match parsed.host() {
            Some(Host::Domain(name)) => match name.chars().find(|c| !is_host_char(*c)) {
                None => (name.to_owned(), false),
                Some(c) => {
                    let problem =
                        format!("has {c:?} in it, expected letters, digits, dots, hyphens and underscores");
                    return Err(fail(UrlPart::Host, problem));
                }
            },
            Some(Host::Ipv4(address)) => (address.to_string(), true),
            Some(Host::Ipv6(address)) => (address.to_string(), true),
            None => return Err(fail(UrlPart::Host, "is missing".to_owned())),
        };
        Ok(Target {
            is_secure,
            host,
            port: parsed.port().unwrap_or(default_port(is_secure)),
            is_ip,
            resource: resource(parsed.path(), parsed.query()),
            unix: None,
            login: login(&parsed).map_err(|problem| fail(UrlPart::UserInfo, problem.to_owned()))?,
        })
    }

    /// The host: a name, or an address without brackets. `localhost` for a unix socket.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 80, or 443 with TLS, if the URL has none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path and the query, as they go into the request.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Whether the connection is encrypted: `wss` and `wss+unix`.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The unix socket that the URL names, if it names one.
    pub fn unix_path(&self) -> Option<&Path> {
        self.unix.as_deref()
    }

    /// Whether the host is an address, so that nothing has to be resolved.
    #[doc(hidden)]
    pub fn is_ip(&self) -> bool {
        self.is_ip
    }

    /// The value of an `Authorization` header, if the URL has a user name or a password.
    #[doc(hidden)]
    pub fn login(&self) -> Option<&str> {
        self.login.as_deref()
    }

    /// The host in brackets, if it needs them.
    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }

    /// The value of the `Host` header.
    #[doc(hidden)]
    pub fn authority(&self) -> String {
        let host = self.bracketed();
        if self.port == default_port(self.is_secure) { host } else { format!("{host}:{}", self.port) }
    }

    /// The host and the port, always with a port.
    #[doc(hidden)]
    pub fn host_and_port(&self) -> String {
        format!("{}:{}", self.bracketed(), self.port)
    }

    /// The URL as HTTP has it, which relative ones and cookies refer to.
    #[doc(hidden)]
    pub fn as_http(&self) -> Option<Url> {
        let scheme = if self.is_secure { "https" } else { "http" };
        Url::parse(&format!("{scheme}://{}{}", self.host_and_port(), self.resource)).ok()
    }

    /// Whether the other one belongs to the same origin (RFC 6454, section 4).
    #[doc(hidden)]
    pub fn is_same_origin(&self, other: &Target) -> bool {
        (self.is_secure, &self.host, self.port, &self.unix)
            == (other.is_secure, &other.host, other.port, &other.unix)
    }
}

/// Whether a host's name may have this in it, when IDNA has been done: what DNS has, and the underscore that private names have.
fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || ".-_".contains(c)
}

fn default_port(is_secure: bool) -> u16 {
    if is_secure { 443 } else { 80 }
}

fn resource(path: &str, query: Option<&str>) -> String {
    let path = if path.is_empty() { "/" } else { path };
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// The path of the socket, and what is asked for there.
fn unix_parts(url: &Url) -> Result<(PathBuf, String), &'static str> {
    if url.cannot_be_a_base() {
        return Err("is relative, expected ws+unix:/SOCKET[:/PATH]");
    }
    if url.host_str().is_some_and(|host| !host.is_empty()) || !url.username().is_empty() {
        return Err("has a host in front, expected ws+unix:/SOCKET[:/PATH]");
    }
    let (socket, path) = url.path().split_once(':').unwrap_or((url.path(), "/"));
    let socket: Vec<u8> = percent_decode_str(socket).collect();
    match &socket[..] {
        [] | [b'/'] => return Err("names no socket, expected ws+unix:/SOCKET[:/PATH]"),
        bytes if bytes.contains(&0) => return Err("has a NUL in it"),
        _ => {}
    }
    if !path.starts_with('/') {
        return Err("asks for a resource that does not begin with a slash, expected ws+unix:/SOCKET:/PATH");
    }
    Ok((PathBuf::from(std::ffi::OsString::from_vec(socket)), resource(path, url.query())))
}

/// User name and password as Basic authentication (RFC 7617).
fn login(url: &Url) -> Result<Option<String>, &'static str> {
    let (user, password) = credentials(url);
    if user.is_empty() && url.password().is_none() {
        return Ok(None);
    }
    if user.contains(&b':') {
        return Err(
            "has a colon in the user name, which Basic authentication can't carry (RFC 7617, section 2)",
        );
    }
    if user.iter().chain(&password).any(u8::is_ascii_control) {
        return Err("has a control character (RFC 7617, section 2)");
    }
    Ok(Some(basic(&user, &password)))
}

/// User name and password, decoded.
pub(super) fn credentials(url: &Url) -> (Vec<u8>, Vec<u8>) {
    let decoded = |text| percent_decode_str(text).collect();
    (decoded(url.username()), decoded(url.password().unwrap_or_default()))
}

/// The value of a header that authenticates with these (RFC 7617, section 2).
pub(super) fn basic(user: &[u8], password: &[u8]) -> String {
    format!("Basic {}", STANDARD.encode([user, b":", password].concat()))
}

/// The error for a URL that can't be parsed.
pub(super) fn explain(url: &str, error: ParseError) -> Error {
    let has_zone = url
        .split(['/', '?', '#'])
        .nth(2)
        .is_some_and(|authority| authority.split_once('[').is_some_and(|(_, address)| address.contains('%')));
    let (part, problem) = match error {
        ParseError::RelativeUrlWithoutBase => {
            (UrlPart::Scheme, "is missing, expected ws://HOST[:PORT][/PATH]".to_owned())
        }
        ParseError::EmptyHost => (UrlPart::Host, "is missing".to_owned()),
        ParseError::InvalidPort => (UrlPart::Port, "is not a number from 0 to 65535".to_owned()),
        ParseError::InvalidIpv6Address if has_zone => (
            UrlPart::Host,
            "has a zone, which means nothing outside of this machine; give a name, and its address with \
             Client::resolve"
                .to_owned(),
        ),
        ParseError::InvalidIpv4Address
        | ParseError::InvalidIpv6Address
        | ParseError::InvalidDomainCharacter
        | ParseError::IdnaError => (UrlPart::Host, format!("is wrong: {error}")),
        error => (UrlPart::Form, format!("is no URL: {error}")),
    };
    Error::from(UrlError { url: redacted(url), part, problem })
}

impl fmt::Debug for Target {
    /// Without the query, which may have a secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string())
    }
}

/// The URL, without user name, password and query, as one of them may be secret.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.resource.split('?').next().unwrap_or_default();
        let scheme = if self.is_secure { "wss" } else { "ws" };
        match &self.unix {
            Some(socket) => write!(f, "{scheme}+unix:{}:{path}", socket.display()),
            None => f.write_str(&redacted(&format!("{scheme}://{}{}", self.authority(), self.resource))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_part_that_is_wrong() {
        for (url, part) in [
            ("", UrlPart::Scheme),
            ("example.com", UrlPart::Scheme),
            ("http://example.com/", UrlPart::Scheme),
            ("unix:/run/a.sock", UrlPart::Scheme),
            ("ws://", UrlPart::Host),
            ("ws://:80/", UrlPart::Host),
            ("ws://exa mple/", UrlPart::Host),
            ("ws://,/", UrlPart::Host),
            ("ws://a}b/", UrlPart::Host),
            ("ws://a,b.example/", UrlPart::Host),
            ("ws://a%2cb/", UrlPart::Host),
            ("ws://(a)/", UrlPart::Host),
            ("ws://a'b/", UrlPart::Host),
            ("ws://[::1/", UrlPart::Host),
            ("ws://[fe80::1%25eth0]/", UrlPart::Host),
            ("ws://1.2.3.256/", UrlPart::Host),
            ("ws://xn--a/", UrlPart::Host),
            ("ws://example.com:99999/", UrlPart::Port),
            ("ws://example.com:x/", UrlPart::Port),
            ("ws://example.com/#top", UrlPart::Fragment),
            ("ws://a%3Ab:c@example.com/", UrlPart::UserInfo),
            ("ws://a:b%0D%0Ac@example.com/", UrlPart::UserInfo),
            ("ws+unix:run/a.sock", UrlPart::Path),
            ("ws+unix:/", UrlPart::Path),
            ("ws+unix:/run/a.sock:b", UrlPart::Path),
            ("ws+unix://host/a.sock", UrlPart::Path),
            ("ws+unix:/a%00b", UrlPart::Path),
        ] {
            match Target::parse(url) {
                Err(Error::Url(error)) => assert_eq!(error.part, part, "{url}"),
                other => panic!("{url}: {other:?}"),
            }
        }
        let zone = Target::parse("ws://[fe80::1%25eth0]/").unwrap_err().to_string();
        assert!(zone.contains("zone") && zone.contains("Client::resolve"), "{zone}");
    }

    #[test]
    fn takes_urls_apart() {
        for (url, host, port, authority, resource) in [
            ("ws://example.com", "example.com", 80, "example.com", "/"),
            ("ws://example.com?a=b", "example.com", 80, "example.com", "/?a=b"),
            ("WS://Example.COM:80/a", "example.com", 80, "example.com", "/a"),
            ("ws://example.com:443/a", "example.com", 443, "example.com:443", "/a"),
            ("wss://example.com/a", "example.com", 443, "example.com", "/a"),
            ("wss://example.com:443/", "example.com", 443, "example.com", "/"),
            ("wss://example.com:80/", "example.com", 80, "example.com:80", "/"),
            ("ws://127.0.0.1:9001/a?b=c", "127.0.0.1", 9001, "127.0.0.1:9001", "/a?b=c"),
            ("ws://0x7f.1/", "127.0.0.1", 80, "127.0.0.1", "/"),
            ("ws://[::1]:9001", "::1", 9001, "[::1]:9001", "/"),
            ("ws://bücher.example/", "xn--bcher-kva.example", 80, "xn--bcher-kva.example", "/"),
            ("ws://example.com/ü b", "example.com", 80, "example.com", "/%C3%BC%20b"),
            ("ws+unix:/run/a.sock", "localhost", 80, "localhost", "/"),
            ("wss+unix:/run/a.sock:/b?c", "localhost", 443, "localhost", "/b?c"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.host(), target.port(), target.resource()), (host, port, resource), "{url}");
            assert_eq!(target.authority(), authority, "{url}");
            assert_eq!(target.is_secure(), url.starts_with("wss"), "{url}");
        }
    }

    #[test]
    fn unix_sockets_are_named_by_a_path() {
        for (url, socket, resource) in [
            ("ws+unix:/run/a.sock", "/run/a.sock", "/"),
            ("ws+unix:///run/a.sock:/b/c:d?e=f:g", "/run/a.sock", "/b/c:d?e=f:g"),
            ("ws+unix:/run/a.sock?b", "/run/a.sock", "/?b"),
            ("ws+unix:/run/a%20b%3Ac:/", "/run/a b:c", "/"),
            ("ws+unix:/run/a b", "/run/a b", "/"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(target.unix_path(), Some(Path::new(socket)), "{url}");
            assert_eq!(target.resource(), resource, "{url}");
        }
        assert_eq!(Target::parse("ws://localhost/").unwrap().unix_path(), None);
    }

    #[test]
    fn user_name_and_password_become_basic_authentication() {
        for (url, user, password) in [
            ("ws://user:secret@example.com/", "user", "secret"),
            ("ws://user@example.com/", "user", ""),
            ("ws://:secret@example.com/", "", "secret"),
            ("ws://us%40er:s%3Ae%2Fc%25@example.com/", "us@er", "s:e/c%"),
            ("ws://üser:ß@example.com/", "üser", "ß"),
        ] {
            let expected = basic(user.as_bytes(), password.as_bytes());
            assert_eq!(Target::parse(url).unwrap().login(), Some(&*expected), "{url}");
        }
        // The example of RFC 7617, section 2.
        assert_eq!(basic(b"Aladdin", b"open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(Target::parse("ws://example.com/").unwrap().login(), None);
    }

    #[test]
    fn errors_and_debug_output_show_no_credentials() {
        for url in [
            "http://user:secret@example.com/?token=secret",
            "ws://user:secret@exa mple/?token=secret",
            "ws://user:sec/ret@example.com/",
            "ws://secret%3A:secret@example.com/?secret",
        ] {
            let error = Target::parse(url).unwrap_err();
            assert!(!format!("{error:#} {error:?}").contains("secret"), "{error}");
        }
        let target = Target::parse("ws://user:secret@example.com/a?token=secret").unwrap();
        assert_eq!(format!("{target:?} {target}"), "ws://example.com/a ws://example.com/a");
    }
}
