//! PEM files: certificates and private keys.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, TlsFileError};

/// The keys that can be used with every provider.
const USABLE: &str = "RSA with 2048 bits or more, ECDSA on P-256 or P-384, or Ed25519";

/// Where certificates or a key are found: a file, or bytes that are at hand, in PEM (RFC 7468). What else is in there is passed
/// over, so a key may lie in one file with its certificates.
///
/// ```
/// use threadwire::tls::Pem;
///
/// let file = Pem::file("/etc/ssl/private/example.key");
/// let bytes = Pem::bytes("-----BEGIN CERTIFICATE-----\n...");
/// assert_eq!(format!("{file:?}, {bytes:?}"), "/etc/ssl/private/example.key, PEM bytes");
/// ```
#[derive(Clone)]
pub struct Pem(PemSource);

#[derive(Clone)]
enum PemSource {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Pem {
    /// A file. It is read when it is used, and again by [`ServerTls::reload`](super::ServerTls::reload).
    pub fn file(path: impl AsRef<Path>) -> Pem {
        Pem(PemSource::File(path.as_ref().to_owned()))
    }

    /// Bytes.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Pem {
        Pem(PemSource::Bytes(bytes.into()))
    }

    fn read(&self) -> Result<Cow<'_, [u8]>, Error> {
        match &self.0 {
            PemSource::File(path) => match fs::read(path) {
                Ok(bytes) => Ok(bytes.into()),
                Err(error) => Err(self.error("can't be read", Some(error.into()))),
            },
            PemSource::Bytes(bytes) => Ok(bytes.into()),
        }
    }

    /// The error for this file.
    pub(super) fn error(
        &self,
        problem: impl Into<String>,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::from(TlsFileError { name: format!("{self:?}"), problem: problem.into(), source })
    }

    /// The certificates, one at least.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let bytes = self.read()?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match found {
            Ok(found) if found.is_empty() => {
                Err(self.error("has no certificate in it, expected -----BEGIN CERTIFICATE-----", None))
            }
            Ok(found) => Ok(found),
            Err(error) => Err(self.error("is not the PEM that it should be", Some(plain(error)))),
        }
    }

    /// The error for a key of this kind, that can't be used.
    pub(super) fn unusable(&self, kind: &str) -> Error {
        let article = if kind.starts_with(['R', 'E', 'X']) { "an" } else { "a" };
        self.error(format!("has {article} {kind} in it that can't be used, expected {USABLE}"), None)
    }

    /// The key.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        let bytes = self.read()?;
        let contains = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) => Ok(key),
            // In the name of the section, or in a line of it (RFC 1421, section 4.6.1.1).
            Err(_) if contains("-----BEGIN ENCRYPTED PRIVATE KEY") || contains("Proc-Type: 4,ENCRYPTED") => {
                Err(self
                    .error(format!("has a key with a password in it, expected one without, {USABLE}"), None))
            }
            Err(pem::Error::NoItemsFound) if contains("-----BEGIN DSA PRIVATE KEY") => {
                Err(self.unusable("DSA key"))
            }
            Err(pem::Error::NoItemsFound) => {
                Err(self.error("has no key in it, expected -----BEGIN PRIVATE KEY-----", None))
            }
            Err(error) => Err(self.error("is not the PEM that it should be", Some(plain(error)))),
        }
    }
}

/// An error that shows nothing of what was read: that may be a key.
fn plain(error: pem::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end".into(),
        pem::Error::IllegalSectionStart { .. } => "a section does not begin as it should".into(),
        pem::Error::Base64Decode(_) => "a section is not BASE64".into(),
        error => error.into(),
    }
}

/// Without what is in it.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            PemSource::File(path) => write!(f, "{}", path.display()),
            PemSource::Bytes(_) => f.write_str("PEM bytes"),
        }
    }
}
