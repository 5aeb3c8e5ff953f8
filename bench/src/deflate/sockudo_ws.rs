//! Compression with sockudo-ws, at level 1 and with windows of 12 bits. Its memory level is that of flate2, 8, and can't be
//! chosen. Its own pings and timeouts are off, as the other arms have none. It negotiates compression by itself only behind axum:
//! here its parts are put together.

use crate::fail;
use crate::fail::Result;
use crate::servers::{Outcome, tokio_echo};
use futures_util::{SinkExt as _, StreamExt as _};
use sockudo_ws::deflate::{DeflateConfig, negotiate_server_deflate};
use sockudo_ws::handshake::{build_response, generate_accept_key, parse_request};
use sockudo_ws::stream::CompressedWebSocketStream;
use sockudo_ws::{Config, DeflateWindowBits, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Serves 127.0.0.1 at `port`.
pub(super) fn run(port: u16, takeover: bool) -> Outcome {
    let settings = DeflateConfig {
        server_max_window_bits: DeflateWindowBits::Bits12,
        client_max_window_bits: DeflateWindowBits::Bits12,
        server_no_context_takeover: !takeover,
        client_no_context_takeover: !takeover,
        compression_level: 1,
        compression_threshold: 64,
    };
    tokio_echo::serve(port, move |stream| echo(stream, settings.clone()))
}

async fn echo(mut stream: TcpStream, settings: DeflateConfig) -> Outcome {
    let settings = upgrade(&mut stream, &settings).await?;
    let config = Config::builder().auto_ping(false).idle_timeout(0).build();
    let mut socket = CompressedWebSocketStream::server(stream, config, settings);
    while let Some(message) = socket.next().await.transpose()? {
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            socket.send(message).await?;
        }
    }
    Ok(())
}

/// Answers the request. What was agreed on.
async fn upgrade(stream: &mut TcpStream, settings: &DeflateConfig) -> Result<DeflateConfig> {
    let mut input = Vec::new();
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Err(fail!("it closed before it had asked"));
        }
        let Some((request, _)) = parse_request(&input)? else { continue };
        let agreed = request
            .extensions
            .and_then(|offers| negotiate_server_deflate(offers, settings))
            .ok_or_else(|| fail!("no offer that it takes"))?;
        let accept = generate_accept_key(request.key);
        stream.write_all(&build_response(&accept, None, Some(&agreed.to_response_header()))).await?;
        return Ok(agreed.config);
    }
}
