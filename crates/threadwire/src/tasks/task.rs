//! Task watch: tasks that hold a runtime's thread by blocking or computing.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use threadwire_worker::{Lock, Stalled};
use tokio::runtime;

use super::runtime::is_watched;

thread_local! {
    /// The last time in which something held this thread: when that ended, and how long it lasted.
    static LAST_STALL: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// The last stall of this thread that was noticed.
pub(crate) fn last_stall() -> Option<(Instant, Duration)> {
    LAST_STALL.try_with(Cell::get).ok().flatten()
}

/// Something has held this thread until now.
pub(super) fn note_stall(lasted: Duration) {
    // At the end of a thread nobody asks any more.
    let _ = LAST_STALL.try_with(|last| last.set(Some((Instant::now(), lasted))));
}

type OnStall = dyn FnMut(&Stalled) + Send;

/// Has it reported when `future` holds its runtime's thread for longer than `limit` at a time: what sleeps without an `.await`,
/// blocks on a lock or a file, or computes for long. Other tasks of that thread, connections among them, wait meanwhile.
///
/// A warning with the name, and with the place of this call, goes to the log; [`on_stall`](Watched::on_stall) is called too. That
/// comes when the poll has returned: for what never returns there is [`watch_runtime`](super::watch_runtime). It is the time of the clock on the wall, be
/// it that the task computes, blocks, or is kept from running by the system.
///
/// It costs two looks at the clock for each poll, and a box for the future.
///
/// ```
/// use std::time::Duration;
/// use std::{sync::mpsc, thread};
/// use threadwire::aio;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
///
/// let (tell, told) = mpsc::channel();
/// let task = aio::watch("the importer", Duration::from_millis(1), async {
///     thread::sleep(Duration::from_millis(5)); // should be tokio::time::sleep
/// });
/// task.on_stall(move |stall| tell.send(stall.what.clone()).unwrap()).await;
/// assert!(told.recv().unwrap().starts_with("the importer (watched at "));
/// # }
/// ```
#[track_caller]
pub fn watch<F: Future>(name: impl Into<Cow<'static, str>>, limit: Duration, future: F) -> Watched<F> {
    let label = format!("{} (watched at {})", name.into(), Location::caller());
    Watched { label: label.into(), limit, on_stall: None, future: Box::pin(future) }
}

/// A future that is watched: see [`watch`].
#[must_use = "nothing happens until it is awaited"]
pub struct Watched<F> {
    label: Arc<str>,
    limit: Duration,
    on_stall: Option<Box<OnStall>>,
    future: Pin<Box<F>>,
}

impl<F> Watched<F> {
    /// Is called with each stall, on the task's own thread.
    pub fn on_stall(mut self, hook: impl FnMut(&Stalled) + Send + 'static) -> Watched<F> {
        self.on_stall = Some(Box::new(hook));
        self
    }

    #[cold]
    fn report(&mut self, held: Duration) {
        note_stall(held);
        tracing::warn!(task = &*self.label, ?held, "a task has held its runtime's thread for too long");
        if let Some(hook) = &mut self.on_stall {
            hook(&Stalled::new(self.label.to_string(), held));
        }
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let since = Instant::now();
        let running = Running::begin(&this.label);
        let polled = this.future.as_mut().poll(cx);
        drop(running);
        let held = since.elapsed();
        if held > this.limit {
            this.report(held);
        }
        polled
    }
}

impl<F> fmt::Debug for Watched<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("label", &self.label)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// The polls of watched tasks that are under way, while somebody watches a runtime.
static RUNNING: Lock<Vec<Polling>> = Lock::new(Vec::new());

struct Polling {
    number: u64,
    label: Arc<str>,
    runtime: runtime::Id,
}

/// A poll that is under way.
struct Running(u64);

impl Running {
    fn begin(label: &Arc<str>) -> Option<Running> {
        if !is_watched() {
            return None;
        }
        let runtime = runtime::Handle::try_current().ok()?.id();
        let mut running = RUNNING.lock();
        let number = running.last().map_or(1, |last| last.number + 1);
        running.push(Polling { number, label: Arc::clone(label), runtime });
        Some(Running(number))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = RUNNING.lock();
        let place = running.iter().position(|poll| poll.number == self.0);
        let ended = place.map(|place| running.remove(place));
        drop(running);
        drop(ended);
    }
}

/// The watched tasks of a runtime that are running now. Where none of its threads comes round, these are what holds them.
pub(super) fn running(runtime: runtime::Id) -> Vec<Arc<str>> {
    let running = RUNNING.lock();
    let here = running.iter().filter(|poll| poll.runtime == runtime);
    here.map(|poll| Arc::clone(&poll.label)).collect()
}
