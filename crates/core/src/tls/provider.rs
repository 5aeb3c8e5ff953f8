//! Crypto provider of rustls, and its errors in this library's words.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ProducesTickets;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError, KeyLog, KeyLogFile, OtherError};

use super::Pem;
use super::verify::CertificateRefused;
use super::words::InWords;
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

/// Where the keys of sessions are written, if anywhere: to the file that `SSLKEYLOGFILE` names, as everywhere.
pub(super) fn key_log() -> Arc<dyn KeyLog> {
    Arc::new(KeyLogFile::new())
}

/// A certificate and its key, if they belong together.
pub(super) fn certified(
    chain: &Pem,
    key: &Pem,
    certificates: Vec<CertificateDer<'static>>,
    private: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    let kind = kind(&private);
    CertifiedKey::from_der(certificates, private, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            key.error(format!("is not the key of the first certificate in {chain:?}"), None)
        }
        rustls::Error::InvalidCertificate(_) => {
            chain.error("has a first certificate that can't be used", Some(InWords(error).into()))
        }
        _ => key.unusable(kind),
    })
}

/// What kind of key it is, by the algorithm that it names (RFC 5958, section 2; RFC 5915, section 3).
fn kind(key: &PrivateKeyDer<'_>) -> &'static str {
    /// Object identifiers, the ones of curves first: a key on a curve has both.
    const KINDS: [(&[u8], &str); 13] = [
        (&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], "ECDSA key on P-256"),
        (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22], "ECDSA key on P-384"),
        (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23], "ECDSA key on P-521"),
        (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a], "ECDSA key on secp256k1"),
        (&[0x06, 0x09, 0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01], "ECDSA key on a Brainpool curve"),
        (&[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01], "ECDSA key on another curve"),
        (&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01], "RSA key"),
        (&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a], "RSA-PSS key"),
        (&[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01], "DSA key"),
        (&[0x06, 0x03, 0x2b, 0x65, 0x70], "Ed25519 key"),
        (&[0x06, 0x03, 0x2b, 0x65, 0x71], "Ed448 key"),
        (&[0x06, 0x03, 0x2b, 0x65, 0x6e], "X25519 key"),
        (&[0x06, 0x03, 0x2b, 0x65, 0x6f], "X448 key"),
    ];
    let names = |object: &[u8], der: &[u8]| der.windows(object.len()).any(|bytes| bytes == object);
    let found = |der: &[u8]| KINDS.iter().find(|(object, _)| names(object, der)).map(|(_, kind)| *kind);
    match key {
        PrivateKeyDer::Pkcs1(_) => "RSA key",
        // The algorithm stands in front of the key.
        PrivateKeyDer::Pkcs8(key) => {
            let der = key.secret_pkcs8_der();
            found(&der[..der.len().min(48)]).unwrap_or("key of an unknown kind")
        }
        // The curve stands behind it.
        PrivateKeyDer::Sec1(key) => found(key.secret_sec1_der()).unwrap_or("ECDSA key on another curve"),
        _ => "key of an unknown kind",
    }
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
            Ok(failure) => tls(failure.problem(), Some(InWords(failure.error).into())),
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
                Some(refused) => refused.problem.clone(),
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

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use crate::tls::ServerTls;

    use super::*;

    fn refused(key: impl Into<Vec<u8>>) -> String {
        let CertifiedKey { cert, .. } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        format!("{:#}", ServerTls::new(Pem::bytes(cert.pem()), Pem::bytes(key)).unwrap_err())
    }

    #[test]
    fn a_key_of_a_kind_that_cannot_be_used_is_told_by_its_kind() {
        for (key, kind) in [
            (
                "-----BEGIN PRIVATE KEY-----\n\
             MEcCAQAwBQYDK2VxBDsEOaSkipoBJdkNS9toJlOWZVNz5fs0zaMOLP7JxtjjqYM7\n\
             KzC9bDsbogLuhvYwJKeypJX1P8h9hx4PBg==\n\
             -----END PRIVATE KEY-----\n",
                "an Ed448 key",
            ),
            (
                "-----BEGIN EC PRIVATE KEY-----\n\
             MHQCAQEEIMEFxCmXsBDE37yrvqg96dpOSIoWYUHXZ0UBfHvZewQyoAcGBSuBBAAK\n\
             oUQDQgAE1bbGidvN5Mnq3K312U+9rH4l4BExUPVzK/EVtpOnPGrOPwOxiOdzfZnV\n\
             rKfICbBi/B9xQ1S0QVYDM+YH+Fg8kQ==\n\
             -----END EC PRIVATE KEY-----\n",
                "an ECDSA key on secp256k1",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\n\
             MIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQgwQXEKZewEMTfvKu+qD3p\n\
             2k5IihZhQddnRQF8e9l7BDKhRANCAATVtsaJ283kyercrfXZT72sfiXgETFQ9XMr\n\
             8RW2k6c8as4/A7GI53N9mdWsp8gJsGL8H3FDVLRBVgMz5gf4WDyR\n\
             -----END PRIVATE KEY-----\n",
                "an ECDSA key on secp256k1",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\n\
             MIGIAgEAMBQGByqGSM49AgEGCSskAwMCCAEBBwRtMGsCAQEEIKg4LjFRJq0k0Sa6\n\
             17jV75xQJWXXeea7df3Ov71SDdQloUQDQgAECw1nsBjTT3fPIOG3DjGvEOwuJ/ug\n\
             f2qCwigjG7e2XBtihjZPXXTTbVpaxMCy/oq8IHKjjQ9/XytlRF2UKpjXew==\n\
             -----END PRIVATE KEY-----\n",
                "an ECDSA key on a Brainpool curve",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\n\
             MC4CAQAwBQYDK2VuBCIEIOh20ytgDGaA77BYMx2AKIDVARUG+04hdDKG0umshrtu\n\
             -----END PRIVATE KEY-----\n",
                "an X25519 key",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\n\
             MIIBVQIBADANBgkqhkiG9w0BAQEFAASCAT8wggE7AgEAAkEAyvQA5c9I5RpWHaQZ\n\
             5VYfo8g7MWkVtCaKtOer4ioDRi7Sg8vLGvg33ho6/bQ5PGgYZwbvgja7PNFDje3g\n\
             4LD0lQIDAQABAkEAx5cNJvQiaQTsebv/p5V6CjUJWX9R09gvgtdvJz1P+Pykk3m6\n\
             la1DAMDw5JJamAr+4rKmz9KAcxnOrPpnWEpgwQIhAOpp7z+dDN0g1kGR6ZcKviQX\n\
             9sSmItd9zYdw62494PVFAiEA3aRqePX5VU44Y6ycGtOKcdVg5YCmEwviRYKMuV3l\n\
             LxECIQDOrAmBB4FQ8OOWOgQ94/3SKsKpjGSJo2Py9w7LSoktFQIgHYxKyX95Uv8P\n\
             k3IyiX0EKvLYbSA+g7GE4+Foo1m6MRECIBqu6uRpM/CvNZgocUQKyCNq3HotvOFw\n\
             R+25eO6TUrre\n\
             -----END PRIVATE KEY-----\n",
                "an RSA key",
            ),
        ] {
            let expected = format!(
                "can't use PEM bytes for TLS: has {kind} in it that can't be used, expected RSA with 2048 bits or more, \
                 ECDSA on P-256 or P-384, or Ed25519"
            );
            assert_eq!(refused(key), expected);
        }
    }

    #[test]
    fn what_is_not_a_key_that_can_be_read_says_what_it_is() {
        let traditional = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
                           -----END RSA PRIVATE KEY-----\n";
        let modern = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (key, what) in [
            (traditional, "has a key with a password in it"),
            (modern, "has a key with a password in it"),
            ("-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", "has a DSA key in it"),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "has a key of an unknown kind in it",
            ),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "has no key in it"),
            ("", "has no key in it"),
        ] {
            let said = refused(key);
            assert!(said.contains(what), "{said}");
        }
    }
}
