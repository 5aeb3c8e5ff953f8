//! How a loop sleeps, and how it is woken. A loop with sockets sleeps in the system's poll. One that has never had any
//! has no poll: it parks its thread, which is cheaper, and takes no file descriptors.

use std::io;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Duration;

use mio::{Events, Poll};

use super::inbox::Wake;

/// The token of what wakes a poll.
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

/// Where a loop's sockets are polled, once there are any.
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

/// Sleeps as a loop without sockets does.
pub(crate) fn park(timeout: Option<Duration>) {
    match timeout {
        None => thread::park(),
        Some(Duration::ZERO) => {}
        Some(timeout) => thread::park_timeout(timeout),
    }
}
