//! Restartable workers: one identity, its handle and listeners, over many runs.

use std::error::Error;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::failure::Failure;
use super::{Builder, Ended, Worker};
use crate::event_loop::worker_state::WorkerState;
use crate::lock::Lock;
use crate::{EventLoop, Remote, Stopped};

/// A worker that is started when told to, with arguments, and can be started again when it has ended. All its runs are one
/// worker: its [`Remote`], to which this derefs, is good for all of them, and so are the listeners that were added with
/// [`Remote::listen`].
///
/// ```
/// use std::time::Duration;
/// use threadwire_worker::{Event, Restartable, Stopped, later, sleep};
///
/// let double = Restartable::new(|number: u32| {
///     sleep(Duration::from_millis(1))?;
///     Ok(2 * number)
/// });
/// for number in [1, 2] {
///     assert_eq!(double.start(number)?.join()?.done(), Some(2 * number));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Restartable<A, R> {
    remote: Remote,
    builder: Builder,
    task: RestartTask<A, R>,
}

type RestartTask<A, R> = Arc<Lock<dyn FnMut(A) -> Result<R, Failure> + Send>>;

/// A worker that was not started, with its arguments.
#[derive(thiserror::Error)]
#[error("the worker was not started: {reason}")]
pub struct NotStarted<A> {
    /// The arguments of the start.
    pub args: A,
    /// The reason.
    #[source]
    pub reason: StartError,
}

impl<A> fmt::Debug for NotStarted<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotStarted").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// The reason why a worker was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The worker is running.
    #[error("it is running")]
    Running,
    /// The system refuses another thread, or the parent has ended.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<A: Send + 'static, R: Send + 'static> Restartable<A, R> {
    /// A worker with this task, which does not run yet. [`Builder::restartable`] has settings.
    pub fn new(task: impl FnMut(A) -> Result<R, Stopped> + Send + 'static) -> Restartable<A, R> {
        Worker::builder().restartable(task)
    }

    /// As [`new`](Restartable::new), with a task that may return any error: see [`Worker::spawn_fallible`].
    ///
    /// ```
    /// use threadwire_worker::Restartable;
    /// let parse = Restartable::fallible(|text: &'static str| Ok(text.parse::<u32>()?));
    /// assert!(parse.start("one")?.join()?.into_result().is_err());
    /// assert_eq!(parse.start("2")?.join()?.into_result()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fallible(
        task: impl FnMut(A) -> Result<R, Box<dyn Error + Send + Sync>> + Send + 'static,
    ) -> Restartable<A, R> {
        Worker::builder().restartable_fallible(task)
    }

    /// Reaches the worker, in all its runs.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Starts the worker. Its parent is the current worker, unless it was given another.
    ///
    /// # Errors
    ///
    /// With the arguments, if the worker runs, or can't be started.
    pub fn start(&self, args: A) -> Result<Worker<R>, NotStarted<A>> {
        // The arguments can be taken back from here if the start fails.
        let args = Arc::new(Lock::new(Some(args)));
        let (task, taken) = (Arc::clone(&self.task), Arc::clone(&args));
        let run = move || {
            let args = taken.lock().take();
            run(&task, args.expect("a run begins once"))
        };
        self.builder.clone().launch(Arc::clone(&self.remote.0), run).map_err(|reason| {
            let args = args.lock().take();
            let reason = reason.map_or(StartError::Running, StartError::Io);
            NotStarted { args: args.expect("no run has begun"), reason }
        })
    }

    /// Runs the worker on the calling thread, and returns when it has ended. Meanwhile it is that thread's worker: events,
    /// waits and stops are its own. What the thread was before goes on afterwards.
    ///
    /// # Errors
    ///
    /// As [`start`](Restartable::start).
    ///
    /// ```
    /// use threadwire_worker::Restartable;
    /// let here = std::thread::current().id();
    /// let worker = Restartable::new(move |()| Ok(std::thread::current().id() == here));
    /// assert_eq!(worker.start_overlay(())?.done(), Some(true));
    /// # Ok::<(), threadwire_worker::NotStarted<()>>(())
    /// ```
    pub fn start_overlay(&self, args: A) -> Result<Ended<R>, NotStarted<A>> {
        let worker = &self.remote.0;
        if let Err(reason) = self.builder.start(worker) {
            return Err(NotStarted { args, reason: reason.map_or(StartError::Running, StartError::Io) });
        }
        let event_loop = EventLoop::new(Arc::clone(worker));
        let below = EventLoop::set_current(Some(event_loop));
        let is_main = below.as_ref().map_or_else(EventLoop::is_main_thread, |below| below.remote().is_main());
        worker.is_main.store(is_main, Ordering::Relaxed);
        let overlay = OverlayGuard { worker, below: Some(below) };
        let event_loop = EventLoop::current();
        let ended = self.builder.work(&event_loop, || run(&self.task, args));
        drop(overlay);
        worker.end(ended.outcome());
        Ok(ended)
    }
}

/// Gives a thread its former loop back.
struct OverlayGuard<'a> {
    worker: &'a Arc<WorkerState>,
    below: Option<Option<std::rc::Rc<EventLoop>>>,
}

impl Drop for OverlayGuard<'_> {
    fn drop(&mut self) {
        self.worker.inbox.close();
        self.worker.is_main.store(false, Ordering::Relaxed);
        drop(EventLoop::set_current(self.below.take().flatten()));
    }
}

fn run<A, R>(task: &RestartTask<A, R>, args: A) -> Result<R, Failure> {
    // A task that panicked in an earlier run is called again.
    let mut task = task.try_lock().expect("a worker runs once at a time");
    task(args)
}

impl Builder {
    /// A worker with these settings that can be started again and again. It does not run yet.
    ///
    /// ```
    /// use threadwire_worker::Worker;
    /// let worker = Worker::builder().name("again").restartable(|()| Ok(()));
    /// worker.start(())?.join()?;
    /// worker.start(())?.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn restartable<A: Send + 'static, R: Send + 'static>(
        self,
        task: impl FnMut(A) -> Result<R, Stopped> + Send + 'static,
    ) -> Restartable<A, R> {
        self.restartable_task(task)
    }

    /// As [`restartable`](Builder::restartable), with a task that may return any error: see [`Worker::spawn_fallible`].
    pub fn restartable_fallible<A: Send + 'static, R: Send + 'static>(
        self,
        task: impl FnMut(A) -> Result<R, Box<dyn Error + Send + Sync>> + Send + 'static,
    ) -> Restartable<A, R> {
        self.restartable_task(task)
    }

    fn restartable_task<A: Send + 'static, R: Send + 'static, E: Into<Failure>>(
        self,
        mut task: impl FnMut(A) -> Result<R, E> + Send + 'static,
    ) -> Restartable<A, R> {
        let task = move |args| task(args).map_err(E::into);
        let remote = Remote(self.make_state(true));
        Restartable { remote, builder: self, task: Arc::new(Lock::new(task)) }
    }
}

impl<A, R> Deref for Restartable<A, R> {
    type Target = Remote;

    fn deref(&self) -> &Remote {
        &self.remote
    }
}

impl<A, R> fmt::Debug for Restartable<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restartable").field("worker", &self.remote).finish_non_exhaustive()
    }
}
