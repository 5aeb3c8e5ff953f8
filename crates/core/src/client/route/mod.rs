//! Route from a URL to an open connection, in steps and without I/O: resolve, connect, TLS, proxy, upgrade.
//!
//! A driver asks for the [task](Route::task), does it, says how it went, and asks again. For each server on the way (there are
//! several where redirects are followed) the steps are: find the addresses of the first host, the server or its proxy;
//! connect to one of them; with an `https` proxy, TLS; ask the proxy for a way through; with `wss`, TLS (perhaps within TLS); the
//! request, and its answer.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use threadwire_proto::handshake::{Answer, Headers};

use super::exchange::{Exchange, Outcome, ProxyExchange, Upgraded};
use super::proxy::{ProxyScheme, ProxyServer};
use super::race::Race;
use super::redirect::{follow, forget_private};
use super::settings::Settings;
use super::socket::{Open, Sockets};
use super::socks4::Socks4;
use super::socks5::Socks5;
use super::target::Target;
use super::tunnel::Tunnel;
use crate::config::Config;
use crate::config::setting::Way;
use crate::error::{
    ConnectError, ConnectUnixError, Error, ProxyError, ProxyProblem, RedirectError, RedirectProblem,
    ResolveError, Stage, Step, TimeoutKind,
};
use crate::panic::catch;
#[cfg(feature = "tls")]
use crate::tls::{TlsFailure, session::Session};

/// An attempt to open a connection.
pub struct Route {
    settings: Settings,
    target: Target,
    /// The headers of the request, but for cookies.
    headers: Headers,
    /// How many redirects were followed.
    followed: u32,
    proxy: Option<Arc<ProxyServer>>,
    /// The addresses of the server, where a proxy has to be told one.
    server: Vec<SocketAddr>,
    /// The addresses of the first host to connect to: the server or its proxy.
    first: Vec<SocketAddr>,
    /// The remaining legs to this server.
    legs: VecDeque<Leg>,
    /// The current leg.
    leg: Leg,
    /// Whether a redirect has led to another origin: what was meant for the first is not for this one.
    #[cfg(feature = "tls")]
    is_elsewhere: bool,
    /// Whether the stream is the program's own, so that nothing else can be reached over it.
    is_own: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    FindServer,
    FindFirst,
    Connect,
    ConnectUnix,
    OpenSocket,
    SecureProxy,
    AskProxy,
    SecureServer,
    Upgrade,
}

/// The next task of a driver.
pub enum Task {
    /// Find the addresses of this host, and say what was [found](Route::found).
    Resolve { host: String, port: u16 },
    /// Connect to one of several addresses. Says how the race was [lost](Route::lost), or goes on with a stream.
    Connect(Race),
    /// Connect to a unix socket.
    ConnectUnix(PathBuf),
    /// Have the program open a socket, where it may block.
    Open(Arc<Open>, Target),
    /// Secure the stream.
    Secure(Secure),
    /// Write and read, and say what it [came to](Route::said).
    Exchange(Exchange),
}

/// TLS to be begun.
pub struct Secure {
    /// The name or the address with which the other side has to prove itself.
    pub host: String,
    #[cfg(feature = "tls")]
    pub tls: crate::tls::ClientTls,
}

#[cfg(feature = "tls")]
impl Secure {
    /// The session that is to be agreed on.
    pub fn session(&self) -> Result<Session, Error> {
        let (config, name) = self.tls.prepare(&self.host)?;
        let session = Session::client(config, name).map_err(TlsFailure::io);
        session.map_err(|error| TlsFailure::explain(error, &self.host))
    }
}

#[cfg(not(feature = "tls"))]
impl Secure {
    /// The error without the feature `tls`. (URLs of `wss` are refused before; those of proxies are not.)
    pub fn impossible(&self) -> Error {
        Error::from(crate::error::UrlError {
            url: format!("https://{}", self.host),
            part: crate::error::UrlPart::Scheme,
            problem: "wants TLS: this build can't encrypt, its feature `tls` is off".to_owned(),
        })
    }
}

/// The use of a stream after an exchange.
pub enum Next {
    /// The stream leads on to the next exchange.
    GoOn,
    /// The stream is a connection.
    Open(Upgraded),
    /// Another one is needed.
    Elsewhere,
}

impl Route {
    pub fn new(settings: &Settings) -> Result<Route, Error> {
        settings.check(&settings.target)?;
        let mut route = Route::unplanned(settings)?;
        route.plan()?;
        Ok(route)
    }

