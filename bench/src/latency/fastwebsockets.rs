//! Round trips with fastwebsockets on both sides, each on a runtime of one thread. The server is that of `echo`.

use super::arm::payload;
use super::recorder::Recorder;
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

/// Asks the server at `port` until the recorder has enough.
pub(super) fn ask(port: u16, bytes: usize, recorder: Recorder) -> Result<Recorder> {
    runtime::Builder::new_current_thread().enable_io().build()?.block_on(run(port, bytes, recorder))
}

async fn run(port: u16, bytes: usize, mut recorder: Recorder) -> Result<Recorder> {
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
    recorder.start();
    loop {
        socket.write_frame(Frame::binary(Payload::Borrowed(&payload))).await?;
        if *socket.read_frame().await?.payload != *payload {
            return Err(fail!("the answer is not what was sent"));
        }
        if !recorder.lap() {
            return Ok(recorder);
        }
    }
}
