//! TLS failures in words.

use std::fmt;
use std::time::SystemTime;

use super::Source;

/// No TLS connection was made with a server.
#[derive(Debug, thiserror::Error)]
#[error("no TLS connection with {host}: {problem}")]
#[non_exhaustive]
pub struct TlsError {
    /// The server's host, as it is in the URL.
    pub host: String,
    /// The problem.
    pub problem: TlsProblem,
    /// What the TLS library says, in words.
    pub source: Option<Source>,
}

/// A certificate or a key of one's own can't be used.
#[derive(Debug, thiserror::Error)]
#[error("can't use {name} for TLS: {problem}")]
#[non_exhaustive]
pub struct TlsFileError {
    /// The file it is in, if it is in one.
    pub name: String,
    /// The problem, and what was expected.
    pub problem: String,
    /// The underlying error.
    pub source: Option<Source>,
}

/// Why a TLS connection was not made: see [`Error::Tls`](crate::Error::Tls).
///
#[cfg_attr(
    feature = "tls",
    doc = r#"
```
use threadwire::error::TlsProblem;
use threadwire::{Client, Connection, Error, Message, tls::Pem};
# use threadwire::client::ClientTls;
# use threadwire::server::ServerTls;
# use threadwire::{Reply, Server};
# let made = rcgen::generate_simple_self_signed(vec!["example.org".to_owned()]).unwrap();
# let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
# let tls = ServerTls::new(Pem::bytes(chain.clone()), Pem::bytes(key))?;
# let server = Server::bind("127.0.0.1:0")?.tls(tls).serve(|_| Reply::upgrade())?;
# let url = format!("wss://localhost:{}", server.local_addr()?.port());

let client = Client::new(&url)?.tls(ClientTls::new().only_roots(Pem::bytes(chain))?);
match client.connect(|_ws: &Connection, _message: Message<'_>| Ok(())) {
    Err(Error::Tls(error)) => {
        assert_eq!(error.host, "localhost");
        assert_eq!(error.problem, TlsProblem::WrongName { names: vec!["example.org".to_owned()] });
    }
    other => panic!("{other:?}"),
}
# server.stop();
# Ok::<(), Error>(())
```
"#
)]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The server's certificate has expired.
    Expired {
        /// Until when it was valid.
        since: SystemTime,
    },
    /// The server's certificate is not valid yet. This machine's clock may be wrong.
    NotYetValid {
        /// From when on it is valid.
        until: SystemTime,
    },
    /// The server's certificate is for other names.
    WrongName {
        /// The names that it has, as they are written in errors of rustls; none if it has none.
        names: Vec<String>,
    },
    /// The server's certificate is signed by itself, and not among the roots. It may be made one, or its key may be pinned.
    SelfSigned,
    /// The server's certificate is signed by none of the roots, nor by a certificate that was sent with it and is.
    UnknownIssuer,
    /// The server's certificate was revoked.
    Revoked,
    /// The server's key is none of those that are pinned.
    WrongKey {
        /// Its own, as it would have to be pinned: `sha256//` and BASE64.
        found: String,
    },
    /// Something else is wrong with the server's certificate.
    Certificate,
    /// The server has ended the handshake because of the certificate that it was shown, or as it was shown none. TLS 1.2 has no
    /// alert for that; there it is what ends the handshake when the server has shown its own.
    ClientCertificate,
    /// The peer has ended the handshake for a reason of its own: it said so (`internal_error`), or it just left.
    Refused,
    /// The server has nothing at that name (the alert `unrecognized_name`, RFC 6066, section 3).
    UnknownName,
    /// The peer has ended the handshake as this side broke a rule of TLS, as it sees it.
    Misunderstood,
    /// The peer does not speak TLS: a server that listens for `ws://`, perhaps.
    NotTls,
    /// The peer's TLS and ours have no version, cipher or protocol in common.
    Incompatible,
    /// The host can't be verified: it is no name and no address.
    Name,
    /// The settings of this side can't be used.
    Settings,
    /// The peer broke a rule of TLS.
    Protocol,
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsProblem::Expired { since } => write!(f, "its certificate expired on {}", Date(*since)),
            TlsProblem::NotYetValid { until } => {
                write!(f, "its certificate is not valid before {}", Date(*until))
            }
            TlsProblem::WrongName { names } if names.is_empty() => f.write_str(
                "its certificate is for no name at all: names are expected as subject alternative names",
            ),
            TlsProblem::WrongName { names } => write!(f, "its certificate is only for {}", names.join(", ")),
            TlsProblem::SelfSigned => f.write_str("its certificate is self-signed, and not one of the roots"),
            TlsProblem::UnknownIssuer => {
                f.write_str("its certificate is signed by nobody among the roots, or the chain is incomplete")
            }
            TlsProblem::Revoked => f.write_str("its certificate was revoked"),
            TlsProblem::WrongKey { found } => {
                write!(f, "its key is none of those that are pinned but {found}")
            }
            TlsProblem::Certificate => f.write_str("its certificate can't be trusted"),
            TlsProblem::ClientCertificate => f.write_str("it wants a client certificate, or another one"),
            TlsProblem::Refused => f.write_str("it ended the handshake"),
            TlsProblem::UnknownName => f.write_str("it has nothing at that name"),
            TlsProblem::Misunderstood => f.write_str("it says that this side broke a rule of TLS"),
            TlsProblem::NotTls => f.write_str("it does not speak TLS at this port"),
            TlsProblem::Incompatible => {
                f.write_str("it has no version, cipher or protocol in common with this side")
            }
            TlsProblem::Name => f.write_str("it is neither a DNS name nor an IP address"),
            TlsProblem::Settings => f.write_str("the TLS settings of this side can't be used"),
            TlsProblem::Protocol => f.write_str("it broke a rule of TLS"),
        }
    }
}

/// A point in time, to the second.
struct Date(SystemTime);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(feature = "tls")]
        return httpdate::HttpDate::from(self.0).fmt(f);
        // Without TLS nothing has such a date.
        #[cfg(not(feature = "tls"))]
        return write!(f, "{:?}", self.0);
    }
}
