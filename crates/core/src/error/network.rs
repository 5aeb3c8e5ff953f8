//! Hosts without an address, and addresses that can't be reached or listened at.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::io_kind::plain;

/// A host name could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error("can't find the address of {host}")]
#[non_exhaustive]
pub struct ResolveError {
    /// The name.
    pub host: String,
    /// The error of the system.
    pub source: io::Error,
}

/// No address of a server could be reached.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectError {
    /// The address that failed last.
    pub addr: SocketAddr,
    /// The error of the system.
    pub source: io::Error,
    /// The addresses that failed before it, in that order, and what the system said of each. They are part of the message.
    pub others: Vec<(SocketAddr, io::Error)>,
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (addr, error) in &self.others {
            write!(f, "can't connect to {addr} ({}), ", plain(error))?;
        }
        write!(f, "can't connect to {}", self.addr)
    }
}

/// A unix socket could not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("can't connect to {}", path.display())]
#[non_exhaustive]
pub struct ConnectUnixError {
    /// Its path.
    pub path: PathBuf,
    /// The error of the system.
    pub source: io::Error,
}

/// A server could not listen at an address.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {addr}")]
#[non_exhaustive]
pub struct ListenError {
    /// The address, as it was given.
    pub addr: String,
    /// The error of the system.
    pub source: io::Error,
}
