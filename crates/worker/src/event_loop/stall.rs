//! Stall detection: callbacks and tasks that hold an event loop for too long.
//!
//! Code that runs on a loop's thread between two turns holds the loop: nothing else is served until it returns, or waits. So
//! the time of a stretch is taken from the entry of a callback, or from the end of a turn inside of it, to the next turn or
//! its return. Where no callback runs, the task does.

use std::borrow::Cow;
use std::cell::Cell;
use std::panic::Location;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use super::EventLoop;
use super::event::Event;
use super::mail::Mail;
use crate::Source;

/// A callback, or the worker's task, has held the loop for longer than the
/// [limit](EventLoop::set_stall_limit): an event that is fired at the worker itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stalled {
    /// The holder of the loop: a source by its [name](Source::name), a timer by the place where it was set, a call by the type of
    /// its closure, the listeners of an event by the type of the event.
    pub what: String,
    /// The time for which the loop did not turn.
    pub held: Duration,
}

impl Stalled {
    #[doc(hidden)]
    pub fn new(what: String, held: Duration) -> Stalled {
        Stalled { what, held }
    }
}

/// Code that can hold a loop.
pub(super) enum Holder {
    Task,
    Source(Rc<dyn Source>),
    Timer(&'static Location<'static>),
    Event(&'static str),
    /// The listeners for [`Stalled`] itself.
    Report,
    Call(&'static str),
}

impl Holder {
    pub(super) fn of_mail(mail: &dyn Mail) -> Holder {
        let any: &dyn std::any::Any = mail;
        match mail.is_event() {
            _ if any.is::<Event<Stalled>>() => Holder::Report,
            true => Holder::Event(mail.name()),
            false => Holder::Call(mail.name()),
        }
    }

    pub(super) fn name(&self) -> Cow<'static, str> {
        match self {
            Holder::Task => "the task".into(),
            Holder::Source(source) => source.name(),
            Holder::Timer(place) => format!("the timer set at {place}").into(),
            Holder::Event(name) => format!("the event {name}").into(),
            Holder::Report => "the event of a stall".into(),
            Holder::Call(name) => format!("the call {name}").into(),
        }
    }
}

pub(super) struct Stalls {
    limit: Cell<Option<Duration>>,
    /// The beginning of the stretch that is running.
    since: Cell<Instant>,
    /// The callback that is running, if it was entered under a limit.
    running: Cell<Option<Holder>>,
    last: Cell<Option<(Instant, Duration)>>,
}

impl Stalls {
    pub(super) fn new(now: Instant) -> Stalls {
        Stalls {
            limit: Cell::new(None),
            since: Cell::new(now),
            running: Cell::new(None),
            last: Cell::new(None),
        }
    }

    #[inline]
    fn is_on(&self) -> bool {
        self.limit.get().is_some()
    }
}

impl EventLoop {
    /// Reports a stall when a callback (or the worker's task, or what else this thread does between two waits) holds the
    /// loop for longer than `limit`: as a warning to the log, and as an event [`Stalled`] that is fired at the worker
    /// itself. `None`, the default, reports nothing, and costs nothing but a look at whether there is a limit. With one, the
    /// clock is read twice for each callback.
    ///
    /// The loop is held from the entry of the callback until it returns, or until the loop turns in a wait of the callback's;
    /// then it begins anew when that wait ends. Time that is spent in the wait does not count, as the loop goes on there. It is
    /// wall-clock time, whether the callback computes, blocks, or is kept from running by the system. A
    /// [`checkpoint`](crate::checkpoint) that turns the loop is such a wait, and so is each turn of
    /// [`update`](EventLoop::update).
    ///
    /// A stall is reported when it is over: a callback that never returns is never reported.
    ///
    /// ```
    /// use std::{cell::Cell, rc::Rc, thread, time::Duration};
    /// use threadwire_worker::{Event, EventLoop, Stalled, listen, wait_until};
    ///
    /// let event_loop = EventLoop::current();
    /// event_loop.set_stall_limit(Some(Duration::from_millis(1)));
    /// let seen = Rc::new(Cell::new(false));
    /// let sees = Rc::clone(&seen);
    /// listen(move |stall: &Event<Stalled>| {
    ///     println!("{} held the loop for {:?}", stall.what, stall.held);
    ///     sees.set(true);
    /// });
    /// event_loop.after(Duration::ZERO, || thread::sleep(Duration::from_millis(2)));
    /// wait_until(None, || seen.get())?;
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    pub fn set_stall_limit(&self, limit: Option<Duration>) {
        if !self.stalls.is_on() {
            self.stalls.since.set(Instant::now());
        }
        self.stalls.limit.set(limit);
        if limit.is_none() {
            self.stalls.last.set(None);
        }
    }

