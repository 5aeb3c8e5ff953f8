//! Proxy choice: the program's own proxy, the environment's, or none.

mod environment;
mod no_proxy;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use threadwire_proto::handshake::{Headers, RequestBuilder};
use url::{Host, Url};

use super::redact::{is_scheme, redacted};
use super::target::{Target, basic, credentials, explain};
use crate::error::{Error, UrlError, UrlPart};
use environment::Environment;
use no_proxy::NoProxy;

/// The schemes of proxy URLs.
const SCHEMES: &str = "http, https, socks4, socks4a, socks5 or socks5h";

/// The proxy through which a `Client` reaches its server, if any. By default it is what the environment says
/// ([`Proxy::from_env`]).
///
/// | URL | the proxy | asked by | who finds the server's address | port |
/// | --- | --- | --- | --- | --- |
/// | `http://...` | HTTP | `CONNECT` (RFC 9110, section 9.3.6) | the proxy | 80 |
/// | `https://...` | the same over TLS | the same | the proxy | 443 |
/// | `socks4://...`, `socks://...` | SOCKS4 | an IPv4 address | this side | 1080 |
/// | `socks4a://...` | SOCKS4a | a name | the proxy | 1080 |
/// | `socks5://...` | SOCKS5 (RFC 1928) | an address | this side | 1080 |
/// | `socks5h://...` | the same | a name | the proxy | 1080 |
///
/// Where this side finds the address, the proxy is asked for the first one that there is (for SOCKS4, of IPv4).
///
/// `USER:PASSWORD@`, percent-encoded, is sent as Basic authentication over HTTP, and as user name and password over SOCKS5 (RFC
/// 1929); SOCKS4 has a user name only. `wss` goes through all of them: TLS is then between this side and the server.
///
/// A path, a query or a fragment behind it means nothing.
///
/// Whatever goes wrong is told by [`Error::Proxy`](crate::Error::Proxy).
///
/// ```
/// use threadwire::client::Proxy;
/// use threadwire::Client;
///
/// let client = Client::new("wss://example.com/feed")?
///     .proxy(Proxy::new("socks5h://user:secret@proxy.example:1080")?);
/// let direct = Client::new("wss://example.com/feed")?.proxy(Proxy::none());
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone)]
pub struct Proxy {
    choice: Choice,
    headers: Headers,
    no_proxy: NoProxy,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<crate::tls::ClientTls>,
}

#[derive(Clone)]
enum Choice {
    /// The process's environment, read at each attempt.
    Process,
    /// An environment read before.
    Environment(Arc<Environment>),
    None,
    Server(Arc<ProxyServer>),
}

