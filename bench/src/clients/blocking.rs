//! Client of Threadwire's blocking face.

use super::arm::payload;
use super::meter::Meter;
use crate::fail;
use crate::fail::Result;
use threadwire::blocking::connect;

/// Asks the server at `port` until the meter has enough.
pub(super) fn ask(port: u16, bytes: usize, mut meter: Meter) -> Result<Meter> {
    let payload = payload(bytes);
    let mut ws = connect(&format!("ws://127.0.0.1:{port}"))?;
    meter.start();
    for _ in 0..meter.in_flight {
        ws.send(&payload)?;
    }
    while let Some(answer) = ws.recv()? {
        if answer.as_bytes() != payload {
            return Err(fail!("the answer is not what was sent"));
        }
        if !meter.lap() {
            return Ok(meter);
        }
        ws.send(&payload)?;
    }
    Err(fail!("the server closed the connection"))
}
