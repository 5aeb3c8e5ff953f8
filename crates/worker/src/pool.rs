//! A thread pool: a fixed number of threads that work off a bounded queue.
//!
//! Each thread has an event loop, which lives from one task to the next, so that what a task leaves to it (a connection,
//! a timer) goes on. A stop can't be taken back from a loop: after a task that was cancelled while it ran, the thread
//! ends its loop as a worker does, and begins another.

use std::cell::Cell;
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::thread;

use slab::Slab;
use threadwire_guard::Panicked;

use crate::lock::Lock;
use crate::promise::Settle;
use crate::worker::failure::Failure;
use crate::{Async, Defer, Ended, PromiseError, PutError, Queue, StopToken, Stopped, Worker};

/// Threads that run submitted tasks, in order, each with an event loop of its own.
///
/// - **Bounded**: [`submit`](Pool::submit) waits while as many tasks as the [capacity](PoolBuilder::capacity) wait for a
///   thread.
/// - **Isolated**: a panic is that task's [`PromiseError::Panicked`], and its thread goes on.
/// - **Stoppable**: [`Async::cancel`] takes back a task that has not begun, and stops one that runs: each of its waits
///   returns [`Stopped`]. A task that computes should call [`update`](crate::update) now and then.
/// - **Never waits for itself**: a task that shuts its own pool down gets [`ShutdownError::OwnTask`], and one that would wait for room in
///   it while all others do, [`PutError::Deadlock`].
/// - **Its drop** does not wait, and leaves nothing behind: it discards what has not begun, and stops what runs, like
///   [`shutdown_now`](Pool::shutdown_now). Call [`shutdown`](Pool::shutdown) to have all done, or get the results first.
///
/// A task must not wait for one that is behind it in the same pool: all threads might do that. A pool is shared by
/// reference or in an [`Arc`].
///
/// ```
/// use threadwire_worker::Pool;
///
/// let pool = Pool::new(2);
/// let sum = pool.submit(|| Ok((1..=100).sum::<u32>()))?;
/// let broken = pool.submit(|| -> Result<(), _> { panic!("broken") })?;
/// assert_eq!(sum.get()?, 5050);
/// assert_eq!(broken.get().unwrap_err().to_string(), "panicked: broken");
/// pool.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pool {
    shared: Arc<PoolState>,
    threads: usize,
    /// Resolved when the last thread has ended.
    ended: Defer<()>,
}

struct PoolState {
    jobs: Queue<Job>,
    running: Lock<RunningTasks>,
    /// The number of the pool's own threads that wait for room in it.
    stuck: AtomicUsize,
}

thread_local! {
    /// The pool whose thread this is, by its address, or 0.
    static POOL: Cell<usize> = const { Cell::new(0) };
    /// Whether this thread waits for room in its own pool.
    static IS_STUCK: Cell<bool> = const { Cell::new(false) };
}

/// The reason why the end of a pool was not waited for. The pool ends all the same.
///
/// ```
/// use std::sync::Arc;
/// use threadwire_worker::{Pool, ShutdownError};
///
/// let pool = Arc::new(Pool::new(1));
/// let same = Arc::clone(&pool);
/// let result = pool.submit(move || Ok(same.shutdown()))?;
/// assert_eq!(result.get()?, Err(ShutdownError::OwnTask));
/// pool.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// The worker of the calling thread was asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// It was called on a thread of the pool, which would wait for itself.
    #[error("a task can't wait for the end of its own pool")]
    OwnTask,
}

#[derive(Default)]
struct RunningTasks {
    tasks: Slab<StopToken>,
    /// Whether no task begins any more.
    halted: bool,
}

struct Job {
    run: Box<dyn FnOnce() + Send>,
    stop: StopToken,
}

/// So that a worker that waits for a pool can pass a stop on with `?`. A task of the pool itself then ends as one that was stopped.
impl From<ShutdownError> for Stopped {
    fn from(_: ShutdownError) -> Stopped {
        Stopped
    }
}

