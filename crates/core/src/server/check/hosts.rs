//! Host check: the names that a server answers to.

use threadwire_proto::handshake::Response;

use super::{Check, plain};
use crate::error::Error;
use crate::server::request::Request;

/// Which names a server answers to: the `Host` of a request must be one of them. A page whose name its owner has pointed at somebody
/// else's server ("DNS rebinding") is of the same origin as that server to a browser; but it can't hide by which name
/// it got there. So what listens on `localhost` or in a private network should check it. Others are refused with 421 (RFC 9110,
/// section 15.5.20), requests without a host, or with several, with 400.
///
/// A name with a port is compared with it, one without fits any port. A request that names no port, as browsers do where it is that of
/// the scheme, means 443 if it came by TLS; else 80, or 443 where TLS ended at a proxy in front, so both fit then. Letters compare without regard to case, and a dot at the end
/// of a name does not count.
///
/// ```
/// use threadwire::server::{Hosts, Router};
///
/// let router = Router::new().check(Hosts::new(["localhost", "127.0.0.1", "[::1]", "example.com:8443"])?);
/// # let _ = router;
/// assert!(Hosts::new(["http://example.com"]).is_err());
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Hosts(Vec<Host>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    name: String,
    port: Option<u16>,
}

impl Hosts {
    /// Answers to these names. Fails with [`Error::Other`] for what is no host.
    pub fn new<H: AsRef<str>>(hosts: impl IntoIterator<Item = H>) -> Result<Hosts, Error> {
        let known = |host: H| {
            let host = host.as_ref();
            Host::read(host).ok_or_else(|| {
                Error::other(format!(
                    "{host:?} is no host, expected a name or an address, and perhaps a port"
                ))
            })
        };
        hosts.into_iter().map(known).collect::<Result<_, Error>>().map(Hosts)
    }
}

impl Check for Hosts {
    fn check(&self, request: &Request) -> Result<(), Response> {
        let asked = match request.headers().get_all_bytes("Host").count() {
            1 => request.host().and_then(Host::read),
            _ => None,
        };
        let Some(asked) = asked else { return Err(plain(400, "expected one Host header\n")) };
        #[cfg(feature = "tls")]
        let is_secure = request.tls().is_some();
        #[cfg(not(feature = "tls"))]
        let is_secure = false;
        if self.0.iter().any(|host| host.is_meant(&asked, is_secure)) {
            return Ok(());
        }
        tracing::debug!(host = asked.name, "refused a request for its host");
        Err(plain(421, "this server does not answer to that host\n"))
    }
}

impl Host {
    /// Whether this is what was asked for, by TLS or without it.
    fn is_meant(&self, asked: &Host, is_secure: bool) -> bool {
        let fits = |port| match asked.port {
            Some(asked) => asked == port,
            None => port == 443 || (port == 80 && !is_secure),
        };
        self.name == asked.name && self.port.is_none_or(fits)
    }

    fn read(text: &str) -> Option<Host> {
        let colon = text.rfind(':').filter(|colon| !text[*colon..].contains(']'));
        let (name, port) = match colon {
            Some(colon) => {
                let port = &text[colon + 1..];
                let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
                (&text[..colon], is_number.then(|| port.parse().ok()).flatten().map(Some)?)
            }
            None => (text, None),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let is_address = inner.len() < name.len();
        let is_name = !inner.is_empty()
            && (is_address || !inner.contains(':'))
            && inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:%!$&'()*+,;=".contains(&byte));
        // A zone means nothing outside of the machine whose it is (RFC 6874, section 1).
        let name = match name.split_once('%') {
            Some((address, _)) if is_address => format!("{address}]"),
            _ => name.to_owned(),
        };
        is_name.then(|| Host { name: name.to_ascii_lowercase(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::Host;

    #[test]
    fn hosts_are_names_with_or_without_a_port() {
        for (text, host) in [
            ("example.com", Some(("example.com", None))),
            ("Example.COM.:80", Some(("example.com", Some(80)))),
            ("[::1]", Some(("[::1]", None))),
            ("[::1]:9001", Some(("[::1]", Some(9001)))),
            ("[FE80::1%25eth0]:9001", Some(("[fe80::1]", Some(9001)))),
            ("127.0.0.1:1", Some(("127.0.0.1", Some(1)))),
            ("::1", None),
            ("example.com:", None),
            ("example.com:x", None),
            ("example.com:+1", None),
            ("example.com:99999", None),
            ("me@example.com", None),
            ("http://example.com", None),
            ("", None),
            (":80", None),
            ("[]", None),
        ] {
            let host = host.map(|(name, port)| Host { name: name.to_owned(), port });
            assert_eq!(Host::read(text), host, "{text}");
        }
    }

    #[test]
    fn a_missing_port_is_that_of_the_scheme() {
        for (known, asked, plain, secure) in [
            ("example.com:443", "example.com", true, true),
            ("example.com:443", "example.com:443", true, true),
            ("example.com:443", "example.com:80", false, false),
            ("example.com:80", "example.com", true, false),
            ("example.com:80", "example.com:80", true, true),
            ("example.com:8443", "example.com", false, false),
            ("example.com", "example.com", true, true),
            ("example.com", "example.com:8443", true, true),
            ("example.com:443", "evil.test", false, false),
        ] {
            let (host, met) = (Host::read(known).unwrap(), Host::read(asked).unwrap());
            let meant = [false, true].map(|is_secure| host.is_meant(&met, is_secure));
            assert_eq!(meant, [plain, secure], "{known} {asked}");
        }
    }
}
