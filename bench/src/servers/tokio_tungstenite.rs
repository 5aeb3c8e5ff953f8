//! tokio-tungstenite: the messages of the stream are forwarded to its sink, which flushes when no more are there.

use super::{Outcome, tokio_echo};
use futures_util::{StreamExt as _, TryStreamExt as _, future};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;

pub(crate) fn run(port: u16) -> Outcome {
    tokio_echo::serve(port, echo)
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let (sink, messages) = tokio_tungstenite::accept_async(stream).await?.split();
    messages.try_filter(|message| future::ready(message.is_text() || message.is_binary())).forward(sink).await
}
