//! TLS without I/O: settings of clients and servers, and one session for every face.

mod client;
mod info;
mod pem;
mod provider;
mod scratch;
mod server;
#[doc(hidden)]
pub mod session;
#[doc(hidden)]
pub mod stream;
#[cfg(test)]
mod tests;
mod verify;
mod words;

pub use client::ClientTls;
pub use info::TlsInfo;
pub use pem::Pem;
#[doc(hidden)]
pub use provider::TlsFailure;
use provider::{HTTP, certified, key_log, provider, tickets};
pub use rustls;
pub use rustls::pki_types::CertificateDer;
pub use server::{ClientCertificates, ServerTls};
