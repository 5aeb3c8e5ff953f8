//! Client of tokio-tungstenite, on a runtime of one thread.

use super::arm::payload;
use super::meter::Meter;
use crate::fail;
use crate::fail::Result;
use futures_util::{SinkExt as _, StreamExt as _};
use std::net::Ipv4Addr;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Asks the server at `port` until the meter has enough.
pub(super) fn ask(port: u16, bytes: usize, meter: Meter) -> Result<Meter> {
    runtime::Builder::new_current_thread().enable_io().build()?.block_on(run(port, bytes, meter))
}

async fn run(port: u16, bytes: usize, mut meter: Meter) -> Result<Meter> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _response) =
        tokio_tungstenite::client_async(format!("ws://127.0.0.1:{port}/"), stream).await?;
    // Shared, so that a clone copies nothing.
    let payload = Bytes::from(payload(bytes));
    meter.start();
    for _ in 0..meter.in_flight {
        socket.send(Message::Binary(payload.clone())).await?;
    }
    loop {
        match socket.next().await.transpose()? {
            Some(Message::Binary(answer)) if answer == payload => {}
            other => return Err(fail!("the answer is not what was sent: {other:?}")),
        }
        if !meter.lap() {
            return Ok(meter);
        }
        socket.send(Message::Binary(payload.clone())).await?;
    }
}
