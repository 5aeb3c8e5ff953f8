//! Messages to many connections, wherever they live.
//!
//! Members lie in a list on their own thread, so that delivery takes no lock. A message is framed once;
//! each worker with members gets it by one call, gathers it with others, and writes the same bytes to every socket.

pub(crate) mod branch;
mod compressed;
pub(crate) mod delivery;
pub(crate) mod member;
mod road;
pub(crate) mod table;
mod threads;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use threadwire_proto::Compress;
use threadwire_proto::frame::Header;
use threadwire_worker::EventLoop;

use crate::{AsMessage, Connection, Handle, Message, WhenFull};
use branch::Letter;
use compressed::Deflated;
use delivery::Part;
pub use delivery::{Delivery, Report};
use road::Traffic;
use table::Rooms;
use threads::{Core, Stay};

/// Connections that get the same messages: a chat room, a feed, everybody who is online. A cheap clone is the same room;
/// it is `Send` and `Sync`, and its members may live on any workers.
///
/// A message is framed once, whatever the number of members, and waits for none of them: [`WhenFull`] says what happens to
/// a member that reads too slowly, and [`Delivery::report`] how many there were.
///
/// # Order
///
/// What one thread sends to rooms arrives at each member in that order. So does what it sends to a member itself, on the
/// member's own thread, by [`Connection::send`] or a [`Handle`]: before and behind the messages of rooms as they were sent.
/// From other threads, what a handle sends takes another way than what is sent to a room, and may overtake it. Messages of
/// different threads come in some order, and not all members need see them in the same one.
///
/// As with [`Connection::send`], messages are gathered: all that is sent in one turn of the loop leaves to each member in
/// one write. It leaves sooner if it is much, or if something else is sent to a member.
///
/// # Members
///
/// A connection that ends is a member no more: [`Listener::on_close`](crate::Listener::on_close) finds it gone already.
/// Connections don't keep a room alive, nor does a room keep connections; a listener may hold the room that its connection
/// is in.
///
/// ```
/// use threadwire::{Reply, Connection, Error, Listener, Message, Room, Server};
///
/// struct Chat(Room);
///
/// impl Listener for Chat {
///     fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
///         self.0.send("somebody has come in");
///         self.0.join(ws); // and gets all that is sent from now on
///         Ok(())
///     }
///
///     fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
///         self.0.send_except(ws, message);
///         Ok(())
///     }
///
///     fn on_close(&mut self, _ws: &Connection, _closed: &threadwire::Closed) {
///         self.0.send("somebody has left");
///     }
/// }
///
/// let room = Room::new();
/// let members = room.clone();
/// let server = Server::bind("127.0.0.1:0")?.workers(2).serve(move |_| Reply::with(Chat(members.clone())))?;
/// // From any thread:
/// room.send("the server is up");
/// # server.stop();
/// # server.join()?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Room(Arc<Door>);

/// The room as the program holds it. Threads that have members hold the core alone.
struct Door(Arc<Core>);

/// Who does not get a message: see [`Room::send_except`].
#[derive(Clone, Copy, Debug)]
pub struct Except<'a>(Excepted<'a>);

