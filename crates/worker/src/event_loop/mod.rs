//! The event loop of a thread, and its re-entrancy.
//!
//! A callback may wait, and then the loop turns inside of it. Two things follow. All state lies in cells, and no borrow of a
//! cell spans a callback. And pending work - sockets that are ready, timers that are due, calls from other threads - is state
//! of the loop, taken out one by one: the system tells readiness once, so work that an outer turn kept in a local variable
//! would be lost to an inner one.

mod clock;
#[cfg(unix)]
mod embedded;
mod end;
pub(crate) mod event;
pub(crate) mod inbox;
pub(crate) mod mail;
mod nested_wait;
mod nesting;
mod poll;
pub(crate) mod remote;
pub(crate) mod reserve;
pub(crate) mod source;
mod source_table;
mod stall;
pub(crate) mod status;
pub(crate) mod timer;
pub(crate) mod topics;
pub(crate) mod tree;
mod waker;
pub(crate) mod worker_state;

pub use clock::TimeKeeper;
pub use stall::Stalled;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use slab::Slab;

use self::clock::Clock;
use self::inbox::{DISCARD, PAUSE, STOP};
use self::mail::Mail;
use self::nesting::{Nesting, Running};
use self::source_table::SourceEntry;
use self::stall::{Holder, Stalls};
use self::timer::Timers;
use self::topics::{AnyTopic, Topics};
use self::waker::{Poller, Waker};
use self::worker_state::{WorkerId, WorkerState};
use crate::{Ready, Remote, TimerId, Token};

/// The most mail from other threads that one turn delivers, so that a flood of them leaves room for the sockets.
const MAIL_PER_TURN: usize = 256;
/// The default of [`EventLoop::set_grace`].
const GRACE_OF_THREAD: Duration = Duration::from_secs(2);

thread_local! {
    /// The loop of the current thread. Never dropped, so that it can be reached while the thread ends.
    static CURRENT: ManuallyDrop<RefCell<Option<Rc<EventLoop>>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
    /// The number of the worker whose loop that is, or 0: to be read without counting references.
    static CURRENT_ID: Cell<u64> = const { Cell::new(0) };
    static END_OF_THREAD: EndOfThread = const { EndOfThread };
}

/// Ends the loop of a thread that ends.
struct EndOfThread;

impl Drop for EndOfThread {
    fn drop(&mut self) {
        end::quietly(|| {
            let current = CURRENT.with(|current| current.borrow().clone());
            if let Some(event_loop) = current {
                event_loop.end_of_thread();
            }
            drop(EventLoop::set_current(None));
        });
    }
}

/// A thread's event loop. It belongs to its thread; [`remote`](EventLoop::remote) reaches it from others.
pub struct EventLoop {
    /// The system's poll, made when the first socket comes.
    poller: RefCell<Option<Poller>>,
    sources: RefCell<Slab<SourceEntry>>,
    /// The number of sources there have ever been.
    attached: Cell<usize>,
    /// Sources that have something to do, each of them once. Their readiness lies in their entries.
    ready: RefCell<VecDeque<Token>>,
    /// Sources to be flushed before the next poll.
    dirty: RefCell<Vec<Token>>,
    timers: RefCell<Timers<TimerCall>>,
    /// Mail that was taken out of the inbox, and not delivered yet.
    mail: RefCell<VecDeque<Box<dyn Mail>>>,
    worker: Arc<WorkerState>,
    topics: Topics,
    /// A topic that keeps events for the task's next wait.
    keeping: RefCell<Option<Rc<dyn AnyTopic>>>,
    /// Whether a wait has got what it waits for, so that no more mail is delivered before it returns.
    interrupted: Cell<bool>,
    depth: Cell<usize>,
    nesting: Nesting,
    /// The number of waits in a row that had nothing to wait for.
    immediate: Cell<u32>,
    /// The time at which a checkpoint has last polled.
    turned: Cell<Instant>,
    clock: Rc<Clock>,
    /// The number of turns that were begun.
    turns: Cell<u64>,
    stalls: Stalls,
    /// The time for which the loop polls without sleeping (busy polling), when nothing happens.
    busy_poll: Cell<Option<Duration>>,
    /// The time since which nothing has happened, as far as the loop has looked without sleeping.
    quiet_since: Cell<Option<Instant>>,
    /// The time that the children of a thread that is no worker may take at its end.
    grace: Cell<Duration>,
    /// Whether a worker's task runs on the loop, which ends with it.
    has_task: Cell<bool>,
    /// Until when a thread that is no worker may wind down, since it has begun to.
    winds_down_until: Cell<Option<Instant>>,
    /// Whether it does so right now.
    winds_down: Cell<bool>,
    finished: Cell<bool>,
    /// Whether the thread, which is no worker, is ending.
    leaves: Cell<bool>,
    /// Whether there may be sources that were not told to stop.
    untold: Cell<bool>,
}