impl Proxy {
    fn of(choice: Choice) -> Proxy {
        Proxy {
            choice,
            headers: Headers::new(),
            no_proxy: NoProxy::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// This proxy, for every server. Without a scheme it is an HTTP proxy. Fails with [`Error::Url`](crate::Error::Url).
    ///
    /// ```
    /// use threadwire::client::Proxy;
    /// use threadwire::error::UrlPart;
    /// use threadwire::Error;
    ///
    /// assert!(Proxy::new("proxy.example:3128").is_ok());
    /// let result = Proxy::new("ftp://proxy.example");
    /// assert!(matches!(result, Err(Error::Url(error)) if error.part == UrlPart::Scheme));
    /// ```
    pub fn new(url: &str) -> Result<Proxy, Error> {
        Ok(Proxy::of(Choice::Server(Arc::new(ProxyServer::parse(url)?))))
    }

    /// No proxy, whatever the environment says.
    pub fn none() -> Proxy {
        Proxy::of(Choice::None)
    }

    /// The proxy that the environment of this process names when a connection is opened; the default. The rules are those of curl:
    ///
    /// - for `ws`, the first that is there of `ws_proxy`, `WS_PROXY`, `http_proxy`, `all_proxy` and `ALL_PROXY`. `HTTP_PROXY` is
    ///   not looked at, as in programs that are run by a web server anybody may set it, by a header `Proxy`;
    /// - for `wss`, of `wss_proxy`, `WSS_PROXY`, `https_proxy`, `HTTPS_PROXY`, `all_proxy` and `ALL_PROXY`;
    /// - one that is empty says that there is no proxy; a bad URL fails the attempt;
    /// - but not for hosts that `no_proxy` (or `NO_PROXY`) lists: see [`except`](Proxy::except).
    ///
    /// Unlike curl, and like Go, it never sends `localhost` and loopback addresses to a proxy, which would find itself there.
    pub fn from_env() -> Proxy {
        Proxy::of(Choice::Process)
    }

    /// The proxy of another environment, by the same rules: `lookup` is called for each variable, once and now.
    ///
    /// ```
    /// use threadwire::client::Proxy;
    /// use threadwire::Client;
    ///
    /// let settings = |name: &str| match name {
    ///     "https_proxy" => Some("http://proxy.example:3128".to_owned()),
    ///     "no_proxy" => Some("internal.example, 10.0.0.0/8".to_owned()),
    ///     _ => None,
    /// };
    /// let client = Client::new("wss://example.com/feed")?.proxy(Proxy::from_vars(settings));
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn from_vars(lookup: impl FnMut(&str) -> Option<String>) -> Proxy {
        Proxy::of(Choice::Environment(Arc::new(Environment::read(lookup))))
    }

    /// Reaches these hosts without the proxy: a list of names (each with all that is below it), addresses, networks as
    /// `10.0.0.0/8` and `2001:db8::/32`, each perhaps with a port behind a colon, or `*` for all, with commas or spaces in
    /// between. A leading dot changes nothing. Names are not resolved: one that leads into such a network is not in the list.
    /// These hosts are added to `no_proxy` of the environment, if that is used.
    ///
    /// ```
    /// use threadwire::client::Proxy;
    /// let proxy = Proxy::new("http://proxy.example:3128")?.except("localhost, .internal.example, 10.0.0.0/8");
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn except(mut self, hosts: &str) -> Proxy {
        self.no_proxy = NoProxy::parse(hosts);
        self
    }

    /// Adds a header to what an HTTP proxy is asked with. `Proxy-Authorization` takes the place of what the URL says. Fails as
    /// `Client::header` does. SOCKS proxies have no headers.
    ///
    /// ```
    /// use threadwire::client::Proxy;
    /// let proxy = Proxy::new("http://proxy.example:3128")?.header("Proxy-Authorization", "Bearer 1234")?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn header(mut self, name: &str, value: &str) -> Result<Proxy, Error> {
        if name.eq_ignore_ascii_case("Host") {
            let instead = "it is the server's, as the request names it";
            return Err(threadwire_proto::handshake::HeaderError::Reserved {
                name: name.to_owned(),
                instead,
            }
            .into());
        }
        RequestBuilder::new("localhost", "/")?.header(name, value)?;
        self.headers.append(name, value)?;
        Ok(self)
    }

    /// TLS with an `https` proxy: whom to trust, and as whom to come. Without this it is as by default, whatever the client
    /// has set for the server.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::tls::ClientTls) -> Proxy {
        self.tls = Some(tls);
        self
    }

    pub(super) fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Whether the program has named a proxy, rather than left it to the environment.
    pub(super) fn is_explicit(&self) -> bool {
        matches!(self.choice, Choice::Server(_))
    }

    /// Whether the program has named one that has to be told an address.
    pub(super) fn needs_address(&self) -> bool {
        matches!(&self.choice, Choice::Server(server) if server.needs_address())
    }

    /// The proxy on the way to a server.
    pub(super) fn for_target(&self, target: &Target) -> Result<Option<Arc<ProxyServer>>, Error> {
        if target.unix_path().is_some() || self.no_proxy.contains(target.host(), target.port()) {
            return Ok(None);
        }
        match &self.choice {
            Choice::None => Ok(None),
            Choice::Server(server) => Ok(Some(Arc::clone(server))),
            Choice::Environment(environment) => environment.proxy_for(target),
            // The only place where it is read.
            Choice::Process => Environment::read(|name| {
                std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
            })
            .proxy_for(target),
        }
    }
}

/// From the environment.
impl Default for Proxy {
    fn default() -> Proxy {
        Proxy::from_env()
    }
}

