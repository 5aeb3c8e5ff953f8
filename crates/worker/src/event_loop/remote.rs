//! The handle by which any thread reaches a worker.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::inbox::{DISCARD, STOP};
use super::mail::{Call, Mail};
use super::status::Status;
use super::tree::{self, Stuck};
use super::worker_state::{WorkerId, WorkerState};
use crate::{EventLoop, ListenerId};

/// Reaches a worker, or the loop of any thread, from everywhere: cheap to clone, `Send` and `Sync`, and usable on every
/// thread: a worker's, that of a task of some runtime, or a native one.
///
/// ```
/// use threadwire_worker::{Event, Worker, listen, wait_event, wait_forever};
///
/// struct Add(u32);
/// struct Sum(u32);
/// let worker = Worker::spawn(|| {
///     let mut sum = 0;
///     listen(move |event: &Event<Add>| sum += event.0);
///     wait_forever()
/// });
/// worker.fire(Add(1))?;
/// worker.stop();
/// assert!(worker.join()?.was_stopped());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Remote(pub(crate) Arc<WorkerState>);

/// The worker does not run, and takes no calls. The call that was refused was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker has ended")]
pub struct Rejected;

impl Remote {
    /// The number of the worker.
    pub fn id(&self) -> WorkerId {
        self.0.id
    }

    /// The name that the worker was given, or that of the thread if it is a loop without a worker.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The status of the worker at this moment. See [`watch`](Remote::watch) to be told of changes.
    ///
    /// ```
    /// use threadwire_worker::{Outcome, Status, Worker, wait_worker};
    /// let worker = Worker::spawn(|| Ok(()));
    /// wait_worker(&worker)?;
    /// assert_eq!(worker.status(), Status::Ended(Outcome::Done));
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    pub fn status(&self) -> Status {
        self.0.life().status.clone()
    }

    /// Whether the worker is a daemon, for which its parent does not wait: [`Builder::daemon`](crate::Builder::daemon).
    pub fn is_daemon(&self) -> bool {
        self.0.daemon
    }

    /// Whether this is the worker of the process's main thread: the loop of that thread, or a worker that
    /// [runs on top of it](crate::Restartable::start_overlay). That thread is known by the name that Rust gives it, `main`.
    pub fn is_main(&self) -> bool {
        self.0.is_main.load(Ordering::Relaxed)
    }

    /// Has `call` run on the worker's thread, at its loop's next turn. What one thread posts and fires keeps its order.
    /// Fails if the worker does not run. Calls don't count for the limit of its inbox.
    pub fn post(&self, call: impl FnOnce(&EventLoop) + Send + 'static) -> Result<(), Rejected> {
        let call: Box<dyn Mail> = Box::new(Call(call));
        self.0.inbox.push(call, false).map(drop).map_err(|_| Rejected)
    }

    /// Wakes the worker's loop for one turn: a wait on its thread asks again whether what it waits for is there. To be called
    /// after a change to what such a wait looks at. Does nothing if the worker does not run. A [`Flag`](crate::Flag) does this by itself.
    ///
    /// Any number of calls before that turn are one wake-up.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use threadwire_worker::{Worker, current, wait_until};
    ///
    /// let done = Arc::new(AtomicBool::new(false));
    /// let (sets, here) = (Arc::clone(&done), current());
    /// std::thread::spawn(move || {
    ///     sets.store(true, Ordering::Release);
    ///     here.wake();
    /// });
    /// wait_until(None, || done.load(Ordering::Acquire))?;
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    pub fn wake(&self) {
        self.0.inbox.poke();
    }

    /// Whether this is the worker of the calling thread. It does not give a loop to a thread that has none.
    ///
    /// ```
    /// use threadwire_worker::{Worker, current, wait_forever};
    /// let worker = Worker::spawn(wait_forever);
    /// assert!(current().is_current());
    /// assert!(!worker.is_current());
    /// worker.stop();
    /// ```
    #[inline]
    pub fn is_current(&self) -> bool {
        EventLoop::current_id() == Some(self.id())
    }

    /// A worker that waits for its own end waits for a stop, which is hardly what is meant.
    pub(crate) fn warn_of_itself(&self) {
        if self.is_current() {
            tracing::warn!(worker = %self, "a worker waits for its own end: only a stop ends that");
        }
    }

