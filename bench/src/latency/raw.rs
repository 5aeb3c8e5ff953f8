//! Round trips without a library: both sides know every byte beforehand, and only read and write, on blocking sockets or
//! spinning.
//!
//! No protocol is spoken after the upgrade: the client writes a ready frame, the server reads as many bytes and writes a
//! ready answer. That is the price of the kernel. Busy, neither side ever sleeps: what remains is the lower bound of
//! everything that goes through TCP.

use super::arm::payload;
use super::recorder::Recorder;
use crate::fail::Result;
use crate::frame::{self, BINARY};
use crate::servers::{Outcome, upgrade};
use crate::{client, fail};
use std::hint;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// Serves 127.0.0.1 at `port`, one connection after the other.
pub(super) fn serve_blocking(port: u16, bytes: usize) -> Outcome {
    serve(port, bytes, false)
}

/// The same, spinning.
pub(super) fn serve_busy(port: u16, bytes: usize) -> Outcome {
    serve(port, bytes, true)
}

/// Asks the server at `port` until the recorder has enough.
pub(super) fn ask_blocking(port: u16, bytes: usize, recorder: Recorder) -> Result<Recorder> {
    ask(port, bytes, recorder, false)
}

/// The same, spinning.
pub(super) fn ask_busy(port: u16, bytes: usize, recorder: Recorder) -> Result<Recorder> {
    ask(port, bytes, recorder, true)
}

fn serve(port: u16, bytes: usize, busy: bool) -> Outcome {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    loop {
        let (stream, _) = listener.accept()?;
        match echo(stream, bytes, busy) {
            // The connection of a check that this server listens, or of a client that has ended.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => other?,
        }
    }
}

/// Answers until the client ends the connection, which is an error.
fn echo(mut stream: TcpStream, bytes: usize, busy: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    let response = loop {
        let mut part = [0; 1024];
        let got = stream.read(&mut part)?;
        if got == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&part[..got]);
        if let Some((_, response)) = upgrade::answer(&request)? {
            break response;
        }
    };
    stream.write_all(response.as_bytes())?;
    let mut pipe = Pipe::new(stream, busy)?;
    let mut question = question(bytes);
    let answer = answer(bytes);
    loop {
        pipe.read_exact(&mut question)?;
        pipe.write_all(&answer)?;
    }
}

fn ask(port: u16, bytes: usize, mut recorder: Recorder, busy: bool) -> Result<Recorder> {
    let mut pipe = Pipe::new(client::connect(port)?, busy)?;
    let (question, expected) = (question(bytes), answer(bytes));
    let mut answer = vec![0; expected.len()];
    recorder.start();
    loop {
        pipe.write_all(&question)?;
        pipe.read_exact(&mut answer)?;
        if answer != expected {
            return Err(fail!("the answer is not what was sent"));
        }
        if !recorder.lap() {
            return Ok(recorder);
        }
    }
}

fn question(bytes: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::push_client_frame(&mut frame, BINARY, &payload(bytes), [0x9d, 0x01, 0x37, 0xe1]);
    frame
}

fn answer(bytes: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::push_server_header(&mut frame, BINARY, bytes);
    frame.extend(payload(bytes));
    frame
}

/// A connection, after its upgrade.
struct Pipe {
    stream: TcpStream,
    /// Whether it never blocks, and is tried again and again instead.
    busy: bool,
}

impl Pipe {
    fn new(stream: TcpStream, busy: bool) -> io::Result<Pipe> {
        stream.set_nonblocking(busy)?;
        Ok(Pipe { stream, busy })
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(got) => filled += got,
                Err(error) => self.again(error)?,
            }
        }
        Ok(())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(more) => sent += more,
                Err(error) => self.again(error)?,
            }
        }
        Ok(())
    }

    fn again(&self, error: io::Error) -> io::Result<()> {
        match error.kind() {
            ErrorKind::Interrupted => Ok(()),
            // A blocking socket says that too: when its timeout has passed.
            ErrorKind::WouldBlock if self.busy => {
                hint::spin_loop();
                Ok(())
            }
            _ => Err(error),
        }
    }
}
