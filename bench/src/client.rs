//! Opening handshake of a blocking client, for every connection of the load, and the check of a server.

use crate::fail;
use crate::fail::Result;
use crate::frame::{self, BINARY, PING, PONG, TEXT};
use crate::secure::Secure;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest as _, Sha1};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// How long a server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A stream that blocks.
pub(crate) enum Stream {
    Plain(TcpStream),
    Secure(Box<Secure<TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Secure(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Secure(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Connects to 127.0.0.1 at `port` and upgrades (RFC 6455, section 4.1). The stream blocks, with a timeout.
pub(crate) fn connect(port: u16) -> Result<TcpStream> {
    let mut stream = reach(port)?;
    upgrade(&mut stream, port)?;
    Ok(stream)
}

/// The same, through TLS if that is wanted.
pub(crate) fn connect_by(port: u16, tls: bool) -> Result<Stream> {
    if !tls {
        return Ok(Stream::Plain(connect(port)?));
    }
    let mut stream = Secure::client(reach(port)?)?;
    upgrade(&mut stream, port)?;
    Ok(Stream::Secure(Box::new(stream)))
}

fn reach(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn upgrade(stream: &mut (impl Read + Write), port: u16) -> Result<()> {
    // The same nonce each time: no cache is between here and 127.0.0.1.
    let key = BASE64_STANDARD.encode("a nonce of 16 B.");
    let request = format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    // A server sends nothing after its response until it is asked: what arrives is the response and no more.
    let mut response = Vec::new();
    let mut part = [0; 1024];
    while !response.ends_with(b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => return Err(fail!("it closed the connection during the upgrade")),
            got => response.extend_from_slice(&part[..got]),
        }
    }
    let response = String::from_utf8_lossy(&response);
    let digest =
        Sha1::new().chain_update(&key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let accept = BASE64_STANDARD.encode(digest);
    let accepted = response
        .lines()
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == accept);
    if !response.starts_with("HTTP/1.1 101 ") || !accepted {
        return Err(fail!("it refused the upgrade: {}", response.lines().next().unwrap_or("")));
    }
    Ok(())
}

/// Sends one message and waits for its echo, which must be the same bytes in one frame.
pub(crate) fn echo(stream: &mut (impl Read + Write), opcode: u8, payload: &[u8]) -> Result<()> {
    let mut request = Vec::new();
    frame::push_client_frame(&mut request, opcode, payload, [0x5a, 0x01, 0xc3, 0x7e]);
    stream.write_all(&request)?;
    let mut expected = Vec::new();
    frame::push_server_header(&mut expected, if opcode == PING { PONG } else { opcode }, payload.len());
    expected.extend_from_slice(payload);
    expect(stream, &expected)
}

/// Whether the server at `port` echoes text and binary of all sizes, alone and in a burst, and answers a ping.
pub(crate) fn check(port: u16, tls: bool) -> Result<()> {
    let mut stream = connect_by(port, tls)?;
    for length in [0, 1, 7, 20, 125, 126, 1024, 65_535, 65_536, 300_000] {
        let binary: Vec<u8> = (0..length).map(|at| (at * 31) as u8).collect();
        let text = "aß語🌍".repeat(length / 10);
        echo(&mut stream, BINARY, &binary).map_err(|error| fail!("binary of {length} bytes: {error}"))?;
        echo(&mut stream, TEXT, text.as_bytes())
            .map_err(|error| fail!("text of {} bytes: {error}", text.len()))?;
    }
    echo(&mut stream, PING, b"ping").map_err(|error| fail!("ping: {error}"))?;

    let (mut burst, mut expected) = (Vec::new(), Vec::new());
    for length in [20, 0, 1024, 200, 40_000, 3] {
        let payload = vec![length as u8; length];
        frame::push_client_frame(&mut burst, BINARY, &payload, [1, 2, 3, length as u8]);
        frame::push_server_header(&mut expected, BINARY, length);
        expected.extend_from_slice(&payload);
    }
    // Cut within a header, within a key and within a payload.
    for part in burst.chunks(1009).chain(burst[..].chunks(burst.len())) {
        stream.write_all(part)?;
    }
    expect(&mut stream, &expected.repeat(2)).map_err(|error| fail!("a burst of messages: {error}"))
}

fn expect(stream: &mut impl Read, expected: &[u8]) -> Result<()> {
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).map_err(|error| fail!("no echo: {error}"))?;
    match answer.iter().zip(expected).position(|(is, should)| is != should) {
        None => Ok(()),
        Some(at) => Err(fail!("byte {at} of the echo is {:#04x}, not {:#04x}", answer[at], expected[at])),
    }
}
