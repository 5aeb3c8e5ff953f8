//! A bounded queue between threads, with backpressure on those who put.
//!
//! One short lock guards a ring of items and three lines of waiters: for an item, for room, and for all to be done. `waiters.rs`
//! tells how a thread waits in a line, and why no wake-up is lost.

mod error;
mod waiters;

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use error::{GetError, PutError};

use self::waiters::{Attempt, Monitor, ToWake, WaitLine, WaitLines, Waiters};
use crate::Stopped;

const GETTERS: WaitLine = 0;
const PUTTERS: WaitLine = 1;
const JOINERS: WaitLine = 2;

/// A bounded queue from any number of threads to any number of threads, first in, first out. Clones are the same
/// queue.
///
/// All waits - for an item, for room, for all to be done - keep the loop of their thread turning, and end with its worker's
/// stop. Waiting threads are woken in the order in which they came; one that comes while an item
/// (or room) is there takes it at once. A thread that never has to wait still gives its loop a turn every 128 calls.
///
/// The queue ends when somebody [closes](Queue::close) it: dropping handles closes nothing.
///
/// ```
/// use threadwire_worker::{Queue, Worker};
///
/// let queue = Queue::new(4);
/// let consumer = Worker::spawn({
///     let queue = queue.clone();
///     move || {
///         let mut sum = 0;
///         while let Some(number) = queue.get()? {
///             sum += *number;
///         }
///         Ok(sum)
///     }
/// });
/// for number in 1..=100 {
///     queue.put(number)?;
/// }
/// queue.close();
/// assert_eq!(consumer.join()?.done(), Some(5050));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Queue<T>(Arc<Monitor<QueueState<T>>>);

struct QueueState<T> {
    items: VecDeque<T>,
    capacity: usize,
    closed: bool,
    /// The number of items that were put and are not done: those in the queue, and those in the hands of getters.
    unfinished: usize,
    lines: [Waiters; 3],
}

impl<T: Send + 'static> WaitLines for QueueState<T> {
    #[inline]
    fn line(&mut self, line: WaitLine) -> &mut Waiters {
        &mut self.lines[line]
    }

    fn has_room_for(&self, line: WaitLine) -> bool {
        match line {
            GETTERS => !self.items.is_empty(),
            PUTTERS => self.items.len() < self.capacity,
            _ => self.unfinished == 0,
        }
    }
}

impl<T: Send + 'static> QueueState<T> {
    #[inline]
    fn wake_first(&mut self, line: WaitLine) -> Option<ToWake> {
        self.lines[line].wake_first().map(|waiter| (line, waiter))
    }

    fn wake_all(&mut self, line: WaitLine) -> Vec<ToWake> {
        self.lines[line].wake_all().into_iter().map(|waiter| (line, waiter)).collect()
    }

    fn finish(&mut self, count: usize) -> Vec<ToWake> {
        self.unfinished -= count;
        if self.unfinished == 0 { self.wake_all(JOINERS) } else { Vec::new() }
    }
}

