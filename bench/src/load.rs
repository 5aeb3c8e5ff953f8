//! Load of the `echo` command: connections that keep a number of messages in flight, and check and time their echoes.
//!
//! It must cost less than the server, so it does per wake-up what the baseline does: one `recv` per ready connection,
//! one `send` with as many new messages as echoes came. The frames are built and masked once, and shared by all
//! connections. What a server must answer is then known to the byte, so an echo is not parsed: its header is compared,
//! and of a sample of the messages the payload too.

use crate::client;
use crate::fail;
use crate::fail::Result;
use crate::frame;
use crate::measure;
use crate::scenario::Scenario;
use crate::secure::Secure;
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

/// The silence that ends a measurement.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest round trip that is told from longer ones, in nanoseconds.
const LONGEST: u64 = 10_000_000_000;
/// The receive buffer, shared by all connections.
const BUFFER: usize = 256 * 1024;
/// One message of so many has its payload compared (of a connection; the first is among them).
const SAMPLE: u64 = 64;

/// Connections to one server, ready to put load on it.
pub(crate) struct Load {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    messages: Messages,
    buffer: Vec<u8>,
    start: Instant,
}

/// The result of one run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Messages sent and echoed.
    pub(crate) messages: u64,
    /// From the first send to the last echo.
    pub(crate) elapsed: Duration,
    /// Nanoseconds from the write that contained a message to the read that completed its echo.
    pub(crate) round_trips: Histogram<u64>,
    /// Nanoseconds of CPU that the load itself took.
    pub(crate) cpu: u64,
}

impl Outcome {
    /// The result of no run at all.
    pub(crate) fn none() -> Result<Outcome> {
        let round_trips = Histogram::new_with_max(LONGEST, 3)?;
        Ok(Outcome { messages: 0, elapsed: Duration::ZERO, round_trips, cpu: 0 })
    }

    /// Adds that of another run.
    pub(crate) fn add(&mut self, other: &Outcome) -> Result<()> {
        self.messages += other.messages;
        self.elapsed += other.elapsed;
        self.cpu += other.cpu;
        Ok(self.round_trips.add(&other.round_trips)?)
    }
}

/// The messages of a scenario, which follow each other in a circle as long as what is in flight.
struct Messages {
    in_flight: usize,
    /// Frames of the circle, twice: so any run of them up to a circle's length is contiguous.
    frames: Vec<u8>,
    frame: usize,
    /// The echoes of the circle, once.
    echoes: Vec<u8>,
    header: usize,
    echo: usize,
}

impl Messages {
    fn new(scenario: &Scenario) -> Messages {
        let (mut frames, mut echoes, mut header) = (Vec::new(), Vec::new(), Vec::new());
        frame::push_server_header(&mut header, scenario.opcode(), scenario.bytes);
        for number in 0..scenario.in_flight {
            let payload = scenario.payload(number);
            let key = [0x9d, number as u8, 0x37, 0xe1];
            frame::push_client_frame(&mut frames, scenario.opcode(), &payload, key);
            echoes.extend_from_slice(&header);
            echoes.extend_from_slice(&payload);
        }
        let frame = frames.len() / scenario.in_flight;
        let echo = echoes.len() / scenario.in_flight;
        frames.extend_from_within(..);
        Messages { in_flight: scenario.in_flight, frames, frame, echoes, header: header.len(), echo }
    }

    fn next(&self, number: usize, by: usize) -> usize {
        (number + by) % self.in_flight
    }
}

struct Client {
    stream: Stream,
    /// The number of the next message to send.
    sending: usize,
    /// Messages that shall be sent, but wait for the socket to take `unsent`.
    due: usize,
    unsent: Range<usize>,
    /// When how many messages went out, oldest first.
    sent: VecDeque<(u64, usize)>,
    /// The number of the message whose echo is arriving, and how much of that has arrived.
    receiving: usize,
    received: usize,
    echoes: u64,
}

/// A stream that does not block.
enum Stream {
    Plain(TcpStream),
    Secure(Box<Secure<TcpStream>>),
}

impl Stream {
    fn of(stream: client::Stream) -> Result<Stream> {
        let nonblocking = |stream: std::net::TcpStream| {
            stream.set_nonblocking(true)?;
            Ok::<_, io::Error>(TcpStream::from_std(stream))
        };
        Ok(match stream {
            client::Stream::Plain(stream) => Stream::Plain(nonblocking(stream)?),
            client::Stream::Secure(stream) => {
                stream.stream.set_nonblocking(true)?;
                Stream::Secure(Box::new(stream.map(TcpStream::from_std)))
            }
        })
    }

    fn socket(&mut self) -> &mut TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Secure(stream) => &mut stream.stream,
        }
    }

    /// Whether there may be more, after a read of `got` bytes into a buffer of `room`.
    fn may_have_more(&self, got: usize, room: usize) -> bool {
        match self {
            Stream::Plain(_) => got == room,
            Stream::Secure(stream) => stream.may_have_more(),
        }
    }

    /// Sends what TLS has kept, if it is TLS; whether that was all.
    fn push(&mut self) -> io::Result<bool> {
        match self {
            Stream::Plain(_) => Ok(true),
            Stream::Secure(stream) => stream.push(),
        }
    }
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

