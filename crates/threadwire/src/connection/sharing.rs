//! What other threads want of the connection: its handles, and the order in which their messages leave.
//!
//! A message that is sent in parts has the connection for itself until it is finished. Until then the frames of other
//! messages are held here; control frames pass.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use threadwire_proto::state::State;
use threadwire_proto::{OpCode, SendError};

use super::{Connection, WeakConnection};
use crate::flow::Flow;
use crate::handle::lane::{Batch, Full, Op};
use crate::handle::{self, Handle};
use crate::{Closed, Error};

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
}

/// A frame that waits for another's message to be finished.
struct Held {
    opcode: OpCode,
    fin: bool,
    payload: Vec<u8>,
    part_of: u64,
}

impl Sharing {
    fn new(handle: Handle) -> Sharing {
        let (batch, spare) = Default::default();
        Sharing { handle, batch, spare, part_of: 0, held: VecDeque::new() }
    }

    /// How many bytes wait here.
    fn bytes(&self) -> usize {
        let held: usize = self.held.iter().map(|frame| frame.payload.len()).sum();
        held + self.batch.bytes.len() - self.batch.start
    }
}

impl Connection {
    /// A handle to this connection, for other threads. There is one for all: this is cheap from the second time on.
    pub fn handle(&self) -> Handle {
        if let Some(handle) = self.existing_handle() {
            return handle;
        }
        let link = self.0.link.borrow();
        let place = link.local().share(WeakConnection(Rc::downgrade(&self.0)));
        let handle = Handle::new(place, Arc::clone(&self.0.config));
        self.0.extras.borrow_mut().get_or_insert_default().sharing =
            Some(Box::new(Sharing::new(handle.clone())));
        self.0.flow.set(Flow { shared: true, ..self.0.flow.get() });
        handle.lane().set_outside(link.buffered());
        if self.0.reported.get() {
            link.local().unshare(place);
            handle.lane().end(Arc::new(Closed::new(link.closing(), None)));
        } else if link.state() != State::Open {
            handle.lane().shut();
        }
        handle
    }

    fn existing_handle(&self) -> Option<Handle> {
        let extras = self.0.extras.borrow();
        Some(extras.as_ref()?.sharing.as_ref()?.handle.clone())
    }

