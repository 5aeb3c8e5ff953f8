//! Functions on the current thread's event loop: sleep and other waits, timers, checkpoints.
//!
//! All waits keep the loop turning, and end with [`Stopped`] when the worker is asked to stop.

use std::time::{Duration, Instant};

use crate::{EventLoop, Remote, Stopped, TimerId};

/// The current worker: the one on whose thread this is called. A thread that is no worker gets a loop, and is reached in
/// the same way.
///
/// ```
/// use threadwire_worker::{Worker, current};
/// let worker = Worker::spawn(|| Ok(current()));
/// assert_eq!(worker.remote(), worker.join()?.done().unwrap());
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
pub fn current() -> Remote {
    EventLoop::current().remote()
}

/// Whether this is the main thread of the process, see [`Remote::is_main`].
///
/// ```
/// use threadwire_worker::{Worker, is_main};
/// let worker = Worker::spawn(|| Ok(is_main()));
/// assert_eq!(worker.join()?.done(), Some(false));
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
pub fn is_main() -> bool {
    current().is_main()
}

/// Waits for `duration`, while this thread's loop goes on.
///
/// ```
/// # use std::time::Duration;
/// threadwire_worker::sleep(Duration::from_millis(1))?;
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
#[track_caller]
pub fn sleep(duration: Duration) -> Result<(), Stopped> {
    // A time too far off for the clock to count to is forever.
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
#[track_caller]
pub fn wait_forever() -> Result<(), Stopped> {
    EventLoop::current().wait(None, || false).map(|_| ())
}

/// The longest time after which [`wait_until`] asks again.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `done` returns true, or for at most `timeout`; returns which it was.
///
/// **A variable that another thread changes does not wake this wait.** `done` is asked after every turn of the loop, so it sees at once what
/// callbacks, events and calls from other threads ([`Remote::post`]) have changed here. What another thread has just stored somewhere, such
/// as in an atomic, it sees when it is asked next, which is within 50 ms. To be woken at once wait for a [`Flag`](crate::Flag), a
/// [`Defer`](crate::Defer) or an event, or have that thread call [`Remote::wake`] after the change.
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
///
/// With a [`Flag`](crate::Flag), instead of an atomic in a `wait_until`:
///
/// ```
/// use threadwire_worker::Flag;
///
/// let done = Flag::new();
/// let sets = done.clone();
/// std::thread::spawn(move || sets.set());
/// done.wait()?;
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
#[track_caller]
pub fn wait_until(timeout: Option<Duration>, done: impl FnMut() -> bool) -> Result<bool, Stopped> {
    let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    EventLoop::current().wait_asking(until, Some(ASK_EVERY), done)
}

/// Does what there is to do on this thread's loop, without waiting: to be called now and then by a program that has a
/// main loop of its own, such as a GUI's.
///
/// ```
/// threadwire_worker::update()?;
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
#[track_caller]
pub fn update() -> Result<(), Stopped> {
    EventLoop::current().update()
}

/// Waits until a worker has ended, and its children. Returns at once if it does not run. A worker that waits for its own end waits
/// for a stop; that is logged as a warning.
///
/// ```
/// use threadwire_worker::{Worker, wait_forever, wait_worker};
/// let worker = Worker::spawn(wait_forever);
/// worker.stop();
/// wait_worker(&worker)?;
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
#[track_caller]
pub fn wait_worker(worker: &Remote) -> Result<(), Stopped> {
    let event_loop = EventLoop::current();
    worker.warn_of_itself();
    worker.0.tell_of_end(event_loop.worker());
    let run = worker.0.life().run;
    event_loop.wait(None, || worker.0.is_over(run)).map(|_| ())
}

/// Runs `call` on this thread after `delay`, from within a wait; [`cancel`] forgets it. To have something run on another
/// worker, [`post`](Remote::post) it.
///
/// ```
/// use std::time::Duration;
/// use threadwire_worker::{cancel, later};
/// let timer = later(Duration::from_secs(60), || println!("too late"));
/// assert!(cancel(timer));
/// ```
#[track_caller]
pub fn later(delay: Duration, call: impl FnOnce() + 'static) -> TimerId {
    EventLoop::current().after(delay, call)
}

/// Cancels a timer that [`later`] has set. Returns whether it was still to come.
pub fn cancel(timer: TimerId) -> bool {
    EventLoop::current().cancel(timer)
}

/// Lets a task that computes be stopped and paused, and its loop go on: to be called now and then. It costs next to nothing:
/// the loop turns only if there are events, or a millisecond has passed.
///
/// ```
/// use threadwire_worker::{Stopped, Worker, checkpoint};
/// let worker = Worker::spawn(|| -> Result<u64, Stopped> {
///     let mut sum = 0;
///     for number in 0..1000 {
///         checkpoint()?;
///         sum += number;
///     }
///     Ok(sum)
/// });
/// assert_eq!(worker.join()?.done(), Some(499_500));
/// # Ok::<(), Stopped>(())
/// ```
pub fn checkpoint() -> Result<(), Stopped> {
    EventLoop::current().checkpoint()
}

/// As [`Remote::bubble`] of the current worker.
pub fn bubble<T: Clone + Send + 'static>(data: T) -> usize {
    EventLoop::current().remote().bubble(data)
}

/// As [`Remote::broadcast`] of the current worker.
pub fn broadcast<T: Clone + Send + 'static>(data: T) -> usize {
    EventLoop::current().remote().broadcast(data)
}