    /// Removes a listener of the worker: at once on its own thread, otherwise at its loop's next turn, if it runs.
    pub fn unlisten(&self, listener: ListenerId) {
        if self.0.remove_kept(listener) {
            return;
        }
        if self.is_current() {
            EventLoop::current().unlisten(listener);
        } else {
            let posted = self.post(move |event_loop| {
                event_loop.unlisten(listener);
            });
            // The worker may have ended meanwhile, and stored the listener for its next run.
            if posted.is_err() {
                self.0.remove_kept(listener);
            }
        }
    }

    /// The number of events and calls in the inbox that the worker has not begun to deal with.
    pub fn queued(&self) -> usize {
        self.0.inbox.len()
    }

    /// The number of events that have reached the worker and that nobody there listened or waited for, over all its runs. Each is dropped,
    /// with a debug line that names its type.
    ///
    /// ```
    /// use threadwire_worker::{Event, current, listen, update};
    /// listen(|event: &Event<String>| println!("{}", event.data));
    /// current().fire("no String")?; // a &str
    /// update()?;
    /// assert_eq!(current().unheard(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unheard(&self) -> u64 {
        self.0.unheard.load(Ordering::Relaxed)
    }

    /// Asks the worker to stop: every wait on its thread, now and later, returns [`Stopped`](crate::Stopped). That goes ahead of what is
    /// queued, which is still delivered before the worker ends. Returns at once. A worker that does not run is left alone.
    pub fn stop(&self) {
        self.0.stop(STOP);
    }

    /// As [`stop`](Remote::stop), but events that are queued are discarded. Calls that were posted are still run.
    pub fn stop_now(&self) {
        self.0.stop(STOP | DISCARD);
    }

    /// Stops the worker, and waits (while the loop of the calling thread goes on) until it and all below it have ended,
    /// daemons too.
    ///
    /// # Errors
    ///
    /// With the names of those that have not ended, after `timeout` or when the caller itself is stopped.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire_worker::{Worker, wait_forever};
    /// let worker = Worker::spawn(wait_forever);
    /// worker.stop_within(Duration::from_secs(5))?;
    /// # Ok::<(), threadwire_worker::Stuck>(())
    /// ```
    pub fn stop_within(&self, timeout: Duration) -> Result<(), Stuck> {
        tree::stop_within(&self.0, timeout)
    }

    /// Holds the worker's task: from its next wait (or [`checkpoint`](crate::checkpoint)) it does not return until it is
    /// [resumed](Remote::resume), or stopped. Its loop goes on: listeners, timers and sockets are served, and what the task
    /// waits for is noted for it. Time that the task waits for passes.
    pub fn pause(&self) {
        self.0.pause();
    }

    /// Lets the worker's task go on.
    pub fn resume(&self) {
        self.0.resume();
    }

    /// Has the current worker get a [`StatusChange`](crate::StatusChange) event, from now on, whenever this worker's status
    /// changes, over all its runs.
    ///
    /// ```
    /// use threadwire_worker::{Event, Restartable, Status, StatusChange, wait_for};
    ///
    /// let worker = Restartable::new(|()| Ok(()));
    /// worker.watch();
    /// worker.start(()).unwrap();
    /// let ended = |change: &Event<StatusChange>| matches!(change.status, Status::Ended(_));
    /// wait_for().matching(ended).wait()?;
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    pub fn watch(&self) {
        self.0.watch(EventLoop::current().worker());
    }

    /// Ends what [`watch`](Remote::watch) began.
    pub fn unwatch(&self) {
        self.0.unwatch(EventLoop::current().worker());
    }

    /// The worker that stops it when it ends, if there is one. After its end it is the one that would have, as long as that one runs or
    /// somebody can reach it.
    ///
    /// ```
    /// use threadwire_worker::{Worker, current, wait_worker};
    /// let worker = Worker::spawn(|| Ok(()));
    /// wait_worker(&worker)?;
    /// assert_eq!(worker.parent(), Some(current()));
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    pub fn parent(&self) -> Option<Remote> {
        let life = self.0.life();
        life.parent.clone().or_else(|| life.last_parent.upgrade()).map(Remote)
    }

    /// The children that have not ended, in the order in which they were made.
    pub fn children(&self) -> Vec<Remote> {
        self.0.life().children.values().cloned().map(Remote).collect()
    }
}

impl PartialEq for Remote {
    fn eq(&self, other: &Remote) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Remote {}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("id", &self.id().0).field("name", &self.name()).finish_non_exhaustive()
    }
}

/// The name, or the number where there is none.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.label())
    }
}
