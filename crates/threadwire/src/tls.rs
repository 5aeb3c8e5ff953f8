//! TLS: `wss://` for clients, and certificates for servers.
//!
//! A client needs nothing for it: `wss://` URLs are connected to with the default settings. What is different is said with
//! [`ClientTls`], by [`Client::tls`](crate::Client::tls). A server has a [`ServerTls`]. Both are on all faces, and carry
//! [rustls] underneath, with ring for its cryptography (or aws-lc-rs: feature `tls-aws-lc`; or the
//! provider that the process has [installed](rustls::crypto::CryptoProvider::install_default)).
//!
//! Where a certificate is not as it must be, connecting fails with [`Error::Tls`], which says what is wrong with it and for
//! which host: see [`TlsProblem`].
//!
//! A peer that ends its stream without saying so in TLS (`close_notify`) is only a debug line: WebSocket has close frames of its
//! own, and a connection that ends without one is [reported](crate::Closed) as such.

pub use threadwire_core::error::TlsProblem;
#[cfg(feature = "tls")]
pub use threadwire_core::tls::{
    CertificateDer, ClientCertificates, ClientTls, Pem, ServerTls, TlsInfo, rustls,
};

#[cfg(doc)]
use crate::Error;
