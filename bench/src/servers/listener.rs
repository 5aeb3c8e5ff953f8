//! Echo server of Threadwire's callback face, as its users write it.

use super::Outcome;
use crate::secure::server_tls;
use std::net::Ipv4Addr;
use threadwire::{Config, Connection, Error, Listener, Message, Reply, Server};

struct Echo;

impl Listener for Echo {
    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        ws.send(message)
    }
}

/// Serves 127.0.0.1 at `port`.
pub(crate) fn run(port: u16) -> Outcome {
    run_with(port, Config::default())
}

/// The same with another configuration.
pub(crate) fn run_with(port: u16, config: Config) -> Outcome {
    Server::bind((Ipv4Addr::LOCALHOST, port))?.config(config).run(|_request| Reply::with(Echo))?;
    Ok(())
}

/// The same in TLS.
pub(crate) fn run_in_tls(port: u16) -> Outcome {
    let server = Server::bind((Ipv4Addr::LOCALHOST, port))?.tls(server_tls()?);
    server.run(|_request| Reply::with(Echo))?;
    Ok(())
}
