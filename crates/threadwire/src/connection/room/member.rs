//! Membership of a connection in rooms: where it sits, and how it takes what is sent to all of them.

use std::rc::Rc;

use threadwire_proto::SendOptions;
use threadwire_proto::deflate::Sharing;

use super::branch::{Branch, Seat};
use super::table::Rooms;
use crate::Connection;
use crate::WhenFull;
use crate::connection::flags::Flags;
use threadwire_core::session::overflow::{FrameKind, Overflow};
use threadwire_core::session::send::Framed;

/// What has become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// It was written, or waits.
    Delivered,
    /// There was no room for it.
    Dropped,
    /// It could not be sent at all.
    Skipped,
}

/// Taking messages. Nothing here calls back into the program.
impl Connection {
    /// Writes frames that all members share, from where they lie, if that is possible right away. How many bytes have left:
    /// none if it is not.
    #[inline]
    pub(crate) fn offer(&self, bytes: &[u8]) -> usize {
        let written = self.0.session.borrow_mut().write_shared(bytes, &self.0.registry.buffers);
        match written {
            Ok(written) => written,
            Err(error) => {
                self.write_failed(error);
                0
            }
        }
    }

    /// What a message must be compressed like for this member to share it.
    #[inline]
    pub(crate) fn sharing(&self) -> Option<Sharing> {
        self.0.session.borrow().sharing()
    }

    /// What was compressed for many is offered to this member.
    pub(crate) fn sent_shared(&self) {
        self.0.session.borrow_mut().sent_shared();
    }

    /// Takes the rest of a frame that has begun to leave.
    pub(crate) fn give_rest(&self, rest: &[u8]) {
        self.0.session.borrow_mut().append_framed(rest, false, &self.0.registry.buffers);
        self.mark_dirty();
    }

    /// Takes one frame, subject to the policy, which can't be to wait.
    pub(crate) fn give(&self, framed: Framed<'_>, when_full: Option<WhenFull>) -> Given {
        let when_full = when_full.unwrap_or(self.0.site.config.when_full);
        if !self.is_open() {
            return Given::Skipped;
        }
        let length = framed.payload.len();
        if self.0.session.borrow().is_mid_message() {
            return self.give_behind(framed, when_full);
        }
        if !self.has_room(length) && !self.finds_room(length) {
            match self.overflow(FrameKind::Message, length, when_full) {
                Overflow::DropOldest | Overflow::Take => {}
                overflow => return self.refused(overflow),
            }
        }
        let buffers = &self.0.registry.buffers;
        let droppable = when_full == WhenFull::DropOldest;
        let sent = self.0.session.borrow_mut().send_framed(framed, droppable, buffers);
        self.mark_dirty();
        if sent { Given::Delivered } else { Given::Skipped }
    }

    /// Takes a frame for which there is no turn now, as a message in fragments is under way: it may wait if that is
    /// somebody else's, as it does when the program sends it.
    fn give_behind(&self, framed: Framed<'_>, when_full: WhenFull) -> Given {
        if !self.has(Flags::SHARED) || !self.is_mid_message_of_another() {
            return Given::Skipped;
        }
        let length = framed.payload.len();
        if !self.has_room(length) {
            // Messages that wait for the end of another message are not dropped to make room.
            let when_full = if when_full == WhenFull::DropOldest { WhenFull::DropNewest } else { when_full };
            return self.refused(self.overflow(FrameKind::Message, length, when_full));
        }
        let droppable = when_full == WhenFull::DropOldest;
        let options = SendOptions { droppable, compress: framed.compress };
        match self.hold(framed.opcode, true, framed.payload, options) {
            Ok(()) => Given::Delivered,
            Err(_) => Given::Skipped,
        }
    }

    /// There was no room: a room counts what it could not deliver, whatever the policy.
    fn refused(&self, overflow: Overflow) -> Given {
        if overflow != Overflow::DropNewest {
            self.0.session.borrow_mut().count_dropped();
        }
        self.mark_dirty();
        Given::Dropped
    }

    /// Has what was gathered in this connection's rooms leave, before something else does.
    #[inline]
    pub(in crate::connection) fn flush_rooms(&self) {
        if self.has(Flags::IN_ROOMS) && self.rooms().is_some_and(|rooms| rooms.has_gathered()) {
            self.flush_own_rooms();
        }
    }

    #[cold]
    fn flush_own_rooms(&self) {
        while let Some(branch) = self.find_seat(|seat| seat.branch.has_gathered()) {
            branch.flush(&self.0.registry.buffers);
        }
    }

    /// The end: leaves all rooms.
    pub(in crate::connection) fn leave_rooms(&self) {
        if let Some(rooms) = self.rooms() {
            rooms.leave_rooms(self);
        }
    }
}

/// Where it sits.
impl Connection {
    /// What no other connection of this thread has as long as this one is there.
    #[inline]
    pub(crate) fn address(&self) -> usize {
        Rc::as_ptr(&self.0).addr()
    }

    /// The rooms of its thread, if it is in any. Held by its seats, as a connection may outlive the thread's own storage.
    fn rooms(&self) -> Option<Rc<Rooms>> {
        self.0.extras.borrow().as_ref()?.seats.first().map(|seat| Rc::clone(&seat.rooms))
    }

    fn find_seat(&self, mut is_it: impl FnMut(&Seat) -> bool) -> Option<Rc<Branch>> {
        let extras = self.0.extras.borrow();
        let seat = extras.as_ref()?.seats.iter().find(|seat| is_it(seat))?;
        Some(Rc::clone(&seat.branch))
    }

    /// A room that it is in.
    pub(crate) fn last_room(&self) -> Option<Rc<Branch>> {
        let extras = self.0.extras.borrow();
        extras.as_ref()?.seats.last().map(|seat| Rc::clone(&seat.branch))
    }

    /// Its place in a room, if it is a member.
    pub(crate) fn place_in(&self, branch: &Branch) -> Option<usize> {
        let extras = self.0.extras.borrow();
        let mut seats = extras.as_ref()?.seats.iter();
        seats.find(|seat| std::ptr::eq(&*seat.branch, branch)).map(|seat| seat.place)
    }

    /// Becomes a member. In how many rooms it is now.
    pub(crate) fn take_seat(&self, rooms: &Rc<Rooms>, branch: Rc<Branch>, place: usize) -> usize {
        self.set(Flags::IN_ROOMS, true);
        let mut extras = self.0.extras.borrow_mut();
        let seats = &mut extras.get_or_insert_default().seats;
        seats.push(Seat { rooms: Rc::clone(rooms), branch, place });
        seats.len()
    }

    /// Another place in the same room.
    pub(crate) fn move_seat(&self, branch: &Rc<Branch>, place: usize) {
        let mut extras = self.0.extras.borrow_mut();
        let seats = extras.iter_mut().flat_map(|extras| &mut extras.seats);
        for seat in seats.filter(|seat| Rc::ptr_eq(&seat.branch, branch)) {
            seat.place = place;
        }
    }

    /// Is a member no more: the place it had, and in how many rooms it is now.
    pub(crate) fn give_up_seat(&self, branch: &Rc<Branch>) -> Option<(usize, usize)> {
        let mut extras = self.0.extras.borrow_mut();
        let seats = &mut extras.as_mut()?.seats;
        let index = seats.iter().position(|seat| Rc::ptr_eq(&seat.branch, branch))?;
        let seat = seats.swap_remove(index);
        let left = seats.len();
        drop(extras);
        if left == 0 {
            self.set(Flags::IN_ROOMS, false);
        }
        Some((seat.place, left))
    }
}
