//! Echo server of Threadwire's async face, as its users write it: on a runtime of one thread, a task for each connection.

use super::Outcome;
use crate::secure::server_tls;
use std::net::Ipv4Addr;
use threadwire::aio::{Connection, Server};
use tokio::runtime;

async fn echo(mut ws: Connection) {
    while let Ok(Some(message)) = ws.recv().await {
        if ws.send(&message).await.is_err() {
            break;
        }
    }
}

/// Serves 127.0.0.1 at `port`.
pub(super) fn run(port: u16) -> Outcome {
    serve(port, |server| server)
}

/// The same in TLS.
pub(super) fn run_in_tls(port: u16) -> Outcome {
    let tls = server_tls()?;
    serve(port, |server| server.tls(tls))
}

fn serve(port: u16, prepare: impl FnOnce(Server) -> Server) -> Outcome {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let server = prepare(Server::bind((Ipv4Addr::LOCALHOST, port)).await?);
        server.serve(|_request, ws| echo(ws)).await?;
        Ok(())
    })
}
