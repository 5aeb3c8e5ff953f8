//! The rooms of one thread.
//!
//! What is sent to them is gathered until the loop turns, and then leaves in one write for each member. Whatever else
//! would reach a member before, or changes who is one, flushes first: that is how everything stays in order.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use threadwire_proto::OpCode;
use threadwire_worker::{EventLoop, Ready, Source, Token};

use super::branch::Branch;
use super::delivery::Part;
use super::homes::Core;
use crate::local::Local;
use crate::{Connection, WhenFull};

#[derive(Default)]
pub(crate) struct Rooms {
    branches: RefCell<HashMap<u64, Rc<Branch>>>,
    /// Those for which something was gathered, in that order.
    gathered: RefCell<Vec<Rc<Branch>>>,
    has_gathered: Cell<bool>,
    /// Whether the loop will flush them.
    is_awaited: Cell<bool>,
    /// How many connections are in several rooms: only they can see in which order rooms are flushed.
    shared: Cell<usize>,
}

impl Rooms {
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

impl Local {
    /// Takes a member into a room.
    pub(super) fn join_room(&self, core: &Arc<Core>, ws: &Connection, when_full: Option<WhenFull>) {
        if !ws.is_open() {
            return;
        }
        // It gets nothing that was sent before.
        self.flush_rooms();
        let branch = self.rooms.branch(core.id).unwrap_or_else(|| {
            let branch = Rc::new(Branch::new(core));
            self.rooms.branches.borrow_mut().insert(core.id, Rc::clone(&branch));
            branch
        });
        if let Some(place) = ws.place_in(&branch) {
            return branch.set_policy(place, when_full);
        }
        let place = branch.add(ws.clone(), when_full);
        if ws.take_seat(branch, place) == 2 {
            self.rooms.shared.update(|count| count + 1);
        }
    }

    /// Takes a member out of a room. It gets all that was sent before.
    pub(super) fn leave_room(&self, id: u64, ws: &Connection) {
        if let Some(branch) = self.rooms.branch(id) {
            branch.flush(self);
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
            self.rooms.shared.update(|count| count - 1);
        }
        if let Some(moved) = branch.remove(place) {
            moved.move_seat(branch, place);
        }
        if branch.is_empty() {
            let id = branch.core().id;
            let mut branches = self.rooms.branches.borrow_mut();
            if branches.get(&id).is_some_and(|known| Rc::ptr_eq(known, branch)) {
                branches.remove(&id);
            }
        }
    }

    /// The room is no more.
    pub(super) fn forget_room(&self, id: u64) {
        let Some(branch) = self.rooms.branch(id) else { return };
        branch.flush(self);
        while let Some(ws) = branch.last() {
            self.part(&branch, &ws);
        }
    }

    /// Gathers a message for a room's members on this thread, or does with it at once what has to be done.
    pub(super) fn gather(
        self: &Rc<Self>,
        id: u64,
        frame: (&[u8], &[u8]),
        opcode: OpCode,
        except: Option<&Connection>,
        part: Part,
    ) {
        let Some(branch) = self.rooms.branch(id) else { return };
        if !branch.has_gathered() {
            if self.rooms.shared.get() > 0 {
                // A connection in both rooms gets this behind what is gathered for the other.
                self.flush_rooms();
            }
            self.rooms.gathered.borrow_mut().push(Rc::clone(&branch));
            self.rooms.has_gathered.set(true);
        }
        let is_much = branch.gather(frame, opcode, except, part, self);
        let event_loop = EventLoop::current();
        if is_much || event_loop.is_stopping() {
            return branch.flush(self);
        }
        if !self.rooms.is_awaited.replace(true) {
            let token = event_loop.attach_idle(|token| Rc::new(Flush { token, local: Rc::clone(self) }));
            event_loop.flush_later(token);
        }
    }

    /// Hands out what was gathered, in all rooms of this thread.
    pub(crate) fn flush_rooms(&self) {
        if !self.rooms.has_gathered.replace(false) {
            return;
        }
        let mut gathered = self.rooms.gathered.take();
        for branch in gathered.drain(..) {
            branch.flush(self);
        }
        // For the next time.
        self.rooms.gathered.replace(gathered);
    }
}

/// Has the loop flush the rooms before it polls. It is attached only while something is gathered, so that it never
/// holds up the end of a loop.
struct Flush {
    token: Token,
    local: Rc<Local>,
}

impl Flush {
    fn now(&self) {
        EventLoop::current().detach_idle(self.token);
        self.local.rooms.is_awaited.set(false);
        self.local.flush_rooms();
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
