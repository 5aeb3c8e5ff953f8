//! Messages from other threads: the connection's handles, and the order in which their messages leave.
//!
//! A message that is sent in parts has the connection for itself until it is finished. Until then the frames of other
//! messages are held here; control frames pass.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use threadwire_proto::state::State;
use threadwire_proto::{Compress, OpCode, SendError, SendOptions};
use threadwire_worker::{EventLoop, Ready};

use super::flags::Flags;
use super::{Connection, WeakConnection};
use crate::connection::handle::lane::{Batch, LeftFrame};
use crate::connection::handle::{self, Handle};
use crate::{Closed, Error, WhenFull};
use threadwire_core::session::overflow::{FrameKind, Overflow};

/// Stands for the fragments that the connection's own thread sends.
const OWN: u64 = u64::MAX;

/// What a connection has that is shared with other threads.
pub(super) struct Sharing {
    handle: Handle,
    /// What was taken from the lane, and what is given in exchange for it.
    batch: Batch<handle::Call>,
    spare: Batch<handle::Call>,
    /// Whose message is under way, where it is one in parts.
    part_of: u64,
    held: VecDeque<Held>,
    /// Whether the last of them that is this thread's own is a message that was begun and not finished.
    own_goes_on: bool,
}

/// A frame that waits for another's message to be finished.
struct Held {
    opcode: OpCode,
    fin: bool,
    payload: Vec<u8>,
    part_of: u64,
    /// Whether it may be dropped to make room, and is compressed.
    options: SendOptions,
}

impl Held {
    /// What it counts for: what is empty waits, too.
    fn size(&self) -> usize {
        const OVERHEAD: usize = 14;
        self.payload.len() + OVERHEAD
    }
}

impl Sharing {
    fn new(handle: Handle) -> Sharing {
        let (batch, spare) = Default::default();
        Sharing { handle, batch, spare, part_of: 0, held: VecDeque::new(), own_goes_on: false }
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Takes what other threads have left, if all that was taken before is done.
    fn refill(&mut self) {
        if self.batch.ops.is_empty() {
            let spare = std::mem::take(&mut self.spare);
            let done = std::mem::replace(&mut self.batch, self.handle.lane().take(spare));
            self.spare = done.emptied();
        }
    }

    /// Whether other threads have left something that is not done.
    fn has_some(&self) -> bool {
        !self.batch.ops.is_empty() || self.handle.lane().has_some()
    }
}

impl Connection {
    /// A handle to this connection, for other threads. There is one for all: this is cheap from the second time on.
    pub fn handle(&self) -> Handle {
        if let Some(handle) = self.existing_handle() {
            return handle;
        }
        let handle = Handle::new(Arc::clone(&self.0.site.config));
        let session = self.0.session.borrow();
        let is_over = {
            let mut extras = self.0.extras.borrow_mut();
            let extras = extras.get_or_insert_default();
            extras.sharing = Some(Box::new(Sharing::new(handle.clone())));
            extras.is_over
        };
        self.set(Flags::SHARED, true);
        if is_over {
            let closed = self.closed().unwrap_or_else(|| Arc::new(Closed::new(session.closing(), None)));
            handle.lane().end(closed);
            return handle;
        }
        let weak = WeakConnection(Rc::downgrade(&self.0));
        handle.come_to_thread(self.0.registry.enter(handle.id(), weak));
        handle.lane().set_droppable(session.droppable());
        handle.lane().set_outside(session.buffered());
        if session.state() != State::Open {
            handle.lane().shut();
        }
        handle
    }

    pub(crate) fn existing_handle(&self) -> Option<Handle> {
        let extras = self.0.extras.borrow();
        Some(extras.as_ref()?.sharing.as_ref()?.handle.clone())
    }

    /// Does what was left in the lane, in a turn of the loop. It is taken out one by one: a call may wait, and what lies behind
    /// it is then done inside of that wait, as deep as waits may nest.
    pub(crate) fn serve_lane(&self) {
        /// As many calls may come while this goes on; others want their turn too.
        const ROUNDS: usize = 64;
        self.flush_rooms();
        for _ in 0..ROUNDS {
            let call = self.with_sharing(|sharing| {
                sharing.refill();
                self.pass_frames(sharing);
                sharing.batch.next_call()
            });
            self.publish(self.0.session.borrow().buffered());
            let goes_on = self.has_lane_work();
            match call.flatten() {
                Some(call) => {
                    if goes_on {
                        self.leave_lane_for_later();
                    }
                    threadwire_guard::contain("a call from another thread", || call(self));
                }
                None if goes_on => {}
                None => return self.settle(),
            }
        }
        self.leave_lane_for_later();
        self.settle();
    }

    /// Sends what was left in the lane before this thread sends something itself: the order of a handle's calls is kept. False
    /// if a call is in the way, whose turn comes with the loop's.
    pub(crate) fn pass_lane(&self) -> bool {
        if !self.has_lane_work() {
            return true;
        }
        self.flush_rooms();
        self.with_sharing(|sharing| {
            sharing.refill();
            self.pass_frames(sharing);
        });
        self.publish(self.0.session.borrow().buffered());
        self.mark_dirty();
        !self.has_lane_work()
    }

