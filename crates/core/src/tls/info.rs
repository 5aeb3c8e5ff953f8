//! Result of a TLS handshake: protocol version, cipher suite, ALPN, and the peer's certificates.

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, ProtocolVersion};

/// What a TLS handshake has come to: see [`Request::tls`](crate::Request::tls) and
/// `Connection::tls`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The certificates that the peer has shown and that were verified, its own first. On a server it is empty unless clients are
    /// [asked](crate::ServerTls::client_certificates) for certificates and this one has some.
    pub peer_certificates: Vec<CertificateDer<'static>>,
    /// The protocol that was agreed on (ALPN), if the client offered some.
    pub alpn: Option<Vec<u8>>,
    /// Whether an earlier session was taken up again.
    pub is_resumed: bool,
    /// The version of TLS.
    pub version: Option<ProtocolVersion>,
    /// How it is encrypted.
    pub cipher_suite: Option<CipherSuite>,
}
