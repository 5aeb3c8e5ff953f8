//! Lane of a handle: messages and calls that other threads leave for a connection.
//!
//! One queue under a lock for all handles of a connection. The payloads lie one behind the other in one vector, so that a
//! send allocates nothing once the vector has grown. Whoever finds the queue empty has the owner look into it; those that
//! come before the owner has looked only leave something: a burst of sends wakes it once.
//!
//! `outside` counts what the owner has taken and not written yet. What it takes is moved to that count under the lock, so
//! that nothing is ever missing from the sum. Where the oldest messages make room, those that the owner may still drop are older than all
//! that lie here, so they go first: they do not count against what is left here, and the owner drops them when it takes that. Those who wait for the sum to fall leave a waker; the flag that says so and
//! the count are each other's witnesses: whoever changes one looks at the other after it.
//!
//! Nothing here knows what a connection is: that is how a test can check all of it under a model checker.

use std::collections::VecDeque;
use std::mem;
use std::task::Waker;

use threadwire_proto::{Compress, OpCode};

use threadwire_core::config::WhenFull;
use threadwire_core::session::overflow::{FrameKind, Overflow, has_room, overflow};

use super::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError};

/// Something that the owner is to do. `C` is a call.
#[derive(Debug)]
pub(crate) enum Op<C> {
    /// To send a frame, of which the payload is the next `length` bytes of the batch.
    Frame(LeftFrame),
    /// To do something else.
    Call(C),
}

/// A frame that was left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeftFrame {
    pub(crate) opcode: OpCode,
    pub(crate) fin: bool,
    pub(crate) length: usize,
    /// The message in parts that it belongs to, or 0.
    pub(crate) part_of: u64,
    pub(crate) when_full: WhenFull,
    pub(crate) compress: Compress,
}

impl LeftFrame {
    /// A frame without its payload.
    pub(crate) fn new(opcode: OpCode, fin: bool, part_of: u64, when_full: WhenFull) -> LeftFrame {
        LeftFrame { opcode, fin, length: 0, part_of, when_full, compress: Compress::Auto }
    }

    /// What it is where there is no room. A part of a message is never a message of its own.
    pub(crate) fn kind(&self) -> FrameKind {
        match FrameKind::of(self.opcode, self.fin) {
            FrameKind::Message if self.part_of != 0 => FrameKind::Fragment,
            kind => kind,
        }
    }