impl Load {
    /// Opens the connections of a scenario to 127.0.0.1 at `port`.
    pub(crate) fn connect(port: u16, scenario: &Scenario, tls: bool) -> Result<Load> {
        let poll = Poll::new()?;
        let mut clients = Vec::with_capacity(scenario.connections);
        for token in 0..scenario.connections {
            let mut stream = Stream::of(client::connect_by(port, tls)?)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(stream.socket(), Token(token), interest)?;
            clients.push(Client {
                stream,
                sending: 0,
                due: 0,
                unsent: 0..0,
                sent: VecDeque::with_capacity(scenario.in_flight),
                receiving: 0,
                received: 0,
                echoes: 0,
            });
        }
        let (events, buffer) = (Events::with_capacity(1024), vec![0; BUFFER]);
        Ok(Load { poll, events, clients, messages: Messages::new(scenario), buffer, start: Instant::now() })
    }

    /// Keeps all connections busy for this long, then waits for what is in flight: afterwards the server is idle again,
    /// so what it used between is what these messages cost.
    pub(crate) fn run(&mut self, time: Duration) -> Result<Outcome> {
        let mut outcome = Outcome::none()?;
        let cpu = measure::own_cpu_time();
        let begin = self.now();
        let end = begin + time.as_nanos() as u64;
        let mut pending = 0;
        for client in &mut self.clients {
            client.send(&self.messages, self.messages.in_flight, begin)?;
            pending += self.messages.in_flight;
        }
        let mut now = begin;
        while pending > 0 {
            match self.poll.poll(&mut self.events, Some(PATIENCE)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            if self.events.is_empty() {
                return Err(fail!("{pending} echoes did not come"));
            }
            for event in &self.events {
                let client = &mut self.clients[event.token().0];
                if event.is_writable() && client.stream.push()? && !client.unsent.is_empty() {
                    client.flush(&self.messages)?;
                }
                if !event.is_readable() {
                    continue;
                }
                let echoes = client.receive(&self.messages, &mut self.buffer)?;
                if echoes == 0 {
                    continue;
                }
                now = self.start.elapsed().as_nanos() as u64;
                client.record(now, echoes, &mut outcome.round_trips);
                outcome.messages += echoes as u64;
                if now < end {
                    client.send(&self.messages, echoes, now)?;
                } else {
                    pending -= echoes;
                }
            }
        }
        outcome.elapsed = Duration::from_nanos(now - begin);
        outcome.cpu = measure::own_cpu_time() - cpu;
        Ok(outcome)
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

impl Client {
    fn send(&mut self, messages: &Messages, count: usize, now: u64) -> Result<()> {
        self.sent.push_back((now, count));
        self.due += count;
        self.flush(messages)
    }

    /// Writes due messages until the socket takes no more.
    fn flush(&mut self, messages: &Messages) -> Result<()> {
        loop {
            if self.unsent.is_empty() {
                if self.due == 0 {
                    return Ok(());
                }
                let from = self.sending * messages.frame;
                self.unsent = from..from + self.due * messages.frame;
                self.sending = messages.next(self.sending, self.due);
                self.due = 0;
            }
            match self.stream.write(&messages.frames[self.unsent.clone()]) {
                Ok(sent) => self.unsent.start += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads all there is; how many echoes that completed.
    fn receive(&mut self, messages: &Messages, buffer: &mut [u8]) -> Result<usize> {
        let mut echoes = 0;
        loop {
            let got = match self.stream.read(buffer) {
                Ok(0) => return Err(fail!("the server closed a connection")),
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(echoes),
                Err(error) => return Err(error.into()),
            };
            echoes += self.check(messages, &buffer[..got])?;
            if !self.stream.may_have_more(got, buffer.len()) {
                return Ok(echoes);
            }
        }
    }

    /// Compares the next bytes with the echoes that are expected; how many of these end in them.
    fn check(&mut self, messages: &Messages, mut bytes: &[u8]) -> Result<usize> {
        let mut complete = 0;
        while !bytes.is_empty() {
            let expected =
                &messages.echoes[self.receiving * messages.echo..][..messages.echo][self.received..];
            let part = bytes.len().min(expected.len());
            let sampled = self.echoes.is_multiple_of(SAMPLE);
            let compared =
                if sampled { part } else { part.min(messages.header.saturating_sub(self.received)) };
            if bytes[..compared] != expected[..compared] {
                return Err(fail!("echo {} of a connection is not what was sent", self.echoes));
            }
            bytes = &bytes[part..];
            self.received += part;
            if self.received == messages.echo {
                self.received = 0;
                self.receiving = messages.next(self.receiving, 1);
                self.echoes += 1;
                complete += 1;
            }
        }
        Ok(complete)
    }

    /// Records the round trips of the oldest messages.
    fn record(&mut self, now: u64, mut echoes: usize, round_trips: &mut Histogram<u64>) {
        while echoes > 0
            && let Some((sent, count)) = self.sent.front_mut()
        {
            let these = echoes.min(*count);
            round_trips.saturating_record_n(now - *sent, these as u64);
            echoes -= these;
            *count -= these;
            if *count == 0 {
                self.sent.pop_front();
            }
        }
    }
}
