//! The count of a server's connections on one worker or runtime, and of what a shutdown there has to wait for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use threadwire_proto::CloseFrame;
use threadwire_proto::handshake::Response;

use super::shutdown::{CloseProblem, Shutdown, ShutdownReport, StuckWorker, UncleanClose};
use crate::error::Error;
use crate::session::close::fitted;

/// The order of a shutdown to every worker.
#[derive(Debug)]
pub struct ShutdownOrder {
    pub shutdown: Shutdown,
    /// The answer to handshakes.
    pub refusal: Response,
}

impl ShutdownOrder {
    /// Fails with [`Error::Send`] if the code must not be sent. A reason that does not fit a close frame is cut: once, for all connections.
    pub fn new(mut shutdown: Shutdown) -> Result<ShutdownOrder, Error> {
        CloseFrame { code: Some(shutdown.code), reason: &shutdown.reason }.check()?;
        shutdown.reason.truncate(fitted(&shutdown.reason).len());
        let mut refusal = Response::new(503)?;
        if let Some(after) = shutdown.retry_after {
            let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0));
            refusal = refusal.with_header("Retry-After", seconds.to_string())?;
        }
        Ok(ShutdownOrder { shutdown, refusal })
    }
}

/// Those who wait for a shutdown.
#[derive(Debug, Default)]
pub struct Watchers(Mutex<Vec<Waker>>);

impl Watchers {
    /// Has `waker` woken whenever something is done, until what this returns is dropped.
    pub fn watch(self: &Arc<Watchers>, waker: Waker) -> Watching {
        lock(&self.0).push(waker.clone());
        Watching { watchers: Arc::clone(self), waker }
    }

    pub fn wake(&self) {
        lock(&self.0).iter().for_each(Waker::wake_by_ref);
    }
}

pub struct Watching {
    watchers: Arc<Watchers>,
    waker: Waker,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut wakers = lock(&self.watchers.0);
        // One of them: another call of the same task may watch too.
        if let Some(place) = wakers.iter().position(|waker| waker.will_wake(&self.waker)) {
            wakers.swap_remove(place);
        }
    }
}

#[derive(Debug, Default)]
pub struct WorkerTally {
    /// Its connections.
    open: AtomicUsize,
    /// The count that a shutdown waits for: connections, handshakes, and sockets that are on their way to this worker.
    pending: AtomicUsize,
    /// Whether its shutdown has begun, or it has ended without.
    begun: AtomicBool,
    counts: Mutex<Counts>,
    watchers: Arc<Watchers>,
}

/// The result of a shutdown on one worker.
#[derive(Debug, Default)]
struct Counts {
    clean: usize,
    unclean: Vec<UncleanClose>,
    refused: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WorkerTally {
    /// Wakes these when it is done.
    pub fn new(watchers: Arc<Watchers>) -> WorkerTally {
        WorkerTally { watchers, ..WorkerTally::default() }
    }

    /// How many connections there are.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Something more to wait for, until what this returns is dropped.
    pub fn expect(self: &Arc<WorkerTally>) -> Pending {
        self.pending.fetch_add(1, Ordering::SeqCst);
        Pending(Arc::clone(self))
    }

    /// A connection has opened.
    pub fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.pending.fetch_add(1, Ordering::SeqCst);
    }

    /// A connection has ended. If a shutdown has begun that `counts` it: cleanly, unless there was a `problem`.
    pub fn ended(&self, counts: Option<MemberNote>, problem: Option<CloseProblem>) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(note) = counts {
            if note.is_excused {
                return;
            }
            let mut counts = lock(&self.counts);
            match note.problem.or(problem) {
                None => counts.clean += 1,
                Some(problem) => counts.unclean.push(UncleanClose { peer: note.peer, problem }),
            }
        }
        self.one_less();
    }

    /// A handshake is answered with 503.
    pub fn refused(&self) {
        lock(&self.counts).refused += 1;
    }

    /// There is one thing less to wait for.
    pub fn one_less(&self) {
        if self.pending.fetch_sub(1, Ordering::SeqCst) == 1 && self.begun.load(Ordering::SeqCst) {
            self.watchers.wake();
        }
    }

    /// The shutdown has begun here, or there is nothing left that it could begin with.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        self.watchers.wake();
    }

    pub fn is_done(&self) -> bool {
        self.begun.load(Ordering::SeqCst) && self.pending.load(Ordering::SeqCst) == 0
    }

    /// Adds what came of the shutdown. If it is not done, `name` is that of a worker that is stuck.
    pub fn report(&self, report: &mut ShutdownReport, name: impl FnOnce() -> String) {
        let counts = lock(&self.counts);
        report.connections += counts.clean + counts.unclean.len();
        report.clean += counts.clean;
        report.unclean.extend_from_slice(&counts.unclean);
        report.refused += counts.refused;
        if !self.is_done() {
            let connections = self.open();
            report.connections += connections;
            report.stuck.push(StuckWorker { name: name(), connections });
        }
    }
}

/// Something that a shutdown of its worker waits for.
pub struct Pending(Arc<WorkerTally>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.one_less();
    }
}

/// A shutdown's note of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemberNote {
    pub peer: Option<std::net::SocketAddr>,
    /// What it lacked of a clean close when the time had passed.
    pub problem: Option<CloseProblem>,
    /// A callback of it waits for the shutdown, which does not wait for it then.
    pub is_excused: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use threadwire_proto::CloseCode;

    #[test]
    fn a_shutdown_is_done_when_it_has_begun_and_nothing_is_pending() {
        let tally = Arc::new(WorkerTally::default());
        tally.opened();
        tally.opened();
        let handshake = tally.expect();
        assert_eq!((tally.open(), tally.is_done()), (2, false));
        tally.begin();
        let silent = MemberNote { problem: Some(CloseProblem::Silent), ..MemberNote::default() };
        tally.ended(Some(silent), None);
        tally.ended(Some(MemberNote::default()), None);
        tally.refused();
        assert!(!tally.is_done());
        drop(handshake);
        assert!(tally.is_done());
        let mut report = ShutdownReport::default();
        tally.report(&mut report, || unreachable!("it is not stuck"));
        assert_eq!((report.connections, report.clean, report.refused), (2, 1, 1));
        assert_eq!(report.unclean, [UncleanClose { peer: None, problem: CloseProblem::Silent }]);
    }

    #[test]
    fn what_ended_before_does_not_count_and_what_is_excused_is_not_waited_for() {
        let tally = Arc::new(WorkerTally::default());
        tally.opened();
        tally.ended(None, Some(CloseProblem::Broken));
        tally.opened();
        tally.begin();
        // From here on a shutdown does not wait for the connection, and so not for its end either.
        tally.one_less();
        assert!(tally.is_done());
        tally.ended(Some(MemberNote { is_excused: true, ..MemberNote::default() }), None);
        let mut report = ShutdownReport::default();
        tally.report(&mut report, String::new);
        assert_eq!((report.connections, tally.open()), (0, 0));
    }

    #[test]
    fn whoever_is_late_is_told_when_to_come_back_in_whole_seconds() {
        let retry_after = Some(std::time::Duration::from_millis(1500));
        let order = ShutdownOrder::new(Shutdown { retry_after, ..Shutdown::default() }).unwrap();
        assert_eq!(order.refusal.headers().get("Retry-After"), Some("2"));
        let wrong = Shutdown { code: CloseCode::ABNORMAL, ..Shutdown::default() };
        assert!(matches!(ShutdownOrder::new(wrong), Err(Error::Send(_))));
    }
}
