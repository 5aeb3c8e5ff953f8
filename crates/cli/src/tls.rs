//! TLS options of the client commands.

use std::path::PathBuf;

use clap::Args;
use threadwire::client::ClientTls;
use threadwire::tls::Pem;
use threadwire::{Client, Error};

#[derive(Args)]
pub(crate) struct TlsOptions {
    /// Trust the roots in this file (PEM), and not the system's: for wss:// only.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Accept any certificate: for wss:// only.
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
}

impl TlsOptions {
    /// A client for a URL, with these settings.
    pub(crate) fn client(&self, url: &str) -> Result<Client, Error> {
        let client = Client::new(url)?;
        Ok(match &self.ca {
            Some(file) => client.tls(ClientTls::new().only_roots(Pem::file(file))?),
            None if self.insecure => client.tls(ClientTls::new().danger_accept_any_certificate()),
            None => client,
        })
    }
}
