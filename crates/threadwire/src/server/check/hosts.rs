//! Which names a server answers to.

use threadwire_proto::handshake::Response;

use super::{Check, plain};
use crate::{Error, Request};

/// Which names a server answers to: the `Host` of a request must be one of them. A page whose name its owner has pointed at somebody
/// else's server ("DNS rebinding") is of the same origin as that server, as far as a browser can tell; but it can't hide by which name
/// it got there. So what listens on `localhost` or in a private network should check it. Others are refused with 421 (RFC 9110,
/// section 15.5.20), requests without a host, or with several, with 400.
///
/// A name with a port is compared with it, one without fits any port. Letters compare without regard to case, and a dot at the end
/// of a name does not count.
///
/// ```
/// use threadwire::{Hosts, Router};
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
        let fits = |host: &Host| host.name == asked.name && (host.port.is_none() || host.port == asked.port);
        if self.0.iter().any(fits) {
            return Ok(());
        }
        tracing::debug!(host = asked.name, "refused a request for its host");
        Err(plain(421, "this server does not answer to that host\n"))
    }
}

impl Host {
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
        let is_name = !inner.is_empty()
            && (inner.len() < name.len() || !inner.contains(':'))
            && inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:%!$&'()*+,;=".contains(&byte));
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
}