    /// Does what was left in the lane. It is taken out one by one: a call may wait, and what is left is then done inside of
    /// that wait.
    pub(crate) fn empty_lane(&self) {
        self.with_sharing(|sharing| {
            if sharing.batch.ops.is_empty() {
                let spare = std::mem::take(&mut sharing.spare);
                let done = std::mem::replace(&mut sharing.batch, sharing.handle.lane().take(spare));
                sharing.spare = done.emptied();
            }
        });
        loop {
            let call = self.with_sharing(|sharing| self.pass_frames(sharing)).flatten();
            let Some(call) = call else { break };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| call(self))) {
                tracing::error!(error = %Error::panicked(payload), "a call from another thread failed");
            }
        }
        self.mark_dirty();
        self.regulate(self.buffered());
    }

    /// It is taken out meanwhile: writing may fail, and that is noted beside it.
    fn with_sharing<R>(&self, work: impl FnOnce(&mut Sharing) -> R) -> Option<R> {
        let mut sharing = self.with_extras(|extras| extras.sharing.take())?;
        let result = work(&mut sharing);
        self.with_extras(|extras| extras.sharing.replace(sharing));
        Some(result)
    }

    /// Sends frames up to the next call, which is returned.
    fn pass_frames(&self, sharing: &mut Sharing) -> Option<handle::Call> {
        let mut batch = std::mem::take(&mut sharing.batch);
        let mut next_call = None;
        while let Some((op, payload)) = batch.next() {
            match op {
                Op::Frame { opcode, fin, part_of, full, .. } => {
                    self.pass_frame(sharing, opcode, fin, payload, part_of, full);
                }
                Op::Call(call) => {
                    next_call = Some(call);
                    break;
                }
            }
        }
        sharing.batch = batch;
        next_call
    }

    fn pass_frame(
        &self,
        sharing: &mut Sharing,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        part_of: u64,
        full: Full,
    ) {
        if !opcode.is_control() && !self.is_its_turn(sharing, part_of) {
            sharing.held.push_back(Held { opcode, fin, payload: payload.to_vec(), part_of });
            return;
        }
        if !opcode.is_control() && !self.has_room(payload.len()) {
            // Nobody may have tried to write yet.
            self.write();
            match full {
                Full::DropNewest if !self.has_room(payload.len()) => return self.count_dropped(),
                Full::DropOldest => {
                    while !self.has_room(payload.len()) && self.0.link.borrow_mut().drop_oldest() {
                        self.count_dropped();
                    }
                }
                _ => {}
            }
        }
        self.send_for(sharing, opcode, fin, payload, part_of, full == Full::DropOldest && part_of == 0);
        if fin && !opcode.is_control() {
            self.pass_held(sharing);
        }
    }

    /// Whether a frame can be sent now.
    fn is_its_turn(&self, sharing: &Sharing, part_of: u64) -> bool {
        if !self.0.link.borrow().is_mid_message() {
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
        droppable: bool,
    ) {
        let sent = self.0.link.borrow_mut().send_frame(opcode, fin, payload, droppable);
        match sent {
            Ok(()) if opcode.is_control() => {}
            Ok(()) => sharing.part_of = if fin { 0 } else { part_of },
            Err(Error::Io(error)) => self.write_failed(error),
            // It has begun to close meanwhile.
            Err(error) => tracing::debug!(%error, "dropped a message from another thread"),
        }
    }

    /// A message is finished: sends those that have waited for that, as far as they can be.
    fn pass_held(&self, sharing: &mut Sharing) {
        loop {
            let is_mid = self.0.link.borrow().is_mid_message();
            let turn = sharing.held.iter().position(|held| !is_mid || held.part_of == sharing.part_of);
            let Some(held) = turn.and_then(|turn| sharing.held.remove(turn)) else { return };
            self.send_for(sharing, held.opcode, held.fin, &held.payload, held.part_of, false);
        }
    }

    /// Whether the message that is under way is another thread's.
    #[cold]
    pub(super) fn is_mid_message_of_another(&self) -> bool {
        let part_of = self.with_sharing(|sharing| sharing.part_of).unwrap_or(0);
        part_of != 0 && part_of != OWN && self.0.link.borrow().is_mid_message()
    }

    /// Keeps a frame of this thread's own until the message of another thread is finished.
    #[cold]
    pub(super) fn hold(&self, opcode: OpCode, fin: bool, payload: &[u8]) -> Result<(), SendError> {
        let held = self.with_sharing(|sharing| {
            let last = sharing.held.iter().rfind(|held| held.part_of == OWN);
            match (last.is_some_and(|held| !held.fin), opcode == OpCode::Continuation) {
                (false, true) => return Err(SendError::NothingToContinue),
                (true, false) => return Err(SendError::MessageUnfinished),
                _ => {}
            }
            let is_whole = fin && opcode != OpCode::Continuation;
            let part_of = if is_whole { 0 } else { OWN };
            sharing.held.push_back(Held { opcode, fin, payload: payload.to_vec(), part_of });
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
        let Some((handle, here)) = self.with_sharing(|sharing| (sharing.handle.clone(), sharing.bytes()))
        else {
            return;
        };
        if !self.is_open() {
            handle.lane().shut();
        }
        handle.lane().set_outside(buffered + here);
    }

    /// Tells other threads that the connection has ended.
    pub(super) fn end_sharing(&self, closed: Closed) {
        let Some(handle) = self.existing_handle() else { return };
        self.0.link.borrow().local().unshare(handle.place());
        let left = self
            .with_sharing(|sharing| (std::mem::take(&mut sharing.batch), std::mem::take(&mut sharing.held)));
        let closed = Arc::new(closed);
        self.tell_watchers_of_the_end(&handle, &closed);
        handle.lane().end(closed);
        drop(left);
    }

    pub(super) fn count_dropped(&self) {
        self.0.extras.borrow_mut().get_or_insert_default().dropped += 1;
    }
}
