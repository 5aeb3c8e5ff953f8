//! Load of the `deflate` command: clients that compress, each of which sends a message and checks the answer.
//!
//! All send at once, and again when all have heard: so the server finds as much to do at each wake-up whether it is fast or
//! slow, and what the clients' own compression takes, which is as much as the server's, is not in between. Like the load of
//! `broadcast` it does not sleep while it waits, nor call the system all the time.

use super::market::{Kind, Market};
use crate::fail;
use crate::fail::Result;
use std::hint;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};
use threadwire::proto::handshake::{Answer, Limits, RequestBuilder};
use threadwire::proto::{Config, Connection, Deflate, Event, Message, Role, Shared};

/// The silence that ends a measurement.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing is called after each turn.
const PAUSE: Duration = Duration::from_micros(20);
/// The unit of that pause.
const SPINS: u32 = 64;
/// More than any message takes on the wire.
const BUFFER: usize = 64 * 1024;

/// One connection, on which messages are compressed.
struct Client {
    stream: TcpStream,
    protocol: Connection,
    market: Market,
    said: String,
    /// The message to send.
    output: Vec<u8>,
    /// Bytes that have come.
    heard: u64,
}

impl Client {
    /// Connects to 127.0.0.1 at `port` and agrees on compression, with or without context takeover both ways.
    fn connect(port: u16, takeover: bool, seed: u64) -> Result<Client> {
        let deflate =
            Deflate::new().server_no_context_takeover(!takeover).client_no_context_takeover(!takeover);
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = RequestBuilder::new(&format!("127.0.0.1:{port}"), "/")?;
        let request = request.extension(deflate.offer()).build()?;
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        stream.write_all(&bytes)?;
        // A server sends nothing after its answer until it is asked: what arrives is the answer and no more.
        let mut answer = Vec::new();
        let mut part = [0; 1024];
        let accepted = loop {
            match stream.read(&mut part)? {
                0 => return Err(fail!("it closed the connection during the upgrade")),
                got => answer.extend_from_slice(&part[..got]),
            }
            if let Some((answer, _)) = Answer::parse(&answer, &Limits::default())? {
                break request.verify(answer)?;
            }
        };
        let agreement = deflate.accept(&accepted.extensions)?.ok_or_else(|| fail!("it does not compress"))?;
        if takeover == (agreement.server_no_context_takeover || agreement.client_no_context_takeover) {
            return Err(fail!("it agreed on something else: {}", agreement.to_extension()));
        }
        stream.set_nonblocking(true)?;
        let protocol = Connection::new(Role::Client, &Config::default()).with_deflate(&deflate, agreement);
        let (said, output) = (String::new(), Vec::new());
        Ok(Client { stream, protocol, market: Market::new(seed), said, output, heard: 0 })
    }

    /// Makes the next message ready.
    fn prepare(&mut self, kind: Kind, shared: &mut Shared) -> Result<()> {
        self.said = self.market.next(kind);
        self.protocol.send(Message::Text(&self.said), shared, &mut self.output)?;
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        let sent = self.stream.write(&self.output)?;
        if sent < self.output.len() {
            return Err(fail!("the server does not read"));
        }
        self.output.clear();
        Ok(())
    }

    /// Reads what there is; whether the echo has come.
    fn hear(&mut self, buffer: &mut [u8], shared: &mut Shared) -> Result<bool> {
        let mut input = match self.stream.read(buffer) {
            Ok(0) => return Err(fail!("the server closed the connection")),
            Ok(got) => &mut buffer[..got],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.heard += input.len() as u64;
        let event = loop {
            match self.protocol.receive(&mut input, shared, &mut self.output) {
                Some(event) => break event,
                None if input.is_empty() => return Ok(false),
                // It was enough for one turn, and nobody else is here.
                None => {}
            }
        };
        match &event {
            Event::Frame(frame) if frame.message() == Some(Message::Text(&self.said)) => {}
            Event::Frame(_) => return Err(fail!("another message came")),
            Event::Close(_) => return Err(fail!("the server closed: {:?}", self.protocol.closing())),
            Event::Failed(violation) => return Err(fail!("{violation}")),
        }
        event.recycle(&mut shared.pool);
        if input.is_empty() { Ok(true) } else { Err(fail!("more than one message came")) }
    }
}

/// The clients of a server.
pub(crate) struct Load {
    clients: Vec<Client>,
    shared: Shared,
    buffer: Vec<u8>,
    waiting: Vec<usize>,
}

/// The result of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Messages that came back.
    pub(crate) messages: u64,
    /// How long that took.
    pub(crate) elapsed: Duration,
    /// Bytes that the server sent, as a part of the messages they stand for.
    pub(crate) wire: f64,
}

impl Load {
    /// So many clients of the server at `port` of 127.0.0.1.
    pub(crate) fn connect(port: u16, clients: usize, takeover: bool) -> Result<Load> {
        let mut load = Load::new(clients);
        for _ in 0..clients {
            load.join(port, takeover)?;
        }
        Ok(load)
    }

    /// An empty load with room for so many clients.
    pub(crate) fn new(clients: usize) -> Load {
        Load {
            clients: Vec::with_capacity(clients),
            shared: Shared::new(),
            buffer: vec![0; BUFFER],
            waiting: Vec::new(),
        }
    }

    /// One client more. Its place among them.
    pub(crate) fn join(&mut self, port: u16, takeover: bool) -> Result<usize> {
        let place = self.clients.len();
        self.clients.push(Client::connect(port, takeover, place as u64)?);
        Ok(place)
    }

    /// Has all send and hear for this long.
    pub(crate) fn run(&mut self, kind: Kind, time: Duration) -> Result<Outcome> {
        let (begin, heard) = (Instant::now(), self.heard());
        let (mut messages, mut bytes) = (0, 0);
        loop {
            self.exchange(0..self.clients.len(), kind)?;
            messages += self.clients.len() as u64;
            bytes += self.clients.iter().map(|client| client.said.len()).sum::<usize>();
            let elapsed = begin.elapsed();
            if elapsed >= time {
                let wire = (self.heard() - heard) as f64 / bytes as f64;
                return Ok(Outcome { messages, elapsed, wire });
            }
        }
    }

    fn heard(&self) -> u64 {
        self.clients.iter().map(|client| client.heard).sum()
    }

    /// Has some clients send one message each, and waits until all of them have it back.
    pub(crate) fn exchange(&mut self, clients: impl Iterator<Item = usize>, kind: Kind) -> Result<()> {
        let Load { clients: all, shared, buffer, waiting } = self;
        *waiting = clients.collect();
        for client in &*waiting {
            all[*client].prepare(kind, shared)?;
        }
        for client in &*waiting {
            all[*client].send()?;
        }
        let begin = Instant::now();
        while !waiting.is_empty() {
            let mut result = Ok(());
            waiting.retain(|client| {
                let heard = all[*client].hear(buffer, shared);
                !heard.unwrap_or_else(|error| {
                    result = Err(fail!("connection {client}: {error}"));
                    true
                })
            });
            result?;
            if begin.elapsed() > PATIENCE {
                return Err(fail!("{} connections got no echo", waiting.len()));
            }
            pause();
        }
        Ok(())
    }
}

/// Lets time pass without a system call.
fn pause() {
    let begin = Instant::now();
    while begin.elapsed() < PAUSE {
        for _ in 0..SPINS {
            hint::spin_loop();
        }
    }
}
