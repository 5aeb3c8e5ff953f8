//! Exchanges before a stream is a connection, without I/O: a proxy is asked for a tunnel, the server for the upgrade. An exchange
//! has bytes to write, and looks at those that were read.

use threadwire_proto::Deflate;
use threadwire_proto::deflate::Agreement;
use threadwire_proto::handshake::{Answer, ClientRequest, Headers};

use super::redirect;
use super::response_reader::{Arrived, ResponseReader};
use super::socks4::Socks4;
use super::socks5::Socks5;
use super::tunnel::Tunnel;
use crate::config::Config;
use crate::error::{Error, ProxyError, ProxyProblem};

/// An exchange, its bytes, and its counterpart.
pub struct Exchange {
    /// Bytes still to be written.
    pub output: Vec<u8>,
    /// Bytes read and not parsed yet: to be appended to.
    pub received: Vec<u8>,
    counterpart: Counterpart,
}

enum Counterpart {
    /// A tunnel through a proxy, whose URL may be shown.
    Proxy { exchange: ProxyExchange, proxy: String },
    /// The upgrade.
    Upgrade(Box<Upgrade>),
}

/// The protocol of a proxy.
pub(super) enum ProxyExchange {
    Tunnel(Tunnel),
    Socks4(Socks4),
    Socks5(Socks5),
}

struct Upgrade {
    /// The server's, as errors name it.
    host: String,
    request: ClientRequest,
    answer: ResponseReader,
    follows_redirects: bool,
    /// The offered compression.
    deflate: Option<Deflate>,
}

/// The result of an upgrade.
pub struct Upgraded {
    pub subprotocol: Option<String>,
    /// The headers of the server's answer.
    pub headers: Headers,
    /// If messages may be compressed.
    pub deflate: Option<Agreement>,
    /// How many of the bytes received are the server's answer.
    pub head: usize,
}

/// The outcome of an exchange.
pub enum Outcome {
    /// The stream leads to the server from now on.
    TunnelOpen,
    /// The server agrees.
    Open(Upgraded),
    /// The server sends elsewhere.
    Redirect(Box<Answer>),
}

impl Exchange {
    pub(super) fn with_proxy(exchange: ProxyExchange, proxy: String) -> Exchange {
        let counterpart = Counterpart::Proxy { exchange, proxy };
        let mut exchange = Exchange { output: Vec::new(), received: Vec::new(), counterpart };
        if let Counterpart::Proxy { exchange: with_proxy, .. } = &mut exchange.counterpart {
            match with_proxy {
                ProxyExchange::Tunnel(tunnel) => tunnel.begin(&mut exchange.output),
                ProxyExchange::Socks4(socks) => socks.begin(&mut exchange.output),
                ProxyExchange::Socks5(socks) => socks.begin(&mut exchange.output),
            }
        }
        exchange
    }

    /// Asks for the upgrade. Redirects are an answer as any other, unless they are to be followed.
    pub fn upgrade(host: &str, request: ClientRequest, config: &Config, follows_redirects: bool) -> Exchange {
        let mut output = Vec::new();
        request.encode(&mut output);
        let answer = ResponseReader::new(config);
        let deflate = config.deflate.clone();
        let host = host.to_owned();
        let upgrade = Box::new(Upgrade { host, request, answer, follows_redirects, deflate });
        Exchange { output, received: Vec::new(), counterpart: Counterpart::Upgrade(upgrade) }
    }

    /// Whether the stream is a connection when it is over.
    pub fn is_last(&self) -> bool {
        matches!(self.counterpart, Counterpart::Upgrade(_))
    }

