//! Client of tungstenite, on a blocking socket.

use super::arm::payload;
use super::meter::Meter;
use crate::fail;
use crate::fail::Result;
use std::net::{Ipv4Addr, TcpStream};
use tokio_tungstenite::tungstenite::{Bytes, Message, client};

/// Asks the server at `port` until the meter has enough.
pub(super) fn ask(port: u16, bytes: usize, mut meter: Meter) -> Result<Meter> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    let (mut socket, _response) = client(format!("ws://127.0.0.1:{port}/"), stream)?;
    // Shared, so that a clone copies nothing.
    let payload = Bytes::from(payload(bytes));
    meter.start();
    for _ in 0..meter.in_flight {
        socket.send(Message::Binary(payload.clone()))?;
    }
    loop {
        match socket.read()? {
            Message::Binary(answer) if answer == payload => {}
            other => return Err(fail!("the answer is not what was sent: {other:?}")),
        }
        if !meter.lap() {
            return Ok(meter);
        }
        socket.send(Message::Binary(payload.clone()))?;
    }
}