struct TimerCall {
    call: Box<dyn FnOnce()>,
    set_at: &'static Location<'static>,
}

impl EventLoop {
    /// How deep waits may be nested (a callback that waits, in which a callback is called that waits, and so on)
    /// before no further callback is called. The waits then still flush, and end when they are due or by a stop. That it has
    /// come to that is logged as an error, with who waits inside of whom.
    pub const MAX_NESTING: usize = 32;

    /// The loop of this thread. A thread that has none gets one.
    #[inline]
    pub fn current() -> Rc<EventLoop> {
        let current = CURRENT.with(|current| current.borrow().clone());
        current.unwrap_or_else(EventLoop::first_of_thread)
    }

    #[cold]
    fn first_of_thread() -> Rc<EventLoop> {
        let event_loop = EventLoop::automatic();
        if END_OF_THREAD.try_with(|_| ()).is_ok() {
            drop(EventLoop::set_current(Some(Rc::clone(&event_loop))));
        } else {
            // The thread is ending, and has ended a loop already. This one is not kept, and nothing waits on it.
            event_loop.worker.stop(STOP);
        }
        event_loop
    }

    /// The worker whose loop this thread has, if it has one.
    pub(crate) fn current_id() -> Option<WorkerId> {
        match CURRENT_ID.get() {
            0 => None,
            id => Some(WorkerId(id)),
        }
    }

    /// Gives this thread another loop, or none, and returns the one it had. A thread without a loop makes one when it needs it.
    pub(crate) fn set_current(event_loop: Option<Rc<EventLoop>>) -> Option<Rc<EventLoop>> {
        CURRENT_ID.set(event_loop.as_ref().map_or(0, |event_loop| event_loop.worker.id.0));
        CURRENT.with(|current| current.replace(event_loop))
    }

    /// Whether a thread that is no worker is the process's main thread. The standard library tells only by the name.
    pub(crate) fn is_main_thread() -> bool {
        thread::current().name() == Some("main")
    }

    /// A loop for a thread that is no worker.
    fn automatic() -> Rc<EventLoop> {
        let worker = Arc::new(WorkerState::new(thread::current().name().map(Arc::from), false, None, false));
        worker.is_main.store(EventLoop::is_main_thread(), Ordering::Relaxed);
        worker.start();
        worker.begin();
        EventLoop::make(worker, true)
    }

    /// The loop of a worker that runs on this thread.
    pub(crate) fn new(worker: Arc<WorkerState>) -> Rc<EventLoop> {
        EventLoop::make(worker, false)
    }

    fn make(worker: Arc<WorkerState>, is_automatic: bool) -> Rc<EventLoop> {
        worker.inbox.set_waker(Waker::Park(thread::current()));
        let now = Instant::now();
        Rc::new(EventLoop {
            poller: RefCell::default(),
            sources: RefCell::default(),
            attached: Cell::new(0),
            ready: RefCell::default(),
            dirty: RefCell::default(),
            timers: RefCell::new(Timers::new()),
            mail: RefCell::default(),
            worker,
            topics: Topics::default(),
            keeping: RefCell::default(),
            interrupted: Cell::new(false),
            depth: Cell::new(0),
            nesting: Nesting::default(),
            immediate: Cell::new(0),
            turned: Cell::new(now),
            clock: Clock::new(now),
            turns: Cell::new(0),
            stalls: Stalls::new(now),
            busy_poll: Cell::new(None),
            quiet_since: Cell::new(None),
            grace: Cell::new(GRACE_OF_THREAD),
            has_task: Cell::new(!is_automatic),
            winds_down_until: Cell::new(None),
            winds_down: Cell::new(false),
            finished: Cell::new(false),
            leaves: Cell::new(false),
            untold: Cell::new(false),
        })
    }

