//! Round trips with tokio-tungstenite on both sides, each on a runtime of one thread. The server is that of `echo`.

use super::arm::payload;
use super::recorder::Recorder;
use crate::fail;
use crate::fail::Result;
use futures_util::{SinkExt as _, StreamExt as _};
use std::net::Ipv4Addr;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Asks the server at `port` until the recorder has enough.
pub(super) fn ask(port: u16, bytes: usize, recorder: Recorder) -> Result<Recorder> {
    runtime::Builder::new_current_thread().enable_io().build()?.block_on(run(port, bytes, recorder))
}

async fn run(port: u16, bytes: usize, mut recorder: Recorder) -> Result<Recorder> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _response) =
        tokio_tungstenite::client_async(format!("ws://127.0.0.1:{port}/"), stream).await?;
    // Shared, so that a clone copies nothing.
    let payload = Bytes::from(payload(bytes));
    recorder.start();
    loop {
        socket.send(Message::Binary(payload.clone())).await?;
        match socket.next().await.transpose()? {
            Some(Message::Binary(answer)) if answer == payload => {}
            other => return Err(fail!("the answer is not what was sent: {other:?}")),
        }
        if !recorder.lap() {
            return Ok(recorder);
        }
    }
}
