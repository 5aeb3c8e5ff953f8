//! A thread that lives around an event loop.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::node::Node;
use crate::{EventLoop, Remote, Stopped};

/// A thread with an event loop. Dropping it does not stop it.
#[derive(Debug)]
pub struct Worker<R> {
    remote: Remote,
    outcome: Arc<Outcome<R>>,
}

/// How a worker ended.
#[derive(Debug)]
pub enum Ended<R> {
    /// Its task returned this.
    Done(R),
    /// It was stopped: its task passed [`Stopped`] on.
    Stopped,
    /// Its task panicked, with this payload.
    Panicked(Box<dyn Any + Send>),
}

impl<R> Ended<R> {
    /// Whether it was stopped.
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
}

/// Where a worker leaves how it ended.
#[derive(Debug)]
struct Outcome<R>(Mutex<Waiting<R>>);

#[derive(Debug)]
struct Waiting<R> {
    ended: Option<Ended<R>>,
    /// Who waits for it.
    joiner: Option<Remote>,
}

/// Settings of a worker, see [`Worker::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    name: Option<String>,
    grace: Duration,
}

impl Builder {
    /// The name of the thread, as debuggers and panic messages show it. None by default.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// How long the sources of the worker's loop (such as connections, which close orderly) may take to finish once
    /// its task has ended. 10 s by default.
    pub fn grace(mut self, grace: Duration) -> Builder {
        self.grace = grace;
        self
    }

    /// Starts the worker. Fails if the system refuses another thread.
    pub fn spawn<R: Send + 'static>(
        self,
        task: impl FnOnce() -> Result<R, Stopped> + Send + 'static,
    ) -> io::Result<Worker<R>> {
        let outcome = Arc::new(Outcome(Mutex::new(Waiting { ended: None, joiner: None })));
        let node = Arc::new(Node::new(self.name.as_deref().map(Arc::from), None));
        node.inbox.open();
        let mut builder = thread::Builder::new();
        if let Some(name) = &self.name {
            builder = builder.name(name.clone());
        }
        builder.spawn({
            let (outcome, node) = (Arc::clone(&outcome), Arc::clone(&node));
            move || {
                // Whatever happens, whoever joins is told.
                let mut report = Report { outcome, ended: None };
                EventLoop::set_current(Some(EventLoop::new(node)));
                report.ended = Some(self.run(task));
            }
        })?;
        Ok(Worker { remote: Remote(node), outcome })
    }

    /// Runs a task as a worker on the calling thread: it can be stopped through the [`Remote`] of its loop, and when it
    /// ends, the sources of the loop are stopped and get their time to finish.
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
        let ended = match catch_unwind(AssertUnwindSafe(task)) {
            Ok(Ok(result)) => Ended::Done(result),
            Ok(Err(Stopped)) => Ended::Stopped,
            Err(payload) => Ended::Panicked(payload),
        };
        let abandoned = EventLoop::current().finish(self.grace);
        if abandoned > 0 {
            tracing::warn!(worker = self.name, abandoned, "sources did not finish within the grace period");
        }
        EventLoop::set_current(None);
        ended
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
        Builder { name: None, grace: Duration::from_secs(10) }
    }
}

impl<R: Send + 'static> Worker<R> {
    /// Starts a worker that runs `task`.
    ///
    /// # Panics
    ///
    /// If the system refuses another thread; [`Builder::spawn`] returns an error instead.
    pub fn spawn(task: impl FnOnce() -> Result<R, Stopped> + Send + 'static) -> Worker<R> {
        Worker::builder().spawn(task).expect("the system refuses to start a thread")
    }

    /// Reaches the worker's event loop.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Asks the worker to stop: every wait on its thread returns [`Stopped`]. Returns at once; see
    /// [`join`](Worker::join).
    pub fn stop(&self) {
        self.remote.stop();
    }

    /// Whether the worker has ended.
    pub fn has_ended(&self) -> bool {
        self.outcome.lock().ended.is_some()
    }

    /// Waits for the worker's end, while the loop of the calling thread goes on. `Err` if the caller itself is stopped
    /// meanwhile.
    pub fn join(self) -> Result<Ended<R>, Stopped> {
        let event_loop = EventLoop::current();
        self.outcome.lock().joiner = Some(event_loop.remote());
        let mut ended = None;
        event_loop.wait(None, || {
            ended = self.outcome.lock().ended.take();
            ended.is_some()
        })?;
        Ok(ended.expect("the wait ended because there was one"))
    }
}

impl<R> Outcome<R> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the end of a worker when it is dropped, so also if something panics that must not.
struct Report<R> {
    outcome: Arc<Outcome<R>>,
    ended: Option<Ended<R>>,
}

impl<R> Drop for Report<R> {
    fn drop(&mut self) {
        let ended =
            self.ended.take().unwrap_or_else(|| Ended::Panicked(Box::new("the worker's end panicked")));
        let joiner = {
            let mut waiting = self.outcome.lock();
            waiting.ended = Some(ended);
            waiting.joiner.take()
        };
        if let Some(joiner) = joiner {
            joiner.0.inbox.poke();
        }
    }
}
