//! Waits on the current thread's loop. All of them keep it turning, and all of them end with [`Stopped`] when the
//! worker is asked to stop.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::listener::Filter;
use crate::topic::Held;
use crate::{EventLoop, Remote, Stopped, TimerId, WorkerId};

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

/// Waits for an event of type `T`. What came before the wait began is not seen; of several that are queued, the next wait
/// sees the next. Listeners get them too, before.
///
/// ```
/// use threadwire_worker::{EventLoop, wait_event};
///
/// let here = EventLoop::current().remote();
/// std::thread::spawn(move || here.fire("hello"));
/// let event = wait_event::<&str>()?;
/// assert_eq!(event.data, "hello");
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
pub fn wait_event<T: Send + 'static>() -> Result<Rc<Event<T>>, Stopped> {
    wait_for().wait().map(|event| event.expect("there is no timeout"))
}

/// As [`wait_event`], for at most `timeout`: `None` if none came.
pub fn wait_event_timeout<T: Send + 'static>(timeout: Duration) -> Result<Option<Rc<Event<T>>>, Stopped> {
    wait_for().timeout(timeout).wait()
}

/// As [`wait_event`], for one that `sender` has sent.
pub fn wait_event_from<T: Send + 'static>(sender: &Remote) -> Result<Rc<Event<T>>, Stopped> {
    wait_for().from(sender).wait().map(|event| event.expect("there is no timeout"))
}

/// A wait for an event, with options.
///
/// ```
/// use std::time::Duration;
/// use threadwire_worker::{Event, EventLoop, wait_for};
///
/// let here = EventLoop::current().remote();
/// for number in 0..5 {
///     here.fire(number)?;
/// }
/// let big = wait_for().matching(|event: &Event<i32>| event.data > 2).timeout(Duration::from_secs(1)).wait()?;
/// assert_eq!(big.unwrap().data, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait_for<T: Send + 'static>() -> EventWait<T> {
    EventWait { timeout: None, from: None, matches: None }
}

/// A wait that is being prepared, see [`wait_for`].
#[must_use = "it waits only when told to"]
pub struct EventWait<T> {
    timeout: Option<Duration>,
    from: Option<WorkerId>,
    matches: Option<Filter<T>>,
}

impl<T: Send + 'static> EventWait<T> {
    /// Waits at most for this long. Without a limit by default.
    pub fn timeout(mut self, timeout: Duration) -> EventWait<T> {
        self.timeout = Some(timeout);
        self
    }

    /// Only for an event that this worker has sent.
    pub fn from(mut self, sender: &Remote) -> EventWait<T> {
        self.from = Some(sender.id());
        self
    }

    /// Only for an event of which this is true.
    pub fn matching(mut self, matches: impl Fn(&Event<T>) -> bool + 'static) -> EventWait<T> {
        self.matches = Some(Box::new(matches));
        self
    }

    /// Waits. `None` if the time has passed.
    pub fn wait(self) -> Result<Option<Rc<Event<T>>>, Stopped> {
        let event_loop = EventLoop::current();
        let topic = event_loop.topic::<T>();
        let is_of_task = event_loop.is_outermost();
        let until = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let waiter =
            Rc::new(Waiter { from: self.from, matches: self.matches, is_of_task, got: RefCell::default() });
        if is_of_task {
            // What came for the task while it was held, and it already had one.
            for event in topic.take_kept() {
                waiter.offer(&mut Held::Shared(event));
            }
        }
        topic.add_waiter(Rc::clone(&waiter));
        let guard = Forget(|| topic.remove_waiter(&waiter));
        let waited = event_loop.wait(until, || !waiter.got.borrow().is_empty());
        drop(guard);
        waited?;
        let mut got = waiter.got.take();
        let first = got.pop_front();
        if !got.is_empty() {
            event_loop.keep_for_task(&topic, got);
        }
        Ok(first)
    }
}

/// Calls something when it is dropped, so also if the wait panics.
struct Forget<F: FnMut()>(F);

impl<F: FnMut()> Drop for Forget<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A wait for an event that has begun.
pub(crate) struct Waiter<T> {
    from: Option<WorkerId>,
    matches: Option<Filter<T>>,
    /// Whether it is the task that waits, and not a callback.
    is_of_task: bool,
    /// What came. More than one only while the task can't return.
    got: RefCell<VecDeque<Rc<Event<T>>>>,
}

impl<T> Waiter<T> {
    /// Takes an event that fits. Returns whether it did.
    pub(crate) fn offer(&self, event: &mut Held<T>) -> bool {
        // The task may be held, or not get to return since a callback waits: more is for its next waits.
        if !self.is_of_task && !self.got.borrow().is_empty() {
            return false;
        }
        let fits = self.from.is_none_or(|from| event.sender == Some(from))
            && self.matches.as_ref().is_none_or(|matches| matches(event));
        if fits {
            self.got.borrow_mut().push_back(event.share());
        }
        fits
    }
}

/// Waits until a worker has ended, and its children. Returns at once if it does not run.
///
/// ```
/// use threadwire_worker::{Worker, wait_forever, wait_worker};
/// let worker = Worker::spawn(wait_forever);
/// worker.stop();
/// wait_worker(&worker)?;
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
pub fn wait_worker(worker: &Remote) -> Result<(), Stopped> {
    let event_loop = EventLoop::current();
    worker.0.tell_of_end(event_loop.node());
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

/// Forgets what [`later`] was to do. Returns whether it was still to come.
pub fn cancel(timer: TimerId) -> bool {
    EventLoop::current().cancel(timer)
}

/// To be called now and then by a task that computes, so that it can be stopped and paused, and its loop goes on. It costs
/// next to nothing: the loop turns only if there are events, or a millisecond has passed.
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
