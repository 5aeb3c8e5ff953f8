//! Inbox of a blocking connection: messages that have arrived and were not received, and the listener that fills it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use threadwire_proto::{Message, OwnedMessage};
use threadwire_worker::EventLoop;

use super::queue::Queue;
use super::reserves::Promise;
use super::select::SelectSlot;
use super::window::ReceiveWindow;
use crate::{Closed, Connection, Error, Listener};

/// How long a peer that has closed waits for a program that receives nothing while the loop turns.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long a program may take to receive for the first time before it counts as one that never does.
const FIRST: Duration = Duration::from_secs(1);

/// Messages of this many bytes are received before others are read.
const LARGE: usize = 64 << 10;

/// A queue of messages, and how full it is. It belongs to a connection and to the listener that fills it.
pub(super) struct Inbox {
    queue: RefCell<Queue>,
    pub(super) window: ReceiveWindow,
    /// The `Select` to tell of arrivals.
    slot: RefCell<Option<SelectSlot>>,
    /// How often the program has asked for a message.
    asks: Cell<u64>,
    since: Instant,
    /// Whether the peer's end waits for the program.
    is_awaiting: Cell<bool>,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox {
            queue: RefCell::default(),
            window: ReceiveWindow::default(),
            slot: RefCell::default(),
            asks: Cell::new(0),
            since: Instant::now(),
            is_awaiting: Cell::new(false),
        }
    }
}

impl Inbox {
    /// An inbox with messages that arrived before.
    pub(super) fn with(queue: VecDeque<OwnedMessage>) -> Inbox {
        let inbox =
            Inbox { window: ReceiveWindow::with(queue.iter().map(OwnedMessage::len)), ..Inbox::default() };
        queue.into_iter().for_each(|message| inbox.queue.borrow_mut().push_own(message));
        inbox
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// Takes the oldest message out, and resumes reading if there is room again.
    #[inline]
    pub(super) fn take(&self, ws: &Connection) -> Option<OwnedMessage> {
        let message = self.queue.borrow_mut().pop()?;
        self.window.remove(ws, message.len());
        Some(message)
    }

    /// Takes all messages out.
    pub(super) fn take_all(&self) -> VecDeque<OwnedMessage> {
        self.window.clear();
        let mut queue = self.queue.take();
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[inline]
    fn put(&self, ws: &Connection, message: Message<'_>) {
        self.window.add(ws, message.len());
        let is_first = self.queue.borrow_mut().push(message);
        if is_first {
            ws.defer_end(true);
            self.announce();
        }
        if message.len() >= LARGE {
            // Large messages are received one by one, to save memory.
            EventLoop::current().interrupt();
        }
    }

    /// The program asks for a message.
    #[inline]
    pub(super) fn count_ask(&self) {
        self.asks.set(self.asks.get() + 1);
    }

    /// How often the program has asked for a message, of this connection or, as a `Select` receives by turns, of any in its `Select`.
    fn asks(&self) -> u64 {
        self.slot.borrow().as_ref().map_or(self.asks.get(), SelectSlot::asks)
    }

    /// The peer has closed, or broken a rule, behind what is queued. That is answered once the program has received all of it and comes
    /// back for more; or if it does not receive any more, as the peer waits; or at once if it only sends, or does nothing.
    pub(super) fn await_program(self: &Rc<Inbox>, ws: &Connection) {
        if self.is_awaiting.replace(true) {
            return;
        }
        let asks = self.asks();
        let never_asks = asks == 0 && self.since.elapsed() >= FIRST;
        let patience = if self.is_empty() || never_asks { Duration::ZERO } else { PATIENCE };
        let (inbox, ws) = (Rc::downgrade(self), ws.clone());
        EventLoop::current().after(patience, move || {
            let Some(inbox) = inbox.upgrade() else { return ws.end_deferred() };
            inbox.is_awaiting.set(false);
            if inbox.asks() != asks && ws.has_deferred_end() {
                inbox.await_program(&ws);
            } else {
                ws.end_deferred();
            }
        });
    }

    /// Tells the `Select` of an arrival.
    #[inline]
    pub(super) fn announce(&self) {
        if let Some(slot) = &*self.slot.borrow() {
            slot.announce();
        }
    }

    /// Those who wait for several have looked. Unless it has put itself behind the others, they are to be told of what comes
    /// next.
    #[inline]
    pub(super) fn served(&self, is_queued: bool) {
        if let Some(slot) = &*self.slot.borrow() {
            slot.served(is_queued);
        }
    }

    /// Sets the `Select` to tell of arrivals.
    pub(super) fn set_select_slot(&self, slot: Option<SelectSlot>) {
        self.slot.replace(slot);
    }
}

/// The listener of a blocking connection.
pub(super) struct InboxListener {
    pub(super) inbox: Rc<Inbox>,
    /// Where the connection is to be accepted, if a server has opened it. Gone with the server.
    arrived: Option<Weak<Arrived>>,
    /// What the connection needs on the thread that it goes to, if it goes to one.
    _promise: Option<Promise>,
}

/// The connections of a server that have opened and were not accepted, in the order in which they came.
#[derive(Default)]
pub(super) struct Arrived(pub(super) RefCell<VecDeque<super::Connection>>);

impl InboxListener {
    pub(super) fn new(inbox: Rc<Inbox>) -> InboxListener {
        InboxListener { inbox, arrived: None, _promise: None }
    }

    /// For a connection that a server on this thread opens.
    pub(super) fn of_server(arrived: Weak<Arrived>, promise: Option<Promise>) -> InboxListener {
        InboxListener { inbox: Rc::default(), arrived: Some(arrived), _promise: promise }
    }
}

impl Listener for InboxListener {
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        let Some(arrived) = &self.arrived else { return Ok(()) };
        let connection = super::Connection::new(ws.clone(), Rc::clone(&self.inbox));
        match arrived.upgrade() {
            Some(arrived) => arrived.0.borrow_mut().push_back(connection),
            // The server was dropped while this was on its way: so is the connection.
            None => drop(connection),
        }
        Ok(())
    }

    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        self.inbox.put(ws, message);
        Ok(())
    }

    fn on_deferred_end(&mut self, ws: &Connection) {
        self.inbox.await_program(ws);
    }

    fn on_close(&mut self, _ws: &Connection, _closed: &Closed) {
        self.inbox.announce();
    }
}
