//! Errors of putting into a queue and of getting from one.

use std::fmt;

use crate::Stopped;

/// The reason why a value was not put into a queue, with the value.
///
/// ```
/// use threadwire_worker::{PutError, Queue};
/// let queue = Queue::new(1);
/// queue.put(1).unwrap();
/// match queue.try_put(2) {
///     Err(PutError::Full(number)) => println!("no room for {number}"),
///     other => println!("{other:?}"),
/// }
/// ```
#[derive(thiserror::Error)]
pub enum PutError<T> {
    /// There is no room, or there was none in the given time.
    #[error("the queue is full")]
    Full(T),
    /// The queue is closed.
    #[error("the queue is closed")]
    Closed(T),
    /// The worker of the calling thread was asked to stop.
    #[error("the worker was asked to stop")]
    Stopped(T),
    /// A task would wait for room in its own [`Pool`](crate::Pool), and so do all other threads of that: none is left to make room.
    #[error("all threads of the pool wait for room in it")]
    Deadlock(T),
}

impl<T> PutError<T> {
    /// The value that was to be put.
    ///
    /// ```
    /// use threadwire_worker::Queue;
    /// let queue = Queue::new(1);
    /// queue.close();
    /// assert_eq!(queue.put("a").unwrap_err().into_inner(), "a");
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            PutError::Full(value)
            | PutError::Closed(value)
            | PutError::Stopped(value)
            | PutError::Deadlock(value) => value,
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutError::Full(_) => "Full(..)",
            PutError::Closed(_) => "Closed(..)",
            PutError::Stopped(_) => "Stopped(..)",
            PutError::Deadlock(_) => "Deadlock(..)",
        })
    }
}

/// Why nothing was got from a queue.
///
/// ```
/// use threadwire_worker::{GetError, Queue};
/// let queue = Queue::<u32>::new(1);
/// match queue.try_get() {
///     Ok(number) => println!("{}", *number),
///     Err(GetError::Empty) => println!("later, perhaps"),
///     Err(GetError::Closed) => println!("no more"),
///     Err(GetError::Stopped(_)) => println!("stopped"),
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// There is nothing in it, or nothing came in the given time.
    #[error("the queue is empty")]
    Empty,
    /// The queue is closed, and all that was put has been got.
    #[error("the queue is closed")]
    Closed,
    /// The worker of the calling thread was asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
