//! The pair: two sessions, the pipes between them, and a clock that is moved by hand.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use threadwire_proto::{Level, OpCode, OwnedMessage, Role, SendOptions};

use crate::config::{Config, WhenFull};
use crate::error::{Closed, Error};
use crate::session::buffers::Buffers;
use crate::session::close::EndStep;
use crate::session::keepalive::Due;
use crate::session::linger::Linger;
use crate::session::overflow::{FrameKind, Overflow};
use crate::session::receive::Received;
use crate::session::{Env, Session};
use crate::transport::Transport;

/// One direction.
#[derive(Default)]
pub(super) struct Pipe {
    bytes: VecDeque<u8>,
    pub(super) capacity: usize,
    /// Whether its writer has ended.
    pub(super) ended: bool,
    /// Whether its reader is gone.
    pub(super) is_cut: bool,
}

impl Pipe {
    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Puts bytes into the pipe that no session has sent.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }
}

/// One end of both pipes. What a call takes or gives depends on the seed.
pub(super) struct End {
    pub(super) sends: Rc<RefCell<Pipe>>,
    pub(super) receives: Rc<RefCell<Pipe>>,
    random: u64,
}

impl End {
    /// From 1 to `most`.
    fn some(&mut self, most: usize) -> usize {
        // Knuth's generator of 64 bits.
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + (self.random >> 33) as usize % most
    }
}

impl Transport for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, ended) = (self.receives.borrow().bytes.len(), self.receives.borrow().ended);
        if length == 0 {
            return if ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = self.some(length.min(buffer.len()));
        for (place, byte) in buffer.iter_mut().zip(self.receives.borrow_mut().bytes.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.sends.borrow().is_cut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = self.sends.borrow().capacity.saturating_sub(self.sends.borrow().bytes.len());
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.some(room.min(bytes.len()));
        self.sends.borrow_mut().bytes.extend(&bytes[..count]);
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.sends.borrow_mut().ended = true;
        Ok(())
    }

    fn may_have_more(&self, _count: usize, _room: usize) -> bool {
        !self.receives.borrow().bytes.is_empty() || self.receives.borrow().ended
    }
}

/// A session and its driver, as short as one can be.
pub(super) struct Side {
    pub(super) session: Session,
    pub(super) end: End,
    pub(super) config: Config,
    buffers: Rc<Buffers>,
    pub(super) got: Vec<OwnedMessage>,
    pub(super) pongs: Vec<Vec<u8>>,
    /// How it ended, as soon as the program is told.
    pub(super) closed: Option<Closed>,
    /// Whether TCP is over on this side.
    pub(super) is_over: bool,
    /// Whether it has lingered.
    pub(super) has_lingered: bool,
}

