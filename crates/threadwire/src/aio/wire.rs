//! A stream, the protocol on it, what waits to be written and what waits to be received: a connection under its lock.
//!
//! Nothing here blocks, and nothing here calls anybody: who is to be woken, and what is to be done without the lock, is
//! noted, and done by [`Locked`](super::core::Locked) when it lets the lock go.

mod ending;
mod keeping;
mod reading;
mod writing;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::Waker;

use threadwire_proto::Connection as Protocol;
use threadwire_proto::state::State;
use tokio::runtime::Handle;

use super::received::Event;
use super::stream::Stream;
use super::waiters::Waiters;
use crate::{Closed, Config, Error};
use keeping::Keeping;
use threadwire_core::session::buffers::Buffers;
use threadwire_core::session::outbox::Outbox;
use threadwire_core::session::unparsed::Unparsed;

/// What a connection needs for most of what it does.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    pub(super) config: &'a Config,
    /// Has it flushed.
    pub(super) waker: &'a Waker,
    /// Where its timers run, whoever polls it.
    pub(super) runtime: &'a Handle,
    pub(super) local: &'a Buffers,
}

/// What is to be done when the lock is let go.
#[derive(Default)]
pub(super) struct After {
    pub(super) woken: Vec<Waker>,
    /// A task has to see the connection through to its end.
    pub(super) drive: bool,
    /// The stream, at the end: closing it may call others.
    pub(super) stream: Option<Stream>,
}

pub(super) struct Wire {
    /// None once TCP has ended.
    stream: Option<Stream>,
    protocol: Protocol,
    outbox: Outbox,
    /// Where the last late pong lies in the output: until it has left, there is no other.
    late_pong_at: u64,
    /// Whether the stream itself may hold back what was written to it.
    unflushed: bool,
    /// Writing has failed: nothing leaves any more.
    broken: bool,
    /// More waits than the high watermark, and not less than the low one since.
    paused: bool,
    /// Whether the last read may have left something behind.
    may_have_more: bool,
    /// Whether pings and pongs are handed out.
    wants_control: bool,
    /// Whether the task is there that sees the connection through to its end, or discards what nobody receives.
    driven: bool,
    /// Whether that the connection has ended was said to its receiver.
    told: bool,
    /// How many owners the connection has: both halves, or one.
    halves: u8,
    sends: u8,
    /// The peer will send no more, but may still read.
    input_is_over: bool,
    rest: Unparsed,
    /// What was read while sending, and not received yet.
    inbox: VecDeque<Event>,
    inbox_cost: usize,
    dropped: u64,
    /// Who receives.
    reader: Option<Waker>,
    driver: Option<Waker>,
    /// Who waits for less to be waiting to be written.
    pub(super) senders: Waiters,
    /// Who waits for the end.
    pub(super) mourners: Waiters,
    /// What a connection with keepalive has.
    keeping: Option<Box<Keeping>>,
    /// What went wrong first.
    error: Option<Box<Error>>,
    outcome: Option<Arc<Closed>>,
    /// Whether something waits to be written, and nobody sees to it yet: to be done without the lock.
    pub(super) kick: bool,
    /// What else is. In a box: it is rare, and locking often.
    pub(super) after: Option<Box<After>>,
}

impl Wire {
    pub(super) fn new(
        stream: Stream,
        protocol: Protocol,
        config: &Config,
        output: Vec<u8>,
        rest: Unparsed,
    ) -> Wire {
        Wire {
            stream: Some(stream),
            protocol,
            outbox: Outbox::with(output),
            late_pong_at: 0,
            unflushed: false,
            broken: false,
            paused: false,
            may_have_more: true,
            wants_control: false,
            driven: false,
            told: false,
            halves: 2,
            sends: 0,
            input_is_over: false,
            rest,
            inbox: VecDeque::new(),
            inbox_cost: 0,
            dropped: 0,
            reader: None,
            driver: None,
            senders: Waiters::default(),
            mourners: Waiters::default(),
            keeping: Keeping::new(config),
            error: None,
            outcome: None,
            kick: false,
            after: None,
        }
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.protocol.state() == State::Open
    }

    #[inline]
    pub(super) fn buffered(&self) -> usize {
        self.outbox.len()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn outcome(&self) -> Option<&Arc<Closed>> {
        self.outcome.as_ref()
    }

    pub(super) fn stream(&self) -> io::Result<&Stream> {
        let stream = self.stream.as_ref().filter(|_| self.outcome.is_none());
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// What is to be done when the lock is let go.
    #[cold]
    fn after(&mut self) -> &mut After {
        self.after.get_or_insert_default()
    }

    /// Has somebody woken who waits.
    fn wake(&mut self, waiting: Option<Waker>) {
        if let Some(waker) = waiting {
            self.after().woken.push(waker);
        }
    }

    fn note(&mut self, error: Error) {
        if self.outcome.is_none() {
            self.error.get_or_insert_with(|| Box::new(error));
        }
    }
}