/// Settings of a pool, see [`Pool::builder`].
///
/// ```
/// use threadwire_worker::Pool;
/// let pool = Pool::builder().name("echo").threads(3).capacity(128).build()?;
/// assert_eq!((pool.threads(), pool.running(), pool.waiting()), (3, 0, 0));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PoolBuilder {
    name: String,
    threads: Option<usize>,
    capacity: Option<usize>,
}

impl PoolBuilder {
    /// The number of threads. As many as the machine runs at once by default.
    ///
    /// # Panics
    ///
    /// At [`build`](PoolBuilder::build), if the number is 0.
    pub fn threads(mut self, threads: usize) -> PoolBuilder {
        self.threads = Some(threads);
        self
    }

    /// The number of tasks that may wait for a thread. 4 for each thread by default.
    ///
    /// # Panics
    ///
    /// At [`build`](PoolBuilder::build), if the number is 0.
    pub fn capacity(mut self, capacity: usize) -> PoolBuilder {
        self.capacity = Some(capacity);
        self
    }

    /// The name of the threads, to which `-` and a number are added. `pool` by default.
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.name = name.into();
        self
    }

    /// Starts the threads. Fails if the system refuses one of them.
    pub fn build(self) -> io::Result<Pool> {
        let available = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = self.threads.unwrap_or_else(available);
        assert!(threads > 0, "a pool needs at least one thread");
        let jobs = Queue::new(self.capacity.unwrap_or(threads.saturating_mul(4)));
        let shared = Arc::new(PoolState { jobs, running: Lock::default(), stuck: AtomicUsize::new(0) });
        // If a thread is refused, the drop of the pool ends the others.
        let pool = Pool { shared: Arc::clone(&shared), threads, ended: Defer::new() };
        let end_signal = Arc::new(EndSignal(pool.ended.clone()));
        for number in 0..threads {
            let (shared, end_signal) = (Arc::clone(&shared), Arc::clone(&end_signal));
            thread::Builder::new().name(format!("{}-{number}", self.name)).spawn(move || {
                POOL.set(shared.address());
                threadwire_guard::contain("the end of a pool's thread", || shared.work());
                drop(end_signal);
            })?;
        }
        Ok(pool)
    }
}

/// Resolves the promise of the end of a pool when its last clone is dropped. Held by all threads of the pool.
struct EndSignal(Defer<()>);

impl Drop for EndSignal {
    fn drop(&mut self) {
        // The threads of the pool alone resolve the promise of their end.
        let _ = self.0.resolve(());
    }
}

impl Pool {
    /// A pool of `threads` threads, with room for 4 waiting tasks for each.
    ///
    /// # Panics
    ///
    /// If `threads` is 0, or if the system refuses a thread; [`PoolBuilder::build`] returns an error instead.
    pub fn new(threads: usize) -> Pool {
        Pool::builder().threads(threads).build().expect("the system refuses to start a thread")
    }

