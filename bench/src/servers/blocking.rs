//! Echo server of Threadwire's blocking face, as its users write it, with all connections on one thread.

use super::Outcome;
use crate::secure::server_tls;
use std::net::Ipv4Addr;
use threadwire::Error;
use threadwire::blocking::{Select, Selected, Server};

/// Serves 127.0.0.1 at `port`.
pub(crate) fn run(port: u16) -> Outcome {
    serve(Server::bind((Ipv4Addr::LOCALHOST, port))?)
}

/// The same in TLS.
pub(super) fn run_in_tls(port: u16) -> Outcome {
    serve(Server::bind((Ipv4Addr::LOCALHOST, port))?.tls(server_tls()?))
}

fn serve(server: Server) -> Outcome {
    let mut select = Select::new();
    select.serve(server);
    while let Some((key, what)) = select.recv()? {
        let Selected::Message(message) = what else { continue };
        match select[key].send(&message) {
            // The client has closed behind its message.
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
