//! How other threads reach a loop.
//!
//! The queue is lock-free; the waker costs a system call, so it is used only when the loop sleeps, and once however
//! many calls arrive meanwhile. The loop says "I sleep", looks into the queue once more, and only then sleeps; a
//! sender puts its call into the queue, and only then looks whether the loop sleeps. The two fences make sure that
//! at least one of them sees what the other wrote.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{self, Receiver, Sender};

use crate::EventLoop;

/// A call from another thread.
pub(crate) type Call = Box<dyn FnOnce(&EventLoop) + Send>;

/// Reaches an event loop from any thread: cheap to clone, `Send` and `Sync`.
#[derive(Clone)]
pub struct Remote {
    calls: Sender<Call>,
    state: Arc<State>,
}

/// What a loop shares with its remotes.
pub(crate) struct State {
    waker: mio::Waker,
    sleeping: AtomicBool,
    stop: AtomicBool,
}

/// The loop has ended, and takes no more calls. The call that was refused was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker has ended")]
pub struct Rejected;

impl Remote {
    pub(crate) fn new(waker: mio::Waker) -> (Remote, Receiver<Call>) {
        let (calls, inbox) = mpsc::channel();
        let state = State { waker, sleeping: AtomicBool::new(false), stop: AtomicBool::new(false) };
        (Remote { calls, state: Arc::new(state) }, inbox)
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Has `call` run on the loop's thread, at the loop's next turn. Calls of one thread keep their order. Fails if
    /// the loop has ended; a call that is still queued when it ends is dropped without being run.
    pub fn post(&self, call: impl FnOnce(&EventLoop) + Send + 'static) -> Result<(), Rejected> {
        self.calls.send(Box::new(call)).map_err(|_| Rejected)?;
        self.state.wake();
        Ok(())
    }

    /// Asks the loop's worker to stop: every wait on its thread, now and later, returns
    /// [`Stopped`](crate::Stopped). Goes ahead of queued calls.
    pub fn stop(&self) {
        self.state.stop.store(true, Ordering::Release);
        self.state.wake();
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("stopping", &self.state.is_stopping()).finish_non_exhaustive()
    }
}

impl State {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// To be called after something was left for the loop.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed)
            && self.sleeping.swap(false, Ordering::Relaxed)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "can't wake an event loop");
        }
    }

    /// Says that the loop is about to sleep. What was left for it must be looked for afterwards.
    pub(crate) fn fall_asleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn wake_up(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }
}
