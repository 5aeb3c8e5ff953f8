//! Echo server of tokio-websockets: each message of the stream is sent back, as a single frame of any length.

use super::{Outcome, tokio_echo};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_websockets::{Config, Error, ServerBuilder};

pub(super) fn run(port: u16) -> Outcome {
    tokio_echo::serve(port, echo)
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let config = Config::default().frame_size(usize::MAX);
    let (_request, mut socket) = ServerBuilder::new().config(config).accept(stream).await?;
    while let Some(message) = socket.next().await.transpose()? {
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
