//! Runtime watch: a thread asks, a task of the runtime answers, and late answers are reported.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use threadwire_worker::Stalled;
use tokio::runtime;

use super::task::{note_stall, running};

type OnStall = dyn FnMut(&Stalled) + Send;

/// How often a runtime is asked at most.
const SHORTEST: Duration = Duration::from_millis(1);

/// How many runtimes are watched.
static WATCHED: AtomicUsize = AtomicUsize::new(0);

/// Whether somebody wants to know which tasks are running.
pub(super) fn is_watched() -> bool {
    WATCHED.load(Ordering::Relaxed) > 0
}

#[derive(Default)]
struct Watchdog {
    state: Mutex<State>,
    /// For the thread.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How often the thread has asked, and which of these questions was answered last.
    asked: u64,
    answered: u64,
    /// When the last question was asked, and how long the answer may take.
    question: Option<(Instant, Duration)>,
    /// Whether nobody is left to answer, or to be told.
    is_over: bool,
    /// The task's.
    waker: Option<Waker>,
    stalls: u64,
    on_stall: Option<Box<OnStall>>,
}

/// Watches the runtime that this is called on, until what it returns is dropped: a thread of its own asks the runtime every `limit`
/// for a sign of life, and reports if none comes within another. A warning goes to the log, while it still lasts; and
/// [`on_stall`](RuntimeWatch::on_stall) is called. So what never returns is reported too.
///
/// The sign of life is a task of the runtime. On a runtime of one thread it is missing when any task holds that thread. On one of
/// several threads only when all of them are held: a single task that blocks there is found by [`watch`](super::watch). What is held for
/// less than twice the limit may go unseen. A limit below a millisecond counts as one.
///
/// The report names those tasks that are in the midst of a poll just then, as far as they are [watched](super::watch); of
/// others nobody knows.
///
/// # Panics
///
/// Where there is no runtime.
///
/// ```
/// use std::time::Duration;
/// use std::sync::mpsc;
/// use threadwire::aio;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
///
/// let (tell, told) = mpsc::channel();
/// let limit = Duration::from_millis(5);
/// let _watch = aio::watch_runtime(limit).on_stall(move |stall| drop(tell.send(stall.what.clone())));
/// let task = aio::watch("the importer", limit, async move {
///     told.recv().unwrap() // blocks: nothing else of the runtime goes on
/// });
/// let what = tokio::spawn(task).await.unwrap();
/// assert!(what.contains("the importer"));
/// # }
/// ```
pub fn watch_runtime(limit: Duration) -> RuntimeWatch {
    let limit = limit.max(SHORTEST);
    let runtime = runtime::Handle::current();
    let watchdog = Arc::new(Watchdog::default());
    let answering = Answering(Arc::clone(&watchdog));
    runtime.spawn(async move { poll_fn(|cx| answering.0.answer(cx)).await });
    let asking = Arc::clone(&watchdog);
    WATCHED.fetch_add(1, Ordering::Relaxed);
    let id = runtime.id();
    let started = thread::Builder::new().name("runtime watch".into()).spawn(move || {
        asking.ask(limit, id);
        WATCHED.fetch_sub(1, Ordering::Relaxed);
    });
    if let Err(error) = started {
        WATCHED.fetch_sub(1, Ordering::Relaxed);
        watchdog.end();
        tracing::error!(%error, "a runtime is not watched");
    }
    RuntimeWatch(watchdog)
}

/// A runtime that is watched: see [`watch_runtime`].
#[must_use = "dropping it ends the watch"]
pub struct RuntimeWatch(Arc<Watchdog>);

impl RuntimeWatch {
    /// Is called with each stall while it lasts, on the watching thread, and again whenever twice the time has passed. `held` is for
    /// how long it has lasted by then.
    pub fn on_stall(self, hook: impl FnMut(&Stalled) + Send + 'static) -> RuntimeWatch {
        let before = self.0.lock().on_stall.replace(Box::new(hook));
        drop(before);
        self
    }

    /// How often the runtime has stalled.
    pub fn stalls(&self) -> u64 {
        self.0.lock().stalls
    }
}

impl Drop for RuntimeWatch {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl fmt::Debug for RuntimeWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeWatch").field("stalls", &self.stalls()).finish_non_exhaustive()
    }
}

/// The task. It is dropped with its runtime.
struct Answering(Arc<Watchdog>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Watchdog {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is over, for the task and for the thread.
    fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        let (waker, hook) = (state.waker.take(), state.on_stall.take());
        drop(state);
        self.changed.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
        drop(hook);
    }

    /// The task's part.
    fn answer(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.is_over {
            return Poll::Ready(());
        }
        let before = state.waker.replace(cx.waker().clone());
        if state.answered != state.asked {
            state.answered = state.asked;
            if let Some((asked, limit)) = state.question
                && asked.elapsed() >= limit
            {
                note_stall(asked.elapsed());
            }
            self.changed.notify_one();
        }
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// The thread's part.
    fn ask(&self, limit: Duration, runtime: runtime::Id) {
        let mut state = self.lock();
        while !state.is_over {
            state.asked += 1;
            let (asked, waker) = (Instant::now(), state.waker.clone());
            state.question = Some((asked, limit));
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            let is_open = |state: &mut State| !state.is_over && state.answered != state.asked;
            let mut patience = limit;
            loop {
                let waited = self.changed.wait_timeout_while(self.lock(), patience, is_open);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                if !is_open(&mut state) {
                    break;
                }
                state.stalls += u64::from(patience == limit);
                drop(state);
                self.report(asked, runtime);
                patience = patience.saturating_mul(2);
            }
            if patience > limit {
                tracing::warn!(held = ?asked.elapsed(), "the runtime goes on");
            }
            let waited = self.changed.wait_timeout_while(state, limit, |state| !state.is_over);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn report(&self, asked: Instant, runtime: runtime::Id) {
        let tasks = running(runtime).join(", ");
        let what = match tasks.as_str() {
            "" => "the runtime, by a task that is not watched".to_owned(),
            tasks => format!("the runtime, by {tasks}"),
        };
        let held = asked.elapsed();
        tracing::warn!(what, ?held, "no task of a runtime gets its turn");
        // The hook is the program's: nothing is locked while it runs.
        let hook = self.lock().on_stall.take();
        let Some(mut hook) = hook else { return };
        threadwire_guard::contain("on_stall", || hook(&Stalled::new(what, held)));
        let mut state = self.lock();
        if !state.is_over && state.on_stall.is_none() {
            state.on_stall = Some(hook);
        }
    }
}