impl<T: Send + 'static> Queue<T> {
    /// A queue with room for `capacity` items. The memory for them is taken as they come.
    ///
    /// # Panics
    ///
    /// If there is room for none.
    ///
    /// ```
    /// use threadwire_worker::Queue;
    /// let queue = Queue::<String>::new(20);
    /// assert_eq!((queue.len(), queue.capacity()), (0, 20));
    /// ```
    pub fn new(capacity: usize) -> Queue<T> {
        assert!(capacity > 0, "a queue needs room for at least one item");
        Queue(Monitor::new(QueueState {
            items: VecDeque::new(),
            capacity,
            closed: false,
            unfinished: 0,
            lines: Default::default(),
        }))
    }

    /// Puts `value` behind all others, and waits for room if there is none.
    ///
    /// Fails if the queue is closed, also meanwhile, or if the worker of this thread is asked to stop. The error gives
    /// `value` back.
    pub fn put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_with(None, value, std::convert::identity)
    }

    /// As [`put`](Queue::put), if there is room now. Never turns the loop, and does not care whether this thread is asked to stop.
    ///
    /// ```
    /// use threadwire_worker::{PutError, Queue};
    /// let queue = Queue::new(1);
    /// queue.try_put(1)?;
    /// assert!(matches!(queue.try_put(2), Err(PutError::Full(2))));
    /// # Ok::<(), PutError<i32>>(())
    /// ```
    pub fn try_put(&self, value: T) -> Result<(), PutError<T>> {
        self.try_put_with(value, std::convert::identity)
    }

    /// As [`put`](Queue::put), but waits for at most `timeout`: then it fails with
    /// [`Full`](PutError::Full).
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire_worker::{PutError, Queue};
    /// let queue = Queue::new(1);
    /// queue.put_timeout(1, Duration::from_millis(1))?;
    /// assert!(matches!(queue.put_timeout(2, Duration::from_millis(1)), Err(PutError::Full(2))));
    /// # Ok::<(), PutError<i32>>(())
    /// ```
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_with(Instant::now().checked_add(timeout), value, std::convert::identity)
    }

    /// Puts the item that `make` makes of `value`, when there is room. It is made under the lock.
    pub(crate) fn put_with<S>(
        &self,
        until: Option<Instant>,
        value: S,
        make: impl Fn(S) -> T,
    ) -> Result<(), PutError<S>> {
        let mut value = Some(value);
        let mut closed = false;
        let put = self.0.wait(PUTTERS, until, |state| {
            if state.closed {
                closed = true;
                return Attempt::Done((), None);
            }
            if state.items.len() >= state.capacity {
                return Attempt::NotYet;
            }
            Attempt::Done((), state.push(value.take().map(&make)))
        });
        match (value, put) {
            (None, _) => Ok(()),
            (Some(value), _) if closed => Err(PutError::Closed(value)),
            (Some(value), Err(Stopped)) => Err(PutError::Stopped(value)),
            (Some(value), Ok(_)) => Err(PutError::Full(value)),
        }
    }

    pub(crate) fn try_put_with<S>(&self, value: S, make: impl FnOnce(S) -> T) -> Result<(), PutError<S>> {
        let wake = {
            let mut state = self.0.lock();
            if state.closed {
                return Err(PutError::Closed(value));
            }
            if state.items.len() >= state.capacity {
                return Err(PutError::Full(value));
            }
            state.push(Some(make(value)))
        };
        self.0.tell(wake);
        Ok(())
    }

    /// Takes the first item, and waits for one if there is none. `None` when the queue is closed and empty: there will
    /// be no more. The item counts as unfinished until the [`Task`] is dropped, see [`join`](Queue::join).
    pub fn get(&self) -> Result<Option<Task<T>>, Stopped> {
        let got = self.wait_for_item(None)?;
        Ok(got.expect("a wait without a timeout ends with what it waited for"))
    }

    /// Takes the first item if there is one now. Never turns the loop, and does not care whether this thread is asked to
    /// stop.
    ///
    /// ```
    /// use threadwire_worker::{GetError, Queue};
    /// let queue = Queue::new(1);
    /// assert_eq!(queue.try_get().unwrap_err(), GetError::Empty);
    /// queue.put(1)?;
    /// queue.close();
    /// assert_eq!(*queue.try_get()?, 1);
    /// assert_eq!(queue.try_get().unwrap_err(), GetError::Closed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_get(&self) -> Result<Task<T>, GetError> {
        let (value, wake) = {
            let mut state = self.0.lock();
            match state.items.pop_front() {
                Some(value) => (value, state.wake_first(PUTTERS)),
                None if state.closed => return Err(GetError::Closed),
                None => return Err(GetError::Empty),
            }
        };
        self.0.tell(wake);
        Ok(self.task(value))
    }

    /// As [`get`](Queue::get), but waits for at most `timeout`: then it fails with
    /// [`Empty`](GetError::Empty).
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire_worker::{GetError, Queue};
    /// let queue = Queue::<u32>::new(1);
    /// assert_eq!(queue.get_timeout(Duration::from_millis(1)).unwrap_err(), GetError::Empty);
    /// ```
    pub fn get_timeout(&self, timeout: Duration) -> Result<Task<T>, GetError> {
        match self.wait_for_item(Instant::now().checked_add(timeout))? {
            Some(got) => got.ok_or(GetError::Closed),
            None => Err(GetError::Empty),
        }
    }

    fn wait_for_item(&self, until: Option<Instant>) -> Result<Option<Option<Task<T>>>, Stopped> {
        let got = self.0.wait(GETTERS, until, |state| match state.items.pop_front() {
            Some(value) => Attempt::Done(Some(value), state.wake_first(PUTTERS)),
            None if state.closed => Attempt::Done(None, None),
            None => Attempt::NotYet,
        })?;
        Ok(got.map(|got| got.map(|value| self.task(value))))
    }

    fn task(&self, value: T) -> Task<T> {
        Task { value, _unfinished: Unfinished(Arc::clone(&self.0)) }
    }

    /// Gets one item after the other until the queue is closed and empty, or this thread's worker is asked to stop:
    /// then the last item is `Err(Stopped)`. `for task in &queue` is the same.
    ///
    /// ```
    /// use threadwire_worker::Queue;
    /// let queue = Queue::new(2);
    /// queue.put("a")?;
    /// queue.put("b")?;
    /// queue.close();
    /// for task in &queue {
    ///     println!("{}", *task?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self, ended: false }
    }

    /// Takes no more: every put fails from now on, also those that wait, and gives its value back. What is in the queue
    /// can still be got; then gets end. Returns whether it was open.
    ///
    /// ```
    /// use threadwire_worker::{PutError, Queue};
    /// let queue = Queue::new(2);
    /// queue.put("last")?;
    /// queue.close();
    /// assert!(matches!(queue.put("late"), Err(PutError::Closed("late"))));
    /// assert_eq!(*queue.get()?.unwrap(), "last");
    /// assert!(queue.get()?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) -> bool {
        let (wakes, was_open) = {
            let mut state = self.0.lock();
            let was_open = !std::mem::replace(&mut state.closed, true);
            let mut wakes = state.wake_all(GETTERS);
            wakes.append(&mut state.wake_all(PUTTERS));
            (wakes, was_open)
        };
        self.0.tell(wakes);
        was_open
    }

    /// Takes out all that is in the queue, first first. It counts as done. After [`close`](Queue::close), it ends a queue at
    /// once.
    ///
    /// ```
    /// use threadwire_worker::Queue;
    /// let queue = Queue::new(2);
    /// queue.put(1)?;
    /// queue.close();
    /// assert_eq!(queue.discard(), [1]);
    /// assert!(queue.get()?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard(&self) -> Vec<T> {
        let (items, wakes) = {
            let mut state = self.0.lock();
            let items = std::mem::take(&mut state.items);
            let mut wakes = state.finish(items.len());
            wakes.extend((0..items.len()).map_while(|_| state.wake_first(PUTTERS)));
            (items, wakes)
        };
        self.0.tell(wakes);
        items.into()
    }

    /// Waits until all that was put is done: it was got, and its [`Task`] was dropped. At once if nothing was ever put.
    /// If items are left that nobody gets, only a stop ends it.
    ///
    /// ```
    /// use threadwire_worker::{Queue, Worker};
    /// let queue = Queue::new(8);
    /// let printer = Worker::spawn({
    ///     let queue = queue.clone();
    ///     move || loop {
    ///         let Some(line) = queue.get()? else { return Ok(()) };
    ///         println!("{}", *line);
    ///     }
    /// });
    /// queue.put("one")?;
    /// queue.put("two")?;
    /// queue.join()?; // both are printed
    /// printer.stop();
    /// # printer.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join(&self) -> Result<(), Stopped> {
        self.wait_until_done(None).map(|_| ())
    }

    /// As [`join`](Queue::join), for at most `timeout`. Returns whether all is done.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire_worker::Queue;
    /// let queue = Queue::new(1);
    /// queue.put("nobody gets it")?;
    /// assert!(!queue.join_timeout(Duration::from_millis(1))?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool, Stopped> {
        self.wait_until_done(Instant::now().checked_add(timeout))
    }

    fn wait_until_done(&self, until: Option<Instant>) -> Result<bool, Stopped> {
        let done = self.0.wait(JOINERS, until, |state| match state.unfinished {
            0 => Attempt::Done((), None),
            _ => Attempt::NotYet,
        })?;
        Ok(done.is_some())
    }

    /// The number of items in the queue now.
    pub fn len(&self) -> usize {
        self.0.lock().items.len()
    }

    /// Whether the queue is empty now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of items that the queue has room for.
    pub fn capacity(&self) -> usize {
        self.0.lock().capacity
    }

    /// The number of items that were put and are not done: those in the queue, and those whose [`Task`] is alive.
    pub fn unfinished(&self) -> usize {
        self.0.lock().unfinished
    }

    /// Whether the queue is closed, and takes no more.
    pub fn is_closed(&self) -> bool {
        self.0.lock().closed
    }
}