    /// A pool with settings.
    ///
    /// ```
    /// use threadwire_worker::Pool;
    /// let pool = Pool::builder().name("resize").threads(2).capacity(16).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder() -> PoolBuilder {
        PoolBuilder { name: "pool".to_owned(), threads: None, capacity: None }
    }

    /// Has `task` run on one of the threads, and waits for room if too many wait for one.
    ///
    /// The error gives `task` back: [`PutError::Closed`] if the pool was shut down, [`PutError::Stopped`] if the worker
    /// of this thread is asked to stop, and [`PutError::Deadlock`] if this is a task of the pool itself, and all its other threads
    /// wait for room already.
    ///
    /// ```
    /// use threadwire_worker::Pool;
    /// let pool = Pool::new(1);
    /// let name = "Ada".to_owned();
    /// let greeting = pool.submit(move || Ok(format!("Hello, {name}!")))?;
    /// assert_eq!(greeting.get()?, "Hello, Ada!");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit<T, F>(&self, task: F) -> Result<Async<T>, PutError<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Stopped> + Send + 'static,
    {
        self.submit_task(task)
    }

    /// As [`submit`](Pool::submit), for a task that may return any error, which becomes [`PromiseError::Rejected`]: see
    /// [`Worker::spawn_fallible`].
    ///
    /// ```
    /// use threadwire_worker::Pool;
    /// let pool = Pool::new(1);
    /// let number = pool.submit_fallible(|| Ok("12".parse::<u32>()?))?;
    /// assert_eq!(number.get()?, 12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit_fallible<T, F>(&self, task: F) -> Result<Async<T>, PutError<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        self.submit_task(task)
    }

    fn submit_task<T, E, F>(&self, task: F) -> Result<Async<T>, PutError<F>>
    where
        T: Send + 'static,
        E: Into<Failure>,
        F: FnOnce() -> Result<T, E> + Send + 'static,
    {
        // A pool dropped or shut down before the task begins has cancelled it.
        let (promise, settle) = Async::new(PromiseError::Cancelled);
        let mut job = (task, settle);
        let mut stuck = None;
        if self.is_own_thread() && !IS_STUCK.get() {
            job = match self.shared.jobs.try_put_with(job, Job::new) {
                Ok(()) => return Ok(promise),
                Err(PutError::Full(job)) => job,
                Err(error) => return Err(give_back(error)),
            };
            stuck = Stuck::enter(&self.shared, self.threads);
            if stuck.is_none() {
                return Err(PutError::Deadlock(job.0));
            }
        }
        let put = self.shared.jobs.put_with(None, job, Job::new);
        drop(stuck);
        put.map_err(give_back)?;
        Ok(promise)
    }

    /// As [`submit`](Pool::submit), if there is room now, else [`PutError::Full`]. Never turns the loop.
    ///
    /// ```
    /// use threadwire_worker::{Defer, Pool, PutError};
    /// let pool = Pool::builder().threads(1).capacity(1).build()?;
    /// let started = Defer::new();
    /// let running = pool.submit({
    ///     let started = started.clone();
    ///     move || {
    ///         let _ = started.resolve(());
    ///         threadwire_worker::wait_forever()
    ///     }
    /// })?;
    /// started.get()?;
    /// let waiting = pool.try_submit(|| Ok(()))?;
    /// assert!(matches!(pool.try_submit(|| Ok(())), Err(PutError::Full(_))));
    /// # running.cancel();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_submit<T, F>(&self, task: F) -> Result<Async<T>, PutError<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Stopped> + Send + 'static,
    {
        let (promise, settle) = Async::new(PromiseError::Cancelled);
        self.shared.jobs.try_put_with((task, settle), Job::new).map_err(give_back)?;
        Ok(promise)
    }

    /// Runs `task` for each of `inputs`, several at a time, and gives the results in the order of the inputs. Inputs are
    /// taken as there is room in the pool, the first of them when the first result is asked for. Dropping the iterator
    /// cancels the tasks whose results it has not given.
    ///
    /// An item is an error if its task panicked or was cancelled; the others go on. It ends after the last input, or with
    /// [`PromiseError::Stopped`] if the worker of this thread is asked to stop, or with [`PromiseError::Cancelled`] for the
    /// first input that a pool that was shut down does not take.
    ///
    /// ```
    /// use threadwire_worker::Pool;
    /// let pool = Pool::new(2);
    /// let squares: Result<Vec<u32>, _> = pool.map(1..=4, |number| Ok(number * number)).collect();
    /// assert_eq!(squares?, [1, 4, 9, 16]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn map<I, T, F>(&self, inputs: I, task: F) -> Map<'_, I::IntoIter, T>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        T: Send + 'static,
        F: Fn(I::Item) -> Result<T, Stopped> + Send + Sync + 'static,
    {
        let inputs = inputs.into_iter();
        Map { pool: self, inputs, task: Arc::new(task), next: None, results: VecDeque::new(), ended: false }
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The number of tasks that wait for a thread now, those included that were cancelled meanwhile.
    pub fn waiting(&self) -> usize {
        self.shared.jobs.len()
    }

    /// The number of tasks that run now. A task whose result is there may count for a moment more.
    pub fn running(&self) -> usize {
        self.shared.running().tasks.len()
    }

    /// Takes no more tasks, and waits until all that were submitted are done and the threads have ended, while the loop
    /// of this thread turns. `Err` if the worker of this thread is asked to stop meanwhile, or if this is one of the pool's own
    /// threads; the pool goes on to its end then.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use threadwire_worker::Pool;
    /// static DONE: AtomicU32 = AtomicU32::new(0);
    /// let pool = Pool::new(2);
    /// for _ in 0..10 {
    ///     pool.submit(|| Ok(DONE.fetch_add(1, Ordering::Relaxed)))?;
    /// }
    /// pool.shutdown()?;
    /// assert_eq!(DONE.load(Ordering::Relaxed), 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self) -> Result<(), ShutdownError> {
        self.shared.jobs.close();
        self.wait_for_threads()
    }

    /// As [`shutdown`](Pool::shutdown), but tasks that have not begun are discarded, and those that run are stopped:
    /// [`PromiseError::Cancelled`] for those who wait for them. A task that computes and never looks is still waited for.
    ///
    /// ```
    /// use threadwire_worker::{Pool, PromiseError, wait_forever};
    /// let pool = Pool::new(2);
    /// let endless = pool.submit(wait_forever)?;
    /// pool.shutdown_now()?;
    /// assert!(matches!(endless.get(), Err(PromiseError::Cancelled)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown_now(&self) -> Result<(), ShutdownError> {
        self.halt();
        self.wait_for_threads()
    }

    fn halt(&self) {
        let running: Vec<StopToken> = {
            let mut running = self.shared.running();
            running.halted = true;
            running.tasks.iter().map(|(_, stop)| stop.clone()).collect()
        };
        self.shared.jobs.close();
        let discarded = self.shared.jobs.discard();
        for stop in running {
            stop.stop();
        }
        threadwire_guard::discard_all(discarded);
    }

    fn is_own_thread(&self) -> bool {
        POOL.get() == self.shared.address()
    }

    fn wait_for_threads(&self) -> Result<(), ShutdownError> {
        if self.is_own_thread() {
            return Err(ShutdownError::OwnTask);
        }
        match self.ended.get() {
            Err(PromiseError::Stopped(stopped)) => Err(stopped.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.halt();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads)
            .field("running", &self.running())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

impl Job {
    fn new<T, E, F>((task, settle): (F, Settle<T>)) -> Job
    where
        T: Send + 'static,
        E: Into<Failure>,
        F: FnOnce() -> Result<T, E> + Send + 'static,
    {
        Job {
            stop: settle.stop_token().clone(),
            run: Box::new(move || threadwire_guard::discard(settle.run(task))),
        }
    }
}

fn give_back<F, T>(error: PutError<(F, Settle<T>)>) -> PutError<F> {
    match error {
        PutError::Full((task, _)) => PutError::Full(task),
        PutError::Closed((task, _)) => PutError::Closed(task),
        PutError::Stopped((task, _)) => PutError::Stopped(task),
        PutError::Deadlock((task, _)) => PutError::Deadlock(task),
    }
}

/// A thread of a pool that waits for room in it.
struct Stuck<'a>(&'a PoolState);

impl Stuck<'_> {
    /// `None` if all others of the threads wait already: none would be left to make room.
    fn enter(pool: &PoolState, threads: usize) -> Option<Stuck<'_>> {
        let stuck = Stuck(pool);
        let others = pool.stuck.fetch_add(1, Ordering::SeqCst);
        IS_STUCK.set(true);
        // Those that come at the same time all count each other: at least one of them goes on.
        (others + 1 < threads).then_some(stuck)
    }
}

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        IS_STUCK.set(false);
        self.0.stuck.fetch_sub(1, Ordering::SeqCst);
    }
}

