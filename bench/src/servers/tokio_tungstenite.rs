//! Echo server of tokio-tungstenite: the stream's messages are forwarded to its sink, which flushes when no more are there.

use super::{Outcome, tokio_echo};
use crate::secure::server_config;
use futures_util::{StreamExt as _, TryStreamExt as _, future};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Error;

pub(crate) fn run(port: u16) -> Outcome {
    tokio_echo::serve(port, echo)
}

pub(crate) fn run_in_tls(port: u16) -> Outcome {
    let tls = TlsAcceptor::from(server_config()?);
    tokio_echo::serve(port, move |stream: TcpStream| {
        let tls = tls.clone();
        async move { echo(tls.accept(stream).await?).await }
    })
}

async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Error> {
    let (sink, messages) = tokio_tungstenite::accept_async(stream).await?.split();
    messages.try_filter(|message| future::ready(message.is_text() || message.is_binary())).forward(sink).await
}