impl<T: Send + 'static> QueueState<T> {
    #[inline]
    fn push(&mut self, value: Option<T>) -> Option<ToWake> {
        self.items.push_back(value?);
        self.unfinished += 1;
        self.wake_first(GETTERS)
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Queue")
            .field("len", &state.items.len())
            .field("capacity", &state.capacity)
            .field("closed", &state.closed)
            .field("unfinished", &state.unfinished)
            .finish()
    }
}

/// An item that was got from a [`Queue`]. It counts as done when this is dropped - also by a panic, so that
/// [`Queue::join`] does not wait for it forever.
///
/// ```
/// use threadwire_worker::Queue;
/// let queue = Queue::new(1);
/// queue.put("work".to_owned())?;
/// let mut task = queue.get()?.unwrap();
/// task.push_str(" done");
/// assert_eq!(queue.unfinished(), 1);
/// assert_eq!(task.into_inner(), "work done");
/// assert_eq!(queue.unfinished(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Task<T: Send + 'static> {
    // The value is dropped before it counts as done.
    value: T,
    _unfinished: Unfinished<T>,
}

struct Unfinished<T: Send + 'static>(Arc<Monitor<QueueState<T>>>);

impl<T: Send + 'static> Task<T> {
    /// The item itself. It counts as done from here on.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T: Send + 'static> Drop for Unfinished<T> {
    fn drop(&mut self) {
        let wakes = self.0.lock().finish(1);
        self.0.tell(wakes);
    }
}

impl<T: Send + 'static> Deref for Task<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Send + 'static> DerefMut for Task<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Send + 'static + fmt::Debug> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.value).finish()
    }
}

/// The items of a [`Queue`], see [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Send + 'static> {
    queue: &'a Queue<T>,
    ended: bool,
}

impl<T: Send + 'static> Iterator for Iter<'_, T> {
    type Item = Result<Task<T>, Stopped>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.queue.get().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl<T: Send + 'static> FusedIterator for Iter<'_, T> {}

impl<'a, T: Send + 'static> IntoIterator for &'a Queue<T> {
    type Item = Result<Task<T>, Stopped>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
