//! Compression without a library: epoll, and the codec. Each connection has engines of its own; a message is unmasked, inflated,
//! compressed and written, each once. Nothing is checked, and nothing is kept for a socket without room: that ends the server, as
//! the load never lets anything queue.

use super::codec::{Codec, Settings, TAIL};
use crate::fail;
use crate::fail::Result;
use crate::servers::mask::unmask;
use crate::servers::raw::Frame;
use crate::servers::{Outcome, upgrade};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};

const LISTENER: Token = Token(usize::MAX);
/// Bytes of one read: more than a message of a run.
const BUFFER: usize = 64 * 1024;
/// The longest header of a server's frame.
const HEADER: usize = 10;
/// The first byte of a compressed text message that is one frame.
const COMPRESSED_TEXT: u8 = 0xc1;

struct Connection {
    stream: TcpStream,
    codec: Codec,
    upgraded: bool,
    /// The beginning of a request or a frame.
    rest: Vec<u8>,
}

/// Buffers that all connections use in turn.
struct Scratch {
    input: Vec<u8>,
    message: Vec<u8>,
    output: Vec<u8>,
}

/// Serves 127.0.0.1 at `port`.
pub(super) fn run(port: u16, takeover: bool) -> Outcome {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections: Slab<Connection> = Slab::new();
    let mut scratch = Scratch { input: vec![0; BUFFER], message: Vec::new(), output: Vec::new() };
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut connections, takeover)?;
            } else if let Some(connection) = connections.get_mut(event.token().0)
                && !connection.ready(&mut scratch, takeover)?
            {
                connections.remove(event.token().0);
            }
        }
    }
}

fn accept(
    poll: &Poll,
    listener: &TcpListener,
    connections: &mut Slab<Connection>,
    takeover: bool,
) -> Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        stream.set_nodelay(true)?;
        let entry = connections.vacant_entry();
        poll.registry().register(&mut stream, Token(entry.key()), Interest::READABLE)?;
        let codec = Codec::new(Settings::defaults(takeover));
        entry.insert(Connection { stream, codec, upgraded: false, rest: Vec::new() });
    }
}

impl Connection {
    /// Answers what there is. Returns whether it goes on.
    fn ready(&mut self, scratch: &mut Scratch, takeover: bool) -> Result<bool> {
        let Scratch { input, message, output } = scratch;
        loop {
            let held = self.rest.len();
            if input.len() < held + BUFFER {
                input.resize(held + BUFFER, 0);
            }
            input[..held].copy_from_slice(&self.rest);
            let got = match self.stream.read(&mut input[held..held + BUFFER - TAIL.len()]) {
                Ok(0) => return Ok(false),
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            let end = held + got;
            let mut done = 0;
            output.clear();
            if !self.upgraded
                && let Some((length, response)) = upgrade::answer_with(&input[..end], &extension(takeover))?
            {
                output.extend_from_slice(response.as_bytes());
                (self.upgraded, done) = (true, length);
            }
            while self.upgraded
                && let Some(frame) = Frame::parse(&input[done..end])?
                && done + frame.end <= end
            {
                if frame.first != COMPRESSED_TEXT {
                    return Ok(false);
                }
                let (start, stop) = (done + frame.payload, done + frame.end);
                unmask(&mut input[start..stop], frame.key);
                // The tail goes where the next frame begins, for a moment.
                let behind: [u8; 4] = [0, 1, 2, 3].map(|at| input[stop + at]);
                input[stop..stop + TAIL.len()].copy_from_slice(&TAIL);
                let length = self.codec.inflate(&input[start..stop + TAIL.len()], message)?;
                input[stop..stop + TAIL.len()].copy_from_slice(&behind);
                reply(&mut self.codec, &message[..length], output)?;
                done = stop;
            }
            if self.stream.write(output)? < output.len() {
                return Err(fail!("a socket has no room for a message"));
            }
            self.rest.clear();
            self.rest.extend_from_slice(&input[done..end]);
            // A short read means drained.
            if got < BUFFER - TAIL.len() {
                return Ok(true);
            }
        }
    }
}

/// Appends a message as a compressed frame.
fn reply(codec: &mut Codec, message: &[u8], output: &mut Vec<u8>) -> Result<()> {
    // How long its header is shows when it is compressed: it is written in front of it, and the room before that closed.
    let start = output.len();
    output.resize(start + HEADER, 0);
    codec.deflate(message, output)?;
    let length = output.len() - start - HEADER;
    let mut header = [0; HEADER];
    header[0] = COMPRESSED_TEXT;
    let size = if length < 126 {
        header[1] = length as u8;
        2
    } else if let Ok(length) = u16::try_from(length) {
        header[1] = 126;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        4
    } else {
        header[1] = 127;
        header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
        10
    };
    output[start..start + size].copy_from_slice(&header[..size]);
    output.copy_within(start + HEADER.., start + size);
    output.truncate(start + size + length);
    Ok(())
}

/// The answer to every offer of compression.
fn extension(takeover: bool) -> String {
    let without = if takeover { "" } else { "; server_no_context_takeover; client_no_context_takeover" };
    format!(
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12; client_max_window_bits=12{without}\r\n"
    )
}
