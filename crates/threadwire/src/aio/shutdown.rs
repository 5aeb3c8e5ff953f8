//! Graceful shutdown of a server on tokio: the roster of its connections, the order, and the report.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use slab::Slab;
use threadwire_core::server::tally::{MemberNote, Pending, ShutdownOrder, Watchers, WorkerTally};
use threadwire_worker::Lock;
use tokio::sync::watch;
use tokio::task;
use tokio::time::{sleep_until, timeout_at};

use super::handle::Handle;
use crate::server::{CloseProblem, Shutdown, ShutdownReport};
use crate::{Closed, Error};

/// How long after the deadline all that was given up must be gone.
const MARGIN: Duration = Duration::from_millis(500);

/// How a server ends.
#[derive(Clone)]
pub(super) struct Ending {
    pub(super) order: Arc<ShutdownOrder>,
    pub(super) deadline: Option<Instant>,
    /// Whether it was stopped: nobody waits for a report.
    pub(super) is_stop: bool,
}

/// Reaches a server from any task and any thread.
pub(super) struct Control {
    tally: Arc<WorkerTally>,
    watchers: Arc<Watchers>,
    members: Lock<Slab<Member>>,
    ending: watch::Sender<Option<Ending>>,
}

/// A connection that has not ended.
struct Member {
    handle: Handle,
    peer: Option<SocketAddr>,
    /// The task of its handler.
    task: Option<task::Id>,
    /// Once a shutdown has begun.
    note: Option<MemberNote>,
}

impl Control {
    pub(super) fn new() -> Arc<Control> {
        let watchers = Arc::<Watchers>::default();
        Arc::new(Control {
            tally: Arc::new(WorkerTally::new(Arc::clone(&watchers))),
            watchers,
            members: Lock::default(),
            ending: watch::Sender::new(None),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Member>> {
        self.members.lock()
    }

    /// Something more that a shutdown waits for.
    pub(super) fn expect(&self) -> Pending {
        self.tally.expect()
    }

    pub(super) fn connections(&self) -> usize {
        self.tally.open()
    }

    /// A handshake is answered with 503.
    pub(super) fn count_refused(&self) {
        self.tally.refused();
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending.borrow().clone()
    }

    /// What comes when the server ends.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Ending>> {
        self.ending.subscribe()
    }

    /// A connection has opened; it is closed if the server ends.
    pub(super) fn enter(self: &Arc<Control>, handle: Handle, peer: Option<SocketAddr>) -> Membership {
        self.tally.opened();
        let mut members = self.lock();
        let ending = self.ending();
        let note = ending.as_ref().map(|_| MemberNote { peer, ..MemberNote::default() });
        let key = members.insert(Member { handle: handle.clone(), peer, task: task::try_id(), note });
        drop(members);
        if let Some(ending) = ending {
            say_goodbye(&handle, &ending.order);
        }
        Membership { control: Arc::clone(self), key, problem: Some(CloseProblem::Broken) }
    }

    /// Begins to end. The first order holds, and the earliest deadline.
    pub(super) fn begin(self: &Arc<Control>, order: ShutdownOrder, is_stop: bool) {
        let deadline = Instant::now().checked_add(order.shutdown.timeout);
        let order = Arc::new(order);
        let mut is_first = false;
        let mut members = self.lock();
        self.ending.send_modify(|ending| match ending {
            Some(ending) => {
                ending.deadline = ending.deadline.into_iter().chain(deadline).min();
                ending.is_stop |= is_stop;
            }
            None => {
                is_first = true;
                *ending = Some(Ending { order: Arc::clone(&order), deadline, is_stop });
            }
        });
        let mut handles = Vec::new();
        if is_first {
            for (_, member) in members.iter_mut() {
                member.note = Some(MemberNote { peer: member.peer, ..MemberNote::default() });
                handles.push(member.handle.clone());
            }
        }
        drop(members);
        handles.iter().for_each(|handle| say_goodbye(handle, &order));
        self.tally.begin();
        if let Some(deadline) = deadline {
            let control = Arc::downgrade(self);
            tokio::spawn(async move {
                sleep_until(deadline.into()).await;
                if let Some(control) = control.upgrade() {
                    control.give_up();
                }
            });
        }
    }

    /// A handler waits for the shutdown: that is not to wait for its own connection, which is there until the handler returns.
    fn excuse_caller(&self) {
        let Some(caller) = task::try_id() else { return };
        let mut members = self.lock();
        let own = members.iter_mut().filter(|(_, member)| member.task == Some(caller));
        let notes = own.filter_map(|(_, member)| member.note.as_mut()).filter(|note| !note.is_excused);
        let excused = notes.map(|note| note.is_excused = true).count();
        drop(members);
        (0..excused).for_each(|_| self.tally.one_less());
    }

    /// The time has passed: drops the connections that are left.
    fn give_up(&self) {
        let mut members = self.lock();
        let mut left = Vec::new();
        for (_, member) in members.iter_mut() {
            if member.handle.closed().is_some() {
                continue;
            }
            let bytes = member.handle.buffered();
            let problem = if bytes > 0 { CloseProblem::Unwritten { bytes } } else { CloseProblem::Silent };
            if let Some(note) = &mut member.note {
                note.problem = Some(problem);
            }
            left.push(member.handle.clone());
        }
        drop(members);
        left.iter().for_each(Handle::abort);
    }

    /// Shuts down, and waits for that.
    pub(super) async fn shutdown(self: &Arc<Control>, shutdown: Shutdown) -> Result<ShutdownReport, Error> {
        let order = ShutdownOrder::new(shutdown)?;
        let deadline = Instant::now().checked_add(order.shutdown.timeout);
        self.begin(order, false);
        self.excuse_caller();
        let mut watching = None;
        let done = poll_fn(|cx| {
            // The old one first: it is the same task.
            drop(watching.take());
            watching = Some(self.watchers.watch(cx.waker().clone()));
            if self.tally.is_done() { Poll::Ready(()) } else { Poll::Pending }
        });
        in_time(deadline.and_then(|deadline| deadline.checked_add(MARGIN)), done).await;
        let mut report = ShutdownReport::default();
        self.tally.report(&mut report, || "the runtime of the server".to_owned());
        self.ending.send_modify(|ending| {
            if let Some(ending) = ending {
                ending.is_stop = true;
            }
        });
        Ok(report)
    }
}

/// The result of some work, if it comes in time.
pub(super) async fn in_time<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline.into(), work).await.ok(),
        None => Some(work.await),
    }
}