    /// Looks at what was received. `None` if more has to be written, or has to arrive, which it won't if the stream has `ended`:
    /// then it fails.
    pub(super) fn look(&mut self, ended: bool) -> Result<Option<Outcome>, Error> {
        let Exchange { output, received, counterpart } = self;
        match counterpart {
            Counterpart::Proxy { exchange, proxy } => {
                let is_open = match exchange {
                    ProxyExchange::Tunnel(tunnel) => tunnel.look(received, ended),
                    ProxyExchange::Socks4(socks) => socks.look(received),
                    ProxyExchange::Socks5(socks) => socks.look(received, output),
                };
                let is_open = is_open.and_then(|is_open| match (is_open, ended) {
                    // The server sends nothing before the client: these bytes would be taken for its first ones.
                    (true, _) if !received.is_empty() => Err(ProxyProblem::TooMuch { count: received.len() }),
                    (false, true) => Err(ProxyProblem::Ended),
                    (is_open, _) => Ok(is_open),
                });
                match is_open {
                    Ok(is_open) => Ok(is_open.then_some(Outcome::TunnelOpen)),
                    Err(problem) => Err(Error::from(ProxyError { proxy: proxy.clone(), problem })),
                }
            }
            Counterpart::Upgrade(upgrade) => match upgrade.look(received, ended)? {
                None if ended => Err(Error::Lost),
                outcome => Ok(outcome),
            },
        }
    }

    /// The refusal that has begun to arrive, of which no more is waited for: it says more than what ended the wait.
    pub fn refusal(&mut self) -> Option<Error> {
        let error = self.look(true).err()?;
        let is_refusal = match &error {
            Error::Status(_) => true,
            Error::Proxy(error) => matches!(error.problem, ProxyProblem::Refused(_)),
            _ => false,
        };
        is_refusal.then_some(error)
    }

    /// Looks at what a read of so many bytes has added to what was received. `broken` is the error of a write before: of a stream
    /// that ends without an answer, it says more.
    pub fn advance(
        &mut self,
        count: usize,
        broken: &mut Option<std::io::Error>,
    ) -> Result<Option<Outcome>, Error> {
        match (self.look(count == 0), broken.take()) {
            (Err(Error::Lost), Some(error)) => Err(self.broken(error)),
            (looked, error) => {
                *broken = error;
                looked
            }
        }
    }

    /// The error of a stream that does not go on. A peer whose stream takes no more may still have said why.
    pub fn failed(&mut self, error: std::io::Error) -> Error {
        self.refusal().unwrap_or_else(|| self.broken(error))
    }

    /// The error of a failed read or write.
    fn broken(&self, error: std::io::Error) -> Error {
        match &self.counterpart {
            Counterpart::Proxy { proxy, .. } => {
                Error::from(ProxyError { proxy: proxy.clone(), problem: ProxyProblem::Io(error) })
            }
            // A refused client certificate is reported only after the TLS handshake (RFC 8446, section
            // 4.4.2.4).
            #[cfg(feature = "tls")]
            Counterpart::Upgrade(upgrade) => crate::tls::TlsFailure::explain(error, &upgrade.host),
            #[cfg(not(feature = "tls"))]
            Counterpart::Upgrade(upgrade) => {
                let _ = &upgrade.host;
                Error::Io(error)
            }
        }
    }
}

impl Upgrade {
    fn look(&mut self, received: &mut Vec<u8>, ended: bool) -> Result<Option<Outcome>, Error> {
        let Upgrade { request, answer, follows_redirects, deflate, .. } = self;
        let is_redirect = |answer: &Answer| *follows_redirects && redirect::is_one(answer);
        let arrived =
            answer.look(received, ended, |answer| answer.status() == 101, |answer| !is_redirect(answer))?;
        match arrived {
            None => Ok(None),
            Some(Arrived::Accepted(answer, head)) => {
                let accepted = request.verify(answer)?;
                let deflate = match deflate {
                    Some(deflate) => deflate.accept(&accepted.extensions)?,
                    None => None,
                };
                let (subprotocol, headers) = (accepted.subprotocol, accepted.headers);
                Ok(Some(Outcome::Open(Upgraded { subprotocol, headers, deflate, head })))
            }
            Some(Arrived::Refusal(answer)) if is_redirect(&answer) => Ok(Some(Outcome::Redirect(answer))),
            Some(Arrived::Refusal(answer)) => Err(Error::Status(answer)),
        }
    }
}
