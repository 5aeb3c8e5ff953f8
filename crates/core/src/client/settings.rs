//! Client settings: target, request headers, and way to the server.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use threadwire_proto::handshake::{ClientRequest, Headers, RequestBuilder};

use super::cookies::CookieJar;
use super::proxy::Proxy;
use super::socket::{Open, Sockets};
use super::target::{Target, basic};
use super::timeouts::Timeouts;
use crate::config::Config;
use crate::config::setting::{Setting, Way};
use crate::error::Error;
#[cfg(feature = "tls")]
use crate::tls::ClientTls;

/// How many redirects are followed.
const REDIRECTS: u32 = 10;

/// Makes headers for an attempt.
pub type MakeHeaders = dyn Fn() -> Result<Vec<(String, String)>, Error> + Send + Sync;

/// All that a client was told. The builder of users is `threadwire::Client`, which has one of these and the documentation.
#[derive(Clone, Debug)]
pub struct Settings {
    pub target: Target,
    /// The headers added to the request.
    headers: Headers,
    subprotocols: Vec<String>,
    pub config: Config,
    pub options: Options,
    #[cfg(feature = "tls")]
    pub tls: ClientTls,
}

/// The way to the server, and what depends on it.
#[derive(Clone)]
pub struct Options {
    pub proxy: Proxy,
    pub redirects: u32,
    /// Names of headers that a redirect takes to another origin.
    pub redirected_headers: Vec<String>,
    pub cookies: Option<CookieJar>,
    pub headers: Option<Arc<MakeHeaders>>,
    pub addresses: Vec<(String, Vec<SocketAddr>)>,
    pub sockets: Sockets,
    pub open: Option<Arc<Open>>,
    pub unix: Option<PathBuf>,
    pub timeouts: Timeouts,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            proxy: Proxy::default(),
            redirects: REDIRECTS,
            redirected_headers: Vec::new(),
            cookies: None,
            headers: None,
            addresses: Vec::new(),
            sockets: Sockets::default(),
            open: None,
            unix: None,
            timeouts: Timeouts::default(),
        }
    }
}

impl Options {
    /// Has a host reached at these addresses.
    pub fn set_addresses(&mut self, host: &str, addresses: Vec<SocketAddr>) {
        let host = idna::domain_to_ascii(host).unwrap_or_else(|_| host.to_owned());
        self.addresses.retain(|(name, _)| !name.eq_ignore_ascii_case(&host));
        self.addresses.push((host, addresses));
    }

    /// The addresses of a host, if the program has given them.
    pub fn addresses(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        let (_, addresses) = self.addresses.iter().find(|(name, _)| name.eq_ignore_ascii_case(host))?;
        let with_port = |address: &SocketAddr| {
            let mut address = *address;
            if address.port() == 0 {
                address.set_port(port);
            }
            address
        };
        Some(addresses.iter().map(with_port).collect())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("proxy", &self.proxy)
            .field("redirects", &self.redirects)
            .field("redirected_headers", &self.redirected_headers)
            .field("cookies", &self.cookies)
            .field("makes_headers", &self.headers.is_some())
            .field("addresses", &self.addresses)
            .field("sockets", &self.sockets)
            .field("opens_sockets", &self.open.is_some())
            .field("unix", &self.unix)
            .field("timeouts", &self.timeouts)
            .finish()
    }
}

impl Settings {
    /// For this URL. Fails for what can't be asked for.
    pub fn new(url: &str) -> Result<Settings, Error> {
        let settings = Settings {
            target: Target::parse(url)?,
            headers: Headers::new(),
            subprotocols: Vec::new(),
            config: Config::default(),
            options: Options::default(),
            #[cfg(feature = "tls")]
            tls: ClientTls::shared(),
        };
        settings.request(&settings.target, &settings.headers)?;
        Ok(settings)
    }

    /// The headers that are the same for each attempt.
    pub fn fixed_headers(&self) -> &Headers {
        &self.headers
    }

    /// Adds subprotocols to those that are offered.
    pub fn add_subprotocols(&mut self, names: impl Iterator<Item = String>) -> Result<(), Error> {
        self.subprotocols.extend(names);
        self.request(&self.target, &self.headers)?;
        Ok(())
    }

