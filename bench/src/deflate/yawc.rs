//! Compression with yawc, with zlib-rs, at level 1 and with windows of 12 bits. Its memory level is that of flate2, 8, and can't
//! be chosen. Without takeover its engines come from a pool, as its documentation advises.

use crate::servers::{Outcome, tokio_echo};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use yawc::{CompressionLevel, DeflatePool, OpCode, Options, UpgradeFut, WebSocket, WebSocketError};

/// Engines that its pool keeps: more than one thread can use.
const POOL: usize = 4;
/// As ours.
const THRESHOLD: usize = 64;

/// Serves 127.0.0.1 at `port`.
pub(super) fn run(port: u16, takeover: bool) -> Outcome {
    let options = Options::default()
        .with_utf8()
        .with_compression_level(CompressionLevel::new(1))
        .with_compression_threshold(THRESHOLD)
        .with_server_max_window_bits(12)
        .with_client_max_window_bits(12);
    let options = if takeover {
        options
    } else {
        options
            .server_no_context_takeover()
            .client_no_context_takeover()
            .with_deflate_pool(DeflatePool::new(POOL))
    };
    tokio_echo::serve(port, move |stream| connection(stream, options.clone()))
}

async fn connection(stream: TcpStream, options: Options) -> hyper::Result<()> {
    let accept = service_fn(move |request| accept(request, options.clone()));
    http1::Builder::new().serve_connection(TokioIo::new(stream), accept).with_upgrades().await
}

async fn accept(
    mut request: Request<Incoming>,
    options: Options,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = WebSocket::upgrade_with_options(&mut request, options)?;
    tokio::spawn(echo(upgraded));
    Ok(response)
}

async fn echo(upgraded: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = upgraded.await?;
    while let Some(frame) = socket.next().await {
        if matches!(frame.opcode(), OpCode::Text | OpCode::Binary) {
            socket.send(frame).await?;
        }
    }
    Ok(())
}
