//! Session: the connection engine, the same on an event loop and on tokio.
//!
//! A session is the protocol of a connection and all that is decided around it: what waits to be written and what happens where
//! there is no room for more, when the peer is pinged and when it is called silent, how far the close handshake has come and who
//! ends TCP. It does no I/O of its own, has no clock, and calls nobody: each call is given the transport and the time that it
//! needs, and says what has become of it. A driver moves bytes, sets timers and tells the program.
//!
//! What a driver does, in this order:
//!
//! 1. Where the stream can be read: [`read`](Session::read), then [`next_message`](Session::next_message) and
//!    [`next_frame`](Session::next_frame) until there is nothing more. Where messages are compressed, input may be left then: it is for
//!    another turn, behind those of others ([`keep_input`](Session::keep_input)).
//! 2. What the program sends: [`has_room`](Session::has_room), where there is none [`overflow`](Session::overflow), then
//!    [`send_frame`](Session::send_frame).
//! 3. After that, once: [`write`](Session::write), [`regulate`](Session::regulate) and, where the session is not open any more,
//!    [`end_step`](Session::end_step).
//! 4. One timer, for [`deadline`](Session::deadline): [`tick`](Session::tick) says what is due.

mod account;
pub mod backpressure;
pub mod buffers;
pub mod close;
mod droppable;
pub mod keepalive;
pub mod linger;
pub mod outbox;
pub mod outcome;
pub mod overflow;
pub mod parts;
pub mod progress;
pub mod receive;
pub mod round_trip;
pub mod send;
pub mod shared_message;
#[cfg(test)]
mod tests;
pub mod unparsed;
pub mod watermark;

use threadwire_proto::deflate::Agreement;
use threadwire_proto::state::State;
use threadwire_proto::{Closing, Config as ProtocolConfig, Connection as Protocol, Role};

use crate::config::Config;
use crate::config::budget::Account;
use crate::error::Error;
use buffers::Buffers;
use keepalive::KeepAlive;
use outbox::Outbox;
use progress::Progress;
use watermark::Watermark;

/// The environment of most calls: the session's settings, and the buffers of its thread.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    pub config: &'a Config,
    pub buffers: &'a Buffers,
}

/// A connection without its stream and its owner.
pub struct Session {
    protocol: Protocol,
    outbox: Outbox,
    /// Where the last late pong lies in the output: until it has left, there is no other.
    late_pong_at: u64,
    extras: Option<Box<Extras>>,
    /// Whether the last message was a long one.
    expects_long: bool,
    /// Whether something lies in the input behind the message that is being worked on.
    more_follows: bool,
    /// Whether the last read may have left something behind.
    may_have_more: bool,
    /// Whether input is kept for the next turn.
    keeps_input: bool,
    /// Whether the peer has ended its half of the stream, and something is still to be written.
    input_is_over: bool,
    /// Whether the stream itself may hold back what was written to it.
    unflushed: bool,
    /// Whether all was said, and what the peer still sends is only read away.
    lingers: bool,
    /// Whether there is keepalive, or anything else that has to know when something arrives.
    is_timed: bool,
    /// Whether nothing is read from a peer that does not read either.
    is_throttled: bool,
    /// Whether the connection is looked at for what does not go on.
    is_watched: bool,
    /// Whether nothing is read as connections hold too much together, and this one more than its share.
    is_held_back: bool,
    /// Whether one of the next two is not 0.
    holds: bool,
    /// How many KiB wait elsewhere for the program.
    beside: u32,
    /// How many KiB the budget was told that this holds.
    told: u32,
    watermark: Watermark,
}

/// State that most sessions don't have, or only at their end.
#[derive(Default)]
struct Extras {
    keep_alive: Option<KeepAlive>,
    progress: Option<Progress>,
    account: Option<Account>,
    /// How much the peer's last messages were answered with, if it does not read the answers.
    answers: u64,
    /// How many messages were dropped as there was no room.
    dropped: u64,
    /// Input that was read, and is for the next turn.
    kept_input: Vec<u8>,
    /// The first error.
    error: Option<Error>,
}

impl Session {
    /// A session that is open. `output` is what still has to leave of the opening handshake.
    pub fn new(protocol: Protocol, output: Vec<u8>) -> Session {
        Session {
            protocol,
            outbox: Outbox::with(output),
            late_pong_at: 0,
            extras: None,
            expects_long: false,
            more_follows: false,
            may_have_more: true,
            keeps_input: false,
            input_is_over: false,
            unflushed: false,
            lingers: false,
            is_timed: false,
            is_throttled: false,
            is_watched: false,
            is_held_back: false,
            holds: false,
            beside: 0,
            told: 0,
            watermark: Watermark::default(),
        }
    }

    /// A session that has ended.
    pub fn ended(role: Role, config: &ProtocolConfig) -> Session {
        let mut protocol = Protocol::new(role, config);
        protocol.abort();
        Session { may_have_more: false, ..Session::new(protocol, Vec::new()) }
    }

    /// The session, for another thread or owner. What is left has ended.
    pub fn take(&mut self) -> Session {
        let ended = Session::ended(self.role(), &ProtocolConfig::default());
        std::mem::replace(self, ended)
    }

    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    #[inline]
    pub fn state(&self) -> State {
        self.protocol.state()
    }

    /// Whether messages can be sent: neither side has begun to close.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.protocol.state() == State::Open
    }

    pub fn closing(&self) -> Option<&Closing> {
        self.protocol.closing()
    }

    pub fn role(&self) -> Role {
        self.protocol.role()
    }

    /// The negotiated compression.
    pub fn deflate(&self) -> Option<Agreement> {
        self.protocol.deflate()
    }

    /// Whether writing has failed: nothing leaves any more.
    #[inline]
    pub fn is_broken(&self) -> bool {
        self.outbox.is_broken()
    }

    /// How many bytes were ever sent, with those that wait.
    #[inline]
    pub fn sent(&self) -> u64 {
        self.outbox.written() + self.outbox.len() as u64
    }

    /// How many bytes have left.
    #[inline]
    pub fn written(&self) -> u64 {
        self.outbox.written()
    }

    /// How many bytes wait to be written.
    #[inline]
    pub fn buffered(&self) -> usize {
        self.outbox.len()
    }

    /// How many of the bytes that wait may be dropped to make room.
    pub fn droppable(&self) -> usize {
        self.outbox.droppable()
    }

    /// How many messages were dropped because there was no room.
    pub fn dropped(&self) -> u64 {
        self.extras.as_ref().map_or(0, |extras| extras.dropped)
    }

    #[cold]
    pub fn count_dropped(&mut self) {
        self.extras().dropped += 1;
    }
}
