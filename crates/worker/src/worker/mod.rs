//! Workers: threads that live around an event loop, with a result.

pub(crate) mod failure;
pub(crate) mod join;
pub(crate) mod restart;

use std::any::Any;
use std::error::Error;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use self::failure::Failure;
use crate::event_loop::timer;
use crate::event_loop::worker_state::WorkerState;
use crate::lock::Lock;
use crate::{ChildChange, EventLoop, Outcome, Overflow, Remote, Stopped};

/// A thread with an event loop. It is stopped when its parent ends, but not when this is dropped.
///
/// A worker derefs to its [`Remote`]: `worker.fire(..)`, `worker.stop()`, `worker.pause()` and so on.
#[derive(Debug)]
pub struct Worker<R> {
    remote: Remote,
    /// The number of the worker's run.
    run: u64,
    result: Arc<ResultSlot<R>>,
}

/// The end of a worker, with its result.
#[derive(Debug)]
pub enum Ended<R> {
    /// The task returned this.
    Done(R),
    /// The worker was stopped: its task passed [`Stopped`] on.
    Stopped,
    /// The task returned this error, as those of [`Worker::spawn_fallible`] may.
    Failed(Box<dyn Error + Send + Sync>),
    /// The task panicked, with this payload.
    Panicked(Box<dyn Any + Send>),
}

impl<R> Ended<R> {
    /// Whether the worker was stopped.
    pub fn was_stopped(&self) -> bool {
        matches!(self, Ended::Stopped)
    }

    /// The result of the task, if it came to its end.
    pub fn done(self) -> Option<R> {
        match self {
            Ended::Done(result) => Some(result),
            _ => None,
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Ended::Done(_) => Outcome::Done,
            Ended::Stopped => Outcome::Stopped,
            Ended::Failed(error) => Outcome::Failed(failure::printed(&**error)),
            Ended::Panicked(payload) => Outcome::Panicked(threadwire_guard::message(&**payload).to_owned()),
        }
    }
}

/// The place where a worker leaves its end, for who joins it.
type ResultSlot<R> = Lock<Option<Ended<R>>>;

/// Settings of a worker, see [`Worker::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    name: Option<Arc<str>>,
    grace: Duration,
    parent: Parent,
    daemon: Option<bool>,
    limit: Option<(usize, Overflow)>,
    busy_poll: Option<Duration>,
    stall_limit: Option<Duration>,
}

#[derive(Clone, Debug)]
enum Parent {
    /// The worker that starts it.
    Current,
    Nobody,
    Chosen(Remote),
}

