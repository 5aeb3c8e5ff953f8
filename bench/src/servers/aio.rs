//! Threadwire's async face, as its users write an echo: on a runtime of one thread, a task for each connection.

use super::Outcome;
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
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let server = Server::bind((Ipv4Addr::LOCALHOST, port)).await?;
        server.serve(|_request, ws| echo(ws)).await?;
        Ok(())
    })
}