fn say_goodbye(handle: &Handle, order: &ShutdownOrder) {
    // Code and reason were checked.
    let _ = handle.close_with(order.shutdown.code, &order.shutdown.reason);
}

/// A connection's place among those of its server. Dropped before it has [ended](Membership::end), it counts as broken.
pub(super) struct Membership {
    control: Arc<Control>,
    key: usize,
    problem: Option<CloseProblem>,
}

impl Membership {
    /// The connection has ended like this.
    pub(super) fn end(mut self, closed: &Closed) {
        if closed.clean {
            self.problem = None;
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let member = self.control.lock().try_remove(self.key);
        self.control.tally.ended(member.and_then(|member| member.note), self.problem);
    }
}

/// Stops a server of the async face from any task: see [`Server::stopper`](super::Server::stopper), with an example.
#[derive(Clone)]
pub struct Stopper {
    control: Arc<Control>,
    timeout: Duration,
}

impl Stopper {
    pub(super) fn new(control: &Arc<Control>, timeout: Duration) -> Stopper {
        Stopper { control: Arc::clone(control), timeout }
    }

    /// Stops, and returns at once: no connection is accepted any more, and each that is open is closed with 1001, and has
    /// [`Config::close_timeout`](crate::Config::close_timeout) to answer. To be called on a runtime.
    pub fn stop(&self) {
        if let Ok(order) = ShutdownOrder::new(Shutdown::default().timeout(self.timeout)) {
            self.control.begin(order, true);
        }
    }

    /// Shuts down gracefully, and says who did not answer, as [`Running::shutdown`](crate::Running::shutdown) does. Dropped before it is
    /// ready, the shutdown goes on. In the task of a handler it does not wait for the connection of that, which does not appear in the
    /// report.
    ///
    /// Fails with [`Error::Send`], and nothing has happened, if the code must not be sent.
    pub async fn shutdown(&self, shutdown: Shutdown) -> Result<ShutdownReport, Error> {
        self.control.shutdown(shutdown).await
    }

    /// How many connections are open now that the server has given to handlers, or have not ended yet.
    pub fn connections(&self) -> usize {
        self.control.connections()
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").field("connections", &self.connections()).finish_non_exhaustive()
    }
}
