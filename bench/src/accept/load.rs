//! Clients that connect, upgrade, close and connect again, all on one thread.

use crate::fail;
use crate::fail::Result;
use crate::frame::push_client_frame;
use crate::measure;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(5);
/// The opcode of a close frame (RFC 6455, section 5.5.1).
const CLOSE: u8 = 0x8;

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Connections that came and went.
    pub(super) connections: u64,
    pub(super) elapsed: Duration,
    /// Nanoseconds of CPU that the load took.
    pub(super) cpu: u64,
}

impl Outcome {
    pub(super) fn add(&mut self, other: &Outcome) {
        self.connections += other.connections;
        self.elapsed += other.elapsed;
        self.cpu += other.cpu;
    }
}

/// All clients of a server.
pub(super) struct Load {
    poll: Poll,
    events: Events,
    addr: SocketAddr,
    request: Vec<u8>,
    farewell: Vec<u8>,
    clients: Vec<Option<Client>>,
}

enum Stage {
    /// TCP, until the socket can be written.
    Connecting,
    /// The answer to the request.
    Upgrading,
    /// The answer to the close frame, and then the end of TCP.
    Closing,
}

struct Client {
    stream: TcpStream,
    stage: Stage,
    received: Vec<u8>,
}

impl Load {
    pub(super) fn new(port: u16, parallel: usize) -> Result<Load> {
        // The same nonce each time: no cache is between here and 127.0.0.1.
        let request = format!(
            "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        let mut farewell = Vec::new();
        push_client_frame(&mut farewell, CLOSE, &1000_u16.to_be_bytes(), [0x5a, 0x01, 0xc3, 0x7e]);
        Ok(Load {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            request: request.into_bytes(),
            farewell,
            clients: (0..parallel).map(|_| None).collect(),
        })
    }

    /// Lets connections come for this long, then waits until those under way have gone.
    pub(super) fn run(&mut self, time: Duration) -> Result<Outcome> {
        let cpu = measure::own_cpu_time();
        let begin = Instant::now();
        let mut outcome = Outcome::default();
        for number in 0..self.clients.len() {
            self.begin(number)?;
        }
        let mut pending = self.clients.len();
        while pending > 0 {
            match self.poll.poll(&mut self.events, Some(PATIENCE)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            if self.events.is_empty() {
                return Err(fail!("{pending} connections do not go on"));
            }
            let ready: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
            for number in ready {
                let Some(client) = &mut self.clients[number] else { continue };
                if !client.go_on(&self.request, &self.farewell)? {
                    continue;
                }
                outcome.connections += 1;
                self.clients[number] = None;
                if begin.elapsed() < time {
                    self.begin(number)?;
                } else {
                    pending -= 1;
                }
            }
        }
        outcome.elapsed = begin.elapsed();
        outcome.cpu = measure::own_cpu_time() - cpu;
        Ok(outcome)
    }

    fn begin(&mut self, number: usize) -> Result<()> {
        let mut stream = TcpStream::connect(self.addr)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(number), interest)?;
        self.clients[number] = Some(Client { stream, stage: Stage::Connecting, received: Vec::new() });
        Ok(())
    }
}

impl Client {
    /// Goes on as far as it can. Whether the connection has gone.
    fn go_on(&mut self, request: &[u8], farewell: &[u8]) -> Result<bool> {
        if let Stage::Connecting = self.stage {
            match self.stream.write(request) {
                Ok(sent) if sent == request.len() => self.stage = Stage::Upgrading,
                Ok(_) => return Err(fail!("the system does not take a request in one piece")),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut part = [0; 1024];
        loop {
            let got = match self.stream.read(&mut part) {
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            self.received.extend_from_slice(&part[..got]);
            match self.stage {
                Stage::Closing if got == 0 => {
                    let is_fair = self.received.starts_with(&[0x88]);
                    return if is_fair { Ok(true) } else { Err(fail!("it ended without a close frame")) };
                }
                _ if got == 0 => return Err(fail!("it ended during the upgrade")),
                Stage::Upgrading if self.received.ends_with(b"\r\n\r\n") => {
                    if !self.received.starts_with(b"HTTP/1.1 101 ") {
                        return Err(fail!("it refused the upgrade"));
                    }
                    self.received.clear();
                    if self.stream.write(farewell)? != farewell.len() {
                        return Err(fail!("the system does not take a close frame in one piece"));
                    }
                    self.stage = Stage::Closing;
                }
                _ => {}
            }
            if got < part.len() && !matches!(self.stage, Stage::Closing) {
                return Ok(false);
            }
        }
    }
}
