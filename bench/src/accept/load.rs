//! Load of the `accept` command: clients that connect, upgrade, close and connect again, all on one thread.

use crate::fail;
use crate::fail::Result;
use crate::frame::push_client_frame;
use crate::measure;
use crate::secure;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use threadwire::tls::rustls::{ClientConfig, ClientConnection, client::Resumption};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(5);
/// The opcode of a close frame (RFC 6455, section 5.5.1).
const CLOSE: u8 = 0x8;

/// The result of one run.
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
    tls: Option<Arc<ClientConfig>>,
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
    tls: Option<Box<ClientConnection>>,
    stage: Stage,
    received: Vec<u8>,
}

impl Load {
    /// Clients of the server at `port`; in TLS each with a whole handshake, as one that comes for the first time.
    pub(super) fn new(port: u16, parallel: usize, tls: bool) -> Result<Load> {
        let tls = match tls {
            true => {
                let mut config = ClientConfig::clone(&*secure::client_config()?);
                config.resumption = Resumption::disabled();
                Some(Arc::new(config))
            }
            false => None,
        };
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
            tls,
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
        let tls = match &self.tls {
            Some(config) => {
                let name = "localhost".try_into().map_err(|_| fail!("a name that is none"))?;
                Some(Box::new(ClientConnection::new(Arc::clone(config), name)?))
            }
            None => None,
        };
        self.clients[number] = Some(Client { stream, tls, stage: Stage::Connecting, received: Vec::new() });
        Ok(())
    }
}

impl Client {
    /// Writes all of it; in TLS behind the handshake.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            let sent = self.stream.write(bytes)?;
            return if sent == bytes.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) };
        };
        // Whether TCP is there, before it is left to TLS.
        self.stream.peer_addr()?;
        tls.writer().write_all(bytes)?;
        while tls.wants_write() {
            tls.write_tls(&mut self.stream)?;
        }
        Ok(())
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.read(room) };
        loop {
            match tls.reader().read(room) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // A server may end TCP without a word of TLS.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            if tls.read_tls(&mut self.stream)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            while tls.wants_write() {
                tls.write_tls(&mut self.stream)?;
            }
        }
    }

    /// Goes on until it has to wait for the socket. Returns whether the connection has gone.
    fn go_on(&mut self, request: &[u8], farewell: &[u8]) -> Result<bool> {
        if let Stage::Connecting = self.stage {
            match self.write(request) {
                Ok(()) => self.stage = Stage::Upgrading,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut part = [0; 1024];
        loop {
            let got = match self.read(&mut part) {
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
                    self.write(farewell)?;
                    self.stage = Stage::Closing;
                }
                _ => {}
            }
            let is_plain = self.tls.is_none();
            if is_plain && got < part.len() && !matches!(self.stage, Stage::Closing) {
                return Ok(false);
            }
        }
    }
}
