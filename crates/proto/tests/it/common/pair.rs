//! A simulated pair, client and server with wires between them, in virtual time.
//!
//! Nothing happens unless the test lets time pass: [`Pair::run`] until the wires are empty, [`Pair::run_until`] up
//! to a moment. Bytes take [`LATENCY`] from end to end and arrive in the pieces that the test chose. A side ends TCP
//! when its connection says so, or in answer to the other side; one whose deadline passes resets TCP.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use threadwire_proto::{Config, Role, state::State};

use super::chunks::Chunks;
use super::peer::Peer;

/// How long a byte takes from one end to the other.
pub(crate) const LATENCY: Duration = Duration::from_millis(20);

pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) client: Peer,
    pub(crate) server: Peer,
    /// From the client to the server.
    pub(crate) up: Wire,
    /// From the server to the client.
    pub(crate) down: Wire,
}

/// One direction of a TCP connection.
pub(crate) struct Wire {
    chunks: Chunks,
    flying: VecDeque<(Instant, Packet)>,
    /// The receiver does not read, and so the sender can't write.
    pub(crate) blocked: bool,
    /// The sender has ended this direction.
    pub(crate) ended: bool,
}

enum Packet {
    Bytes(Vec<u8>),
    /// The end of this direction, or of the whole connection.
    End,
}

impl Pair {
    pub(crate) fn new(config: &Config, chunks: Chunks) -> Pair {
        Pair {
            now: Instant::now(),
            client: Peer::new(Role::Client, config),
            server: Peer::new(Role::Server, config),
            up: Wire::new(chunks.clone()),
            down: Wire::new(chunks),
        }
    }

    /// A pair with the default settings for every way of cutting the stream.
    pub(crate) fn all() -> impl Iterator<Item = Pair> {
        Chunks::all().into_iter().map(|chunks| Pair::new(&Config::default(), chunks))
    }

    /// Lets time pass until nothing is under way.
    pub(crate) fn run(&mut self) {
        self.transmit();
        while let Some(arrival) = self.arrival() {
            self.run_until(arrival);
        }
    }

    /// Lets time pass until `end`.
    pub(crate) fn run_until(&mut self, end: Instant) {
        self.transmit();
        while let Some(at) = self.next().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.up.deliver(self.now, &mut self.server);
            self.down.deliver(self.now, &mut self.client);
            for role in [Role::Client, Role::Server] {
                let now = self.now;
                let connection = &mut self.peer(role).connection;
                if connection.state() != State::Ended && connection.expire(now) {
                    self.reset(role);
                }
            }
            self.transmit();
        }
        self.now = self.now.max(end);
    }

    /// This side ends TCP in an orderly way: all that it wrote arrives before the end.
    pub(crate) fn end_tcp(&mut self, role: Role) {
        self.transmit();
        self.peer(role).connection.tcp_ended();
        self.transmit();
    }

    /// This side breaks TCP: what is under way is lost, in both directions.
    pub(crate) fn reset(&mut self, role: Role) {
        self.peer(role).connection.tcp_ended();
        self.up.flying.clear();
        self.down.flying.clear();
        let (own, other) = match role {
            Role::Client => (&mut self.up, &mut self.down),
            Role::Server => (&mut self.down, &mut self.up),
        };
        other.ended = true;
        own.end(self.now);
    }

    pub(crate) fn peer(&mut self, role: Role) -> &mut Peer {
        match role {
            Role::Client => &mut self.client,
            Role::Server => &mut self.server,
        }
    }

    fn transmit(&mut self) {
        self.up.transmit(self.now, &mut self.client);
        self.down.transmit(self.now, &mut self.server);
    }

    /// When the next bytes arrive.
    fn arrival(&self) -> Option<Instant> {
        [&self.up, &self.down].into_iter().filter_map(|wire| Some(wire.flying.front()?.0)).min()
    }

    /// When something happens next: bytes arrive, or a deadline passes.
    fn next(&mut self) -> Option<Instant> {
        let now = self.now;
        let deadlines = [&mut self.client, &mut self.server].map(|peer| peer.connection.deadline(now));
        deadlines.into_iter().chain([self.arrival()]).flatten().min()
    }
}

impl Wire {
    fn new(chunks: Chunks) -> Wire {
        Wire { chunks, flying: VecDeque::new(), blocked: false, ended: false }
    }

    /// Writes what the sender has to say, and ends the direction once the sender is done.
    fn transmit(&mut self, now: Instant, from: &mut Peer) {
        if self.blocked {
            return;
        }
        while !from.out.is_empty() && !self.ended {
            for piece in self.chunks.cut(&from.out) {
                self.flying.push_back((now + LATENCY, Packet::Bytes(piece.to_vec())));
            }
            from.out.clear();
            from.connection.drained(&mut from.shared, &mut from.out);
        }
        if from.connection.should_end_tcp() {
            self.end(now);
        }
    }

    fn end(&mut self, now: Instant) {
        if !self.ended {
            self.ended = true;
            self.flying.push_back((now + LATENCY, Packet::End));
        }
    }

    /// Hands over what has arrived, each piece as a read of its own.
    fn deliver(&mut self, now: Instant, to: &mut Peer) {
        let due = self.flying.iter().take_while(|(at, _)| *at <= now).count();
        for (_, packet) in self.flying.drain(..due) {
            match packet {
                Packet::Bytes(bytes) => to.feed(&bytes),
                Packet::End => to.connection.tcp_ended(),
            }
        }
    }
}
