//! Wake-ups of a sleeping event loop, in the system's poll or in a parked thread.
//!
//! A loop with sockets sleeps in the system's poll. A loop that has never had any has no poll: it parks its thread, which is
//! cheaper, and takes no file descriptors.

use std::io;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Duration;

use mio::{Events, Poll};

use super::inbox::Wake;

/// The token of the waker in the poll.
pub(crate) const WAKER: mio::Token = mio::Token(usize::MAX);

/// Wakes a loop from any thread.
#[derive(Clone)]
pub(crate) enum Waker {
    Park(Thread),
    Poll(Arc<mio::Waker>),
}

impl Wake for Waker {
    fn wake(&self) {
        match self {
            Waker::Park(thread) => thread.unpark(),
            Waker::Poll(waker) => {
                if let Err(error) = waker.wake() {
                    tracing::error!(%error, "can't wake an event loop");
                }
            }
        }
    }
}

/// The system's poll for a loop's sockets, made when the first one comes.
pub(crate) struct Poller {
    pub(crate) poll: Poll,
    pub(crate) events: Events,
}

impl Poller {
    pub(crate) fn new() -> io::Result<(Poller, Waker)> {
        let poll = Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), WAKER)?;
        Ok((Poller { poll, events: Events::with_capacity(1024) }, Waker::Poll(Arc::new(waker))))
    }
}

/// The sleep of a loop without sockets.
pub(crate) fn park(timeout: Option<Duration>) {
    match timeout {
        None => thread::park(),
        Some(Duration::ZERO) => {}
        Some(timeout) => thread::park_timeout(timeout),
    }
}
