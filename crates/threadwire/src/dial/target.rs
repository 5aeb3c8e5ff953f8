//! Where a URL leads.

use std::fmt;

use url::{Host, Url};

use crate::{Error, UrlPart};

/// A URL that can be connected to, taken apart (RFC 6455, section 3).
///
/// ```
/// use threadwire::Target;
/// let target = Target::parse("ws://example.com/feed?symbols=all")?;
/// assert_eq!((target.host(), target.port(), target.resource()), ("example.com", 80, "/feed?symbols=all"));
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    /// Whether the port is the scheme's own, and left out of the `Host` header.
    is_default_port: bool,
    is_ip: bool,
    is_secure: bool,
    resource: String,
}

impl Target {
    /// Takes a URL apart: `ws`, or `wss` for TLS. Fails with [`Error::Url`], which names the part that is
    /// wrong. User name and password are dropped.
    pub fn parse(url: &str) -> Result<Target, Error> {
        let fail = |part, problem: String| Error::Url { url: redacted(url), part, problem };
        let parsed = Url::parse(url).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => {
                fail(UrlPart::Scheme, "is missing, expected ws://HOST[:PORT][/PATH]".to_owned())
            }
            url::ParseError::EmptyHost => fail(UrlPart::Host, "is missing".to_owned()),
            url::ParseError::InvalidPort => fail(UrlPart::Port, "is not a number from 0 to 65535".to_owned()),
            url::ParseError::InvalidIpv4Address
            | url::ParseError::InvalidIpv6Address
            | url::ParseError::InvalidDomainCharacter
            | url::ParseError::IdnaError => fail(UrlPart::Host, format!("is wrong: {error}")),
            error => fail(UrlPart::Form, format!("is no URL: {error}")),
        })?;
        let is_secure = match parsed.scheme() {
            "ws" => false,
            "wss" if cfg!(feature = "tls") => true,
            "wss" => {
                let problem = "is wss: this build can't encrypt, its feature `tls` is off";
                return Err(fail(UrlPart::Scheme, problem.to_owned()));
            }
            scheme => return Err(fail(UrlPart::Scheme, format!("is {scheme:?}, expected ws or wss"))),
        };
        if parsed.fragment().is_some() {
            return Err(fail(UrlPart::Fragment, "has no meaning here (RFC 6455, section 3)".to_owned()));
        }
        let Some(host) = parsed.host() else { return Err(fail(UrlPart::Host, "is missing".to_owned())) };
        let (host, is_ip) = match host {
            Host::Domain(name) => (name.to_owned(), false),
            Host::Ipv4(address) => (address.to_string(), true),
            Host::Ipv6(address) => (address.to_string(), true),
        };
        let resource = match parsed.query() {
            Some(query) => format!("{}?{query}", parsed.path()),
            None => parsed.path().to_owned(),
        };
        let port = parsed.port_or_known_default().unwrap_or(80);
        Ok(Target { host, port, is_default_port: parsed.port().is_none(), is_ip, is_secure, resource })
    }

    /// The host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 80, or 443 for `wss`, if the URL has none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is reached by TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The path and the query, as they go into the request.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Whether the host is an address, so that nothing has to be resolved.
    pub(crate) fn is_ip(&self) -> bool {
        self.is_ip
    }

    /// The value of the `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.is_default_port { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Debug for Target {
    /// Without the query, which may have a secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.resource.split('?').next().unwrap_or_default();
        let scheme = if self.is_secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

/// A URL as it may be shown: without user name, password and query.
fn redacted(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        _ => url.to_owned(),
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
            ("ws://", UrlPart::Host),
            ("ws://:80/", UrlPart::Host),
            ("ws://exa mple/", UrlPart::Host),
            ("ws://[::1/", UrlPart::Host),
            ("ws://example.com:99999/", UrlPart::Port),
            ("ws://example.com:x/", UrlPart::Port),
            ("ws://example.com/#top", UrlPart::Fragment),
        ] {
            match Target::parse(url) {
                Err(Error::Url { part: found, .. }) => assert_eq!(found, part, "{url}"),
                other => panic!("{url}: {other:?}"),
            }
        }
    }

    #[test]
    fn takes_urls_apart() {
        for (url, host, port, authority, resource) in [
            ("ws://example.com", "example.com", 80, "example.com", "/"),
            ("WS://Example.COM:80/a", "example.com", 80, "example.com", "/a"),
            ("ws://127.0.0.1:9001/a?b=c", "127.0.0.1", 9001, "127.0.0.1:9001", "/a?b=c"),
            #[cfg(feature = "tls")]
            ("wss://example.com/a", "example.com", 443, "example.com", "/a"),
            ("ws://[::1]:9001", "::1", 9001, "[::1]:9001", "/"),
            ("ws://bücher.example/", "xn--bcher-kva.example", 80, "xn--bcher-kva.example", "/"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.host(), target.port(), target.resource()), (host, port, resource), "{url}");
            assert_eq!(target.authority(), authority, "{url}");
        }
    }

    #[test]
    fn errors_and_debug_output_show_no_credentials() {
        let error = Target::parse("http://user:secret@example.com/?token=secret").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        let target = Target::parse("ws://user:secret@example.com/a?token=secret").unwrap();
        assert_eq!(format!("{target:?}"), "ws://example.com/a");
    }
}