    /// Whether it may be dropped to make room for others.
    pub(crate) fn is_droppable(&self) -> bool {
        self.kind() == FrameKind::Message && self.when_full == WhenFull::DropOldest
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is the first: the owner is to be told.
    First,
    /// The owner was told already.
    Behind,
    /// It was dropped.
    Dropped,
    /// There is no room.
    Full,
    /// The connection has ended.
    Ended,
}

/// What was left, in order.
#[derive(Debug)]
pub(crate) struct Batch<C> {
    pub(crate) ops: VecDeque<Op<C>>,
    /// The payloads, from `start` on.
    pub(crate) bytes: Vec<u8>,
    pub(crate) start: usize,
}

/// The most that may be left, whatever it is: payloads may be empty.
const MOST: usize = 1 << 20;

impl<C> Batch<C> {
    /// How many bytes wait in it.
    pub(crate) fn waiting(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Takes the next of them, if it is a frame: with its payload.
    pub(crate) fn next_frame(&mut self) -> Option<(LeftFrame, &[u8])> {
        let Some(Op::Frame(frame)) = self.ops.front() else { return None };
        let frame = *frame;
        self.ops.pop_front();
        let start = self.start;
        self.start += frame.length;
        Some((frame, &self.bytes[start..self.start]))
    }

    /// Takes the next of them, if it is a call.
    pub(crate) fn next_call(&mut self) -> Option<C> {
        if !matches!(self.ops.front(), Some(Op::Call(_))) {
            return None;
        }
        match self.ops.pop_front() {
            Some(Op::Call(call)) => Some(call),
            _ => None,
        }
    }

    /// Empty, with its memory, as far as that is not too much to keep.
    pub(crate) fn emptied(mut self) -> Batch<C> {
        const KEPT: usize = 64 << 10;
        self.ops.clear();
        self.bytes.clear();
        self.start = 0;
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        if self.ops.capacity() * size_of::<Op<C>>() > KEPT {
            self.ops = VecDeque::new();
        }
        self
    }
}

impl<C> Default for Batch<C> {
    fn default() -> Batch<C> {
        Batch { ops: VecDeque::new(), bytes: Vec::new(), start: 0 }
    }
}

/// The queue. `E` says how the connection ended.
pub(crate) struct Lane<C, E> {
    state: Mutex<State<C, E>>,
    /// How many bytes wait that the owner has taken already.
    outside: AtomicUsize,
    /// How many of those bytes the owner drops to make room.
    droppable: AtomicUsize,
    /// How often that count has fallen.
    taken: AtomicUsize,
    /// Whether somebody waits.
    has_waiting: AtomicBool,
    /// Whether messages can be sent.
    open: AtomicBool,
}

struct State<C, E> {
    batch: Batch<C>,
    /// Whether the owner was told that there is something.
    told: bool,
    /// How many messages were dropped here.
    dropped: u64,
    waiting: Vec<Waiting>,
    /// The last number that a future was given.
    last: u64,
    end: Option<E>,
}

/// Somebody who waits.
struct Waiting {
    /// That of a future, or 0: threads that wait are woken together, and have no numbers.
    number: u64,
    /// How many bytes may be left; none if it is the end that is waited for.
    most: Option<usize>,
    waker: Waker,
}

impl<C, E: Clone> Lane<C, E> {
    pub(crate) fn new() -> Lane<C, E> {
        let state = State {
            batch: Batch::default(),
            told: false,
            dropped: 0,
            waiting: Vec::new(),
            last: 0,
            end: None,
        };
        Lane {
            state: Mutex::new(state),
            outside: AtomicUsize::new(0),
            droppable: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            has_waiting: AtomicBool::new(false),
            open: AtomicBool::new(true),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a frame. `limit`: how many bytes may wait in all; a frame of any size is taken when nothing waits.
    pub(crate) fn push_frame(&self, frame: LeftFrame, payload: &[u8], limit: usize) -> Pushed {
        let mut state = self.lock();
        if state.end.is_some() || !self.is_open() {
            return Pushed::Ended;
        }
        let waiting = state.waiting_bytes();
        let total = waiting + self.outside.load(Ordering::SeqCst);
        let count = state.batch.ops.len();
        if count >= MOST || !has_room(total, payload.len(), limit) {
            match overflow(frame.kind(), total, limit, frame.when_full) {
                _ if count >= 2 * MOST => return Pushed::Full,
                Overflow::Take => {}
                Overflow::DropNewest => {
                    state.dropped += 1;
                    return Pushed::Dropped;
                }
                Overflow::DropOldest => {
                    let fixed = (total - waiting).saturating_sub(self.droppable.load(Ordering::SeqCst));
                    state.drop_oldest(fixed, payload.len(), limit);
                }
                Overflow::Wait | Overflow::Close | Overflow::Refuse => return Pushed::Full,
            }
        }
        state.batch.bytes.extend_from_slice(payload);
        state.push(Op::Frame(LeftFrame { length: payload.len(), ..frame }))
    }

    /// Leaves a call.
    pub(crate) fn push_call(&self, call: C) -> Pushed {
        let mut state = self.lock();
        if state.end.is_some() { Pushed::Ended } else { state.push(Op::Call(call)) }
    }

    /// Takes all that was left, in exchange for an empty batch. From here on its bytes count as outside.
    pub(crate) fn take(&self, empty: Batch<C>) -> Batch<C> {
        let mut state = self.lock();
        state.told = false;
        self.outside.fetch_add(state.waiting(), Ordering::SeqCst);
        mem::replace(&mut state.batch, empty)
    }

    /// Says how many of the bytes outside may be dropped by the owner. To be said before [`set_outside`](Lane::set_outside).
    pub(crate) fn set_droppable(&self, bytes: usize) {
        self.droppable.store(bytes, Ordering::SeqCst);
    }

    /// Says how many bytes wait outside of this queue. Wakes those who have waited for less.
    pub(crate) fn set_outside(&self, bytes: usize) {
        if self.outside.swap(bytes, Ordering::SeqCst) > bytes {
            // Only the owner writes it.
            self.taken.store(self.taken.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        if self.has_waiting.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let mut state = self.lock();
        let total = state.waiting() + self.outside.load(Ordering::SeqCst);
        let is_over = state.end.is_some();
        let woken = state.waiting.extract_if(.., |one| is_over || one.most.is_some_and(|most| total <= most));
        let woken: Vec<_> = woken.collect();
        self.has_waiting.store(!state.waiting.is_empty(), Ordering::SeqCst);
        drop(state);
        // The code of some executor: the others are told whatever it does.
        for one in woken {
            threadwire_guard::contain("a waker", || one.waker.wake());
        }
    }

    /// Whether at most so many bytes wait, or the connection has ended (with `None` only that). If not, the waker is called
    /// when it is so.
    pub(crate) fn is_below(&self, most: Option<usize>, waker: &Waker) -> bool {
        let Some(mut state) = self.begin_to_wait(most) else { return true };
        if !state.waiting.iter().any(|one| (one.number, one.most) == (0, most) && one.waker.will_wake(waker))
        {
            state.waiting.push(Waiting { number: 0, most, waker: waker.clone() });
        }
        false
    }

    /// The same for a future, which has a number from its first call on (0 before), and is to be
    /// [forgotten](Lane::forget) when it is dropped.
    pub(crate) fn poll_below(&self, most: Option<usize>, number: &mut u64, waker: &Waker) -> bool {
        let Some(mut state) = self.begin_to_wait(most) else { return true };
        let known = state.waiting.iter_mut().find(|one| *number != 0 && one.number == *number);
        let before = known.map(|one| mem::replace(&mut one.waker, waker.clone()));
        if before.is_none() {
            state.last += 1;
            *number = state.last;
            state.waiting.push(Waiting { number: *number, most, waker: waker.clone() });
        }
        // Its waker is dropped when the lock is not held any more.
        drop(state);
        false
    }

    /// A future does not wait any more.
    #[cold]
    pub(crate) fn forget(&self, number: u64) {
        let mut state = self.lock();
        let place = state.waiting.iter().position(|one| one.number == number);
        let forgotten = place.map(|place| state.waiting.remove(place));
        self.has_waiting.store(!state.waiting.is_empty(), Ordering::SeqCst);
        drop(state);
        drop(forgotten);
    }

    /// None if what is waited for is there.
    fn begin_to_wait(&self, most: Option<usize>) -> Option<MutexGuard<'_, State<C, E>>> {
        let state = self.lock();
        // Before the count is looked at: it may fall at this moment.
        self.has_waiting.store(true, Ordering::SeqCst);
        let total = state.waiting() + self.outside.load(Ordering::SeqCst);
        if state.end.is_some() || most.is_some_and(|most| total <= most) {
            self.has_waiting.store(!state.waiting.is_empty(), Ordering::SeqCst);
            return None;
        }
        Some(state)
    }

    /// How many bytes wait, here and outside, without those that the owner is going to drop as this is more than the limit.
    pub(crate) fn waiting_bytes(&self, limit: usize) -> usize {
        let state = self.lock();
        let total = state.waiting_bytes() + self.outside.load(Ordering::SeqCst);
        match state.waiting_bytes() {
            0 => total,
            _ => total - total.saturating_sub(limit).min(self.droppable.load(Ordering::SeqCst)),
        }
    }

    /// A number that changes whenever the peer has taken something of what waits outside.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many messages were dropped here.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Whether nobody has taken what was left.
    pub(crate) fn has_some(&self) -> bool {
        self.lock().told
    }

    /// Whether messages can be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// No message can be sent any more.
    pub(crate) fn shut(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    /// The connection has ended. What was left is dropped, after the lock is.
    pub(crate) fn end(&self, end: E) {
        self.shut();
        let mut state = self.lock();
        state.end.get_or_insert(end);
        let left = mem::take(&mut state.batch);
        self.outside.store(0, Ordering::SeqCst);
        drop(state);
        threadwire_guard::discard_all(left.ops);
        self.wake();
    }

    /// How the connection ended, if it has.
    pub(crate) fn ended(&self) -> Option<E> {
        self.lock().end.clone()
    }
}

impl<C, E> State<C, E> {
    fn waiting_bytes(&self) -> usize {
        self.batch.waiting()
    }

    /// The same for those who wait that it has left: what is empty has to leave, too.
    fn waiting(&self) -> usize {
        self.waiting_bytes().max(usize::from(!self.batch.ops.is_empty()))
    }

    fn push(&mut self, op: Op<C>) -> Pushed {
        self.batch.ops.push_back(op);
        if mem::replace(&mut self.told, true) { Pushed::Behind } else { Pushed::First }
    }

    /// Makes room, as far as the messages allow that lie here: those that the owner has are its own matter.
    fn drop_oldest(&mut self, outside: usize, more: usize, limit: usize) {
        let is_droppable = |op: &Op<C>| matches!(op, Op::Frame(frame) if frame.is_droppable());
        let (mut from, mut kept) = (self.batch.start, Vec::new());
        let mut at = 0;
        while !has_room(outside + self.waiting_bytes(), more, limit) {
            // Frames that must stay are few: they are moved behind what is dropped.
            let Some(op) = self.batch.ops.get(at) else { break };
            let length = if let Op::Frame(frame) = op { frame.length } else { 0 };
            if is_droppable(op) {
                self.batch.ops.remove(at);
                self.batch.start += length;
                self.dropped += 1;
            } else {
                kept.extend_from_slice(&self.batch.bytes[from..from + length]);
                at += 1;
            }
            from += length;
        }
        let start = self.batch.start;
        self.batch.bytes[start..start + kept.len()].copy_from_slice(&kept);
        if start > self.batch.bytes.len() / 2 {
            self.batch.bytes.drain(..start);
            self.batch.start = 0;
        }
    }
}
