//! Waits for an event of a type, by sender or predicate, with a timeout.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::listener::Filter;
use super::topic::MaybeShared;
use crate::{Event, EventLoop, Remote, Stopped, WorkerId};

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

    /// Restricts the wait to events that this worker has sent.
    pub fn from(mut self, sender: &Remote) -> EventWait<T> {
        self.from = Some(sender.id());
        self
    }

    /// Restricts the wait to events of which this is true.
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
        let waiter = Rc::new(EventWaiter {
            from: self.from,
            matches: self.matches,
            is_of_task,
            got: RefCell::default(),
        });
        if is_of_task {
            // Events that came for the task while it was held, and it already had one.
            for event in topic.take_kept() {
                waiter.offer(&mut MaybeShared::Shared(event));
            }
        }
        topic.add_waiter(Rc::clone(&waiter));
        let guard = OnDrop(|| topic.remove_waiter(&waiter));
        let waited = event_loop.wait(until, || !waiter.got.borrow().is_empty());
        drop(guard);
        waited?;
        let mut got = waiter.got.take();
        let first = got.pop_front();
        if !got.is_empty() {
            topic.keep(got);
            event_loop.set_keeping(topic.clone());
        }
        Ok(first)
    }
}

/// Calls something when it is dropped, so also if the wait panics.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A wait for an event that has begun.
pub(crate) struct EventWaiter<T> {
    from: Option<WorkerId>,
    matches: Option<Filter<T>>,
    /// Whether the task waits, and not a callback.
    is_of_task: bool,
    /// The events that came. More than one only while the task can't return.
    got: RefCell<VecDeque<Rc<Event<T>>>>,
}

impl<T> EventWaiter<T> {
    /// Takes an event if it fits. Returns whether it did.
    pub(crate) fn offer(&self, event: &mut MaybeShared<T>) -> bool {
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
