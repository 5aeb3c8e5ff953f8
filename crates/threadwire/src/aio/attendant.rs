//! Attendant of the async face: two tasks that see to the connections of a thread, where no task of the program does.
//!
//! **One writes**, together and soon: the first send of a burst puts its connection on a list, and wakes the task if the list was
//! empty. It runs when the tasks that are ready have run: by then the burst is complete. A connection whose task has gone on to
//! `recv` was written there, and the attendant finds nothing to do. So there is one wake-up a turn of the runtime, for all
//! connections. The same task reads what nobody receives, so that pings are answered and the end is noticed, and sees
//! connections that are closing to their end.
//!
//! **The other keeps time.** A connection whose reader was woken, or has a message, is watched until the reader has found nothing
//! more. Once the tasks that were ready have run it mostly has; whoever has not when [`TICK`] has passed, as its receive was dropped
//! by a `select!` or its task is busy otherwise, is read for by the attendant. On a runtime of one thread the first task
//! looks whether readers have come, as it runs behind them: what a timer costs in each turn of a runtime is saved. With
//! several threads it may run before them, and waking it together with the reader would wake another thread. And on the agenda lie all connections with the deadlines of keepalive
//! and of closing; it keeps a connection that nobody holds any more until it has ended.
//!
//! There is one attendant for each thread of a runtime on which connections are opened. It belongs to the runtime (one that
//! belonged to the process would end with its first runtime), and ends with the last connection that uses it. Where the runtime ends
//! first, so do its connections.
//!
//! Order of locks: nothing is called while the lists are locked; whoever puts something there may hold a connection's lock, and
//! the attendant holds none when it takes the lists.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use threadwire_core::panic::catch;
use threadwire_proto::keepalive::Keepalive;
use threadwire_worker::Lock;
use tokio::runtime::{self, Handle, RuntimeFlavor};
use tokio::time::{Sleep, sleep_until};

use super::core::Core;
use super::link::Link;
use super::state::{Env, State};

/// How long a reader that was woken may take to come, before somebody else reads.
const TICK: Duration = Duration::from_millis(20);

/// After how many connections others get their turn, if there are still more.
const PER_TURN: usize = 64;

thread_local! {
    /// The attendants of this thread: one for each runtime that has used it, as long as they live.
    static ATTENDANTS: RefCell<Vec<(runtime::Id, Weak<Attendant>)>> = const { RefCell::new(Vec::new()) };
}

/// The clock of the runtime: it can be paused in tests.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The end that connections hold. With the last of them, the tasks end.
pub(super) struct Attendant {
    desk: Arc<Desk>,
    /// The place on the agenda of connections of which nothing is due.
    pub(super) never: Instant,
    /// Whether the tasks run one after the other, in the order in which they were woken: the runtime has one thread.
    pub(super) runs_in_turn: bool,
}

/// The runtime has ended.
pub(super) struct RuntimeEnded;

impl Attendant {
    /// The one of this thread and the runtime that it is in.
    pub(super) fn current(runtime: &Handle) -> Arc<Attendant> {
        let found = ATTENDANTS.try_with(|attendants| {
            let mut attendants = attendants.borrow_mut();
            attendants.retain(|(_, attendant)| attendant.strong_count() > 0);
            let known = attendants.iter().find(|(id, _)| *id == runtime.id());
            known.and_then(|(_, known)| known.upgrade()).filter(|attendant| !attendant.desk.lock().is_over)
        });
        if let Ok(Some(attendant)) = found {
            return attendant;
        }
        let desk = Arc::<Desk>::default();
        let attendant = Arc::new(Attendant {
            desk: Arc::clone(&desk),
            never: now() + Keepalive::LONGEST,
            runs_in_turn: runtime.runtime_flavor() == RuntimeFlavor::CurrentThread,
        });
        let _ = ATTENDANTS.try_with(|attendants| {
            let mut attendants = attendants.borrow_mut();
            attendants.retain(|(id, _)| *id != runtime.id());
            attendants.push((runtime.id(), Arc::downgrade(&attendant)));
        });
        runtime.spawn(attend(AtWork(Arc::clone(&desk))));
        runtime.spawn(keep_time(AtWork(desk), attendant.never));
        attendant
    }

