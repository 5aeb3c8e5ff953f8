//! Crypto provider of rustls, and its errors in this library's words.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ProducesTickets;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError, OtherError};

use super::Pem;
use super::verify::CertificateRefused;
use crate::error::{Error, TlsError, TlsProblem};

/// The ALPN name of the protocol inside of TLS.
pub(super) const HTTP: &[u8] = b"http/1.1";

/// The cryptography: that of the process, if it has chosen one.
pub(super) fn provider() -> Arc<CryptoProvider> {
    if let Some(provider) = CryptoProvider::get_default() {
        return Arc::clone(provider);
    }
    #[cfg(feature = "tls-aws-lc")]
    return Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(not(feature = "tls-aws-lc"))]
    return Arc::new(rustls::crypto::ring::default_provider());
}

/// The maker of session tickets, with a key of its own that changes by and by.
pub(super) fn tickets() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    #[cfg(feature = "tls-aws-lc")]
    return rustls::crypto::aws_lc_rs::Ticketer::new();
    #[cfg(not(feature = "tls-aws-lc"))]
    return rustls::crypto::ring::Ticketer::new();
}

/// A certificate and its key, if they belong together.
pub(super) fn certified(
    chain: &Pem,
    key: &Pem,
    certificates: Vec<CertificateDer<'static>>,
    private: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    CertifiedKey::from_der(certificates, private, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            key.error(format!("is not the key of the first certificate in {chain:?}"), None)
        }
        rustls::Error::InvalidCertificate(_) => {
            chain.error("has a first certificate that can't be used", Some(error.into()))
        }
        error => key.error("has a key that can't be used", Some(error.into())),
    })
}

/// An error of rustls, as an error of a stream.
#[derive(Debug)]
pub struct TlsFailure {
    pub(super) error: rustls::Error,
    /// Whether version and cipher had been agreed on before.
    pub(super) has_agreed: bool,
}

impl From<TlsFailure> for io::Error {
    fn from(failure: TlsFailure) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, failure)
    }
}

impl TlsFailure {
    /// The error of a session that could not begin, as one of a stream.
    pub fn io(error: rustls::Error) -> io::Error {
        TlsFailure { error, has_agreed: false }.into()
    }

    /// The error of a handshake with this host, in this library's words.
    pub fn explain(error: io::Error, host: &str) -> Error {
        let tls = |problem, source| Error::from(TlsError { host: host.to_owned(), problem, source });
        match error.downcast::<TlsFailure>() {
            Ok(failure) => tls(failure.problem(), Some(failure.error.into())),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                tls(TlsProblem::Refused, Some(error.into()))
            }
            Err(error) => error.into(),
        }
    }

    fn problem(&self) -> TlsProblem {
        match self.error {
            rustls::Error::AlertReceived(alert) => told(alert, self.has_agreed),
            ref error => problem(error),
        }
    }
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS failed: {}", self.error)
    }
}

impl std::error::Error for TlsFailure {}

fn date(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

fn problem(error: &rustls::Error) -> TlsProblem {
    use CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            Bad::ExpiredContext { not_after, .. } => TlsProblem::Expired { since: date(*not_after) },
            Bad::NotValidYetContext { not_before, .. } => {
                TlsProblem::NotYetValid { until: date(*not_before) }
            }
            Bad::NotValidForNameContext { presented, .. } => {
                TlsProblem::WrongName { names: presented.iter().map(|name| plain_name(name)).collect() }
            }
            Bad::UnknownIssuer => TlsProblem::UnknownIssuer,
            Bad::Revoked => TlsProblem::Revoked,
            Bad::Other(OtherError(other)) => match other.downcast_ref::<CertificateRefused>() {
                Some(CertificateRefused(problem)) => problem.clone(),
                None => TlsProblem::Certificate,
            },
            _ => TlsProblem::Certificate,
        },
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)
        | rustls::Error::InvalidMessage(rustls::InvalidMessage::UnknownProtocolVersion) => TlsProblem::NotTls,
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => TlsProblem::Incompatible,
        rustls::Error::General(_) | rustls::Error::Other(_) => TlsProblem::Settings,
        _ => TlsProblem::Protocol,
    }
}

/// What the peer says with an alert (RFC 8446, section 6.2), before or after version and cipher had been agreed on.
fn told(alert: AlertDescription, has_agreed: bool) -> TlsProblem {
    use AlertDescription as Alert;
    match alert {
        // TLS 1.2 has no alert for a certificate that is missing, and the peer has had its say about all else by then.
        Alert::HandshakeFailure if has_agreed => TlsProblem::ClientCertificate,
        Alert::CertificateRequired
        | Alert::NoCertificate
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::CertificateUnobtainable
        | Alert::UnknownCA
        | Alert::AccessDenied => TlsProblem::ClientCertificate,
        Alert::HandshakeFailure
        | Alert::ProtocolVersion
        | Alert::InsufficientSecurity
        | Alert::InappropriateFallback
        | Alert::ExportRestriction
        | Alert::MissingExtension
        | Alert::UnsupportedExtension
        | Alert::NoApplicationProtocol
        | Alert::EncryptedClientHelloRequired => TlsProblem::Incompatible,
        Alert::UnrecognisedName => TlsProblem::UnknownName,
        Alert::UnexpectedMessage
        | Alert::RecordOverflow
        | Alert::DecompressionFailure
        | Alert::IllegalParameter
        | Alert::DecodeError
        | Alert::DecryptError
        | Alert::BadCertificateStatusResponse
        | Alert::BadCertificateHashValue
        | Alert::UnknownPSKIdentity => TlsProblem::Misunderstood,
        // An internal error, a user who cancels, a record that was damaged on its way, and what is not known here.
        _ => TlsProblem::Refused,
    }
}

/// The name in what webpki calls `DnsName("example.com")`.
fn plain_name(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"').to_owned()
}