    /// The settings that do not depend on the way to the server.
    fn unplanned(settings: &Settings) -> Result<Route, Error> {
        let mut headers = settings.fixed_headers().clone();
        if let Some(make) = &settings.options.headers {
            let made = catch(|| make())?;
            for (name, _) in &made {
                headers.remove(name);
            }
            for (name, value) in made {
                settings.check_header(&name, value.as_bytes())?;
                headers.append(&name, value)?;
            }
        }
        if let Some(login) = settings.target.login().filter(|_| !headers.contains("Authorization")) {
            headers.append("Authorization", login)?;
        }
        Ok(Route {
            settings: settings.clone(),
            target: settings.target.clone(),
            headers,
            followed: 0,
            proxy: None,
            server: Vec::new(),
            first: Vec::new(),
            legs: VecDeque::new(),
            leg: Leg::Upgrade,
            #[cfg(feature = "tls")]
            is_elsewhere: false,
            is_own: false,
        })
    }

    /// The last steps alone, over a stream that the program has: TLS, where the URL says so, and the upgrade.
    pub fn over_stream(settings: &Settings) -> Result<Route, Error> {
        settings.check_for(&Way::OVER_STREAM, &settings.target)?;
        let mut route = Route::unplanned(settings)?;
        route.is_own = true;
        route.plan_talk();
        Ok(route)
    }

    /// Plans the legs to a server.
    fn plan(&mut self) -> Result<(), Error> {
        let options = &self.settings.options;
        let is_unix = self.target.unix_path().is_some() || options.unix.is_some();
        self.is_own = is_unix || options.open.is_some();
        let may_have_proxy = if self.is_own { !is_unix && options.proxy.is_explicit() } else { true };
        self.proxy = if may_have_proxy { options.proxy.for_target(&self.target)? } else { None };
        self.legs.clear();
        if self.proxy.as_ref().is_some_and(|proxy| proxy.needs_address()) {
            self.legs.push_back(Leg::FindServer);
        }
        if options.open.is_some() {
            self.legs.push_back(Leg::OpenSocket);
        } else if is_unix {
            self.legs.push_back(Leg::ConnectUnix);
        } else {
            self.legs.extend([Leg::FindFirst, Leg::Connect]);
        }
        if let Some(proxy) = &self.proxy {
            if proxy.scheme == ProxyScheme::Https {
                self.legs.push_back(Leg::SecureProxy);
            }
            self.legs.push_back(Leg::AskProxy);
        }
        self.plan_talk();
        Ok(())
    }

    /// Plans the talk with the server itself, the last legs.
    fn plan_talk(&mut self) {
        if self.target.is_secure() {
            self.legs.push_back(Leg::SecureServer);
        }
        self.legs.push_back(Leg::Upgrade);
    }

    pub fn config(&self) -> &Config {
        &self.settings.config
    }

    pub fn sockets(&self) -> &Sockets {
        &self.settings.options.sockets
    }

    /// The next task. Not to be asked again when the last one has failed, or has opened the connection.
    pub fn task(&mut self) -> Result<Task, Error> {
        loop {
            self.leg = self.legs.pop_front().unwrap_or(Leg::Upgrade);
            let limit = self.settings.options.timeouts.connect;
            return Ok(match self.leg {
                Leg::FindServer | Leg::FindFirst => {
                    let (host, port, ip) = self.sought();
                    let known = ip.map(|ip| vec![SocketAddr::new(ip, port)]);
                    match known.or_else(|| self.settings.options.addresses(&host, port)) {
                        Some(addresses) => {
                            self.found(Ok(addresses))?;
                            continue;
                        }
                        None => Task::Resolve { host, port },
                    }
                }
                Leg::Connect => Task::Connect(Race::new(std::mem::take(&mut self.first), limit)),
                Leg::ConnectUnix => {
                    let path = self.settings.options.unix.as_deref().or(self.target.unix_path());
                    Task::ConnectUnix(path.unwrap_or("".as_ref()).to_owned())
                }
                Leg::OpenSocket => match &self.settings.options.open {
                    Some(open) => Task::Open(Arc::clone(open), self.target.clone()),
                    None => continue,
                },
                Leg::SecureProxy => match &self.proxy {
                    Some(proxy) => Task::Secure(Secure {
                        host: proxy.host.clone(),
                        #[cfg(feature = "tls")]
                        tls: self
                            .settings
                            .options
                            .proxy
                            .tls
                            .clone()
                            .unwrap_or_else(crate::tls::ClientTls::shared),
                    }),
                    None => continue,
                },
                Leg::AskProxy => match self.proxy.clone() {
                    Some(proxy) => Task::Exchange(self.ask(&proxy)?),
                    None => continue,
                },
                Leg::SecureServer => Task::Secure(Secure {
                    host: self.target.host().to_owned(),
                    #[cfg(feature = "tls")]
                    tls: match self.is_elsewhere {
                        true => self.settings.tls.elsewhere(),
                        false => self.settings.tls.clone(),
                    },
                }),
                Leg::Upgrade => Task::Exchange(self.upgrade()?),
            });
        }
    }