    /// Basic authentication (RFC 7617).
    pub fn set_basic_auth(&mut self, user: &str, password: &str) -> Result<(), Error> {
        if user.contains(':') {
            return Err(Error::other(
                "Basic authentication can't carry a colon in a user name (RFC 7617, section 2)",
            ));
        }
        if user.bytes().chain(password.bytes()).any(|byte| byte.is_ascii_control()) {
            return Err(Error::other(
                "Basic authentication can't carry control characters (RFC 7617, section 2)",
            ));
        }
        self.set_header("Authorization", &basic(user.as_bytes(), password.as_bytes()))
    }

    /// The request of one attempt.
    pub fn request(&self, target: &Target, headers: &Headers) -> Result<ClientRequest, Error> {
        let mut request = RequestBuilder::new(&target.authority(), target.resource())?;
        for (name, value) in headers.iter() {
            request.header(name, value)?;
        }
        request.subprotocols(&self.subprotocols)?;
        if let Some(deflate) = &self.config.deflate {
            request.extension(deflate.offer());
        }
        Ok(request.build()?)
    }

    /// Fails for a header that must not be sent.
    pub fn check_header(&self, name: &str, value: &[u8]) -> Result<(), Error> {
        RequestBuilder::new("localhost", "/")?.header(name, value)?;
        Ok(())
    }

    /// Adds a header; there is only one of those that the handshake itself knows.
    pub fn add_header(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let value = trimmed(value);
        self.check_header(name, value.as_bytes())?;
        let is_single =
            ["Host", "Origin", "User-Agent"].iter().any(|single| single.eq_ignore_ascii_case(name));
        if is_single {
            self.headers.set(name, value)?;
        } else {
            self.headers.append(name, value)?;
        }
        Ok(())
    }

    /// Sets a header, in place of those of that name.
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let value = trimmed(value);
        self.check_header(name, value.as_bytes())?;
        self.headers.set(name, value)?;
        Ok(())
    }

    /// Fails if anything is set that its own way to the server does not heed.
    pub fn check(&self, target: &Target) -> Result<(), Error> {
        let is_unix = self.options.unix.is_some() || target.unix_path().is_some();
        match (&self.options.open, is_unix) {
            (Some(_), _) => self.check_for(&Way::OWN_SOCKET, target),
            (None, true) => self.check_for(&Way::UNIX, target),
            (None, false) => Ok(()),
        }
    }

    /// Fails if anything is set that this way does not heed.
    pub fn check_for(&self, way: &Way, target: &Target) -> Result<(), Error> {
        self.config.check(way)?;
        way.check(|setting| self.is_set(setting, target))
    }

    /// Whether a setting of the way to the server says something else than by default.
    fn is_set(&self, setting: Setting, target: &Target) -> bool {
        let Options { proxy, redirects, redirected_headers, addresses, sockets, open, unix, .. } =
            &self.options;
        match setting {
            Setting::Bind => sockets.local.is_some(),
            Setting::Nodelay => sockets.delays,
            Setting::OpenSocket => open.is_some(),
            Setting::PrepareSocket => sockets.prepare.is_some(),
            Setting::Proxy => proxy.is_explicit(),
            Setting::RedirectedHeaders => !redirected_headers.is_empty(),
            // Not to follow any is what happens.
            Setting::Redirects => ![0, REDIRECTS].contains(redirects),
            Setting::Resolve => !addresses.is_empty() && !proxy.needs_address(),
            Setting::UnixSocket => unix.is_some(),
            Setting::UnixUrl => target.unix_path().is_some(),
            _ => false,
        }
    }

    /// Another URL, with the same headers and subprotocols.
    pub fn set_url(&mut self, url: &str) -> Result<(), Error> {
        let target = Target::parse(url)?;
        self.request(&target, &self.headers)?;
        self.target = target;
        Ok(())
    }
}

/// A header's value without the white space around it, which is no part of it (RFC 9110, section 5.5).
fn trimmed(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}
