//! The inbox of an event loop: a bounded queue from many threads to one, without lost wake-ups.
//!
//! One queue under a lock, and under the same lock everything that a lost wake-up could hide behind: whether the loop
//! sleeps, whether somebody poked it, whether the inbox is open. A sender that finds the loop asleep wakes it, once
//! however many items follow; a loop that wants to sleep is told if something came. So there are no fences to get wrong,
//! and closing is a state: each item is either refused, and given back, or will come out.
//!
//! A loop that does not want to sleep yet looks, again and again. That takes the lock only when there are signs that
//! something came; and since the last look before a sleep is the one that falls asleep, no sign can come too late.
//!
//! The loop takes the whole queue by swapping it for an empty one, so that a burst costs it one lock. With a limit it
//! takes one by one, since what is taken can't be counted, or dropped, any more.
//!
//! Signals (stop, pause) lie beside the queue and never wait behind it. Nothing here knows what it carries, nor how a
//! loop is woken: that is how a test can check all of it under a model checker.

use std::collections::VecDeque;
use std::{hint, mem};

use crate::sync::{AtomicBool, AtomicU8, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError};

/// The worker is asked to stop.
pub(crate) const STOP: u8 = 1;
/// The worker is asked to stop without delivering queued events.
pub(crate) const DISCARD: u8 = 2;
/// The worker's task is held.
pub(crate) const PAUSE: u8 = 4;

/// A batch that is not worth a lock, if more is about to come.
const FEW: usize = 16;
/// For how many items there is room that is kept while few come.
const MOST_KEPT: usize = 1024;
/// For how many spins to wait for more: well under a microsecond.
const LET_GATHER: u32 = 32;

/// An item in an inbox.
pub(crate) trait Item {
    /// Whether the limit applies to the item.
    fn counts(&self) -> bool;
}

/// The means to wake a sleeping loop.
pub(crate) trait Wake: Clone {
    /// Ends the sleep, or the next one if it has not begun yet.
    fn wake(&self);
}

/// The policy for an event that comes when the inbox is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The event is refused, and the sender gets it back.
    #[default]
    Error,
    /// The sender waits until there is room, while its own loop goes on. Its own stop ends that wait.
    Wait,
    /// The oldest event makes room.
    DropOldest,
}

/// An item that was not taken, by the reason.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused<T> {
    Closed(T),
    Full(T),
    /// Full, and the sender shall wait for room, see [`Inbox::notify_of_room`].
    Later(T),
}

/// Fields that the loop reads for each item, on a cache line of their own: senders write to the others.
#[repr(align(128))]
struct LoopSide {
    /// The number of items that the loop has taken and not begun yet.
    taken: AtomicUsize,
    signals: AtomicU8,
}

pub(crate) struct Inbox<T, W> {
    state: Mutex<InboxState<T, W>>,
    /// The length of the queue: a hint to the loop that a lock is worth while.
    queued: AtomicUsize,
    /// Whether the loop sleeps. Set under the lock only; that the loop clears it without one costs at most a wake-up in vain.
    sleeping: AtomicBool,
    /// Whether the loop shall turn once more before it sleeps, as something has come since it took items last. Changed
    /// under the lock only; without it, it is a hint, as `queued` is.
    poked: AtomicBool,
    loop_side: LoopSide,
}

struct InboxState<T, W> {
    queue: VecDeque<T>,
    /// The number of queued items to which the limit applies.
    counted: usize,
    limit: Option<(usize, Overflow)>,
    open: bool,
    waker: Option<W>,
    /// Callbacks of senders that wait for room.
    waiting: Vec<Box<dyn FnOnce() + Send>>,
}

