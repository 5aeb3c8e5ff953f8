//! Client of Threadwire's async face, on a runtime of one thread.

use super::arm::payload;
use super::meter::Meter;
use crate::fail;
use crate::fail::Result;
use threadwire::aio::connect;
use tokio::runtime;

/// Asks the server at `port` until the meter has enough.
pub(super) fn ask(port: u16, bytes: usize, meter: Meter) -> Result<Meter> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(port, bytes, meter))
}

async fn run(port: u16, bytes: usize, mut meter: Meter) -> Result<Meter> {
    let payload = payload(bytes);
    let mut ws = connect(&format!("ws://127.0.0.1:{port}")).await?;
    meter.start();
    for _ in 0..meter.in_flight {
        ws.send(&payload).await?;
    }
    while let Some(answer) = ws.recv().await? {
        if answer.as_bytes() != payload {
            return Err(fail!("the answer is not what was sent"));
        }
        if !meter.lap() {
            return Ok(meter);
        }
        ws.send(&payload).await?;
    }
    Err(fail!("the server closed the connection"))
}
