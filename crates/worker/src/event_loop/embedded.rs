//! An event loop embedded in another one, such as that of a user interface, in which its thread sleeps.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use super::EventLoop;

impl EventLoop {
    /// Prepares for a thread that sleeps in another loop: writes gathered output, and says for how long that loop may sleep
    /// at most (`None`: for as long as it likes), provided that it wakes up when [`poll_fd`](EventLoop::poll_fd) becomes
    /// readable. Then comes [`update`](EventLoop::update), and this again.
    ///
    /// From here to `update`, threads that leave something for this loop wake it by that descriptor.
    ///
    /// ```
    /// use mio::{Events, Interest, Poll, Token, unix::SourceFd};
    /// use std::thread;
    /// use threadwire_worker::{Event, EventLoop, listen, mio};
    /// # use std::{cell::Cell, rc::Rc};
    ///
    /// let event_loop = EventLoop::current();
    /// let remote = event_loop.remote();
    /// # let done = Rc::new(Cell::new(false));
    /// # let is_done = Rc::clone(&done);
    /// listen(move |event: &Event<&str>| {
    ///     println!("{}", event.data);
    ///     # is_done.set(true);
    /// });
    /// thread::spawn(move || remote.fire("from another thread"));
    ///
    /// let mut other = Poll::new()?; // somebody else's
    /// other.registry().register(&mut SourceFd(&event_loop.poll_fd()?), Token(0), Interest::READABLE)?;
    /// let mut events = Events::with_capacity(8);
    /// # let goes_on = || !done.get();
    /// while goes_on() {
    ///     let timeout = event_loop.before_sleep()?;
    ///     other.poll(&mut events, timeout)?;
    ///     event_loop.update()?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn before_sleep(&self) -> io::Result<Option<Duration>> {
        self.with_poll(|_| Ok(()))?;
        self.flush();
        let timeout = self.due(None, true).timeout();
        let may_sleep = timeout != Some(Duration::ZERO) && !self.is_stopping();
        if may_sleep && self.worker.inbox.fall_asleep(true) {
            return Ok(timeout);
        }
        Ok(Some(Duration::ZERO))
    }

    /// The descriptor that becomes readable when there is something to do, see
    /// [`before_sleep`](EventLoop::before_sleep). It belongs to the loop, and must not be closed. Fails if the system can't give
    /// one.
    pub fn poll_fd(&self) -> io::Result<RawFd> {
        self.with_poll(|_| Ok(()))?;
        let poller = self.poller.borrow();
        Ok(poller.as_ref().expect("it was just made").poll.as_raw_fd())
    }
}
