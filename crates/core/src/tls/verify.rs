//! Certificate verification beyond that of rustls: pinned keys, roots that are shown as certificates of their own, and the self-signed by
//! name.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use sha2::{Digest, Sha256};
use webpki::EndEntityCert;

use crate::error::TlsProblem;

/// The SHA-256 of a public key, with the algorithm that it is for (SubjectPublicKeyInfo, RFC 5280, section 4.1).
pub(super) type Pin = [u8; 32];

/// Reads `sha256//BASE64`.
pub(super) fn parse_pin(text: &str) -> Option<Pin> {
    BASE64.decode(text.strip_prefix("sha256//")?).ok()?.try_into().ok()
}

fn show(pin: &Pin) -> String {
    format!("sha256//{}", BASE64.encode(pin))
}

/// Verifies a certificate, if there is something to verify it by, and then its key, if keys are pinned. That the server has the
/// key of its certificate is verified in any case.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) inner: Option<Arc<dyn ServerCertVerifier>>,
    /// The roots that the program has named.
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) pins: Vec<Pin>,
    pub(super) provider: Arc<CryptoProvider>,
}

/// A problem that rustls has no words for.
#[derive(Debug)]
pub(super) struct CertificateRefused {
    pub(super) problem: TlsProblem,
    /// The rule that the certificate does not meet.
    pub(super) rule: &'static str,
}

impl fmt::Display for CertificateRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for CertificateRefused {}

fn found(problem: TlsProblem, rule: &'static str) -> Error {
    CertificateError::Other(OtherError(Arc::new(CertificateRefused { problem, rule }))).into()
}

/// Whether a certificate is self-signed.
fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    EndEntityCert::try_from(certificate).is_ok_and(|cert| cert.issuer() == cert.subject())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(inner) = &self.inner {
            let verified =
                inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
            match verified {
                // The rest of what is verified comes before that, but for the name.
                Err(error) if is_ca(&error) && self.roots.contains(end_entity) => {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                Err(Error::InvalidCertificate(error)) if is_of_issuer(&error) => {
                    let is_alone = intermediates.is_empty() && is_self_signed(end_entity);
                    return Err(match error {
                        _ if is_alone => {
                            found(TlsProblem::SelfSigned, "none of the roots has signed the certificate")
                        }
                        CertificateError::BadSignature => found(
                            TlsProblem::UnknownIssuer,
                            "the issuer has the name of a root, and another key",
                        ),
                        error => error.into(),
                    });
                }
                verified => {
                    verified?;
                }
            }
        }
        if !self.pins.is_empty() {
            let certificate =
                EndEntityCert::try_from(end_entity).map_err(|_| CertificateError::BadEncoding)?;
            let key: Pin = Sha256::digest(certificate.subject_public_key_info()).into();
            if !self.pins.contains(&key) {
                let problem = TlsProblem::WrongKey { found: show(&key) };
                return Err(found(problem, "none of the pins is that of the key"));
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.inner {
            Some(inner) => inner.verify_tls12_signature(message, cert, dss),
            None => {
                verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
            }
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.inner {
            Some(inner) => inner.verify_tls13_signature(message, cert, dss),
            None => {
                verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match &self.inner {
            Some(inner) => inner.supported_verify_schemes(),
            None => self.provider.signature_verification_algorithms.supported_schemes(),
        }
    }
}

/// Verifies the certificates of clients as `inner` does, and takes those that are among the roots themselves.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) roots: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for ClientVerifier {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.inner.verify_client_cert(end_entity, intermediates, now) {
            Err(error) if is_ca(&error) && self.roots.contains(end_entity) => {
                Ok(ClientCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Whether it is about who has signed the certificate.
fn is_of_issuer(error: &CertificateError) -> bool {
    matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature) || is_of_ca(error)
}

/// Whether all that is wrong is that the certificate may sign others: one that `openssl req -x509` makes, and shown as it is. Dates are
/// verified before that.
fn is_ca(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(error) if is_of_ca(error))
}

fn is_of_ca(error: &CertificateError) -> bool {
    match error {
        CertificateError::Other(OtherError(other)) => {
            matches!(other.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}
