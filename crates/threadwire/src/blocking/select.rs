//! Select: one thread waits for several connections, and for new ones of servers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Index, IndexMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use threadwire_proto::OwnedMessage;
use threadwire_worker::EventLoop;

use super::connection::Quick;
use super::{Connection, Server};
use crate::error::TimeoutKind;
use crate::{Closed, Error};

/// How many messages of a connection come in a row where others wait.
const LONGEST_RUN: usize = 16;

/// Waits for several connections at once, on one thread, in the order in which something arrives.
///
/// A server of many connections on one thread:
///
/// ```
/// use threadwire::WhenFull;
/// use threadwire::blocking::{Select, Selected, Server};
/// # use threadwire::{blocking, worker::EventLoop};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// # let url = format!("ws://{}", server.local_addr()?);
/// # let stop = EventLoop::current().remote();
/// # std::thread::spawn(move || {
/// #     let mut ws = blocking::connect(&url)?;
/// #     ws.send("hello")?;
/// #     assert_eq!(ws.recv()?.unwrap(), "hello");
/// #     ws.close()?;
/// #     stop.stop();
/// #     Ok::<(), threadwire::Error>(())
/// # });
/// let mut select = Select::new();
/// select.serve(server);
/// # let mut run = || -> Result<(), threadwire::Error> {
/// while let Some((key, what)) = select.recv()? {
///     match what {
///         Selected::Connected => println!("welcome, {:?}", select[key].peer_addr()),
///         // A send that waits for one peer to read would keep all of them waiting.
///         Selected::Message(message) => {
///             if let Err(error) = select[key].send_with(&message, WhenFull::Close) {
///                 println!("it did not get its answer: {error}");
///             }
///         }
///         Selected::Closed(closed) => println!("{closed}"),
///     }
/// }
/// # Ok(())
/// # };
/// # assert!(matches!(run(), Err(threadwire::Error::Stopped)));
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Default)]
pub struct Select {
    members: Slab<Connection>,
    ready: Rc<Ready>,
    servers: Vec<Server>,
    /// How many things in a row were those of the first one that is ready.
    run: usize,
    /// The connection whose message was received last, and is dealt with by now.
    last: Option<usize>,
    quick: Quick,
}

/// A connection's place in a [`Select`]. It may be given to another one when that connection has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(usize);

/// An event of a connection in a [`Select`].
#[derive(Debug)]
pub enum Selected {
    /// The connection is new, from a server.
    Connected,
    /// A message has arrived.
    Message(OwnedMessage),
    /// The connection has ended, and is not in the `Select` any more.
    Closed(Arc<Closed>),
}

/// Connections that have something to receive, in the order in which it came.
#[derive(Default)]
struct Ready {
    queue: RefCell<VecDeque<usize>>,
    /// How often the program has asked for the next thing.
    asks: Cell<u64>,
}

/// A connection's slot among them.
pub(super) struct SelectSlot {
    ready: Rc<Ready>,
    key: usize,
    is_queued: Cell<bool>,
}

impl SelectSlot {
    #[inline]
    pub(super) fn announce(&self) {
        if !self.is_queued.replace(true) {
            self.ready.queue.borrow_mut().push_back(self.key);
        }
    }

    pub(super) fn asks(&self) -> u64 {
        self.ready.asks.get()
    }

    #[inline]
    pub(super) fn served(&self, is_queued: bool) {
        self.is_queued.set(is_queued);
    }
}

impl Select {
    /// Without connections.
    pub fn new() -> Select {
        Select::default()
    }

    /// Takes a connection in. What has arrived for it already comes with the next calls.
    pub fn add(&mut self, connection: Connection) -> Key {
        let entry = self.members.vacant_entry();
        let key = entry.key();
        let slot = SelectSlot { ready: Rc::clone(&self.ready), key, is_queued: Cell::new(false) };
        if connection.has_something() {
            slot.announce();
        }
        connection.inbox.set_select_slot(Some(slot));
        entry.insert(connection);
        Key(key)
    }

