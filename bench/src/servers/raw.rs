//! Raw echo server, the yardstick: bare epoll (mio) that speaks the frames correctly and does nothing else.
//!
//! No library is between it and the kernel, and it validates next to nothing: no UTF-8, no reserved bits, no assembly
//! of fragments (each is echoed as it came), no limit but one on a frame's length. What it costs is what the kernel,
//! the frame headers and the unmasking cost. Per wake-up: one `epoll_wait`, one `recv` per ready connection (a short
//! read means drained: readiness is edge-triggered), and one `send` with the replies to all of it.
//!
//! All connections share one receive buffer. Only an incomplete long frame keeps the buffer that it arrives in, so that
//! its pieces come to lie where the reply leaves from, and are never copied. A lone frame is answered in place: its
//! reply is unmasked where it lies, and the shorter header written in front of it. Of several frames, each is unmasked
//! into the output, side by side.

use super::mask::{unmask, unmask_into};
use super::{Outcome, upgrade};
use crate::secure::{Secure, server_config};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

const LISTENER: Token = Token(usize::MAX);

/// The most that a read takes which does not continue a long frame. It holds any batch of short messages that is worth
/// a system call. Frames of 256 KiB cost a tenth more if their first read may take all of them (measured with 256 and
/// 512 KiB against 8 to 64 KiB): the sender then waits longer for the window to open again.
const BUFFER: usize = 32 * 1024;
/// Frames of this many bytes and more keep the buffer while they are incomplete; of shorter ones, their beginning is
/// copied.
const LONG: usize = BUFFER / 2;
/// Spare room of a kept buffer behind its frame, so that a read that ends with the frame is a short one.
const SLACK: usize = 4096;
/// The longest frame.
const LONGEST: usize = 64 << 20;

/// The stream under a connection.
trait Wire: Read + Write + Sized {
    fn socket(&mut self) -> &mut TcpStream;

    /// Whether there may be more, after a read that has filled its buffer, or has not.
    fn may_have_more(&self, was_filled: bool) -> bool;

    /// Sends what it has kept by itself; whether that was all.
    fn push(&mut self) -> io::Result<bool>;
}

impl Wire for TcpStream {
    fn socket(&mut self) -> &mut TcpStream {
        self
    }

    fn may_have_more(&self, was_filled: bool) -> bool {
        was_filled
    }

    fn push(&mut self) -> io::Result<bool> {
        Ok(true)
    }
}

impl Wire for Secure<TcpStream> {
    fn socket(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    fn may_have_more(&self, _was_filled: bool) -> bool {
        Secure::may_have_more(self)
    }

    fn push(&mut self) -> io::Result<bool> {
        Secure::push(self)
    }
}

/// Serves 127.0.0.1 at `port`.
pub(super) fn run(port: u16) -> Outcome {
    serve(port, Ok)
}

/// The same in TLS, by rustls and nothing else.
pub(super) fn run_in_tls(port: u16) -> Outcome {
    let config = server_config()?;
    serve(port, move |stream| Secure::server(stream, Arc::clone(&config)))
}

fn serve<W: Wire>(port: u16, wire: impl Fn(TcpStream) -> io::Result<W>) -> Outcome {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections = Slab::new();
    let mut shared = Shared { inputs: Vec::new(), output: vec![0; BUFFER] };
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut connections, &wire)?;
            } else if let Some(connection) = connections.get_mut(event.token().0)
                && !matches!(connection.ready(event, &mut shared), Ok(Next::Wait))
            {
                connections.remove(event.token().0);
            }
        }
    }
}

fn accept<W: Wire>(
    poll: &Poll,
    listener: &TcpListener,
    connections: &mut Slab<Connection<W>>,
    wire: impl Fn(TcpStream) -> io::Result<W>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let mut stream = wire(stream)?;
        let entry = connections.vacant_entry();
        // Registered once, for both directions: a change of interest at every short write would cost a system call.
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(stream.socket(), Token(entry.key()), interest)?;
        entry.insert(Connection::new(stream));
    }
}

/// The buffers that are lent to each connection in turn.
struct Shared {
    /// The one that was used last is on top: its memory is in the cache.
    inputs: Vec<Vec<u8>>,
    output: Vec<u8>,
}