#[derive(Clone, Copy, Debug)]
enum Excepted<'a> {
    Nobody,
    Connection(&'a Connection),
    Handle(&'a Handle),
}

impl<'a> From<&'a Connection> for Except<'a> {
    fn from(connection: &'a Connection) -> Except<'a> {
        Except(Excepted::Connection(connection))
    }
}

impl<'a> From<&'a Handle> for Except<'a> {
    fn from(handle: &'a Handle) -> Except<'a> {
        Except(Excepted::Handle(handle))
    }
}

impl Room {
    /// An empty room. For each worker with members at most 16 MiB are on their way from other threads; past that, messages are dropped
    /// for the members there, as with [`bounded`](Room::bounded) and [`WhenFull::Error`].
    pub fn new() -> Room {
        Room::bounded(road::LIMIT, WhenFull::Error)
    }

    /// An empty room with a limit for the bytes that are on their way to each worker with members, from other threads: each message counts
    /// with its payload and 256 bytes until the worker has gathered it for its members, where [their own limits](crate::Config::max_buffered)
    /// begin. A message of any size goes where nothing is on its way. `when_full` says what happens where a worker is so far behind:
    ///
    /// - [`DropOldest`](WhenFull::DropOldest): the oldest messages on their way there are dropped, and the new one goes;
    /// - [`Wait`](WhenFull::Wait): [`send`](Room::send) waits, while the loop of its thread goes on. In a callback it waits for 10 s at most
    ///   without the worker taking anything, and not at all where many wait already; then the message is dropped;
    /// - with any other the message is dropped.
    ///
    /// What is dropped is so for all members on that worker: [`Report::dropped`] counts them.
    ///
    /// ```
    /// use threadwire::{Room, WhenFull};
    ///
    /// let prices = Room::bounded(1 << 20, WhenFull::DropOldest); // who is late gets the newest
    /// assert!(prices.is_empty());
    /// ```
    pub fn bounded(limit: usize, when_full: WhenFull) -> Room {
        Room(Arc::new(Door(Arc::new(Core::new(Traffic { limit, when_full })))))
    }

    fn core(&self) -> &Arc<Core> {
        &self.0.0
    }

    /// Takes a connection in. It gets what is sent from now on. To join twice is to join once, and a connection may be in any
    /// number of rooms; one that is not open does not join.
    ///
    /// Where it does not read fast enough, [`Config::when_full`](crate::Config::when_full) says what happens, as with
    /// [`join_with`](Room::join_with).
    pub fn join(&self, ws: &Connection) {
        Rooms::current().join_room(self.core(), ws, None);
    }

    /// Takes a connection in, and says what happens to messages of this room for which it has
    /// [no room](crate::Config::max_buffered). A message for everybody waits for nobody: [`WhenFull::Wait`] drops it for this
    /// member, and so does [`WhenFull::Error`]; [`Report::dropped`] and [`Connection::dropped`] count it.
    ///
    /// For one that is a member already, it changes only that.
    ///
    /// ```
    /// use threadwire::{Connection, Room, WhenFull};
    ///
    /// /// Who is slow gets the newest prices, and not all of those before.
    /// fn watch(prices: &Room, ws: &Connection) {
    ///     prices.join_with(ws, WhenFull::DropOldest);
    /// }
    /// ```
    pub fn join_with(&self, ws: &Connection, when_full: WhenFull) {
        Rooms::current().join_room(self.core(), ws, Some(when_full));
    }

    /// Takes a connection in from any thread, if it is open when that reaches it. It gets what this thread sends to the room
    /// from now on. (For a [policy](Room::join_with) of its own, [`Handle::run`] does that on its thread.)
    ///
    /// ```
    /// use threadwire::{Connection, Message, Room, connect};
    /// # use threadwire::{Reply, Server};
    /// # let server = Server::bind("127.0.0.1:0")?.serve(|_| Reply::with(|_: &Connection, _: Message<'_>| Ok(())))?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let ws = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?;
    /// let (room, handle) = (Room::new(), ws.handle());
    /// let sent = std::thread::spawn(move || {
    ///     room.join_handle(&handle);
    ///     room.send("welcome")
    /// });
    /// threadwire::wait_until(None, || sent.is_finished())?;
    /// assert_eq!(sent.join().unwrap().report()?.delivered, 1);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn join_handle(&self, handle: &Handle) {
        // Messages are sent there from now on, and come behind this.
        // Between two threads it is in no room.
        let Some(worker) = handle.worker() else { return };
        let stay = Stay::new(self.core(), &worker);
        handle.post(move |ws| Rooms::current().join_room(stay.core(), ws, None));
    }

    /// Lets a connection go. It gets what was sent before.
    pub fn leave(&self, ws: &Connection) {
        Rooms::current().leave_room(self.core().id, ws);
    }

    /// Lets a connection go, from any thread. It gets what this thread has sent before, and nothing that this thread sends
    /// from now on.
    pub fn leave_handle(&self, handle: &Handle) {
        let id = self.core().id;
        handle.post(move |ws| Rooms::current().leave_room(id, ws));
    }

    /// How many members there are, as far as their threads have said so.
    pub fn len(&self) -> usize {
        self.core().members.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends a message to all members, from any thread. It waits for nobody, unless the room is [said](Room::bounded) to wait for workers that
    /// are far behind, and it does not fail: what became of it is in the
    /// [report](Delivery::report), for those who want to know.
    pub fn send(&self, message: impl AsMessage) -> Delivery {
        self.broadcast(Excepted::Nobody, message.as_message(), Compress::Auto)
    }

    /// Sends a message to all members, and chooses whether it is compressed for those whose peers agreed to that: once for all
    /// of them that have the same settings.
    pub fn send_with(&self, message: impl AsMessage, compress: Compress) -> Delivery {
        self.broadcast(Excepted::Nobody, message.as_message(), compress)
    }

    /// Sends a message to all members but one, say the one it came from: a `&Connection`, or a [`&Handle`](Handle) on any
    /// thread. The report does not count it.
    pub fn send_except<'b>(&self, except: impl Into<Except<'b>>, message: impl AsMessage) -> Delivery {
        self.broadcast(except.into().0, message.as_message(), Compress::Auto)
    }

    /// What has become of all messages so far: the sum of all reports.
    pub fn totals(&self) -> Report {
        self.core().totals.report()
    }

    fn broadcast(&self, except: Excepted<'_>, message: Message<'_>, compress: Compress) -> Delivery {
        let (core, roads) = (self.core(), self.core().roads());
        let (delivery, mut parts) = Delivery::new(roads.len());
        let (opcode, payload) = (message.opcode(), message.as_bytes());
        let header = Header { fin: true, rsv: 0, opcode, mask: None, length: payload.len() as u64 }.encode();
        let (id, traffic) = (core.id, core.traffic);
        if traffic.when_full == WhenFull::Wait {
            let others = roads.iter().filter(|road| !road.worker.is_current());
            // Where that comes to nothing, there is no room below either.
            others.for_each(|road| road.wait_for_room(payload.len(), traffic.limit));
        }
        let mut is_here = false;
        let mut shared = None;
        let deflated = (roads.len() > 1 && compress != Compress::Never).then(Arc::<Deflated>::default);
        for road in roads.iter() {
            let worker = &road.worker;
            if worker.is_current() {
                is_here = true;
                continue;
            }
            let Some(part) = parts.next() else { break };
            let shared = shared.get_or_insert_with(|| Arc::<[u8]>::from(payload));
            let dropped = |part: Part| {
                let dropped = road.members.load(Ordering::Relaxed) as u64;
                let report = Report { dropped, ..Report::default() };
                core.totals.add(report);
                part.finish(report);
            };
            let Some(shipment) = road.take(shared, part, traffic, dropped) else { continue };
            let except = match except {
                Excepted::Handle(handle) if handle.worker().as_ref() == Some(worker) => Some(handle.clone()),
                _ => None,
            };
            let deflated = deflated.clone();
            // Refused, it counts as dealt with: a worker that has ended has no members.
            let _ = worker.post(move |_| {
                let except = except.and_then(|handle| handle.here());
                shipment.arrive(|payload, part| {
                    let letter = Letter { opcode, header: &header, payload, compress, deflated };
                    Rooms::current().gather(id, letter, except.as_ref(), part);
                });
            });
        }
        if is_here && let Some(part) = parts.next() {
            let letter = Letter { opcode, header: &header, payload, compress, deflated };
            gather_here(id, letter, except, part);
        }
        delivery
    }
}

fn gather_here(id: u64, letter: Letter<'_>, except: Excepted<'_>, part: Part) {
    let handled;
    let except = match except {
        Excepted::Nobody => None,
        Excepted::Connection(ws) => Some(ws),
        Excepted::Handle(handle) => {
            handled = handle.here();
            handled.as_ref()
        }
    };
    Rooms::current().gather(id, letter, except, part);
}

impl Drop for Door {
    fn drop(&mut self) {
        let id = self.0.id;
        for road in self.0.roads().iter() {
            // Never at once: this may be a part of whatever the program drops. A worker that has ended has no members.
            let _ = road.worker.post(move |_: &EventLoop| Rooms::current().forget_room(id));
        }
    }
}

impl Default for Room {
    fn default() -> Room {
        Room::new()
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("len", &self.len())
            .field("totals", &self.totals())
            .finish_non_exhaustive()
    }
}