    /// Reaches this loop from other threads.
    pub fn remote(&self) -> Remote {
        Remote(Arc::clone(&self.worker))
    }

    pub(crate) fn worker(&self) -> &Arc<WorkerState> {
        &self.worker
    }

    /// Whether a worker's task runs on the loop, which ends with it.
    pub(crate) fn has_task(&self) -> bool {
        self.has_task.get()
    }

    pub(crate) fn begin_task(&self) {
        self.has_task.set(true);
    }

    pub(crate) fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Whether the worker was asked to stop, or is ending.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.worker.inbox.has(STOP) || self.finished.get()
    }

    /// Whether the worker's task is [held](Remote::pause).
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.worker.inbox.has(PAUSE)
    }

    /// Whether the thread is ending, and is no worker: nothing is waited for any more.
    #[doc(hidden)]
    pub fn leaves(&self) -> bool {
        self.leaves.get()
    }

    /// How long this thread's children may take to end when it ends, if it is no worker; after that they are left to
    /// themselves, and reported. After a stop the connections that it drops have as long to close. 2 s by default.
    pub fn set_grace(&self, grace: Duration) {
        self.grace.set(grace);
    }

    /// Whether a wait that begins now is the task's own, and not that of a callback.
    pub fn is_outermost(&self) -> bool {
        self.depth.get() == 0
    }

    /// Ends this turn early, for a source that is served or mail that is delivered: no more sources are served, or no more mail is
    /// delivered. A wait has got what it waits for, which is better dealt with before more comes. Sources that are ready keep their
    /// places, and come first in the next turn.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire_worker::{EventLoop, sleep};
    ///
    /// let event_loop = EventLoop::current();
    /// event_loop.after(Duration::ZERO, || EventLoop::current().interrupt());
    /// sleep(Duration::from_millis(1))?; // it was not over yet, and goes on
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    pub fn interrupt(&self) {
        self.interrupted.set(true);
    }

    /// Remembers a topic that keeps events for the task's next wait, if that is for such events.
    pub(crate) fn set_keeping(&self, topic: Rc<dyn AnyTopic>) {
        self.keeping.replace(Some(topic));
    }

    /// Runs `call` on this thread at `due`, from within a wait.
    #[track_caller]
    pub fn at(&self, due: Instant, call: impl FnOnce() + 'static) -> TimerId {
        let timer = TimerCall { call: Box::new(call), set_at: Location::caller() };
        self.timers.borrow_mut().set(due, timer)
    }

    /// Runs `call` on this thread after `delay`, from within a wait.
    ///
    /// ```
    /// use std::{cell::Cell, rc::Rc, time::Duration};
    /// use threadwire_worker::{EventLoop, sleep};
    ///
    /// let rang = Rc::new(Cell::new(false));
    /// let bell = Rc::clone(&rang);
    /// EventLoop::current().after(Duration::ZERO, move || bell.set(true));
    /// sleep(Duration::from_millis(1))?;
    /// assert!(rang.get());
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    #[track_caller]
    pub fn after(&self, delay: Duration, call: impl FnOnce() + 'static) -> TimerId {
        self.at(timer::after(Instant::now(), delay), call)
    }

    /// Cancels a timer. Returns whether it was still to come.
    pub fn cancel(&self, timer: TimerId) -> bool {
        let cancelled = self.timers.borrow_mut().cancel(timer);
        let was_to_come = cancelled.is_some();
        threadwire_guard::discard(cancelled);
        was_to_come
    }

    /// Whether waits are nested so deep that no callback may be called. What has to be called then can be left to a timer:
    /// it rings when the waits have ended.
    pub fn is_too_deep(&self) -> bool {
        self.depth.get() > EventLoop::MAX_NESTING
    }

    /// One turn: flush, poll, and do what there is to do.
    fn turn(&self, until: Option<Instant>) {
        let _turning = self.begin_turn();
        self.immediate.set(0);
        let turns = self.turns.get();
        self.flush();
        // A wait inside of a flush has polled, and perhaps seen what this turn would wait for: this turn must not sleep.
        let until = if self.turns.get() == turns { until } else { Some(Instant::now()) };
        let may_call = !self.is_too_deep();
        self.poll(until, may_call);
        self.clock.turn();
        self.serve_sources(may_call);
        if may_call {
            self.run_timers();
            self.deliver_mail();
        }
    }

    fn flush(&self) {
        while let Some(token) = pop(&self.dirty, Vec::pop) {
            if let Some(source) = self.source(token) {
                self.nesting.running.set(Running::Source(token));
                let _held = self.hold(|| Holder::Source(Rc::clone(&source)));
                source.flush();
            }
        }
    }

    /// Calls the sources that are ready now. What they requeue waits for the next turn.
    fn serve_sources(&self, may_call: bool) {
        let ready_now = self.ready.borrow().len();
        for _ in 0..ready_now {
            if self.must_return() {
                return;
            }
            let Some((token, ready, source)) = self.next_ready() else { return };
            self.nesting.running.set(Running::Source(token));
            let _held = self.hold(|| Holder::Source(Rc::clone(&source)));
            if may_call {
                source.ready(ready);
                if self.interrupted.replace(false) {
                    return;
                }
                continue;
            }
            // Nested too deep for callbacks, but writing goes on.
            let later = Ready { writable: false, ..ready };
            if ready.writable {
                source.ready(Ready { writable: true, ..Ready::default() });
            }
            if !later.is_empty() {
                self.requeue(token, later);
            }
        }
    }

    fn run_timers(&self) {
        if self.timers.borrow().next().is_none() {
            return;
        }
        let now = Instant::now();
        // Timers that are set meanwhile wait for the next turn: one that sets itself again must not starve the sockets.
        let last = self.timers.borrow().last_set();
        while let Some(TimerCall { call, set_at }) = pop(&self.timers, |timers| timers.pop(now, last)) {
            self.quiet_since.set(None);
            self.nesting.running.set(Running::Timer(set_at));
            let _held = self.hold(|| Holder::Timer(set_at));
            contain(call);
        }
    }

    fn deliver_mail(&self) {
        for count in 0..MAIL_PER_TURN {
            if self.must_return() {
                return;
            }
            let Some(mail) = self.next_mail(count > 0) else { return };
            self.deliver(mail);
            if self.interrupted.get() {
                self.interrupted.set(false);
                return;
            }
        }
    }

    /// Whether the waits are to return, and nothing else is to be begun.
    #[inline]
    fn must_return(&self) -> bool {
        self.worker.inbox.has(STOP) && !self.finished.get() && !self.winds_down.get()
    }

    #[inline]
    fn deliver(&self, mail: Box<dyn Mail>) {
        self.nesting.running.set(Running::Mail(mail.name()));
        let _held = self.hold(|| Holder::of_mail(&*mail));
        contain(|| {
            // This happens at the end of a run only: before that, a stop lets nothing be delivered at all.
            if self.worker.inbox.has(DISCARD) && mail.is_event() {
                return mail.discard(&self.remote());
            }
            mail.deliver(self);
        });
    }

    #[inline]
    fn next_mail(&self, again: bool) -> Option<Box<dyn Mail>> {
        let mut taken = self.mail.borrow_mut();
        if taken.is_empty() && !self.worker.inbox.take(&mut taken, again) {
            return None;
        }
        let mail = taken.pop_front();
        self.worker.inbox.set_taken(taken.len());
        mail
    }
}

impl std::fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLoop").field("sources", &self.source_count()).finish_non_exhaustive()
    }
}

/// Runs a callback, and contains its panic, which the thread's panic hook has reported.
#[inline]
fn contain(callback: impl FnOnce()) {
    threadwire_guard::contain("a timer, a call from another thread or the end of a source", callback);
}

/// Takes something out of a cell. The borrow ends here, before the value is used.
fn pop<C, T>(cell: &RefCell<C>, take: impl FnOnce(&mut C) -> Option<T>) -> Option<T> {
    take(&mut cell.borrow_mut())
}