    /// Takes a connection out; it goes on by itself.
    pub fn remove(&mut self, key: Key) -> Option<Connection> {
        let connection = self.members.try_remove(key.0)?;
        connection.inbox.set_select_slot(None);
        let mut ready = self.ready.queue.borrow_mut();
        if ready.front() == Some(&key.0) {
            self.run = 0;
        }
        ready.retain(|ready| *ready != key.0);
        drop(ready);
        Some(connection)
    }

    /// Takes in the connections that a server accepts, from now on.
    pub fn serve(&mut self, server: Server) {
        self.servers.push(server);
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The connection with that key, if it is there.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Connection> {
        self.members.get_mut(key.0)
    }

    /// All connections with their keys.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut Connection)> {
        self.members.iter_mut().map(|(key, connection)| (Key(key), connection))
    }

    /// The next thing that happens, to whichever connection; the thread's loop turns while nothing does. `None` if there is
    /// nothing to wait for: neither a connection nor a server.
    ///
    /// Connections with much to say take turns, 16 messages each: together these are answered in one write. A connection that
    /// ends is taken out by that, in whatever way it did. Fails with [`Error::Stopped`] if the thread's worker is stopped.
    pub fn recv(&mut self) -> Result<Option<(Key, Selected)>, Error> {
        self.recv_until(None)
    }

    /// As [`recv`](Select::recv), but fails with [`TimeoutKind::Receive`] if nothing happens within `timeout`: see
    /// [`Error::is_timeout`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<(Key, Selected)>, Error> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    fn recv_until(&mut self, until: Option<Instant>) -> Result<Option<(Key, Selected)>, Error> {
        self.ready.asks.set(self.ready.asks.get() + 1);
        if let Some(last) = self.last.take().and_then(|last| self.members.get(last)) {
            last.catch_up();
        }
        loop {
            if self.has_something() {
                self.quick.count()?;
                if let Some(next) = self.next() {
                    return Ok(Some(next));
                }
            }
            if self.members.is_empty() && self.servers.is_empty() {
                return Ok(None);
            }
            self.servers.iter().try_for_each(|server| server.start(None))?;
            if !EventLoop::current().wait(until, || self.has_something())? {
                return Err(Error::Timeout(TimeoutKind::Receive));
            }
        }
    }

    #[inline]
    fn has_something(&self) -> bool {
        !self.ready.queue.borrow().is_empty() || self.servers.iter().any(Server::has_some)
    }

    fn next(&mut self) -> Option<(Key, Selected)> {
        if self.run == 0
            && let Some(connection) = self.servers.iter().find_map(Server::take)
        {
            return Some((self.add(connection), Selected::Connected));
        }
        let key = *self.ready.queue.borrow().front()?;
        let connection = &self.members[key];
        let message = connection.take();
        let goes_on = connection.has_something();
        self.run += 1;
        if !goes_on || self.run >= LONGEST_RUN {
            self.run = 0;
            let mut ready = self.ready.queue.borrow_mut();
            ready.pop_front();
            if goes_on {
                // The others first.
                ready.push_back(key);
            }
        }
        connection.inbox.served(goes_on);
        if let Some(message) = message {
            self.last = Some(key);
            return Some((Key(key), Selected::Message(message)));
        }
        let closed = connection.closed()?;
        self.remove(Key(key));
        Some((Key(key), Selected::Closed(closed)))
    }
}

impl Drop for Select {
    fn drop(&mut self) {
        // All before the first one: the drop of each may wait for its end.
        self.members.iter().for_each(|(_, connection)| connection.say_goodbye());
    }
}

impl Index<Key> for Select {
    type Output = Connection;

    fn index(&self, key: Key) -> &Connection {
        &self.members[key.0]
    }
}

impl IndexMut<Key> for Select {
    fn index_mut(&mut self, key: Key) -> &mut Connection {
        &mut self.members[key.0]
    }
}

impl fmt::Debug for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("connections", &self.len()).finish_non_exhaustive()
    }
}
