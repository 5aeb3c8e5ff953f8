//! Joining several workers: all of them, or the first that ends.

use super::{Ended, Worker};
use crate::{EventLoop, Stopped};

/// Waits until all of these workers have ended, while this thread's loop goes on. How they ended comes in their order.
///
/// ```
/// use threadwire_worker::{Worker, join_all};
/// let workers = (1..=3).map(|number| Worker::spawn(move || Ok(10 * number)));
/// let sum: i32 = join_all(workers)?.into_iter().filter_map(|ended| ended.done()).sum();
/// assert_eq!(sum, 60);
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
pub fn join_all<R: Send + 'static>(
    workers: impl IntoIterator<Item = Worker<R>>,
) -> Result<Vec<Ended<R>>, Stopped> {
    // Lazily made workers all start before the first is waited for.
    let workers: Vec<_> = workers.into_iter().collect();
    workers.into_iter().map(Worker::join).collect()
}

/// The worker that has ended first, see [`race`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Winner<R> {
    /// The place of the winner among the workers.
    pub index: usize,
    /// The way in which the winner ended.
    pub ended: Ended<R>,
    /// The others, in their order: they are still at work.
    pub others: Vec<Worker<R>>,
}

/// Waits until one of these workers has ended, while this thread's loop goes on. The others are not stopped. Without any
/// workers it waits until this worker is stopped.
///
/// ```
/// use threadwire_worker::{Worker, race, wait_forever};
/// let slow = Worker::spawn(|| wait_forever().map(|()| "slow"));
/// let fast = Worker::spawn(|| Ok("fast"));
/// let winner = race([slow, fast])?;
/// assert_eq!((winner.index, winner.ended.done()), (1, Some("fast")));
/// for loser in winner.others {
///     loser.stop();
/// }
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
pub fn race<R: Send + 'static>(workers: impl IntoIterator<Item = Worker<R>>) -> Result<Winner<R>, Stopped> {
    let mut others: Vec<_> = workers.into_iter().collect();
    let event_loop = EventLoop::current();
    for worker in &others {
        worker.tell_of_end(&event_loop);
    }
    let mut first = None;
    event_loop.wait(None, || {
        first = others.iter().position(Worker::has_ended);
        first.is_some()
    })?;
    let index = first.expect("the wait ended because there was one");
    let ended = others.remove(index).take();
    Ok(Winner { index, ended, others })
}
