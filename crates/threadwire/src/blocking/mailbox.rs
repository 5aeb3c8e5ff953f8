//! What has arrived and was not received.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use threadwire_proto::{Message, OwnedMessage};

use super::select::Place;
use crate::{Closed, Connection, Error, Listener};

/// How many bytes may wait to be received before nothing more is read.
const ENOUGH: usize = 1 << 20;

/// What a message costs besides its payload, so that many empty ones are not free.
const OVERHEAD: usize = 64;

/// A queue of messages. It belongs to a connection and to the listener that fills it.
#[derive(Default)]
pub(super) struct Mailbox {
    queue: RefCell<VecDeque<OwnedMessage>>,
    /// What lies in it, with the overhead.
    size: Cell<usize>,
    /// Whether reading was paused because of that.
    is_full: Cell<bool>,
    /// Whether somebody waits for room to send: then reading goes on, so that two sides that both send can't block each
    /// other for a while.
    is_sending: Cell<bool>,
    /// Where to say that there is something.
    place: RefCell<Option<Place>>,
}

impl Mailbox {
    /// With what arrived before.
    pub(super) fn with(queue: VecDeque<OwnedMessage>) -> Mailbox {
        let size = queue.iter().map(|message| message.len() + OVERHEAD).sum();
        let is_full = Cell::new(size >= ENOUGH);
        Mailbox { queue: queue.into(), size: Cell::new(size), is_full, ..Mailbox::default() }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// Takes the oldest message out, and has reading go on if there is room again.
    #[inline]
    pub(super) fn take(&self, ws: &Connection) -> Option<OwnedMessage> {
        let message = self.queue.borrow_mut().pop_front()?;
        let size = self.size.get() - message.len() - OVERHEAD;
        self.size.set(size);
        if self.is_full.get() && size < ENOUGH / 2 {
            self.is_full.set(false);
            ws.resume_reading();
        }
        Some(message)
    }

    /// Whether nothing more is read.
    pub(super) fn is_full(&self) -> bool {
        self.is_full.get()
    }

    /// All that is left.
    pub(super) fn take_all(&self) -> VecDeque<OwnedMessage> {
        self.size.set(0);
        self.queue.take()
    }

    fn put(&self, ws: &Connection, message: OwnedMessage) {
        let size = self.size.get() + message.len() + OVERHEAD;
        self.size.set(size);
        let was_empty = {
            let mut queue = self.queue.borrow_mut();
            queue.push_back(message);
            queue.len() == 1
        };
        if size >= self.limit(ws) && !self.is_full.replace(true) {
            ws.pause_reading();
        }
        if was_empty {
            self.announce();
        }
    }

    fn limit(&self, ws: &Connection) -> usize {
        if self.is_sending.get() { ENOUGH.max(ws.config().max_buffered) } else { ENOUGH }
    }

    /// Reads on while `wait` waits for room to send.
    pub(super) fn while_sending<R>(&self, ws: &Connection, wait: impl FnOnce() -> R) -> R {
        self.is_sending.set(true);
        if self.is_full.get() && self.size.get() < self.limit(ws) {
            self.is_full.set(false);
            ws.resume_reading();
        }
        let result = wait();
        self.is_sending.set(false);
        result
    }

    /// Says that there is something, to those who wait for several.
    pub(super) fn announce(&self) {
        if let Some(place) = &*self.place.borrow() {
            place.announce();
        }
    }

    /// Those who wait for several have looked: they are to be told of what comes next.
    pub(super) fn served(&self) {
        if let Some(place) = &*self.place.borrow() {
            place.served();
        }
    }

    /// Where to say so from now on.
    pub(super) fn set_place(&self, place: Option<Place>) {
        self.place.replace(place);
    }
}

/// The listener of a blocking connection.
pub(super) struct Receiver {
    pub(super) mailbox: Rc<Mailbox>,
    /// The server that has accepted it, if one has.
    pub(super) server: Option<u64>,
}

impl Receiver {
    pub(super) fn new(mailbox: Rc<Mailbox>) -> Receiver {
        Receiver { mailbox, server: None }
    }
}

impl Listener for Receiver {
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        self.arrive(ws);
        Ok(())
    }

    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        self.mailbox.put(ws, message.to_owned());
        Ok(())
    }

    fn on_close(&mut self, _ws: &Connection, _closed: &Closed) {
        self.mailbox.announce();
    }
}