impl<T: Item, W: Wake> Inbox<T, W> {
    /// An inbox that is closed, see [`open`](Inbox::open). `limit`: how many items that count it takes, and what happens then.
    pub(crate) fn new(limit: Option<(usize, Overflow)>) -> Inbox<T, W> {
        let state = InboxState {
            queue: VecDeque::new(),
            counted: 0,
            limit,
            open: false,
            waker: None,
            waiting: Vec::new(),
        };
        Inbox {
            state: Mutex::new(state),
            queued: AtomicUsize::new(0),
            sleeping: AtomicBool::new(false),
            poked: AtomicBool::new(false),
            loop_side: LoopSide { taken: AtomicUsize::new(0), signals: AtomicU8::new(0) },
        }
    }

    fn lock(&self) -> MutexGuard<'_, InboxState<T, W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes items from now on. Signals of earlier runs are cleared.
    pub(crate) fn open(&self) {
        let mut state = self.lock();
        state.open = true;
        self.poked.store(false, Ordering::Relaxed);
        self.loop_side.signals.store(0, Ordering::Release);
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Sets how the loop is woken from now on. To be called by the loop, which is awake.
    pub(crate) fn set_waker(&self, waker: W) {
        self.lock().waker = Some(waker);
    }

    /// Takes no more items, and returns those that were left.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let (left, waiting, waker);
        {
            let mut state = self.lock();
            state.open = false;
            state.counted = 0;
            self.queued.store(0, Ordering::Relaxed);
            left = mem::take(&mut state.queue);
            waiting = mem::take(&mut state.waiting);
            waker = state.waker.take();
        }
        drop(waker);
        waiting.into_iter().for_each(|tell| tell());
        left
    }