    /// Has a connection attended to, once the tasks that are ready have run.
    pub(super) fn push(&self, link: Arc<Link>) {
        let mut duties = self.desk.lock();
        if duties.is_over {
            return;
        }
        duties.queued.push(link);
        // The waker is there while the task sleeps.
        let waker = duties.waker.take();
        drop(duties);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Makes sure that the reader of a connection comes.
    #[cold]
    pub(super) fn watch(&self, link: Arc<Link>) {
        let mut duties = self.desk.lock();
        if duties.is_over {
            return;
        }
        duties.watched.push(link);
        let waker = if duties.watched.len() == 1 { duties.timekeeper.take() } else { None };
        drop(duties);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Moves a connection on the agenda, from one time to another. Returns whom to wake for that, without a lock.
    pub(super) fn schedule(
        &self,
        core: Arc<Core>,
        before: Option<Instant>,
        at: Instant,
    ) -> Result<Option<Waker>, RuntimeEnded> {
        let id = Core::id(&core);
        let mut duties = self.desk.lock();
        if let Some(before) = before {
            duties.agenda.remove(&(before, id));
        }
        if duties.is_over {
            return Err(RuntimeEnded);
        }
        duties.agenda.insert((at, id), core);
        let is_first = at < duties.rings_at.unwrap_or(self.never);
        Ok(if is_first { duties.timekeeper.take() } else { None })
    }

    /// The connection is over. It is held by whoever says so, so that dropping it here is not its end.
    pub(super) fn forget(&self, core: &Core, at: Instant) {
        self.desk.lock().agenda.remove(&(at, Core::id(core)));
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        let mut duties = self.desk.lock();
        duties.is_over = true;
        let wakers = [duties.waker.take(), duties.timekeeper.take()];
        drop(duties);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

#[derive(Default)]
struct Desk(Lock<Duties>);

#[derive(Default)]
struct Duties {
    queued: Vec<Arc<Link>>,
    watched: Vec<Arc<Link>>,
    /// All connections that are not over, by the time at which something is due; and by address, as times may be the same.
    agenda: BTreeMap<(Instant, usize), Arc<Core>>,
    waker: Option<Waker>,
    timekeeper: Option<Waker>,
    /// When the timekeeper's timer rings.
    rings_at: Option<Instant>,
    is_over: bool,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Duties> {
        self.0.lock()
    }
}

/// Ends the connections where the runtime drops the task.
struct AtWork(Arc<Desk>);

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut duties = self.0.lock();
        duties.is_over = true;
        let (queued, watched) = (mem::take(&mut duties.queued), mem::take(&mut duties.watched));
        let agenda = mem::take(&mut duties.agenda);
        drop(duties);
        agenda.into_values().for_each(|core| see_to(&core, State::end_with_runtime));
        drop((queued, watched));
    }
}

/// Calls for a connection. Code of others, as a stream that is none of tokio's, may panic: that ends this one alone.
fn see_to(core: &Core, call: impl FnOnce(&mut State, Env<'_>)) {
    let seen_to = catch(|| {
        core.with(call);
        Ok(())
    });
    if let Err(error) = seen_to {
        threadwire_guard::contain("the stream of a connection", || core.abort(Some(error)));
    }
}

async fn attend(at_work: AtWork) {
    let mut batch = Vec::new();
    std::future::poll_fn(|cx| {
        let (mut attended, mut goes_on) = (0, true);
        while attended < PER_TURN && goes_on {
            let mut duties = at_work.0.lock();
            if duties.queued.is_empty() {
                if duties.is_over {
                    return Poll::Ready(());
                }
                duties.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            mem::swap(&mut duties.queued, &mut batch);
            drop(duties);
            attended += batch.len();
            for link in batch.drain(..) {
                // Before: what happens from here on puts it on the list again. What has put it there is seen.
                if link.is_queued()
                    && link.is_queued.swap(false, Ordering::AcqRel)
                    && let Some(core) = link.core.upgrade()
                {
                    see_to(&core, State::attend);
                    // One that has more to do has put itself on the list again: others come before that.
                    goes_on &= !link.is_queued();
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn keep_time(at_work: AtWork, never: Instant) {
    let mut timekeeper = Timekeeper { never, timer: None, looked_at: None, tick: None };
    std::future::poll_fn(|cx| timekeeper.poll(&at_work.0, cx)).await;
}

struct Timekeeper {
    never: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    /// When it was looked last whether readers have come.
    looked_at: Option<Instant>,
    /// When those that have not are late.
    tick: Option<Instant>,
}

impl Timekeeper {
    fn poll(&mut self, desk: &Desk, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = now();
            let mut due = Vec::new();
            let mut duties = desk.lock();
            if duties.is_over {
                return Poll::Ready(());
            }
            while due.len() < PER_TURN
                && let Some(first) = duties.agenda.first_entry()
                && first.key().0 <= now
            {
                due.push(first.remove());
            }
            let watched =
                if self.is_to_look(&duties, now) { mem::take(&mut duties.watched) } else { Vec::new() };
            if due.is_empty() && watched.is_empty() {
                let first = duties.agenda.first_key_value().map(|((at, _), _)| *at);
                let first = first.filter(|first| *first < self.never);
                let Some(next) = first.into_iter().chain(self.tick).min() else {
                    duties.rings_at = None;
                    duties.timekeeper = Some(cx.waker().clone());
                    return Poll::Pending;
                };
                (duties.rings_at, duties.timekeeper) = (Some(next), Some(cx.waker().clone()));
                drop(duties);
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next.into())));
                if timer.deadline().into_std() != next {
                    timer.as_mut().reset(next.into());
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                continue;
            }
            drop(duties);
            due.iter().for_each(|core| see_to(core, State::ring));
            if !watched.is_empty() {
                self.look(watched, desk, now);
            }
        }
    }

    /// Whether to look at those whose readers were woken: when the tasks that were ready then have run, if that was not done just
    /// before; otherwise, and for those who have not come, when a tick has passed.
    fn is_to_look(&mut self, duties: &Duties, now: Instant) -> bool {
        if duties.watched.is_empty() {
            return false;
        }
        if self.looked_at.is_some_and(|looked_at| now < looked_at + TICK) && self.tick.is_none() {
            self.tick = self.looked_at.map(|looked_at| looked_at + TICK);
        }
        self.tick.is_none_or(|tick| tick <= now)
    }

    fn look(&mut self, mut watched: Vec<Arc<Link>>, desk: &Desk, now: Instant) {
        let is_tick = self.tick.take().is_some();
        watched.retain(|link| {
            // Before, as with the other list.
            link.is_watched.swap(false, Ordering::AcqRel);
            let mut is_missing = false;
            if let Some(core) = link.core.upgrade() {
                see_to(&core, |state, env| is_missing = state.look_after_reader(is_tick, env));
            }
            is_missing && !link.is_watched.swap(true, Ordering::AcqRel)
        });
        self.looked_at = Some(now);
        if !watched.is_empty() {
            self.tick = Some(now + TICK);
            desk.lock().watched.append(&mut watched);
        }
    }
}