impl Builder {
    /// The name of the worker and its thread, as debuggers, panic messages and logs show it. None by default.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into().into());
        self
    }

    /// The time that the sources of the worker's loop (such as connections, which close orderly) may take to finish once
    /// its task has ended. 10 s by default.
    pub fn grace(mut self, grace: Duration) -> Builder {
        self.grace = grace;
        self
    }

    /// The worker that stops this one when it ends. By default that is the one that starts it; a thread that is no worker
    /// stops those that it has started too, when it ends.
    ///
    /// ```
    /// use threadwire_worker::{Worker, wait_forever};
    /// let parent = Worker::spawn(wait_forever);
    /// let child = Worker::builder().parent(&parent).spawn(wait_forever)?;
    /// parent.stop();
    /// assert!(child.join()?.was_stopped());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parent(mut self, parent: &Remote) -> Builder {
        self.parent = Parent::Chosen(parent.clone());
        self
    }

    /// No worker stops this one when it ends, and nobody waits for it or reports it at the end of the process.
    pub fn no_parent(mut self) -> Builder {
        self.parent = Parent::Nobody;
        self
    }

    /// Whether the parent, when it ends, only stops this worker and does not wait for it. The worker then belongs to the next
    /// one up; a thread that is no worker waits for it for a [time](EventLoop::set_grace), and reports it if it is still
    /// there. By default as the parent is; `false` where there is none.
    pub fn daemon(mut self, daemon: bool) -> Builder {
        self.daemon = Some(daemon);
        self
    }

    /// Limits the events that may be queued for the worker, with a policy for those that are too many. Without a limit by
    /// default. Calls ([`Remote::post`]), the library's own events and what the worker fires at itself go past it.
    ///
    /// ```
    /// use threadwire_worker::{Overflow, Undeliverable, Worker};
    /// let (go, goes) = std::sync::mpsc::channel::<()>();
    /// let worker = Worker::builder().inbox(1, Overflow::Error).spawn(move || Ok(goes.recv().is_ok()))?;
    /// worker.fire("taken")?;
    /// assert_eq!(worker.fire("too many").unwrap_err().reason, Undeliverable::Full);
    /// # drop(go);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn inbox(mut self, limit: usize, overflow: Overflow) -> Builder {
        self.limit = Some((limit, overflow));
        self
    }

    /// Has the worker's loop poll without sleeping for up to `spin` since something last happened, see
    /// [`EventLoop::set_busy_poll`]: that takes a core. By default it sleeps at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire_worker::{Worker, wait_event};
    ///
    /// let spin = Duration::from_millis(1);
    /// let worker = Worker::builder().busy_poll(spin).spawn(|| Ok(wait_event::<u32>()?.data))?;
    /// worker.fire(7u32)?;
    /// assert_eq!(worker.join()?.done(), Some(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn busy_poll(mut self, spin: Duration) -> Builder {
        self.busy_poll = Some(spin);
        self
    }

    /// Reports a stall when a callback, or the task, holds the worker's loop for longer than `limit`, see
    /// [`EventLoop::set_stall_limit`]. By default nothing is reported.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire_worker::{Stalled, Worker, wait_event};
    ///
    /// let limit = Duration::from_millis(20);
    /// let worker = Worker::builder().stall_limit(limit).spawn(|| Ok(wait_event::<Stalled>()?.data.clone()))?;
    /// worker.post(|_| std::thread::sleep(Duration::from_millis(40)))?;
    /// let stalled = worker.join()?.done().unwrap();
    /// assert!(stalled.what.starts_with("the call "));
    /// assert!(stalled.held >= Duration::from_millis(40));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stall_limit(mut self, limit: Duration) -> Builder {
        self.stall_limit = Some(limit);
        self
    }

    /// Starts the worker. Fails if the system refuses another thread, or if the chosen parent has ended.
    pub fn spawn<R: Send + 'static>(
        self,
        task: impl FnOnce() -> Result<R, Stopped> + Send + 'static,
    ) -> io::Result<Worker<R>> {
        self.spawn_task(task)
    }

    /// As [`spawn`](Builder::spawn), for a task that may return any error: see [`Worker::spawn_fallible`].
    pub fn spawn_fallible<R: Send + 'static>(
        self,
        task: impl FnOnce() -> Result<R, Box<dyn Error + Send + Sync>> + Send + 'static,
    ) -> io::Result<Worker<R>> {
        self.spawn_task(task)
    }

    fn spawn_task<R: Send + 'static, E: Into<Failure>>(
        self,
        task: impl FnOnce() -> Result<R, E> + Send + 'static,
    ) -> io::Result<Worker<R>> {
        let worker = self.make_state(false);
        self.launch(worker, task).map_err(|error| error.expect("it was just made"))
    }

    /// Runs a task as a worker on the calling thread, on the thread's own loop: it can be stopped through the [`Remote`] of
    /// that, and when it ends, the loop's sources are stopped and get their time to finish, and its children are stopped.
    /// Of the settings those of its loop apply ([`grace`](Builder::grace), [`busy_poll`](Builder::busy_poll),
    /// [`stall_limit`](Builder::stall_limit)), since the others are those of a new worker.
    ///
    /// Afterwards the thread gets a fresh loop when it asks for one. In the task of a worker, though, the loop is the worker's,
    /// and it ends with it: what follows in that task can only clean up.
    ///
    /// ```
    /// use threadwire_worker::{EventLoop, Worker, wait_forever};
    ///
    /// let ended = Worker::<()>::builder().run(|| {
    ///     EventLoop::current().remote().stop();
    ///     wait_forever()
    /// });
    /// assert!(ended.was_stopped());
    /// ```
    pub fn run<R>(self, task: impl FnOnce() -> Result<R, Stopped>) -> Ended<R> {
        self.run_task(task)
    }

    /// As [`run`](Builder::run), for a task that may return any error: see [`Worker::spawn_fallible`].
    pub fn run_fallible<R>(self, task: impl FnOnce() -> Result<R, Box<dyn Error + Send + Sync>>) -> Ended<R> {
        self.run_task(task)
    }

    fn run_task<R, E: Into<Failure>>(self, task: impl FnOnce() -> Result<R, E>) -> Ended<R> {
        let event_loop = EventLoop::current();
        if event_loop.has_task() {
            self.set_up(&event_loop);
            let ended = attempt(task);
            self.finish(&event_loop);
            return ended;
        }
        let ended = self.work(&event_loop, task);
        EventLoop::set_current(None);
        event_loop.worker().end(ended.outcome());
        ended
    }

    /// Makes the worker that is to be started.
    pub(crate) fn make_state(&self, is_restartable: bool) -> Arc<WorkerState> {
        let inherited = || self.parent_now().is_some_and(|parent| parent.daemon);
        let daemon = self.daemon.unwrap_or_else(inherited);
        Arc::new(WorkerState::new(self.name.clone(), daemon, self.limit, is_restartable))
    }

    fn parent_now(&self) -> Option<Arc<WorkerState>> {
        match &self.parent {
            Parent::Current => Some(Arc::clone(EventLoop::current().worker())),
            Parent::Nobody => None,
            Parent::Chosen(parent) => Some(Arc::clone(&parent.0)),
        }
    }

    /// Gives the worker its place in the tree and begins a run. The error is `None` if it runs already.
    pub(crate) fn start(&self, worker: &Arc<WorkerState>) -> Result<u64, Option<io::Error>> {
        let Some(run) = worker.start() else { return Err(None) };
        if let Some(parent) = self.parent_now()
            && !worker.join_family(&parent)
        {
            worker.inbox.close();
            worker.end(Outcome::Stopped);
            return Err(Some(io::Error::other("the worker that was to be the parent has ended")));
        }
        Ok(run)
    }

    /// Starts a worker on a thread of its own. The error is `None` if it runs already.
    pub(crate) fn launch<R: Send + 'static, E: Into<Failure>>(
        self,
        worker: Arc<WorkerState>,
        task: impl FnOnce() -> Result<R, E> + Send + 'static,
    ) -> Result<Worker<R>, Option<io::Error>> {
        let run = self.start(&worker)?;
        let result = Arc::new(ResultSlot::new(None));
        let mut builder = thread::Builder::new();
        if let Some(name) = &self.name {
            builder = builder.name(name.to_string());
        }
        let spawned = builder.spawn({
            let (worker, result) = (Arc::clone(&worker), Arc::clone(&result));
            move || {
                // Those who join are told, whatever happens.
                let mut report = EndReport { worker, result: Some(result), ended: None };
                // What a panic raises must not become the result of the thread: the standard library ends the process if the drop of
                // that panics.
                threadwire_guard::contain("the end of a worker", || {
                    let event_loop = EventLoop::new(Arc::clone(&report.worker));
                    EventLoop::set_current(Some(Rc::clone(&event_loop)));
                    report.ended = Some(self.work(&event_loop, task));
                    EventLoop::set_current(None);
                });
            }
        });
        if let Err(error) = spawned {
            worker.inbox.close();
            worker.end(Outcome::Stopped);
            return Err(Some(error));
        }
        Ok(Worker { remote: Remote(worker), run, result })
    }

    /// Runs a task on a loop, to the end of both.
    pub(crate) fn work<R, E: Into<Failure>>(
        &self,
        event_loop: &EventLoop,
        task: impl FnOnce() -> Result<R, E>,
    ) -> Ended<R> {
        event_loop.begin_task();
        let worker = event_loop.worker();
        worker.employ_kept(event_loop);
        worker.begin();
        worker.tell_parent(ChildChange::Started);
        self.set_up(event_loop);
        let ended = attempt(task);
        worker.tell_parent(match ended.outcome() {
            Outcome::Done => ChildChange::Done,
            Outcome::Stopped => ChildChange::Stopped,
            Outcome::Failed(message) | Outcome::Panicked(message) => ChildChange::Failed(message),
        });
        self.finish(event_loop);
        ended
    }

    /// Applies the settings of the loop. Those that were not given stay as they are: the loop may have been there before.
    fn set_up(&self, event_loop: &EventLoop) {
        if self.busy_poll.is_some() {
            event_loop.set_busy_poll(self.busy_poll);
        }
        if self.stall_limit.is_some() {
            event_loop.set_stall_limit(self.stall_limit);
        }
    }

    fn finish(&self, event_loop: &EventLoop) {
        let abandoned = event_loop.finish(self.grace);
        if abandoned > 0 {
            let worker = event_loop.worker().label();
            tracing::warn!(worker, abandoned, "sources did not finish within the grace period");
        }
    }
}