/// Without user name and password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.choice {
            Choice::Process => f.write_str("Proxy(from the environment)"),
            Choice::Environment(_) => f.write_str("Proxy(from variables)"),
            Choice::None => f.write_str("Proxy(none)"),
            Choice::Server(server) => write!(f, "Proxy({server})"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyScheme {
    Http,
    Https,
    Socks4,
    Socks4a,
    Socks5,
    Socks5h,
}

/// A proxy's URL, taken apart.
#[derive(PartialEq, Eq)]
pub(super) struct ProxyServer {
    pub(super) scheme: ProxyScheme,
    pub(super) host: String,
    pub(super) port: u16,
    /// User name and password.
    login: Option<(Vec<u8>, Vec<u8>)>,
}

impl ProxyServer {
    pub(super) fn parse(url: &str) -> Result<ProxyServer, Error> {
        let fail = |part, problem: &str| {
            Err(Error::from(UrlError { url: redacted(url), part, problem: problem.to_owned() }))
        };
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let scheme = match &*scheme.to_ascii_lowercase() {
            "http" => ProxyScheme::Http,
            "https" => ProxyScheme::Https,
            // Desktops write `socks`, and curl reads it like this.
            "socks4" | "socks" => ProxyScheme::Socks4,
            "socks4a" => ProxyScheme::Socks4a,
            "socks5" => ProxyScheme::Socks5,
            "socks5h" => ProxyScheme::Socks5h,
            _ if is_scheme(scheme) => {
                return fail(UrlPart::Scheme, &format!("is {scheme:?}, expected {SCHEMES}"));
            }
            _ => return fail(UrlPart::Scheme, &format!("is none, expected {SCHEMES}")),
        };
        // All of them are read as HTTP's are, whose port is left out where it is 80; as the one of HTTPS is not.
        let parse = |scheme| {
            Url::parse(&format!("{scheme}://{rest}")).map_err(|error| match explain(url, error) {
                Error::Url(mut error) => {
                    error.url = redacted(url);
                    if error.part == UrlPart::Scheme {
                        error.problem = format!("is missing, expected {SCHEMES}");
                    }
                    Error::Url(error)
                }
                error => error,
            })
        };
        let (parsed, port) = (parse("http")?, parse("https")?.port());
        let port = parsed.port().or(port).unwrap_or(match scheme {
            ProxyScheme::Http => 80,
            ProxyScheme::Https => 443,
            _ => 1080,
        });
        let host = match parsed.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return fail(UrlPart::Host, "is missing"),
        };
        // What stands behind the port means nothing, and is passed over; unless it may be the rest of a password.
        if let Some(behind) = rest.find(['/', '\\', '?', '#'])
            && rest[behind..].contains('@')
        {
            let problem = "has /, \\, ? or # in it, expected these percent-encoded";
            return fail(UrlPart::UserInfo, problem);
        }
        let (user, password) = credentials(&parsed);
        match scheme {
            ProxyScheme::Http | ProxyScheme::Https if user.contains(&b':') => {
                return fail(
                    UrlPart::UserInfo,
                    "has a colon in the user name, which Basic authentication can't carry",
                );
            }
            ProxyScheme::Socks4 | ProxyScheme::Socks4a if parsed.password().is_some() => {
                return fail(UrlPart::UserInfo, "has a password, which SOCKS4 can't carry");
            }
            ProxyScheme::Socks5 | ProxyScheme::Socks5h if user.len() > 255 || password.len() > 255 => {
                return fail(UrlPart::UserInfo, "is longer than the 255 bytes that SOCKS5 can carry");
            }
            _ if user.iter().chain(&password).any(u8::is_ascii_control) => {
                return fail(UrlPart::UserInfo, "has a control character");
            }
            _ => {}
        }
        let has_login = !user.is_empty() || parsed.password().is_some();
        Ok(ProxyServer { scheme, host, port, login: has_login.then_some((user, password)) })
    }

    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether this side has to find the server's address.
    pub(super) fn needs_address(&self) -> bool {
        matches!(self.scheme, ProxyScheme::Socks4 | ProxyScheme::Socks5)
    }

    pub(super) fn login(&self) -> Option<(&[u8], &[u8])> {
        self.login.as_ref().map(|(user, password)| (&user[..], &password[..]))
    }

    /// The value of a `Proxy-Authorization` header.
    pub(super) fn basic(&self) -> Option<String> {
        self.login().map(|(user, password)| basic(user, password))
    }
}

/// Its URL, without user name and password.
impl fmt::Display for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            ProxyScheme::Http => "http",
            ProxyScheme::Https => "https",
            ProxyScheme::Socks4 => "socks4",
            ProxyScheme::Socks4a => "socks4a",
            ProxyScheme::Socks5 => "socks5",
            ProxyScheme::Socks5h => "socks5h",
        };
        let ProxyServer { host, port, .. } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