    /// The host whose addresses are to be found.
    fn sought(&self) -> (String, u16, Option<IpAddr>) {
        match &self.proxy {
            Some(proxy) if self.leg == Leg::FindFirst => (proxy.host.clone(), proxy.port, proxy.ip()),
            _ => {
                let host = self.target.host();
                let ip = if self.target.is_ip() { host.parse().ok() } else { None };
                (host.to_owned(), self.target.port(), ip)
            }
        }
    }

    /// The addresses that were found.
    pub fn found(&mut self, addresses: io::Result<Vec<SocketAddr>>) -> Result<(), Error> {
        let addresses = addresses.and_then(|addresses| match addresses.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            false => Ok(addresses),
        });
        match addresses {
            Ok(addresses) if self.leg == Leg::FindServer => self.server = addresses,
            Ok(addresses) => self.first = addresses,
            Err(source) => {
                return Err(self.failed(Error::from(ResolveError { host: self.sought().0, source })));
            }
        }
        Ok(())
    }

    /// The error if no address could be connected to.
    pub fn lost(&self, race: Race) -> Error {
        let (mut failures, all_late) = race.into_failures();
        if all_late {
            return self.late();
        }
        self.failed(match failures.pop() {
            Some((addr, source)) => Error::from(ConnectError { addr, source, others: failures }),
            None => {
                let source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                Error::from(ResolveError { host: self.stage().at, source })
            }
        })
    }

    /// The error if the unix socket could not be connected to.
    pub fn unix_failed(&self, path: PathBuf, source: io::Error) -> Error {
        Error::from(ConnectUnixError { path, source })
    }

    /// The error of the current step, as one of the proxy if it concerns the proxy.
    pub fn failed(&self, error: Error) -> Error {
        let is_proxys = matches!(self.leg, Leg::FindFirst | Leg::Connect | Leg::SecureProxy);
        match &self.proxy {
            Some(proxy) if is_proxys => Error::from(ProxyError {
                proxy: proxy.to_string(),
                problem: ProxyProblem::Unreachable(error),
            }),
            _ => error,
        }
    }

    fn ask(&self, proxy: &ProxyServer) -> Result<Exchange, Error> {
        let target = &self.target;
        let (host, port) = (target.host(), target.port());
        let ip: Option<IpAddr> = if target.is_ip() { host.parse().ok() } else { None };
        let (user, _) = proxy.login().unwrap_or_default();
        let through = match proxy.scheme {
            ProxyScheme::Http | ProxyScheme::Https => {
                let (login, headers) = (proxy.basic(), self.settings.options.proxy.headers());
                let authority = target.host_and_port();
                Ok(ProxyExchange::Tunnel(Tunnel::new(&authority, login.as_deref(), headers, self.config())))
            }
            ProxyScheme::Socks4 => {
                let v4 = self.server.iter().find_map(|address| match address.ip().to_canonical() {
                    IpAddr::V4(ip) => Some((ip, address.port())),
                    IpAddr::V6(_) => None,
                });
                match v4 {
                    Some((ip, port)) => Socks4::new(Ok(ip), port, user).map(ProxyExchange::Socks4),
                    None => {
                        Err(ProxyProblem::Host(format!("{host} has no IPv4 address, SOCKS4 knows no other")))
                    }
                }
            }
            ProxyScheme::Socks4a => match ip.map(|ip| ip.to_canonical()) {
                None => Socks4::new(Err(host), port, user).map(ProxyExchange::Socks4),
                Some(IpAddr::V4(ip)) => Socks4::new(Ok(ip), port, user).map(ProxyExchange::Socks4),
                Some(IpAddr::V6(_)) => {
                    Err(ProxyProblem::Host(format!("{host} is an IPv6 address, SOCKS4a knows none")))
                }
            },
            ProxyScheme::Socks5 => {
                let to = self.server.first().map(|address| (Ok(address.ip()), address.port()));
                let (to, port) = to.unwrap_or((Err(host), port));
                Socks5::new(to, port, proxy.login()).map(ProxyExchange::Socks5)
            }
            ProxyScheme::Socks5h => {
                Socks5::new(ip.ok_or(host), port, proxy.login()).map(ProxyExchange::Socks5)
            }
        };
        match through {
            Ok(through) => Ok(Exchange::with_proxy(through, proxy.to_string())),
            Err(problem) => Err(Error::from(ProxyError { proxy: proxy.to_string(), problem })),
        }
    }

    fn upgrade(&self) -> Result<Exchange, Error> {
        let jar = self.settings.options.cookies.as_ref();
        let stored = jar.and_then(|jar| jar.header(&self.target));
        let request = match stored {
            None => self.settings.request(&self.target, &self.headers)?,
            Some(stored) => {
                // One Cookie header holds all, the program's own in front (RFC 6265, section 5.4).
                let mut headers = self.headers.clone();
                let own: Vec<&str> = self.headers.get_all("Cookie").collect();
                headers.set("Cookie", [own, vec![&stored]].concat().join("; "))?;
                self.settings.request(&self.target, &headers)?
            }
        };
        let follows = self.settings.options.redirects > 0 && !self.is_own;
        Ok(Exchange::upgrade(self.target.host(), request, self.config(), follows))
    }

    /// Goes on with the outcome of an exchange.
    pub fn said(&mut self, outcome: Outcome) -> Result<Next, Error> {
        match outcome {
            Outcome::TunnelOpen => Ok(Next::GoOn),
            Outcome::Open(upgraded) => {
                self.take_cookies(&upgraded.headers);
                Ok(Next::Open(upgraded))
            }
            Outcome::Redirect(answer) => {
                self.take_cookies(answer.headers());
                self.redirect(&answer)?;
                Ok(Next::Elsewhere)
            }
        }
    }

    fn take_cookies(&self, headers: &Headers) {
        if let Some(jar) = &self.settings.options.cookies {
            jar.take_in_all(&self.target, headers);
        }
    }

    fn redirect(&mut self, answer: &Answer) -> Result<(), Error> {
        let target = follow(&self.target, answer)?;
        let limit = self.settings.options.redirects;
        let (from, to) = (self.target.to_string(), target.to_string());
        if self.followed >= limit {
            return Err(Error::from(RedirectError { from, to, problem: RedirectProblem::TooMany { limit } }));
        }
        tracing::debug!(status = answer.status(), %from, %to, "following a redirect");
        self.followed += 1;
        if !self.target.is_same_origin(&target) {
            forget_private(&mut self.headers, &self.settings.options.redirected_headers);
            #[cfg(feature = "tls")]
            {
                self.is_elsewhere = true;
            }
        }
        self.target = target;
        self.plan()
    }

    /// The current step, and the host it is for.
    pub fn stage(&self) -> Stage {
        let step = match self.leg {
            Leg::FindServer | Leg::FindFirst => Step::Resolve,
            Leg::Connect | Leg::ConnectUnix | Leg::OpenSocket => Step::Connect,
            Leg::SecureProxy | Leg::SecureServer => Step::Tls,
            Leg::AskProxy => Step::Proxy,
            Leg::Upgrade => Step::Upgrade,
        };
        let unix = self.settings.options.unix.as_deref().or(self.target.unix_path());
        let at = match (&self.proxy, unix, self.leg) {
            (_, Some(path), Leg::ConnectUnix) => path.display().to_string(),
            (Some(proxy), _, Leg::FindFirst | Leg::Connect | Leg::SecureProxy | Leg::AskProxy) => {
                proxy.to_string()
            }
            _ => self.target.host().to_owned(),
        };
        Stage { step, at }
    }

    /// How long what is being done may take. A race looks at its limit itself.
    pub fn limit(&self) -> Option<Duration> {
        let timeouts = &self.settings.options.timeouts;
        match self.leg {
            Leg::FindServer | Leg::FindFirst => timeouts.resolve,
            Leg::Connect => None,
            Leg::ConnectUnix | Leg::OpenSocket => timeouts.connect,
            Leg::SecureProxy | Leg::SecureServer => timeouts.tls,
            Leg::AskProxy => timeouts.proxy,
            Leg::Upgrade => timeouts.upgrade,
        }
    }

    /// The error if the current step has taken too long.
    pub fn late(&self) -> Error {
        Error::Timeout(TimeoutKind::Step(Box::new(self.stage())))
    }

    /// The error if all steps together have taken too long.
    pub fn too_late(&self) -> Error {
        Error::Timeout(TimeoutKind::Open { during: Some(Box::new(self.stage())) })
    }
}

#[cfg(test)]
mod tests;