    /// Leaves an item for the loop. `exempt` from the limit is a loop that sends to itself, and would wait for itself.
    /// Returns the item that was dropped for it, if any.
    #[inline]
    pub(crate) fn push(&self, item: T, exempt: bool) -> Result<Option<T>, Refused<T>> {
        let mut dropped = None;
        let mut state = self.lock();
        if !state.open {
            return Err(Refused::Closed(item));
        }
        if let Some((most, overflow)) = state.limit
            && item.counts()
        {
            if state.counted >= most && !exempt {
                match overflow {
                    Overflow::Error => return Err(Refused::Full(item)),
                    Overflow::Wait => return Err(Refused::Later(item)),
                    Overflow::DropOldest => dropped = state.drop_oldest(),
                }
            }
            state.counted += 1;
        }
        state.queue.push_back(item);
        // A loop that is nested too deep to take the item turns all the same: the item may be what a wait waits for.
        self.poked.store(true, Ordering::Relaxed);
        self.queued.store(state.queue.len(), Ordering::Relaxed);
        let waker = self.rouse(&state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(dropped)
    }

    /// Has `tell` called once there is room, or the inbox is closed: at once, if that is so already.
    pub(crate) fn notify_of_room(&self, tell: Box<dyn FnOnce() + Send>) {
        {
            let mut state = self.lock();
            if state.open && state.limit.is_some_and(|(most, _)| state.counted >= most) {
                state.waiting.push(tell);
                return;
            }
        }
        tell();
    }

    /// Moves items out, into `batch`, which is empty. Returns whether there were any. `again`: the loop has not slept since it
    /// took some before.
    #[inline]
    pub(crate) fn take(&self, batch: &mut VecDeque<T>, again: bool) -> bool {
        let queued = self.queued.load(Ordering::Relaxed);
        if queued == 0 {
            return false;
        }
        if again && queued < FEW {
            // A sender is at work: a few more items may gather, instead of a fight for the lock over each.
            (0..LET_GATHER).for_each(|_| hint::spin_loop());
        }
        if batch.capacity() > MOST_KEPT && queued < batch.capacity() / 4 {
            // The memory of a burst that is over.
            *batch = VecDeque::new();
        }
        let mut waiting = Vec::new();
        {
            let mut state = self.lock();
            // The loop turns after this.
            self.poked.store(false, Ordering::Relaxed);
            if state.limit.is_none() {
                mem::swap(&mut state.queue, batch);
            } else if let Some(item) = state.queue.pop_front() {
                if item.counts() {
                    state.counted -= 1;
                    waiting = mem::take(&mut state.waiting);
                }
                batch.push_back(item);
            }
            self.queued.store(state.queue.len(), Ordering::Relaxed);
        }
        waiting.into_iter().for_each(|tell| tell());
        !batch.is_empty()
    }

    /// Sets how many of the items that were taken have not begun yet.
    #[inline]
    pub(crate) fn set_taken(&self, count: usize) {
        self.loop_side.taken.store(count, Ordering::Relaxed);
    }

    /// Whether items are queued: a hint, without the lock.
    #[inline]
    pub(crate) fn has_some(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > 0
    }

    /// The number of items that were left and have not begun yet.
    pub(crate) fn len(&self) -> usize {
        self.lock().queue.len() + self.loop_side.taken.load(Ordering::Relaxed)
    }

    /// Wakes the loop for one turn, if it sleeps, or keeps it from falling asleep.
    pub(crate) fn poke(&self) {
        let state = self.lock();
        self.poked.store(true, Ordering::Relaxed);
        let waker = self.rouse(&state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Sets some signals and clears others, unless the inbox is closed. Returns whether it was open.
    pub(crate) fn signal(&self, set: u8, clear: u8) -> bool {
        let state = self.lock();
        if !state.open {
            return false;
        }
        let signals = self.loop_side.signals.load(Ordering::Relaxed);
        self.loop_side.signals.store(signals & !clear | set, Ordering::Release);
        self.poked.store(true, Ordering::Relaxed);
        let waker = self.rouse(&state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Whether any of these signals is set.
    #[inline]
    pub(crate) fn has(&self, signals: u8) -> bool {
        self.loop_side.signals.load(Ordering::Acquire) & signals != 0
    }

    /// Says that the loop is about to sleep. Returns false if it must not: it was poked, or (if it minds) there are items.
    #[inline]
    pub(crate) fn fall_asleep(&self, minds_items: bool) -> bool {
        let state = self.lock();
        if self.has_come(&state, minds_items) {
            return false;
        }
        self.sleeping.store(true, Ordering::Relaxed);
        true
    }

    /// For a loop that does not sleep: whether it was poked, or (if it minds) there are items. It costs no lock while nothing
    /// has come, and a loop that looks again and again sees whatever comes, as one that was asleep would be woken for it.
    #[inline]
    pub(crate) fn look(&self, minds_items: bool) -> bool {
        let has_signs = self.poked.load(Ordering::Relaxed) || (minds_items && self.has_some());
        // The lock makes everything visible that was done before the poke.
        has_signs && self.has_come(&self.lock(), minds_items)
    }

    /// Whether the loop must turn once more. Clears the poke, which is good for one turn.
    #[inline]
    fn has_come(&self, state: &InboxState<T, W>, minds_items: bool) -> bool {
        let poked = self.poked.load(Ordering::Relaxed);
        if poked {
            self.poked.store(false, Ordering::Relaxed);
        }
        poked || (minds_items && !state.queue.is_empty())
    }

    /// Marks the loop as awake. Returns whether a sender has woken it.
    #[inline]
    pub(crate) fn wake_up(&self) -> bool {
        let was_woken = !self.sleeping.load(Ordering::Relaxed);
        self.sleeping.store(false, Ordering::Relaxed);
        was_woken
    }

    /// The waker, if the loop sleeps. To be used after the lock, as a wake-up costs a system call.
    #[inline]
    fn rouse(&self, state: &InboxState<T, W>) -> Option<W> {
        if !self.sleeping.load(Ordering::Relaxed) {
            return None;
        }
        self.sleeping.store(false, Ordering::Relaxed);
        state.waker.clone()
    }
}

impl<T: Item, W> InboxState<T, W> {
    fn drop_oldest(&mut self) -> Option<T> {
        let oldest = self.queue.iter().position(Item::counts)?;
        self.counted -= 1;
        self.queue.remove(oldest)
    }
}
