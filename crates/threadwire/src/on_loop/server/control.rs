//! Control of a server from any thread: its workers, how many connections they have, stopping, and graceful shutdown.
//!
//! A shutdown is an order that is posted to every worker. What it waits for is a count: every worker has begun, and for
//! none of them anything is pending. A connection that is handed from one worker to another is pending at the other one
//! before it is posted, so it is never nowhere.

use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, MutexGuard};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use threadwire_worker::{EventLoop, Lock, Remote};

use super::Hook;
use super::worker::ServerWorker;
use crate::Error;
use threadwire_core::server::settings::ServerSettings;
use threadwire_core::server::tally::{ShutdownOrder, Watchers, WorkerTally};
use threadwire_core::server::{Shutdown, ShutdownReport};

/// How long after the deadline a worker that runs at all must have dealt with it.
pub(super) const MARGIN: Duration = Duration::from_millis(500);

/// Reaches a server from any thread, also before it serves and after its end.
#[derive(Clone, Default)]
pub(crate) struct Control(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Lock<State>,
    watchers: Arc<Watchers>,
}

#[derive(Default)]
struct State {
    workers: Vec<WorkerRemote>,
    /// Whether it was stopped, or shut down to the end: a worker that comes later has nothing to do.
    is_over: bool,
    /// A shutdown that has begun, and its earliest deadline.
    order: Option<(Arc<ShutdownOrder>, Option<Instant>)>,
}

/// A worker of a server, as all threads see it.
#[derive(Clone)]
pub(crate) struct WorkerRemote {
    pub(super) remote: Remote,
    pub(super) tally: Arc<WorkerTally>,
    host: Host,
}

/// The thread that a server's worker is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// It is there for the server alone, and is stopped with it.
    Server,
    /// It belongs to a pool, whose end stops it: that a handler's wait learns of the stop before it learns of its connection's end.
    Pool,
    /// It goes on without the server, whose connections are closed.
    Program,
}

impl WorkerRemote {
    /// Ends what the worker does.
    pub(super) fn stop(&self) {
        match self.host {
            Host::Server => return self.remote.stop(),
            Host::Pool => return,
            Host::Program => {}
        }
        let tally = Arc::clone(&self.tally);
        // A thread that has ended serves nobody any more.
        let _ = self.remote.post(move |_| {
            if let Some(worker) = ServerWorker::of_tally(&tally) {
                worker.stop();
            }
        });
        self.remote.wake();
    }
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// Makes this thread one of the server's workers; whose thread it is says what a stop does. A server that was stopped
    /// already stops the worker too, and one that shuts down has it shut down.
    pub(super) fn enrol(&self, settings: &Arc<ServerSettings>, hook: &Hook, host: Host) -> Rc<ServerWorker> {
        let remote = WorkerRemote {
            remote: EventLoop::current().remote(),
            tally: Arc::new(WorkerTally::new(Arc::clone(&self.0.watchers))),
            host,
        };
        let worker = ServerWorker::open(Arc::clone(settings), hook.clone(), remote.clone());
        let mut state = self.lock();
        state.workers.push(remote.clone());
        let (is_over, order) = (state.is_over, state.order.clone());
        drop(state);
        if is_over {
            remote.stop();
        } else if let Some((order, deadline)) = order {
            Begin { tally: Arc::clone(&remote.tally), order, deadline }.run(false);
        }
        worker
    }

    /// The same on a thread of a pool, which ends what is done there itself; unless the thread is one already.
    pub(super) fn enrol_once(&self, settings: &Arc<ServerSettings>, hook: &Hook) -> Rc<ServerWorker> {
        let known = ServerWorker::of_settings(settings);
        known.unwrap_or_else(|| self.enrol(settings, hook, Host::Pool))
    }

    /// A worker has nothing to do any more. Where the server shuts down, it is still to be reported on.
    pub(crate) fn dismiss(&self, worker: &ServerWorker) {
        worker.close();
        let mut state = self.lock();
        if state.order.is_none() {
            state.workers.retain(|other| !Arc::ptr_eq(&other.tally, worker.tally()));
        }
    }

    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.is_over = true;
        let workers = state.workers.clone();
        drop(state);
        workers.iter().for_each(WorkerRemote::stop);
    }

    /// Whether it was stopped, or shuts down.
    pub(crate) fn is_ending(&self) -> bool {
        let state = self.lock();
        state.is_over || state.order.is_some()
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.lock().workers.iter().map(|worker| worker.tally.open()).sum()
    }

    /// Shuts down, waits for that, and stops the workers. If it was begun before, the first order holds, and the earliest
    /// deadline.
    pub(crate) fn shutdown(&self, shutdown: Shutdown) -> Result<ShutdownReport, Error> {
        let event_loop = EventLoop::current();
        let deadline = Instant::now().checked_add(shutdown.timeout);
        let until = deadline.and_then(|deadline| deadline.checked_add(MARGIN));
        let order = Arc::new(ShutdownOrder::new(shutdown)?);
        let _watching = self.0.watchers.watch(Waker::from(Arc::new(Waiter(event_loop.remote()))));
        let (workers, order) = {
            let mut state = self.lock();
            let (order, earlier) = state.order.take().unwrap_or((order, None));
            let earliest = earlier.into_iter().chain(deadline).min();
            state.order = Some((Arc::clone(&order), earliest));
            (state.workers.clone(), order)
        };
        for worker in &workers {
            let begin = Begin { tally: Arc::clone(&worker.tally), order: Arc::clone(&order), deadline };
            if worker.remote.is_current() {
                begin.run(true);
            } else {
                // A worker that has ended has nothing left: to drop this says so.
                let _ = worker.remote.post(move |_| begin.run(false));
            }
        }
        let is_done = || self.lock().workers.iter().all(|worker| worker.tally.is_done());
        let waited = event_loop.wait(until, is_done);
        let mut report = ShutdownReport::default();
        for worker in &self.lock().workers {
            worker.tally.report(&mut report, || worker.remote.to_string());
        }
        let is_time_up = until.is_some_and(|until| until <= Instant::now());
        self.stop();
        if waited.is_err() && !report.stuck.is_empty() && !is_time_up {
            return Err(Error::Stopped);
        }
        Ok(report)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

/// A thread whose loop waits for a shutdown.
struct Waiter(Remote);

impl Wake for Waiter {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

/// An order on its way to a worker. Dropped on that way, it counts as carried out: the worker has ended.
struct Begin {
    tally: Arc<WorkerTally>,
    order: Arc<ShutdownOrder>,
    deadline: Option<Instant>,
}

impl Begin {
    /// On the worker's thread; `waits_here` if a call on that thread waits for the shutdown.
    fn run(self, waits_here: bool) {
        if let Some(worker) = ServerWorker::of_tally(&self.tally) {
            worker.shut_down(&self.order, self.deadline, waits_here);
        }
    }
}

impl Drop for Begin {
    fn drop(&mut self) {
        self.tally.begin();
    }
}