impl PoolState {
    /// The identity of the pool.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn running(&self) -> MutexGuard<'_, RunningTasks> {
        self.running.lock()
    }

    /// The life of a thread: loop after loop, until the queue has ended.
    fn work(&self) {
        loop {
            match Worker::builder().run(|| self.serve()) {
                Ended::Done(()) => return,
                // A task was stopped, and the loop with it. (The errors of tasks are for those who get their results.)
                Ended::Stopped | Ended::Failed(_) => {}
                // The panic of a callback that a task has left to the loop.
                Ended::Panicked(payload) => {
                    let error = Panicked::from(payload);
                    tracing::error!(%error, "a callback panicked on an idle thread of a pool");
                }
            }
        }
    }

    fn serve(&self) -> Result<(), Stopped> {
        // A cancel that stopped the loop is seen by the next get.
        while let Some(job) = self.jobs.get()? {
            self.run(job.into_inner());
        }
        Ok(())
    }

    fn run(&self, job: Job) {
        let place = {
            let mut running = self.running();
            if running.halted {
                drop(running);
                return threadwire_guard::discard(job.run);
            }
            running.tasks.insert(job.stop)
        };
        // The task's own panics are its result; this is one of a value's drop.
        threadwire_guard::contain("a value that a pool drops", job.run);
        self.running().tasks.remove(place);
    }
}

