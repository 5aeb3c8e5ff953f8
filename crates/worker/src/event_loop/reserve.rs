//! Reserve of the system's poll: made ahead, for a loop on a thread that has none yet.

use std::fmt;
use std::io;

use super::EventLoop;
use super::waker::{Poller, Waker};

/// The system's poll, and what wakes it, for the loop of any thread: whoever has one can be sure that sockets can be attached there,
/// however few descriptors are left.
#[doc(hidden)]
pub struct Reserve {
    poller: Poller,
    waker: Waker,
}

impl Reserve {
    /// Fails if the system has no descriptors left.
    pub fn new() -> io::Result<Reserve> {
        let (poller, waker) = Poller::new()?;
        Ok(Reserve { poller, waker })
    }
}

impl EventLoop {
    /// Gives the loop the poll, unless it has one: then that comes back.
    #[doc(hidden)]
    pub fn equip(&self, reserve: Reserve) -> Option<Reserve> {
        let mut poller = self.poller.borrow_mut();
        if poller.is_some() {
            return Some(reserve);
        }
        self.worker.inbox.set_waker(reserve.waker);
        *poller = Some(reserve.poller);
        None
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve").finish_non_exhaustive()
    }
}
