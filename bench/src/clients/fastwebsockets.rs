//! Client of fastwebsockets, on a runtime of one thread.

use super::arm::payload;
use super::meter::Meter;
use crate::fail;
use crate::fail::Result;
use fastwebsockets::{FragmentCollector, Frame, Payload, handshake};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper_util::rt::TokioExecutor;
use std::net::Ipv4Addr;
use tokio::net::TcpStream;
use tokio::runtime;

/// Asks the server at `port` until the meter has enough.
pub(super) fn ask(port: u16, bytes: usize, meter: Meter) -> Result<Meter> {
    runtime::Builder::new_current_thread().enable_io().build()?.block_on(run(port, bytes, meter))
}

async fn run(port: u16, bytes: usize, mut meter: Meter) -> Result<Meter> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let request = Request::get(format!("http://127.0.0.1:{port}/"))
        .header(HOST, format!("127.0.0.1:{port}"))
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "upgrade")
        .header(SEC_WEBSOCKET_KEY, handshake::generate_key())
        .header(SEC_WEBSOCKET_VERSION, "13")
        .body(Empty::<Bytes>::new())?;
    let (socket, _response) = handshake::client(&TokioExecutor::new(), request, stream).await?;
    let payload = payload(bytes);
    let mut socket = FragmentCollector::new(socket);
    meter.start();
    for _ in 0..meter.in_flight {
        socket.write_frame(Frame::binary(Payload::Borrowed(&payload))).await?;
    }
    loop {
        if *socket.read_frame().await?.payload != *payload {
            return Err(fail!("the answer is not what was sent"));
        }
        if !meter.lap() {
            return Ok(meter);
        }
        socket.write_frame(Frame::binary(Payload::Borrowed(&payload))).await?;
    }
}
