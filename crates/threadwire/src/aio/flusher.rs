//! Flusher of the async face: a task that writes the write buffers of a burst together, and soon.
//!
//! The first send of a burst puts its connection on a list, and wakes the flusher if the list was empty. It runs when the
//! tasks that are ready have run: by then the burst is complete. A connection whose task has gone on to `recv` was flushed
//! there, and the flusher finds nothing to do. So there is one wake-up a turn of the runtime, for all connections.
//!
//! There is one flusher for each thread of a runtime on which connections are opened. It belongs to the runtime (one that
//! belonged to the process would end with its first runtime), and ends with the last connection that uses it.
//!
//! Order of locks: nothing is called while the list is locked; whoever pushes may hold a connection's lock, and the flusher
//! holds none when it takes the list.

use std::cell::RefCell;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, Weak};
use std::task::{Poll, Wake, Waker};

use threadwire_worker::Lock;
use tokio::runtime::{self, Handle};

use super::core::Core;

/// After how many connections others get their turn, if there are still more.
const PER_TURN: usize = 64;

thread_local! {
    /// The flushers of this thread: one for each runtime that has used it, as long as they live.
    static FLUSHERS: RefCell<Vec<(runtime::Id, Weak<Flusher>)>> = const { RefCell::new(Vec::new()) };
}

/// A connection as the flusher and the system's wake-ups know it. It wakes by being flushed: so whoever else waits for the
/// socket, handles and halves can't displace that.
pub(super) struct Kick {
    pub(super) core: Weak<Core>,
    pub(super) flusher: Arc<Flusher>,
    queued: AtomicBool,
}

impl Kick {
    pub(super) fn new(core: Weak<Core>, flusher: Arc<Flusher>) -> Kick {
        Kick { core, flusher, queued: AtomicBool::new(false) }
    }

    /// Whether the connection is on the list already.
    #[inline]
    pub(super) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed)
    }
}

impl Wake for Kick {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    // Never locks the connection: a stream may wake while it is being written.
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.flusher.list.push(Arc::clone(self));
        }
    }
}

/// The end that connections hold. With the last of them, the task ends.
pub(super) struct Flusher {
    list: Arc<List>,
}

impl Flusher {
    /// The one of this thread and the runtime that it is in.
    pub(super) fn current(runtime: &Handle) -> Arc<Flusher> {
        let found = FLUSHERS.try_with(|flushers| {
            let mut flushers = flushers.borrow_mut();
            flushers.retain(|(_, flusher)| flusher.strong_count() > 0);
            let known = flushers.iter().find(|(id, _)| *id == runtime.id());
            known.and_then(|(_, flusher)| flusher.upgrade()).filter(|flusher| !flusher.list.lock().is_over)
        });
        if let Ok(Some(flusher)) = found {
            return flusher;
        }
        let list = Arc::new(List { state: Lock::default() });
        let flusher = Arc::new(Flusher { list: Arc::clone(&list) });
        let _ = FLUSHERS.try_with(|flushers| {
            let mut flushers = flushers.borrow_mut();
            flushers.retain(|(id, _)| *id != runtime.id());
            flushers.push((runtime.id(), Arc::downgrade(&flusher)));
        });
        runtime.spawn(run(Runs(list)));
        flusher
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        let mut state = self.list.lock();
        state.is_over = true;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

struct List {
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    kicked: Vec<Arc<Kick>>,
    waker: Option<Waker>,
    is_over: bool,
}

impl List {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn push(&self, kick: Arc<Kick>) {
        let mut state = self.lock();
        if state.is_over {
            return;
        }
        state.kicked.push(kick);
        // The waker is there while the task sleeps.
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Notes the end of the task, also where the runtime drops it.
struct Runs(Arc<List>);

impl Drop for Runs {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_over = true;
        let left = mem::take(&mut state.kicked);
        drop(state);
        drop(left);
    }
}

async fn run(runs: Runs) {
    let mut batch = Vec::new();
    std::future::poll_fn(|cx| {
        let mut flushed = 0;
        while flushed < PER_TURN {
            let mut state = runs.0.lock();
            if state.kicked.is_empty() {
                if state.is_over {
                    return Poll::Ready(());
                }
                state.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            mem::swap(&mut state.kicked, &mut batch);
            drop(state);
            flushed += batch.len();
            for kick in batch.drain(..) {
                // Before the flush: what is sent from here on is put on the list again.
                kick.queued.store(false, Ordering::Release);
                if let Some(core) = kick.core.upgrade() {
                    core.flush();
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