fn attempt<R, E: Into<Failure>>(task: impl FnOnce() -> Result<R, E>) -> Ended<R> {
    match threadwire_guard::run(|| task().map_err(E::into)) {
        Ok(Ok(result)) => Ended::Done(result),
        Ok(Err(Failure::Stopped)) => Ended::Stopped,
        Ok(Err(Failure::Error(error))) => Ended::Failed(error),
        Err(panicked) => Ended::Panicked(panicked.into_payload()),
    }
}

impl Worker<()> {
    /// A worker with settings.
    ///
    /// ```
    /// use threadwire_worker::Worker;
    /// let worker = Worker::builder().name("answers").spawn(|| Ok(42))?;
    /// assert_eq!(worker.join()?.done(), Some(42));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> Builder {
        let grace = Duration::from_secs(10);
        Builder {
            name: None,
            grace,
            parent: Parent::Current,
            daemon: None,
            limit: None,
            busy_poll: None,
            stall_limit: None,
        }
    }
}

impl<R: Send + 'static> Worker<R> {
    /// Starts a worker that runs `task`. [`spawn_fallible`](Worker::spawn_fallible) takes one that may fail with any error.
    ///
    /// # Panics
    ///
    /// If the system refuses another thread; [`Builder::spawn`] returns an error instead.
    pub fn spawn(task: impl FnOnce() -> Result<R, Stopped> + Send + 'static) -> Worker<R> {
        Worker::builder().spawn(task).expect("the system refuses to start a thread")
    }

    /// Starts a worker that runs `task`, which may return any error: `?` works for all of them in it. Whoever joins the worker gets the error
    /// ([`Ended::Failed`], [`Ended::into_result`]), and its parent hears of it ([`ChildEvent`](crate::ChildEvent)). [`Stopped`], and an error
    /// that has it for a [source](Error::source), mean that the worker was stopped, as in any task.
    ///
    /// If nobody can join it any more when it fails, the error is logged.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire_worker::{Ended, Worker, sleep};
    ///
    /// let worker = Worker::spawn_fallible(|| {
    ///     sleep(Duration::from_millis(1))?;
    ///     let number: u32 = "twelve".parse()?;
    ///     Ok(number)
    /// });
    /// let Ended::Failed(error) = worker.join()? else { panic!("twelve is no number") };
    /// assert_eq!(error.to_string(), "invalid digit found in string");
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the system refuses another thread; [`Builder::spawn_fallible`] returns an error instead.
    pub fn spawn_fallible(
        task: impl FnOnce() -> Result<R, Box<dyn Error + Send + Sync>> + Send + 'static,
    ) -> Worker<R> {
        Worker::builder().spawn_fallible(task).expect("the system refuses to start a thread")
    }

    /// Reaches the worker, also when this is gone.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Whether the worker and its children have ended.
    pub fn has_ended(&self) -> bool {
        self.remote.0.is_over(self.run)
    }

    /// Waits for the worker's end and that of its children (but not of daemons), while the loop of the calling thread goes
    /// on. It does not stop it. `Err` if the caller itself is stopped meanwhile. A worker that joins itself waits for a stop; that is
    /// logged as a warning.
    pub fn join(self) -> Result<Ended<R>, Stopped> {
        self.wait(None)?;
        Ok(self.take())
    }

    /// As [`join`](Worker::join), for at most `timeout`; then the worker comes back.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire_worker::{Worker, wait_forever};
    /// let worker = Worker::spawn(wait_forever);
    /// match worker.join_timeout(Duration::from_millis(1))? {
    ///     Ok(ended) => panic!("{ended:?}"),
    ///     Err(worker) => worker.stop(),
    /// }
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<Ended<R>, Worker<R>>, Stopped> {
        let deadline = timer::after(Instant::now(), timeout);
        Ok(if self.wait(Some(deadline))? { Ok(self.take()) } else { Err(self) })
    }

    /// As [`join`](Worker::join), without waiting: if the worker has not ended, it comes back.
    pub fn try_join(self) -> Result<Ended<R>, Worker<R>> {
        if self.has_ended() { Ok(self.take()) } else { Err(self) }
    }

    fn wait(&self, until: Option<Instant>) -> Result<bool, Stopped> {
        let event_loop = EventLoop::current();
        self.remote.warn_of_itself();
        self.tell_of_end(&event_loop);
        event_loop.wait(until, || self.has_ended())
    }

    /// Has a loop woken when this worker ends.
    pub(crate) fn tell_of_end(&self, event_loop: &EventLoop) {
        self.remote.0.tell_of_end(event_loop.worker());
    }

    pub(crate) fn take(self) -> Ended<R> {
        self.result.lock().take().expect("a worker that has ended has left how")
    }
}

impl<R> Deref for Worker<R> {
    type Target = Remote;

    fn deref(&self) -> &Remote {
        &self.remote
    }
}

/// Reports the end of a worker when it is dropped, so also if something panics that must not.
struct EndReport<R> {
    worker: Arc<WorkerState>,
    /// `None` once it is filled.
    result: Option<Arc<ResultSlot<R>>>,
    ended: Option<Ended<R>>,
}

impl<R> Drop for EndReport<R> {
    fn drop(&mut self) {
        let ended =
            self.ended.take().unwrap_or_else(|| Ended::Panicked(Box::new("the worker's end panicked")));
        let outcome = ended.outcome();
        let result = self.result.take();
        if let Some(result) = &result {
            if let Outcome::Failed(error) = &outcome
                && Arc::strong_count(result) == 1
            {
                tracing::error!(
                    worker = self.worker.label(),
                    error,
                    "a task failed, and nobody joins its worker"
                );
            }
            *result.lock() = Some(ended);
        }
        self.worker.inbox.close();
        self.worker.end(outcome);
        // If nobody joins, the value of the task is dropped here.
        threadwire_guard::discard(result);
    }
}