impl Shared {
    fn take(&mut self) -> Vec<u8> {
        self.inputs.pop().unwrap_or_else(|| vec![0; BUFFER])
    }

    fn give(&mut self, buffer: Vec<u8>) {
        if buffer.len() >= BUFFER {
            self.inputs.push(buffer);
        }
    }
}

/// The state of a connection after its turn.
enum Next {
    Wait,
    Drop,
}

struct Connection<W> {
    stream: W,
    upgraded: bool,
    closing: bool,
    /// There is more to read, for which no event will come again.
    unread: bool,
    /// The beginning of an incomplete frame. Of a long one, it is a receive buffer that was taken from the others, and
    /// `held` (else 0) of its bytes have arrived.
    own: Vec<u8>,
    held: usize,
    /// Bytes that the socket did not take. While there are some, nothing more is read.
    unsent: Vec<u8>,
    rest: Range<usize>,
}

impl<W: Wire> Connection<W> {
    fn new(stream: W) -> Connection<W> {
        let (own, unsent) = (Vec::new(), Vec::new());
        Connection {
            stream,
            upgraded: false,
            closing: false,
            unread: false,
            own,
            held: 0,
            unsent,
            rest: 0..0,
        }
    }

    fn ready(&mut self, event: &Event, shared: &mut Shared) -> io::Result<Next> {
        self.unread |= event.is_readable();
        if !self.stream.push()? {
            return Ok(Next::Wait);
        }
        if !self.rest.is_empty() && !self.flush(shared)? {
            return Ok(Next::Wait);
        }
        while self.unread {
            let (mut buffer, held, end) = if self.held > 0 {
                let own = mem::take(&mut self.own);
                let end = own.len();
                (own, self.held, end)
            } else {
                let mut buffer = shared.take();
                buffer[..self.own.len()].copy_from_slice(&self.own);
                (buffer, self.own.len(), BUFFER)
            };
            let got = match self.stream.read(&mut buffer[held..end]) {
                Ok(0) => {
                    shared.give(buffer);
                    return Ok(Next::Drop);
                }
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.unread = false;
                    if self.held > 0 {
                        self.own = buffer;
                    } else {
                        shared.give(buffer);
                    }
                    break;
                }
                Err(error) => return Err(error),
            };
            let filled = held + got;
            // The end of the stream shares its edge with the data before it: then read on to the 0.
            self.unread = self.stream.may_have_more(filled == end) || event.is_read_closed();
            self.held = 0;

            let input = &mut buffer[..filled];
            let mut work = Work::default();
            if !self.upgraded {
                self.upgrade(input, &mut work, &mut shared.output)?;
            }
            if self.upgraded {
                self.frames(input, &mut work, &mut shared.output)?;
            }
            let reply = match work.reply {
                Reply::None => &[],
                Reply::InPlace(ref range) => &input[range.clone()],
                Reply::Gathered(length) => &shared.output[..length],
            };
            let sent = write(&mut self.stream, reply)?;
            if sent < reply.len() {
                let kept = input[work.done..].to_vec();
                if let Reply::InPlace(range) = work.reply {
                    self.rest = range.start + sent..range.end;
                    self.unsent = buffer;
                } else {
                    self.rest = 0..reply.len() - sent;
                    self.unsent = reply[sent..].to_vec();
                    shared.give(buffer);
                }
                let incomplete = 0..kept.len();
                self.keep(kept, incomplete, work.needed, shared);
                return Ok(Next::Wait);
            }
            self.keep(buffer, work.done..filled, work.needed, shared);
            if self.closing {
                return Ok(Next::Drop);
            }
        }
        Ok(Next::Wait)
    }

    /// Sends more of what is unsent; whether that was all.
    fn flush(&mut self, shared: &mut Shared) -> io::Result<bool> {
        self.rest.start += write(&mut self.stream, &self.unsent[self.rest.clone()])?;
        if !self.rest.is_empty() {
            return Ok(false);
        }
        shared.give(mem::take(&mut self.unsent));
        Ok(true)
    }

    /// Keeps the beginning of a frame of `needed` bytes (0 if not yet known): with the buffer it lies in if it is long.
    fn keep(&mut self, mut buffer: Vec<u8>, incomplete: Range<usize>, needed: usize, shared: &mut Shared) {
        if needed >= LONG {
            self.held = incomplete.len();
            buffer.copy_within(incomplete, 0);
            if buffer.len() < needed + SLACK {
                buffer.resize(needed + SLACK, 0);
            }
            self.own = buffer;
        } else {
            self.own.clear();
            self.own.extend_from_slice(&buffer[incomplete]);
            shared.give(buffer);
        }
    }

    /// Answers the request of an upgrade, if `input` has all of it.
    fn upgrade(&mut self, input: &[u8], work: &mut Work, output: &mut [u8]) -> io::Result<()> {
        let Some((done, response)) = upgrade::answer(input)? else { return Ok(()) };
        output[..response.len()].copy_from_slice(response.as_bytes());
        self.upgraded = true;
        work.reply = Reply::Gathered(response.len());
        work.done = done;
        Ok(())
    }

    /// Turns the complete frames of `input` into replies, after what `work` has already done.
    fn frames(&mut self, input: &mut [u8], work: &mut Work, output: &mut Vec<u8>) -> io::Result<()> {
        if output.len() < input.len() {
            output.resize(input.len(), 0);
        }
        let mut filled = if let Reply::Gathered(length) = work.reply { length } else { 0 };
        loop {
            let rest = &mut input[work.done..];
            let Some(frame) = Frame::parse(rest)? else { break };
            let Some(more) = rest.len().checked_sub(frame.end) else {
                work.needed = frame.end;
                break;
            };
            let first = match frame.first & 0x0f {
                0x8 => {
                    self.closing = true;
                    frame.first
                }
                0x9 => 0x8a,
                0xa => {
                    work.done += frame.end;
                    continue;
                }
                _ => frame.first,
            };
            // A masked header is an unmasked one and the key: the reply's is this one without its mask bit.
            let length = frame.payload - 4;
            let mut header = [0; 10];
            header[..length].copy_from_slice(&rest[..length]);
            header[0] = first;
            header[1] &= 0x7f;
            if filled == 0 && (more == 0 || !Frame::is_complete(&rest[frame.end..])) {
                unmask(&mut rest[frame.payload..frame.end], frame.key);
                rest[4..frame.payload].copy_from_slice(&header[..length]);
                work.reply = Reply::InPlace(work.done + 4..work.done + frame.end);
            } else {
                output[filled..filled + length].copy_from_slice(&header[..length]);
                filled += length;
                let payload = &rest[frame.payload..frame.end];
                unmask_into(&mut output[filled..filled + payload.len()], payload, frame.key);
                filled += payload.len();
                work.reply = Reply::Gathered(filled);
            }
            work.done += frame.end;
        }
        Ok(())
    }
}

