//! Scripted peer: blocking, and able to break every rule.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;
use threadwire_proto::handshake::accept_key;

use super::PATIENCE;

/// The first byte of a frame that is a whole text message.
pub const TEXT: u8 = 0x81;
/// Of a whole binary message.
pub const BINARY: u8 = 0x82;
/// Of a close frame.
pub const CLOSE: u8 = 0x88;
/// Of a ping.
pub const PING: u8 = 0x89;
/// Of a pong.
pub const PONG: u8 = 0x8a;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame: its first byte, whether it is masked, its payload.
pub fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mask = u8::from(masked) << 7;
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(mask | short as u8),
        medium @ 126..0x1_0000 => {
            bytes.push(mask | 126);
            bytes.extend((medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(mask | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend(KEY);
        bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        bytes.extend(payload);
    }
    bytes
}

/// A client's frame.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, true, payload)
}

/// The payload of a close frame.
pub fn farewell(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// A request to upgrade, as it must be.
pub fn request(path: &str) -> String {
    request_with(path, "")
}

/// The same with more headers, each with its line end.
pub fn request_with(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// The start of a TLS connection: a ClientHello of 512 bytes.
pub fn client_hello() -> Vec<u8> {
    let mut bytes = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    bytes.extend((0..506).map(|position| position as u8));
    bytes
}

/// One end of a TCP connection. Reading fails the test if nothing comes.
pub struct Peer {
    stream: TcpStream,
    /// Received, and not looked at yet.
    received: Vec<u8>,
    /// Whether this is the client's end, whose frames are masked.
    is_client: bool,
}

impl Peer {
    fn new(stream: TcpStream, is_client: bool) -> Peer {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Peer { stream, received: Vec::new(), is_client }
    }

    /// The server's end of a connection that was accepted.
    pub fn accepted(stream: TcpStream) -> Peer {
        Peer::new(stream, false)
    }

    /// The client's end of a connection that was made otherwise.
    pub fn connected(stream: TcpStream) -> Peer {
        Peer::new(stream, true)
    }

    /// Connects, and says nothing.
    pub fn connect(addr: SocketAddr) -> Peer {
        Peer::new(TcpStream::connect(addr).unwrap(), true)
    }

    /// Connects with a receive buffer that is soon full.
    pub fn connect_narrow(addr: SocketAddr) -> Peer {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&addr.into()).unwrap();
        Peer::new(socket.into(), true)
    }

    /// Connects and upgrades.
    pub fn open(addr: SocketAddr, path: &str) -> Peer {
        Peer::connect(addr).upgrade(path)
    }

    /// Upgrades.
    pub fn upgrade(mut self, path: &str) -> Peer {
        self.bytes(request(path));
        assert!(self.head().starts_with("HTTP/1.1 101 "));
        self
    }

    /// The address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// The address of the other end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.stream.peer_addr().unwrap()
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Writes as much as the other end takes, and returns whether that was all.
    pub fn try_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a frame.
    pub fn send(&mut self, first: u8, payload: &[u8]) {
        let bytes = frame(first, self.is_client, payload);
        self.bytes(bytes);
    }

    /// Sends a close frame.
    pub fn close(&mut self, code: u16, reason: &str) {
        self.send(CLOSE, &farewell(code, reason));
    }

    /// Reads once more. False at the end of the stream.
    fn read(&mut self) -> bool {
        let mut buffer = vec![0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    /// The result of one read.
    pub fn one_read(&mut self) -> Vec<u8> {
        assert!(self.received.is_empty());
        assert!(self.read(), "the stream has ended");
        std::mem::take(&mut self.received)
    }

    /// Reads this many bytes, and forgets them.
    pub fn skip(&mut self, count: usize) {
        self.gather(count);
        self.received.drain(..count);
    }

    /// The head of a request or of a response.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.received.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.read(), "the head ends early: {:?}", self.received.escape_ascii().to_string());
        }
    }

    /// Everything up to the end of the stream, as text.
    pub fn rest(&mut self) -> String {
        while self.read() {}
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }

    /// The next frame, its first byte and its payload; `None` at the end of the stream.
    pub fn frame_or_end(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((first, payload, size)) = parse(&self.received, !self.is_client) {
                self.received.drain(..size);
                return Some((first, payload));
            }
            if !self.read() {
                assert!(self.received.is_empty(), "the stream ends within a frame");
                return None;
            }
        }
    }

    /// The next frame, which must be there.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        self.frame_or_end().expect("the stream has ended")
    }

    /// The next frame in short: its first byte, the length of its payload, and this much of its beginning. A test that reads
    /// many megabytes looks at no more of them.
    pub fn brief(&mut self, count: usize) -> (u8, usize, Vec<u8>) {
        self.gather(2);
        let (first, second) = (self.received[0], self.received[1] & 0x7f);
        let short = [2, 4, 10][usize::from(second.saturating_sub(125))];
        let start = short + if self.is_client { 0 } else { 4 };
        self.gather(start);
        let bytes = if short == 2 { &[second] } else { &self.received[2..short] };
        let length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        self.gather(start + length);
        let key = self.received[short..start].to_vec();
        let beginning = self.received[start..start + count.min(length)].iter().enumerate();
        let beginning = beginning.map(|(at, byte)| byte ^ key.get(at % 4).unwrap_or(&0)).collect();
        self.received.drain(..start + length);
        (first, length, beginning)
    }

    /// Reads until this many bytes are there.
    fn gather(&mut self, count: usize) {
        while self.received.len() < count {
            assert!(self.read(), "the stream has ended");
        }
    }

    /// The next frame, which must be a text.
    pub fn text(&mut self) -> String {
        let (first, payload) = self.frame();
        assert_eq!(first, TEXT, "payload {:?}", payload.escape_ascii().to_string());
        String::from_utf8(payload).unwrap()
    }

    /// The next frame, which must be a close frame: its code (1005 if there is none) and its reason.
    pub fn closed(&mut self) -> (u16, String) {
        let (first, payload) = self.frame();
        assert_eq!(first, CLOSE, "payload {:?}", payload.escape_ascii().to_string());
        match &payload[..] {
            [] => (1005, String::new()),
            [high, low, reason @ ..] => {
                (u16::from_be_bytes([*high, *low]), String::from_utf8(reason.to_vec()).unwrap())
            }
            [_] => panic!("half a close code"),
        }
    }

    /// The code of the next frame, which must be a close frame.
    pub fn code(&mut self) -> u16 {
        self.closed().0
    }

    /// Whether the stream ends here, orderly or not. Waits for it.
    pub fn ended(&mut self) -> bool {
        self.received.is_empty() && !self.read()
    }

    /// Whether the stream ends here, and by a FIN, not by a reset. Waits for it.
    pub fn ended_orderly(&mut self) -> bool {
        self.received.is_empty() && matches!(self.stream.read(&mut [0]), Ok(0))
    }

    /// Whether nothing lies ready to be read. What was written to a loopback socket before lies ready at once.
    pub fn is_silent(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        self.received.is_empty() && matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Ends this end's half of the stream.
    pub fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The same end once more, for a thread that writes while this one reads.
    pub fn writer(&self) -> Peer {
        Peer::new(self.stream.try_clone().unwrap(), self.is_client)
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// A frame at the front of `bytes`: its first byte, its payload and its size. Checks that it is masked exactly if it must
/// be.
pub fn parse(bytes: &[u8], must_be_masked: bool) -> Option<(u8, Vec<u8>, usize)> {
    let [first, second, rest @ ..] = bytes else { return None };
    let (length, rest) = match second & 0x7f {
        126 => rest.split_first_chunk().map(|(length, rest)| (u16::from_be_bytes(*length).into(), rest))?,
        127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length) as usize, rest))?,
        short => (usize::from(short), rest),
    };
    assert_eq!(second & 0x80 != 0, must_be_masked);
    let (key, rest) = if must_be_masked { rest.split_first_chunk()? } else { (&[0; 4], rest) };
    let payload = rest.get(..length)?;
    let payload = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some((*first, payload, bytes.len() - rest.len() + length))
}