impl Side {
    pub(super) fn env(&self) -> Env<'_> {
        Env { config: &self.config, buffers: &self.buffers }
    }

    /// Sends a text as a program does.
    pub(super) fn send(&mut self, text: &str, when_full: WhenFull) -> Result<(), Overflow> {
        let env = Env { config: &self.config, buffers: &self.buffers };
        let length = text.len();
        if !self.session.has_room(0, length, env.config.max_buffered) {
            match self.session.overflow((FrameKind::Message, length), when_full, 0, env) {
                Overflow::Take | Overflow::DropOldest => {}
                other => return Err(other),
            }
        }
        let options = SendOptions { droppable: when_full == WhenFull::DropOldest, ..SendOptions::default() };
        let (io, bytes) = (&mut self.end, text.as_bytes());
        let sent = self.session.send_frame(io, OpCode::Text, true, bytes, options, &self.buffers);
        sent.map_err(|error| panic!("{error}"))
    }

    pub(super) fn close(&mut self, code: u16) {
        let frame =
            threadwire_proto::CloseFrame { code: Some(threadwire_proto::CloseCode::new(code)), reason: "" };
        self.session.close(frame, &self.buffers).unwrap();
    }

    pub(super) fn write(&mut self) {
        self.session.writable(&mut self.end);
        if let Err(error) = self.session.write(&mut self.end, &self.buffers) {
            drop(self.session.note(error.into()));
        }
    }

    /// One turn: reads once, hands out, writes, and goes on with the end. Whether anything has happened.
    pub(super) fn turn(&mut self, now: Instant) -> bool {
        if self.is_over {
            return false;
        }
        let before = (self.session.sent(), self.session.buffered(), self.end.receives.borrow().bytes.len());
        let mut input = self.buffers.lend_input();
        if self.session.lingers() {
            let lingering = self.session.linger(&mut self.end, &mut input);
            self.has_lingered |= lingering != Linger::Over;
        } else if !self.session.is_throttled() && !self.session.input_is_over() {
            match self.session.read(&mut self.end, &mut input) {
                Received::Bytes { in_input, .. } => {
                    self.session.heard(|| now);
                    let mut unread = &mut input[..in_input];
                    self.hand_out(&mut unread, now);
                    if !unread.is_empty() {
                        self.session.keep_input(unread);
                    }
                }
                Received::Nothing => {}
                Received::End(error) => self.session.input_ended(error, &mut self.end),
            }
        }
        self.buffers.return_input(input);
        self.write();
        let env = Env { config: &self.config, buffers: &self.buffers };
        self.session.regulate(|| now, env);
        if self.session.leaves_something()
            && let Some(stall) = self.session.watch(now, env)
        {
            self.session.give_up_stalled(stall, &mut self.end, env);
        }
        if !self.session.is_open() {
            match self.session.end_step(&mut self.end, false) {
                EndStep::Wait => {}
                EndStep::Linger => self.report(),
                EndStep::HangUp => self.hang_up(),
            }
        }
        let after = (self.session.sent(), self.session.buffered(), self.end.receives.borrow().bytes.len());
        before != after || self.is_over
    }

    fn hand_out(&mut self, input: &mut &mut [u8], now: Instant) {
        loop {
            if let Some(message) = self.session.next_message(input) {
                self.got.push(message.to_owned());
                continue;
            }
            let Some(frame) = self.session.next_frame(input, &self.buffers) else { return };
            if frame.opcode() == OpCode::Pong {
                self.session.pong_arrived(frame.payload(), now);
                self.pongs.push(frame.payload().to_vec());
            }
            if let Some(message) = frame.into_owned(&mut self.buffers.shared.borrow_mut().pool) {
                self.got.push(message);
            }
        }
    }

    fn report(&mut self) {
        if self.closed.is_none() {
            self.closed = Some(self.session.outcome());
        }
    }

    pub(super) fn hang_up(&mut self) {
        self.report();
        self.session.let_go();
        self.is_over = true;
        self.end.sends.borrow_mut().ended = true;
        self.end.receives.borrow_mut().capacity = usize::MAX;
    }

    /// The timer rings.
    pub(super) fn tick(&mut self, now: Instant) -> Due {
        let due = self.session.tick(now, true, Env { config: &self.config, buffers: &self.buffers });
        match due {
            Due::Ping => {
                self.session.begin_probe(now);
                let (io, options) = (&mut self.end, SendOptions::default());
                let sent = self.session.send_frame(io, OpCode::Ping, true, b"", options, &self.buffers);
                sent.unwrap();
            }
            Due::Silent { for_ } => self.session.give_up_silent(for_, &mut self.end, &self.buffers),
            Due::Stalled(stall) => {
                let env = Env { config: &self.config, buffers: &self.buffers };
                self.session.give_up_stalled(stall, &mut self.end, env);
            }
            Due::Expired => self.hang_up(),
            Due::Nothing => {}
        }
        due
    }

    pub(super) fn error(&self) -> Option<&Error> {
        self.closed.as_ref().and_then(|closed| closed.error.as_ref())
    }
}

pub(super) struct Pair {
    pub(super) client: Side,
    pub(super) server: Side,
    pub(super) now: Instant,
}

impl Pair {
    pub(super) fn new(seed: u64, capacity: usize, config: Config) -> Pair {
        let now = Instant::now();
        let pipe = || Rc::new(RefCell::new(Pipe { capacity, ..Pipe::default() }));
        let (there, back) = (pipe(), pipe());
        let agreed = config.deflate.as_ref().and_then(|deflate| deflate.answer(&[deflate.offer()]));
        let side = |role, sends: &Rc<RefCell<Pipe>>, receives: &Rc<RefCell<Pipe>>| {
            let mut session = Session::new(config.open(role, Level::Messages, agreed), Vec::new());
            session.begin_keepalive(&config, now);
            Side {
                session,
                end: End { sends: Rc::clone(sends), receives: Rc::clone(receives), random: seed },
                config: config.clone(),
                buffers: Buffers::current(),
                got: Vec::new(),
                pongs: Vec::new(),
                closed: None,
                is_over: false,
                has_lingered: false,
            }
        };
        let client = side(Role::Client, &there, &back);
        let server = side(Role::Server, &back, &there);
        Pair { client, server, now }
    }

    /// Lets both sides have turns until nothing happens any more.
    pub(super) fn settle(&mut self) {
        let mut idle = 0;
        for _ in 0..100_000 {
            let happened = self.client.turn(self.now) | self.server.turn(self.now);
            idle = if happened && !(self.client.is_over && self.server.is_over) { 0 } else { idle + 1 };
            if idle == 3 {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

/// A few seeds: a test that fails says which.
pub(super) fn seeds(test: impl Fn(u64)) {
    for seed in 0..20 {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(seed)));
        if let Err(payload) = result {
            eprintln!("with seed {seed}");
            std::panic::resume_unwind(payload);
        }
    }
}