/// The result of one read.
#[derive(Default)]
struct Work {
    reply: Reply,
    /// How many bytes of the input are done with.
    done: usize,
    /// The length of the incomplete frame after them, if it is known; else 0.
    needed: usize,
}

#[derive(Default)]
enum Reply {
    #[default]
    None,
    /// The reply lies in the input.
    InPlace(Range<usize>),
    /// The reply is this much of the output.
    Gathered(usize),
}

/// Where the parts of a frame are (RFC 6455, section 5.2).
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) key: [u8; 4],
    pub(crate) payload: usize,
    pub(crate) end: usize,
}

impl Frame {
    /// The frame that `bytes` begin with; `None` if its header is incomplete.
    pub(crate) fn parse(bytes: &[u8]) -> io::Result<Option<Frame>> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(invalid());
        }
        let (length, rest) = match second & 0x7f {
            126 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (usize::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (usize::try_from(u64::from_be_bytes(*length)).map_err(|_| invalid())?, rest)
            }
            length => (usize::from(length), rest),
        };
        if length > LONGEST {
            return Err(invalid());
        }
        let Some((key, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let payload = bytes.len() - rest.len();
        Ok(Some(Frame { first: *first, key: *key, payload, end: payload + length }))
    }

    fn is_complete(bytes: &[u8]) -> bool {
        matches!(Frame::parse(bytes), Ok(Some(frame)) if frame.end <= bytes.len())
    }
}

/// Writes until all is written or the socket is full; how much that was.
///
/// After a short write it tries again: there is often room by then, and an event costs more than a failed `send`.
fn write(stream: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(more) => sent += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

fn invalid() -> io::Error {
    ErrorKind::InvalidData.into()
}