    /// When the loop was last found to have been held for too long, and for how long it was. `None` if it was not, or if
    /// there is no [limit](EventLoop::set_stall_limit).
    ///
    /// ```
    /// use std::{thread, time::Duration};
    /// use threadwire_worker::{EventLoop, update};
    ///
    /// let event_loop = EventLoop::current();
    /// event_loop.set_stall_limit(Some(Duration::from_millis(1)));
    /// thread::sleep(Duration::from_millis(2)); // should be a wait
    /// update()?;
    /// assert!(event_loop.last_stall().is_some_and(|(_, held)| held >= Duration::from_millis(2)));
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    pub fn last_stall(&self) -> Option<(Instant, Duration)> {
        self.stalls.last.get()
    }

    /// Begins the stretch of a callback, which ends when the guard is dropped.
    #[inline]
    pub(super) fn hold(&self, holder: impl FnOnce() -> Holder) -> Option<HolderGuard<'_>> {
        self.stalls.is_on().then(|| HolderGuard::begin(self, holder()))
    }

    /// Begins a turn, which interrupts the callback that waits for it. The turn ends when the guard is dropped.
    #[inline]
    pub(super) fn begin_turn(&self) -> TurnGuard<'_> {
        self.turns.set(self.turns.get().wrapping_add(1));
        TurnGuard {
            event_loop: self,
            interrupted: if self.stalls.is_on() { self.interrupt_holder() } else { None },
        }
    }

    fn interrupt_holder(&self) -> Option<Holder> {
        let now = Instant::now();
        let held = now.saturating_duration_since(self.stalls.since.replace(now));
        let holder = self.stalls.running.take();
        match &holder {
            Some(holder) => self.judge(holder, held),
            // In the task's own wait, or at its end. Deeper down, a callback waits that was entered when there was no limit.
            None if self.depth.get() <= 1 => self.judge(&Holder::Task, held),
            None => {}
        }
        holder
    }

    fn judge(&self, holder: &Holder, held: Duration) {
        if self.stalls.limit.get().is_some_and(|limit| held > limit) {
            self.report_stall(holder, held);
        }
    }

    #[cold]
    fn report_stall(&self, holder: &Holder, held: Duration) {
        // A name may come from users, and a panic in there would be the second.
        if thread::panicking() {
            return;
        }
        self.stalls.last.set(Some((Instant::now(), held)));
        let (worker, what) = (self.worker.label(), holder.name().into_owned());
        tracing::warn!(worker, what, ?held, "a loop was held for too long");
        // A stall in the report of a stall is not reported by another event: that would have no end.
        if !matches!(holder, Holder::Report) {
            self.worker.inform(Stalled::new(what, held));
        }
    }
}

/// A callback that is running.
pub(super) struct HolderGuard<'a> {
    event_loop: &'a EventLoop,
    /// The holder that this one interrupts, as a flush before a wait calls back too, and the time of that one.
    before: Option<Holder>,
    since: Instant,
    entered: Instant,
}

impl HolderGuard<'_> {
    fn begin(event_loop: &EventLoop, holder: Holder) -> HolderGuard<'_> {
        let entered = Instant::now();
        HolderGuard {
            event_loop,
            before: event_loop.stalls.running.replace(Some(holder)),
            since: event_loop.stalls.since.replace(entered),
            entered,
        }
    }
}

impl Drop for HolderGuard<'_> {
    fn drop(&mut self) {
        let stalls = &self.event_loop.stalls;
        let now = Instant::now();
        let holder = stalls.running.replace(self.before.take());
        // The time of this callback does not count for the interrupted one as well.
        let others = self.since + now.saturating_duration_since(self.entered);
        let held = now.saturating_duration_since(stalls.since.replace(others));
        if let Some(holder) = holder {
            self.event_loop.judge(&holder, held);
        }
    }
}

/// A turn that is being made.
pub(super) struct TurnGuard<'a> {
    event_loop: &'a EventLoop,
    interrupted: Option<Holder>,
}

impl Drop for TurnGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let stalls = &self.event_loop.stalls;
        if stalls.is_on() {
            stalls.since.set(Instant::now());
        }
        if self.interrupted.is_some() {
            stalls.running.set(self.interrupted.take());
        }
    }
}