/// The server's end, made by hand.
pub struct Host {
    listener: TcpListener,
}

impl Host {
    /// Listens.
    pub fn listen() -> Host {
        Host { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    /// Listens at this address.
    pub fn at(addr: SocketAddr) -> Host {
        Host { listener: TcpListener::bind(addr).unwrap() }
    }

    /// The listening address.
    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The URL to connect to.
    pub fn url(&self) -> String {
        format!("ws://{}/", self.addr())
    }

    /// Accepts a connection, and does nothing with it.
    pub fn accept(&self) -> Peer {
        Peer::new(self.listener.accept().unwrap().0, false)
    }

    /// Accepts a connection and upgrades it. What is in `early` leaves in the same write as the 101.
    pub fn upgrade(&self, early: &[u8]) -> Peer {
        let mut peer = self.accept();
        let answer = upgraded(&peer.head());
        peer.bytes([answer.as_bytes(), early].concat());
        peer
    }

    /// Does something on a thread of its own, and gives back what comes of it.
    pub fn run<R: Send + 'static>(self, serve: impl FnOnce(Host) -> R + Send + 'static) -> JoinHandle<R> {
        thread::spawn(move || serve(self))
    }
}

/// The answer to a request, with the key that belongs to it.
pub fn upgraded(request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept_key(key)
    )
}
