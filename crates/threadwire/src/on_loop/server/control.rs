//! What all threads see of a server: its workers, how many connections each of them has, and how far a shutdown is.
//!
//! A shutdown is an order that is posted to every worker. What it waits for is a count: every worker has begun, and for
//! none of them anything is pending. A connection that is handed from one worker to another is pending at the other one
//! before it is posted, so it is never nowhere.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use threadwire_proto::CloseFrame;
use threadwire_proto::handshake::Response;
use threadwire_worker::{EventLoop, Remote};

use super::station::Station;
use crate::Error;
use threadwire_core::server::{Shutdown, ShutdownReport, StuckWorker, Unanswered};

/// How long after the deadline a worker that runs at all must have dealt with it.
pub(super) const MARGIN: Duration = Duration::from_millis(500);

/// Reaches a server from any thread, also before it serves and after its end.
#[derive(Clone, Default)]
pub(crate) struct Control(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    posts: Vec<Arc<Post>>,
    /// Whether it was stopped or shut down: a worker that comes later has nothing to do.
    is_over: bool,
    order: Option<Arc<Order>>,
}

/// What a shutdown asks of every worker.
pub(super) struct Order {
    pub(super) shutdown: Shutdown,
    /// What handshakes are answered.
    pub(super) refusal: Response,
}

/// A worker of a server, as all threads see it.
pub(crate) struct Post {
    pub(super) remote: Remote,
    /// Its connections.
    open: AtomicUsize,
    /// What a shutdown has to wait for: connections, handshakes, and those that are on their way to this worker.
    pending: AtomicUsize,
    /// Whether its shutdown has begun, or it has ended without.
    begun: AtomicBool,
    tally: Mutex<Tally>,
    /// Whose waits look at this.
    waiters: Mutex<Vec<Remote>>,
}

/// What a worker has to report.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) clean: usize,
    pub(super) unanswered: Vec<Unanswered>,
    pub(super) refused: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    /// Takes in the worker of this thread. If the server was stopped already, so is the worker.
    pub(super) fn enrol(&self) -> Arc<Post> {
        let post = Arc::new(Post {
            remote: EventLoop::current().remote(),
            open: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            begun: AtomicBool::new(false),
            tally: Mutex::default(),
            waiters: Mutex::default(),
        });
        let mut state = lock(&self.0);
        state.posts.push(Arc::clone(&post));
        if state.is_over {
            post.remote.stop();
        }
        post
    }

    pub(crate) fn stop(&self) {
        let mut state = lock(&self.0);
        state.is_over = true;
        state.posts.iter().for_each(|post| post.remote.stop());
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        lock(&self.0).posts.iter().map(|post| post.open.load(Ordering::Relaxed)).sum()
    }

    /// Shuts down, waits for that, and stops the workers. If it was begun before, the first order holds, and the earliest
    /// deadline.
    pub(crate) fn shutdown(&self, shutdown: Shutdown) -> Result<ShutdownReport, Error> {
        CloseFrame { code: Some(shutdown.code), reason: &shutdown.reason }.check()?;
        let event_loop = EventLoop::current();
        let deadline = Instant::now().checked_add(shutdown.timeout);
        let until = deadline.and_then(|deadline| deadline.checked_add(MARGIN));
        let (posts, order) = {
            let mut state = lock(&self.0);
            state.is_over = true;
            let order = match &state.order {
                Some(order) => Arc::clone(order),
                None => Arc::new(Order::new(shutdown)?),
            };
            state.order = Some(Arc::clone(&order));
            (state.posts.clone(), order)
        };
        let _watching = Watching::start(&posts, event_loop.remote());
        for post in &posts {
            let begin = Begin { post: Arc::clone(post), order: Arc::clone(&order), deadline };
            if post.remote.is_current() {
                begin.run(true);
            } else {
                // A worker that has ended has nothing left: to drop this says so.
                let _ = post.remote.post(move |_| begin.run(false));
            }
        }
        let waited = event_loop.wait(until, || posts.iter().all(|post| post.is_done()));
        let mut report = ShutdownReport::default();
        for post in &posts {
            post.report(&mut report);
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

impl Order {
    fn new(shutdown: Shutdown) -> Result<Order, Error> {
        let mut refusal = Response::new(503)?;
        if let Some(after) = shutdown.retry_after {
            let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0));
            refusal = refusal.with_header("Retry-After", seconds.to_string())?;
        }
        Ok(Order { shutdown, refusal })
    }
}

/// An order on its way to a worker. Dropped on that way, it counts as carried out: the worker has ended.
struct Begin {
    post: Arc<Post>,
    order: Arc<Order>,
    deadline: Option<Instant>,
}

impl Begin {
    /// On the worker's thread; `waits_here` if a call on that thread waits for the shutdown.
    fn run(self, waits_here: bool) {
        if let Some(station) = Station::of_post(&self.post) {
            station.begin(&self.order, self.deadline, waits_here);
        }
    }
}

impl Drop for Begin {
    fn drop(&mut self) {
        self.post.begun.store(true, Ordering::SeqCst);
        self.post.wake();
    }
}

/// Has the waits of a thread look at the workers whenever one of them is done.
struct Watching<'a>(&'a [Arc<Post>], Remote);

impl Watching<'_> {
    fn start(posts: &[Arc<Post>], remote: Remote) -> Watching<'_> {
        for post in posts {
            lock(&post.waiters).push(remote.clone());
        }
        Watching(posts, remote)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        for post in self.0 {
            let mut waiters = lock(&post.waiters);
            // One of them: another call on this thread may watch too.
            if let Some(place) = waiters.iter().position(|waiter| *waiter == self.1) {
                waiters.swap_remove(place);
            }
        }
    }
}

impl Post {
    /// Something more to wait for, until what this returns is dropped.
    pub(super) fn expect(self: &Arc<Post>) -> Pending {
        self.pending.fetch_add(1, Ordering::SeqCst);
        Pending(Arc::clone(self))
    }

    /// A connection has opened.
    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.pending.fetch_add(1, Ordering::SeqCst);
    }

    /// A connection has ended.
    pub(super) fn ended(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// There is one thing less to wait for.
    pub(super) fn one_less(&self) {
        if self.pending.fetch_sub(1, Ordering::SeqCst) == 1 && self.begun.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    fn wake(&self) {
        lock(&self.waiters).iter().for_each(Remote::wake);
    }

    fn is_done(&self) -> bool {
        self.begun.load(Ordering::SeqCst) && self.pending.load(Ordering::SeqCst) == 0
    }

    fn report(&self, report: &mut ShutdownReport) {
        let tally = self.tally();
        report.connections += tally.clean + tally.unanswered.len();
        report.clean += tally.clean;
        report.unanswered.extend_from_slice(&tally.unanswered);
        report.refused += tally.refused;
        if !self.is_done() {
            let connections = self.open.load(Ordering::Relaxed);
            report.connections += connections;
            report.stuck.push(StuckWorker::new(self.remote.to_string(), connections));
        }
    }
}

/// Something that a shutdown of its worker waits for.
pub(super) struct Pending(Arc<Post>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.one_less();
    }
}
