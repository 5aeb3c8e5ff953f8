//! The rooms of one thread.
//!
//! What is sent to them is gathered until the loop turns, and then leaves in one write for each member. Whatever else
//! would reach a member before, or changes who is one, flushes first: that is how everything stays in order.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use threadwire_worker::{EventLoop, Ready, Source, Token};

use super::branch::{Branch, Letter};
use super::delivery::Part;
use super::threads::Core;
use crate::{Connection, WhenFull};
use threadwire_core::session::buffers::Buffers;

#[derive(Default)]
pub(crate) struct Rooms {
    buffers: Rc<Buffers>,
    branches: RefCell<HashMap<u64, Rc<Branch>>>,
    /// Those for which something was gathered, in that order.
    gathered: RefCell<Vec<Rc<Branch>>>,
    has_gathered: Cell<bool>,
    /// Whether the loop will flush them.
    is_awaited: Cell<bool>,
    /// How many connections are in several rooms: only they can see in which order rooms are flushed.
    shared: Cell<usize>,
}

thread_local! {
    static ROOMS: Rc<Rooms> = Rc::new(Rooms { buffers: Buffers::current(), ..Rooms::default() });
}

impl Rooms {
    /// This thread's.
    pub(crate) fn current() -> Rc<Rooms> {
        ROOMS.try_with(Rc::clone).unwrap_or_default()
    }

    /// Whether anything was gathered.
    #[inline]
    pub(crate) fn has_gathered(&self) -> bool {
        self.has_gathered.get()
    }

    /// The room's members on this thread, if there are any.
    fn branch(&self, id: u64) -> Option<Rc<Branch>> {
        self.branches.borrow().get(&id).cloned()
    }
}

impl Rooms {
    /// Takes a member into a room.
    pub(super) fn join_room(self: &Rc<Self>, core: &Arc<Core>, ws: &Connection, when_full: Option<WhenFull>) {
        if !ws.is_open() {
            return;
        }
        // A new member gets nothing that was sent before.
        self.flush_rooms();
        let branch = self.branch(core.id).unwrap_or_else(|| {
            let branch = Rc::new(Branch::new(core));
            self.branches.borrow_mut().insert(core.id, Rc::clone(&branch));
            branch
        });
        if let Some(place) = ws.place_in(&branch) {
            return branch.set_policy(place, when_full);
        }
        let place = branch.add(ws.clone(), when_full);
        if ws.take_seat(self, branch, place) == 2 {
            self.shared.update(|count| count + 1);
        }
    }

    /// Takes a member out of a room. It gets all that was sent before.
    pub(super) fn leave_room(&self, id: u64, ws: &Connection) {
        if let Some(branch) = self.branch(id) {
            branch.flush(&self.buffers);
            self.part(&branch, ws);
        }
    }

    /// Takes a connection that ends out of its rooms.
    pub(crate) fn leave_rooms(&self, ws: &Connection) {
        while let Some(branch) = ws.last_room() {
            self.part(&branch, ws);
        }
    }

    fn part(&self, branch: &Rc<Branch>, ws: &Connection) {
        let Some((place, rooms_left)) = ws.give_up_seat(branch) else { return };
        if rooms_left == 1 {
            self.shared.update(|count| count - 1);
        }
        if let Some(moved) = branch.remove(place) {
            moved.move_seat(branch, place);
        }
        if branch.is_empty() {
            let id = branch.core().id;
            let mut branches = self.branches.borrow_mut();
            if branches.get(&id).is_some_and(|known| Rc::ptr_eq(known, branch)) {
                branches.remove(&id);
            }
        }
    }

    /// The room is no more.
    pub(super) fn forget_room(&self, id: u64) {
        let Some(branch) = self.branch(id) else { return };
        branch.flush(&self.buffers);
        while let Some(ws) = branch.last() {
            self.part(&branch, &ws);
        }
    }

