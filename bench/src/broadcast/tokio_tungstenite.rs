//! Broadcast with tokio-tungstenite: each connection is a task that sends what its `tokio::sync::broadcast` channel receives.

use crate::servers::{Outcome, tokio_echo};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::broadcast::{self, Sender};
use tokio_tungstenite::tungstenite::Message;

/// Messages that a member may be behind. The load never lets it be.
const BEHIND: usize = 16;

/// Serves 127.0.0.1 at `port`.
pub(super) fn run(port: u16) -> Outcome {
    let (room, _) = broadcast::channel(BEHIND);
    tokio_echo::serve(port, move |stream| member(stream, room.clone()))
}

async fn member(stream: TcpStream, room: Sender<Message>) -> Outcome {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    let mut said = room.subscribe();
    loop {
        tokio::select! {
            message = said.recv() => socket.send(message?).await?,
            heard = socket.next() => match heard.transpose()? {
                // Its text is shared: a clone copies nothing.
                Some(message) if message.is_text() => _ = room.send(message)?,
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}