type BoxedTask<T> = Box<dyn FnOnce() -> Result<T, Stopped> + Send>;

/// Results in the order of their inputs, see [`Pool::map`].
pub struct Map<'a, I: Iterator, T> {
    pool: &'a Pool,
    inputs: I,
    task: Arc<dyn Fn(I::Item) -> Result<T, Stopped> + Send + Sync>,
    /// The task that the pool had no room for.
    next: Option<BoxedTask<T>>,
    results: VecDeque<Async<T>>,
    ended: bool,
}

impl<I, T> Map<'_, I, T>
where
    I: Iterator,
    I::Item: Send + 'static,
    T: Send + 'static,
{
    fn next_task(&mut self) -> Option<BoxedTask<T>> {
        let next = self.next.take();
        next.or_else(|| {
            let input = self.inputs.next()?;
            let task = Arc::clone(&self.task);
            Some(Box::new(move || task(input)))
        })
    }

    /// Submits what there is room for, and waits for room only if there is no result to wait for.
    fn fill(&mut self) -> Result<(), PromiseError> {
        let most = self.pool.threads.saturating_add(self.pool.shared.jobs.capacity());
        while self.results.len() < most
            && let Some(task) = self.next_task()
        {
            let submitted =
                if self.results.is_empty() { self.pool.submit(task) } else { self.pool.try_submit(task) };
            match submitted {
                Ok(result) => self.results.push_back(result),
                Err(PutError::Stopped(_)) => return Err(Stopped.into()),
                Err(PutError::Deadlock(_)) => return Err(PromiseError::Deadlock),
                Err(refused) => {
                    let closed = matches!(refused, PutError::Closed(_));
                    self.next = Some(refused.into_inner());
                    if closed && self.results.is_empty() {
                        return Err(PromiseError::Cancelled);
                    }
                    break;
                }
            }
        }
        Ok(())
    }
}

impl<I, T> Iterator for Map<'_, I, T>
where
    I: Iterator,
    I::Item: Send + 'static,
    T: Send + 'static,
{
    type Item = Result<T, PromiseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let result = match self.fill() {
            Ok(()) => self.results.front().map(Async::get),
            Err(error) => Some(Err(error)),
        };
        match result {
            Some(Ok(_)) => drop(self.results.pop_front()),
            Some(Err(PromiseError::Stopped(_))) | None => self.ended = true,
            // The error of one task, or of a pool that takes no more, or has no thread left for it.
            Some(Err(_)) => self.ended = self.results.pop_front().is_none(),
        }
        result
    }
}

impl<I: Iterator, T> Drop for Map<'_, I, T> {
    fn drop(&mut self) {
        for result in &self.results {
            result.cancel();
        }
    }
}

impl<I: Iterator, T> fmt::Debug for Map<'_, I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("submitted", &self.results.len()).finish_non_exhaustive()
    }
}