    /// Gathers a message for a room's members on this thread, or does with it at once what has to be done.
    pub(super) fn gather(
        self: &Rc<Self>,
        id: u64,
        letter: Letter<'_>,
        except: Option<&Connection>,
        part: Part,
    ) {
        let Some(branch) = self.branch(id) else { return };
        if !branch.has_gathered() {
            if self.shared.get() > 0 {
                // A connection in both rooms gets this behind what is gathered for the other.
                self.flush_rooms();
            }
            self.gathered.borrow_mut().push(Rc::clone(&branch));
            self.has_gathered.set(true);
        }
        let is_much = branch.gather(letter, except, part, &self.buffers);
        let event_loop = EventLoop::current();
        // A loop that ends may look at no new source any more.
        if is_much || event_loop.is_stopping() {
            return branch.flush(&self.buffers);
        }
        if !self.is_awaited.replace(true) {
            let token = event_loop.attach_idle(|token| Rc::new(Flush { token, rooms: Rc::clone(self) }));
            event_loop.flush_later(token);
        }
    }

    /// Hands out what was gathered, in all rooms of this thread.
    pub(crate) fn flush_rooms(&self) {
        if !self.has_gathered.replace(false) {
            return;
        }
        let mut gathered = self.gathered.take();
        for branch in gathered.drain(..) {
            branch.flush(&self.buffers);
        }
        // For the next time.
        self.gathered.replace(gathered);
    }
}

/// Has the loop flush the rooms before it polls. It is attached only while something is gathered, so that it never
/// holds up the end of a loop.
struct Flush {
    token: Token,
    rooms: Rc<Rooms>,
}

impl Flush {
    fn now(&self) {
        EventLoop::current().detach_idle(self.token);
        self.rooms.is_awaited.set(false);
        self.rooms.flush_rooms();
    }
}

impl Source for Flush {
    fn ready(self: Rc<Self>, _ready: Ready) {}

    fn flush(self: Rc<Self>) {
        self.now();
    }

    fn stop(self: Rc<Self>) {
        self.now();
    }

    fn abandon(self: Rc<Self>) {
        self.now();
    }

    fn name(&self) -> Cow<'static, str> {
        "what was sent to rooms".into()
    }
}

#[cfg(test)]
mod tests {
    use threadwire_worker::update;

    use super::*;
    use crate::connection::room::Room;
    use crate::{Client, Message, Reply, Server};

    /// Two clients on this thread, which has no rooms.
    fn two(then: impl FnOnce(&Rooms, [Connection; 2])) {
        let ignore = |_: &Connection, _: Message<'_>| Ok(());
        let server = Server::bind("127.0.0.1:0").unwrap().serve(move |_| Reply::with(ignore)).unwrap();
        let client = || Client::new(&format!("ws://{}", server.local_addr().unwrap())).unwrap();
        let both = [(); 2].map(|()| client().connect(ignore).unwrap());
        then(&Rooms::current(), both);
        server.stop();
        server.join().unwrap();
    }

    #[test]
    fn nothing_is_left_of_a_room_that_is_dropped() {
        two(|rooms, [one, other]| {
            let (room, lobby) = (Room::new(), Room::new());
            for ws in [&one, &other] {
                room.join(ws);
                lobby.join(ws);
            }
            assert_eq!((rooms.branches.borrow().len(), rooms.shared.get()), (2, 2));
            drop(room);
            update().unwrap();
            assert_eq!((rooms.branches.borrow().len(), rooms.shared.get()), (1, 0));
            drop(lobby);
            update().unwrap();
            assert!(rooms.branches.borrow().is_empty());
            assert!(one.last_room().is_none() && other.last_room().is_none());
        });
    }

    #[test]
    fn a_thread_without_members_gets_no_messages() {
        two(|rooms, [one, other]| {
            let room = Room::new();
            room.join(&one);
            room.join(&other);
            assert_eq!(room.core().roads().len(), 1);
            room.leave(&one);
            assert_eq!(room.core().roads().len(), 1);
            other.abort();
            other.wait_closed().unwrap();
            assert!(room.core().roads().is_empty() && rooms.branches.borrow().is_empty());
        });
    }

    #[test]
    fn a_loop_has_a_source_for_rooms_only_while_something_is_gathered() {
        two(|rooms, [one, other]| {
            let room = Room::new();
            room.join(&one);
            room.join(&other);
            let event_loop = EventLoop::current();
            let sources = event_loop.source_count();
            room.send("one");
            room.send_except(&one, "two");
            one.flush();
            room.send("three");
            assert_eq!(event_loop.source_count(), sources + 1);
            assert!(rooms.has_gathered());
            update().unwrap();
            assert_eq!(event_loop.source_count(), sources);
            assert!(!rooms.has_gathered());
            let branch = one.last_room().unwrap();
            assert!(branch.excepts_nobody());
        });
    }
}
