//! Load of the `broadcast` command: members of a room, of whom the first speaks and all must receive.
//!
//! It must not be what the server waits for, nor what the server's system calls wait on. So nobody is polled for: all
//! that have not heard yet are looked at in turn, and after each turn nothing is called for a while. A load that slept
//! would be woken by each write that comes slower than it reads; one that looked at a single socket until the message is
//! there would share its lock with the server. Then a slow server would be measured with other system calls than a fast
//! one, or one that writes in another order.

use crate::client;
use crate::fail;
use crate::fail::Result;
use crate::frame::{self, TEXT};
use std::hint;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The silence that ends a measurement.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing is called after each turn.
const PAUSE: Duration = Duration::from_micros(20);
/// The unit of that pause.
const SPINS: u32 = 64;

/// The members of a room.
pub(crate) struct Load {
    members: Vec<TcpStream>,
    said: Vec<u8>,
    expected: Vec<u8>,
    buffer: Vec<u8>,
    /// The members that have not heard the message yet, and how much of it they have.
    waiting: Vec<(usize, usize)>,
}

/// The result of one run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Messages that were said and heard by all.
    pub(crate) messages: u64,
    /// How long that took.
    pub(crate) elapsed: Duration,
}

impl Load {
    /// Joins the room at `port` of 127.0.0.1 with so many members, of whom one will say `bytes` of ASCII.
    pub(crate) fn connect(port: u16, members: usize, bytes: usize) -> Result<Load> {
        let text: Vec<u8> = (0..bytes).map(|at| b' ' + ((at * 31) % 95) as u8).collect();
        let (mut said, mut expected) = (Vec::new(), Vec::new());
        frame::push_client_frame(&mut said, TEXT, &text, [0x9d, 0x01, 0x37, 0xe1]);
        frame::push_server_header(&mut expected, TEXT, bytes);
        expected.extend_from_slice(&text);
        let join = |_| -> Result<TcpStream> {
            let stream = client::connect(port)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let members = (0..members).map(join).collect::<Result<_>>()?;
        // One byte of room more shows surplus bytes.
        let buffer = vec![0; expected.len() + 1];
        Ok(Load { members, said, expected, buffer, waiting: Vec::new() })
    }

    /// Has message after message said for this long, each when all have heard the one before.
    pub(crate) fn run(&mut self, time: Duration) -> Result<Outcome> {
        let begin = Instant::now();
        let mut messages = 0;
        loop {
            self.say()?;
            messages += 1;
            let elapsed = begin.elapsed();
            if elapsed >= time {
                return Ok(Outcome { messages, elapsed });
            }
        }
    }

    /// Has one message said, and waits until all have heard it.
    pub(crate) fn say(&mut self) -> Result<()> {
        let Load { members, said, expected, buffer, waiting } = self;
        members[0].write_all(said)?;
        let begin = Instant::now();
        *waiting = (0..members.len()).map(|member| (member, 0)).collect();
        loop {
            let mut result = Ok(());
            waiting.retain_mut(|(member, heard)| {
                let more = hear(&mut members[*member], &expected[*heard..], buffer);
                *heard += more.unwrap_or_else(|error| {
                    result = Err(fail!("member {member}: {error}"));
                    0
                });
                *heard < expected.len()
            });
            result?;
            if waiting.is_empty() {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                return Err(fail!("{} of {} members heard nothing", waiting.len(), members.len()));
            }
            pause();
        }
    }
}

/// Reads what there is of the `expected` bytes; how many that are.
fn hear(member: &mut TcpStream, expected: &[u8], buffer: &mut [u8]) -> Result<usize> {
    match member.read(&mut buffer[..=expected.len()]) {
        Ok(0) => Err(fail!("the server closed the connection")),
        Ok(got) if expected.starts_with(&buffer[..got]) => Ok(got),
        Ok(_) => Err(fail!("another message came")),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error.into()),
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