    /// Whether other threads have left something that is not done.
    fn has_lane_work(&self) -> bool {
        self.with_sharing(|sharing| sharing.has_some()).unwrap_or(false)
    }

    /// At the loop's next turn, be it one inside of a call's wait.
    fn leave_lane_for_later(&self) {
        self.set(Flags::LANE_LEFT, true);
        EventLoop::current().requeue(self.0.token, Ready::READABLE);
    }

    /// It is taken out meanwhile: writing may fail, and that is noted beside it.
    pub(super) fn with_sharing<R>(&self, work: impl FnOnce(&mut Sharing) -> R) -> Option<R> {
        let mut sharing = self.with_extras(|extras| extras.sharing.take())?;
        let result = work(&mut sharing);
        self.with_extras(|extras| extras.sharing.replace(sharing));
        Some(result)
    }

    /// Sends frames up to the next call.
    fn pass_frames(&self, sharing: &mut Sharing) {
        let mut batch = std::mem::take(&mut sharing.batch);
        let mut behind = batch.waiting();
        while let Some((frame, payload)) = batch.next_frame() {
            behind -= payload.len();
            self.pass_frame(sharing, frame, payload, behind);
        }
        sharing.batch = batch;
    }

    /// Sends a frame. `behind` it wait so many bytes that other threads have left: where the oldest make room, they count as well.
    fn pass_frame(&self, sharing: &mut Sharing, frame: LeftFrame, payload: &[u8], behind: usize) {
        let LeftFrame { opcode, fin, part_of, when_full, compress, .. } = frame;
        let kind = frame.kind();
        let options = SendOptions { compress, droppable: frame.is_droppable() };
        if kind != FrameKind::Control {
            let length = payload.len() + if when_full == WhenFull::DropOldest { behind } else { 0 };
            if !self.has_room(length) && !self.finds_room(length) {
                // The lane has accepted this message before; only its policy may drop it now.
                let overflow = match when_full {
                    WhenFull::DropNewest | WhenFull::DropOldest => {
                        self.overflow_beside(sharing, (kind, length), when_full)
                    }
                    _ => Overflow::Take,
                };
                if overflow == Overflow::DropNewest {
                    return;
                }
            }
            if !self.is_its_turn(sharing, part_of) {
                return self
                    .put_aside(sharing, Held { opcode, fin, payload: payload.to_vec(), part_of, options });
            }
        }
        self.send_for(sharing, opcode, fin, payload, part_of, options);
        if fin && !opcode.is_control() {
            self.pass_held(sharing);
        }
    }

    /// Keeps a frame until another's message is finished.
    fn put_aside(&self, sharing: &mut Sharing, held: Held) {
        self.0.extras.borrow_mut().get_or_insert_default().held_bytes += held.size();
        sharing.held.push_back(held);
    }

    /// Takes a frame that was kept.
    fn take_held(&self, sharing: &mut Sharing, place: usize) -> Option<Held> {
        let held = sharing.held.remove(place)?;
        self.0.extras.borrow_mut().get_or_insert_default().held_bytes -= held.size();
        Some(held)
    }

    /// Does what the policy says about a message for which there is no room.
    fn overflow_beside(
        &self,
        sharing: &mut Sharing,
        frame: (FrameKind, usize),
        when_full: WhenFull,
    ) -> Overflow {
        let beside = self.held_bytes();
        let overflow = self.0.session.borrow_mut().overflow(frame, when_full, beside, self.env());
        if overflow == Overflow::DropOldest {
            self.drop_held(sharing, frame.1);
        }
        overflow
    }

    /// Drops messages that are kept until there is room, as far as they may be dropped.
    fn drop_held(&self, sharing: &mut Sharing, length: usize) {
        while !self.has_room(length) {
            let oldest = sharing.held.iter().position(|held| held.options.droppable);
            if oldest.and_then(|oldest| self.take_held(sharing, oldest)).is_none() {
                break;
            }
            self.0.session.borrow_mut().count_dropped();
        }
    }

    /// The same where nothing of the lane is under way.
    #[cold]
    pub(super) fn drop_oldest_held(&self, length: usize) {
        self.with_sharing(|sharing| self.drop_held(sharing, length));
    }

    /// Sends a part of a message, on the connection's own thread.
    pub(crate) fn send_part(
        &self,
        opcode: OpCode,
        fin: bool,
        part: &[u8],
        part_of: u64,
        when_full: WhenFull,
    ) -> Result<(), Error> {
        self.flush_rooms();
        if !self.has_room(part.len()) {
            // Fragments are never dropped.
            self.make_room(OpCode::Continuation, fin, part.len(), when_full)?;
        }
        if !self.is_open() {
            return Err(Error::Closed);
        }
        let (when_full, compress) = (WhenFull::Error, Compress::Auto);
        let frame = LeftFrame { opcode, fin, length: part.len(), part_of, when_full, compress };
        self.with_sharing(|sharing| self.pass_frame(sharing, frame, part, 0));
        let gathered = self.0.session.borrow().buffered();
        self.publish(gathered);
        self.flush_soon(gathered);
        Ok(())
    }