impl fmt::Debug for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_apart() {
        for (url, scheme, host, port) in [
            ("http://proxy.example", ProxyScheme::Http, "proxy.example", 80),
            ("proxy.example:3128", ProxyScheme::Http, "proxy.example", 3128),
            ("127.0.0.1", ProxyScheme::Http, "127.0.0.1", 80),
            ("https://proxy.example/", ProxyScheme::Https, "proxy.example", 443),
            ("https://proxy.example:80", ProxyScheme::Https, "proxy.example", 80),
            ("SOCKS4://Proxy.Example", ProxyScheme::Socks4, "proxy.example", 1080),
            ("socks://proxy.example:1080/", ProxyScheme::Socks4, "proxy.example", 1080),
            ("http://proxy.example/proxy.pac?a#b", ProxyScheme::Http, "proxy.example", 80),
            ("proxy.example:3128/path", ProxyScheme::Http, "proxy.example", 3128),
            ("socks5h://u:p@proxy.example?x", ProxyScheme::Socks5h, "proxy.example", 1080),
            ("socks4a://a:80", ProxyScheme::Socks4a, "a", 80),
            ("socks5://a:443", ProxyScheme::Socks5, "a", 443),
            ("socks5h://[::1]:9", ProxyScheme::Socks5h, "::1", 9),
            ("socks5h://bücher.example", ProxyScheme::Socks5h, "xn--bcher-kva.example", 1080),
        ] {
            let server = ProxyServer::parse(url).unwrap();
            assert_eq!((server.scheme, &*server.host, server.port), (scheme, host, port), "{url}");
            assert_eq!(server.login().is_some(), url.contains('@'));
        }
        assert_eq!(ProxyServer::parse("socks5h://u:p@[::1]").unwrap().to_string(), "socks5h://[::1]:1080");
    }

    #[test]
    fn names_the_part_that_is_wrong() {
        for (url, part) in [
            ("ftp://a", UrlPart::Scheme),
            ("socks6://a", UrlPart::Scheme),
            ("", UrlPart::Host),
            ("http://", UrlPart::Host),
            ("http://a b", UrlPart::Host),
            ("http://a:b", UrlPart::Port),
            ("http://a:65536", UrlPart::Port),
            ("socks5://user:12/34@a", UrlPart::UserInfo),
            ("socks5://user:12?34@a", UrlPart::UserInfo),
            ("http://user:12#34@a", UrlPart::UserInfo),
            ("http://user:12\\34@a", UrlPart::UserInfo),
            ("socks4://user:secret@a", UrlPart::UserInfo),
            ("http://us%3Aer:secret@a", UrlPart::UserInfo),
            ("http://user:sec%0Aret@a", UrlPart::UserInfo),
        ] {
            match ProxyServer::parse(url) {
                Err(Error::Url(error)) => assert_eq!(error.part, part, "{url}"),
                other => panic!("{url}: {other:?}"),
            }
        }
        let long = format!("socks5://{}:secret@a", "u".repeat(256));
        assert!(
            matches!(ProxyServer::parse(&long), Err(Error::Url(error)) if error.part == UrlPart::UserInfo)
        );
    }

    #[test]
    fn credentials_are_decoded_and_not_shown() {
        let url = "socks5://us%40er:s%3Aecret@proxy.example";
        let server = ProxyServer::parse(url).unwrap();
        assert_eq!(server.login(), Some((&b"us@er"[..], &b"s:ecret"[..])));
        let shown = format!("{server} {server:?} {:?}", Proxy::new(url).unwrap());
        assert!(!shown.contains("ecret") && !shown.contains("er:"), "{shown}");
        for url in [
            "user:secret@proxy.example:x",
            "ftp://user:secret@a",
            "http://user:secret@a/b@c",
            "socks5://secret:12/34@a",
            "socks5://user:12/secret@a",
            "socks5://user:12?secret@a",
            "http://user:12#secret@a",
            "http://user:x/secret@a",
            "secret:12://34@a",
        ] {
            let error = ProxyServer::parse(url).unwrap_err();
            assert!(!format!("{error:#} {error:?}").contains("secret"), "{error}");
        }
        assert_eq!(ProxyServer::parse("http://a").unwrap().basic(), None);
        let server = ProxyServer::parse("http://Aladdin:open%20sesame@a").unwrap();
        assert_eq!(server.basic().as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    }

    #[test]
    fn an_explicit_proxy_has_its_exceptions_and_no_others() {
        let proxy = Proxy::new("http://proxy.example").unwrap().except("internal.example");
        let proxy_for = |url: &str| proxy.for_target(&Target::parse(url).unwrap()).unwrap().is_some();
        assert!(proxy_for("ws://example.com/"));
        assert!(proxy_for("ws://127.0.0.1/"), "it was asked for");
        assert!(!proxy_for("ws://a.internal.example/"));
        assert!(!proxy_for("ws+unix:/run/a.sock"));
        assert!(Proxy::none().for_target(&Target::parse("ws://example.com/").unwrap()).unwrap().is_none());
    }
}
