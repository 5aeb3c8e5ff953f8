//! Client without a library: writes ready frames, and reads as many bytes as their echoes have.

use super::arm::payload;
use super::meter::Meter;
use crate::fail::Result;
use crate::frame::{self, BINARY};
use crate::{client, fail};
use std::io::{Read as _, Write as _};

/// The receive buffer.
const BUFFER: usize = 64 * 1024;

/// Asks the server at `port` until the meter has enough.
pub(super) fn ask(port: u16, bytes: usize, mut meter: Meter) -> Result<Meter> {
    let mut stream = client::connect(port)?;
    let payload = payload(bytes);
    let (mut question, mut answer) = (Vec::new(), Vec::new());
    frame::push_client_frame(&mut question, BINARY, &payload, [0x9d, 0x01, 0x37, 0xe1]);
    frame::push_server_header(&mut answer, BINARY, bytes);
    answer.extend(&payload);
    // As many questions as can be due at once.
    let questions = question.repeat(meter.in_flight as usize);
    let mut buffer = vec![0; BUFFER];
    meter.start();
    stream.write_all(&questions)?;
    // How much of the next answer has come.
    let mut received = 0;
    loop {
        let got = stream.read(&mut buffer)?;
        let mut rest = &buffer[..got];
        if rest.is_empty() {
            return Err(fail!("the server closed the connection"));
        }
        let (mut due, mut goes_on) = (0, true);
        while !rest.is_empty() {
            let part = rest.len().min(answer.len() - received);
            if rest[..part] != answer[received..received + part] {
                return Err(fail!("the answer is not what was sent"));
            }
            rest = &rest[part..];
            received += part;
            if received == answer.len() {
                received = 0;
                due += 1;
                goes_on &= meter.lap();
            }
        }
        if !goes_on {
            return Ok(meter);
        }
        stream.write_all(&questions[..due * question.len()])?;
    }
}