    /// Whether a frame can be sent now.
    fn is_its_turn(&self, sharing: &Sharing, part_of: u64) -> bool {
        if !self.0.session.borrow().is_mid_message() {
            return true;
        }
        part_of != 0 && part_of == sharing.part_of
    }

    fn send_for(
        &self,
        sharing: &mut Sharing,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        part_of: u64,
        options: SendOptions,
    ) {
        let buffers = &self.0.registry.buffers;
        let sent = self.0.session.borrow_mut().send_frame(opcode, fin, payload, options, buffers);
        match sent {
            Ok(()) if opcode.is_control() => {}
            Ok(()) => sharing.part_of = if fin { 0 } else { part_of },
            Err(Error::Io(error)) => self.write_failed(error),
            // The connection has begun to close meanwhile.
            Err(error) => tracing::debug!(%error, "dropped a message from another thread"),
        }
    }

    /// A message is finished: sends those that have waited for that, as far as they can be.
    fn pass_held(&self, sharing: &mut Sharing) {
        loop {
            let is_mid = self.0.session.borrow().is_mid_message();
            let turn = sharing.held.iter().position(|held| !is_mid || held.part_of == sharing.part_of);
            let Some(held) = turn.and_then(|turn| self.take_held(sharing, turn)) else { return };
            let Held { opcode, fin, payload, part_of, options } = held;
            if part_of == OWN && !sharing.held.iter().any(|held| held.part_of == OWN) {
                // Later frames go straight to the connection.
                sharing.own_goes_on = false;
            }
            self.send_for(sharing, opcode, fin, &payload, part_of, options);
        }
    }

    /// How many bytes wait for another's message to be finished.
    pub(super) fn held_bytes(&self) -> usize {
        self.with_extras(|extras| Some(extras.held_bytes)).unwrap_or(0)
    }

    /// Whether the message that is under way is another thread's.
    #[cold]
    pub(super) fn is_mid_message_of_another(&self) -> bool {
        let part_of = self.with_sharing(|sharing| sharing.part_of).unwrap_or(0);
        part_of != 0 && part_of != OWN && self.0.session.borrow().is_mid_message()
    }

    /// Keeps a frame of this thread's own until the message of another thread is finished.
    #[cold]
    pub(super) fn hold(
        &self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        options: SendOptions,
    ) -> Result<(), SendError> {
        let held = self.with_sharing(|sharing| {
            match (sharing.own_goes_on, opcode == OpCode::Continuation) {
                (false, true) => return Err(SendError::NothingToContinue),
                (true, false) => return Err(SendError::MessageUnfinished),
                _ => {}
            }
            let is_whole = fin && opcode != OpCode::Continuation;
            let part_of = if is_whole { 0 } else { OWN };
            let options = SendOptions { droppable: options.droppable && is_whole, ..options };
            sharing.own_goes_on = !fin;
            self.put_aside(sharing, Held { opcode, fin, payload: payload.to_vec(), part_of, options });
            Ok(())
        });
        held.unwrap_or(Err(SendError::MessageUnfinished))
    }

    /// The last fragment of a message of this thread's own was sent.
    #[cold]
    pub(super) fn finished_own_message(&self) {
        self.with_sharing(|sharing| {
            sharing.part_of = 0;
            self.pass_held(sharing);
        });
    }

    /// Tells the handles how much waits.
    pub(super) fn publish(&self, buffered: usize) {
        let shared = self.with_sharing(|sharing| {
            let is_busy = !sharing.batch.ops.is_empty();
            (sharing.handle.clone(), sharing.batch.waiting().max(usize::from(is_busy)))
        });
        let Some((handle, taken)) = shared else { return };
        if !self.is_open() {
            handle.lane().shut();
        }
        handle.lane().set_droppable(self.0.session.borrow().droppable());
        handle.lane().set_outside(buffered + taken + self.held_bytes());
    }

    /// Tells other threads that the connection has ended.
    pub(super) fn end_sharing(&self, closed: Arc<Closed>) {
        {
            let mut extras = self.0.extras.borrow_mut();
            let extras = extras.get_or_insert_default();
            (extras.is_over, extras.held_bytes) = (true, 0);
        }
        let Some(handle) = self.existing_handle() else { return };
        self.0.registry.leave(handle.place());
        let left = self
            .with_sharing(|sharing| (std::mem::take(&mut sharing.batch), std::mem::take(&mut sharing.held)));
        handle.lane().end(Arc::clone(&closed));
        self.tell_watchers_of_the_end(&handle, &closed);
        self.tell_receivers_of_the_end(&closed);
        if let Some((batch, held)) = left {
            threadwire_guard::discard_all(batch.ops);
            threadwire_guard::discard(held);
        }
    }
}
