//! Broadcast without a library: each message is framed once, and written to one socket after the other.
//!
//! Nothing is kept for a socket that has no room: that ends the server, as the load never lets anything queue.

use crate::fail;
use crate::frame;
use crate::servers::mask::unmask;
use crate::servers::raw::Frame;
use crate::servers::{Outcome, upgrade};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};

const LISTENER: Token = Token(usize::MAX);
/// More than any message of a run.
const BUFFER: usize = 32 * 1024;

/// A connection, whose token is its place among all: none is ever removed.
struct Member {
    stream: TcpStream,
    upgraded: bool,
    ended: bool,
    /// The beginning of a request or a frame.
    input: Vec<u8>,
}

/// Serves 127.0.0.1 at `port`.
pub(super) fn run(port: u16) -> Outcome {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut members: Vec<Member> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut said = Vec::new();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut members)?;
                continue;
            }
            members[event.token().0].hear(&mut buffer, &mut said)?;
            if said.is_empty() {
                continue;
            }
            for member in members.iter_mut().filter(|member| member.upgraded && !member.ended) {
                let sent = member.stream.write(&said)?;
                if sent < said.len() {
                    return Err(fail!("a member has no room for a message"));
                }
            }
            said.clear();
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, members: &mut Vec<Member>) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        poll.registry().register(&mut stream, Token(members.len()), Interest::READABLE)?;
        members.push(Member { stream, upgraded: false, ended: false, input: Vec::new() });
    }
}

impl Member {
    /// Reads what there is, and appends the frames that all shall get to `said`.
    fn hear(&mut self, buffer: &mut [u8], said: &mut Vec<u8>) -> io::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(got) => {
                    self.input.extend_from_slice(&buffer[..got]);
                    if got < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.ended = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if !self.upgraded
            && let Some((length, response)) = upgrade::answer(&self.input)?
        {
            self.input.drain(..length);
            self.stream.write_all(response.as_bytes())?;
            self.upgraded = true;
        }
        while self.upgraded
            && let Some(parsed) = Frame::parse(&self.input)?
            && parsed.end <= self.input.len()
        {
            let payload = &mut self.input[parsed.payload..parsed.end];
            unmask(payload, parsed.key);
            frame::push_server_header(said, parsed.first & 0x0f, payload.len());
            said.extend_from_slice(payload);
            self.input.drain(..parsed.end);
        }
        Ok(())
    }
}
