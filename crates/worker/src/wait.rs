//! Waits on the current thread's loop. All of them keep it turning, and all of them end with [`Stopped`] when the
//! worker is asked to stop.

use std::time::{Duration, Instant};

use crate::{EventLoop, Stopped};

/// Waits for `duration`, while this thread's loop goes on.
///
/// ```
/// # use std::time::Duration;
/// threadwire_worker::sleep(Duration::from_millis(1))?;
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
pub fn sleep(duration: Duration) -> Result<(), Stopped> {
    // Too far off for the clock to count to is forever.
    let until = Instant::now().checked_add(duration);
    EventLoop::current().wait(until, || false).map(|_| ())
}

/// Serves this thread's loop until the worker is asked to stop: never returns `Ok`.
///
/// ```
/// use threadwire_worker::{Worker, wait_forever};
/// let worker = Worker::spawn(wait_forever);
/// worker.stop();
/// # worker.join().unwrap();
/// ```
pub fn wait_forever() -> Result<(), Stopped> {
    EventLoop::current().wait(None, || false).map(|_| ())
}

/// Waits until `done` returns true, or for at most `timeout`; returns which it was. `done` is asked after every turn
/// of the loop, so it sees what callbacks and calls from other threads have changed.
///
/// ```
/// use std::{cell::Cell, rc::Rc, time::Duration};
/// use threadwire_worker::{EventLoop, wait_until};
///
/// let count = Rc::new(Cell::new(0));
/// let counter = Rc::clone(&count);
/// EventLoop::current().after(Duration::ZERO, move || counter.set(1));
/// assert!(wait_until(None, || count.get() == 1)?);
/// assert!(!wait_until(Some(Duration::from_millis(1)), || count.get() == 2)?, "it timed out");
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
pub fn wait_until(timeout: Option<Duration>, done: impl FnMut() -> bool) -> Result<bool, Stopped> {
    let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    EventLoop::current().wait(until, done)
}

/// Does what there is to do on this thread's loop, without waiting: to be called now and then by a program that has a
/// main loop of its own, such as a GUI's.
///
/// ```
/// threadwire_worker::update()?;
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
pub fn update() -> Result<(), Stopped> {
    EventLoop::current().update()
}
