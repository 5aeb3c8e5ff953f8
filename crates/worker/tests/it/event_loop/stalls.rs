//! Tests of stall detection.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Log, PATIENCE, Probe, bounded};
use threadwire_worker::{
    Event, EventLoop, Ready, Source, Stalled, Token, Worker, checkpoint, current, later, listen, sleep,
    update, wait_event, wait_until,
};

const LIMIT: Duration = Duration::from_millis(2);

/// Holds the loop for longer than the limit.
fn hold() {
    let start = Instant::now();
    while start.elapsed() <= LIMIT {}
}

/// The stalls of this thread's loop from now on. A machine that is busy may add some, so tests look for theirs.
#[derive(Clone, Default)]
struct Stalls(Rc<RefCell<Vec<Stalled>>>);

impl Stalls {
    fn listen() -> Stalls {
        let stalls = Stalls::default();
        let notes = Rc::clone(&stalls.0);
        listen(move |stall: &Event<Stalled>| notes.borrow_mut().push(stall.data.clone()));
        EventLoop::current().set_stall_limit(Some(LIMIT));
        stalls
    }

    fn find(&self, what: &str) -> Option<Stalled> {
        self.0.borrow().iter().find(|stall| stall.what.contains(what)).cloned()
    }

    /// Waits for one that is named so.
    fn wait_for(&self, what: &str) -> Stalled {
        wait_until(None, || self.find(what).is_some()).unwrap();
        self.find(what).unwrap()
    }

    fn total(&self) -> Duration {
        self.0.borrow().iter().map(|stall| stall.held).sum()
    }
}

/// A source that holds the loop wherever it is called.
struct Slow {
    token: Token,
    name: Option<&'static str>,
}

impl Slow {
    fn attach(name: Option<&'static str>) -> Token {
        EventLoop::current().attach_idle(|token| Rc::new(Slow { token, name }))
    }
}

impl Source for Slow {
    fn ready(self: Rc<Self>, _ready: Ready) {
        hold();
    }

    fn flush(self: Rc<Self>) {
        hold();
    }

    fn stop(self: Rc<Self>) {
        hold();
        EventLoop::current().detach_idle(self.token);
    }

    fn name(&self) -> Cow<'static, str> {
        self.name.map_or_else(|| format!("slow source {:?}", self.token).into(), Cow::from)
    }
}

#[test]
fn a_timer_is_reported_by_the_place_where_it_was_set() {
    bounded(|| {
        let stalls = Stalls::listen();
        let place = line!() + 1;
        later(Duration::ZERO, hold);
        let stall = stalls.wait_for(&format!("stalls.rs:{place}:"));
        assert!(stall.held > LIMIT);
        let place = line!() + 1;
        EventLoop::current().at(Instant::now(), hold);
        stalls.wait_for(&format!("stalls.rs:{place}:"));
    });
}

#[test]
fn a_source_is_reported_by_its_name_whatever_it_was_called_for() {
    bounded(|| {
        let stalls = Stalls::listen();
        let event_loop = EventLoop::current();
        let token = Slow::attach(Some("the peer at 192.0.2.1"));
        event_loop.requeue(token, Ready::READABLE);
        stalls.wait_for("the peer at 192.0.2.1");
        event_loop.flush_later(Slow::attach(Some("one that flushes")));
        stalls.wait_for("one that flushes");
        let computed = Slow::attach(None);
        event_loop.requeue(computed, Ready::READABLE);
        stalls.wait_for(&format!("slow source {computed:?}"));
    });
}

#[test]
fn a_source_without_a_name_is_reported_by_its_type() {
    bounded(|| {
        let stalls = Stalls::listen();
        let log = Log::new();
        let (probe, mut ours) = Probe::attach("probe", &log, |_| hold());
        let probe: Rc<dyn Source> = probe;
        assert_eq!(probe.name(), std::any::type_name::<Probe>());
        ours.write_all(b"hello").unwrap();
        stalls.wait_for(std::any::type_name::<Probe>());
    });
}

#[test]
fn a_source_that_takes_long_to_stop_is_reported() {
    bounded(|| {
        let mut last = None;
        let stalls = Stalls::default();
        let notes = Rc::clone(&stalls.0);
        Worker::<()>::builder().stall_limit(LIMIT).run(|| {
            listen(move |stall: &Event<Stalled>| notes.borrow_mut().push(stall.data.clone()));
            Slow::attach(Some("one that stops"));
            last = Some(EventLoop::current());
            Ok(())
        });
        assert!(stalls.find("one that stops").is_some());
        assert!(last.unwrap().last_stall().is_some());
    });
}

#[test]
fn calls_and_events_are_reported_by_their_types() {
    struct Weighty;
    fn slow_call(_: &EventLoop) {
        hold();
    }
    bounded(|| {
        let stalls = Stalls::listen();
        current().post(slow_call).unwrap();
        stalls.wait_for("slow_call");
        listen(|_: &Event<Weighty>| hold());
        current().fire(Weighty).unwrap();
        let stall = stalls.wait_for("Weighty");
        assert_eq!(stall.what, format!("the event {}", std::any::type_name::<Weighty>()));
    });
}

#[test]
fn the_task_is_reported_for_what_it_does_between_two_waits() {
    bounded(|| {
        let worker = Worker::builder().stall_limit(LIMIT).spawn(|| {
            hold();
            let first = wait_event::<Stalled>()?.data.clone();
            hold();
            let second = wait_event::<Stalled>()?.data.clone();
            Ok([first, second])
        });
        for stall in worker.unwrap().join().unwrap().done().unwrap() {
            assert_eq!(stall.what, "the task");
            assert!(stall.held > LIMIT);
        }
    });
}

#[test]
fn a_task_that_never_waits_is_reported_at_its_end() {
    bounded(|| {
        let worker = Worker::builder().stall_limit(LIMIT).spawn(|| {
            let last = Arc::new(Mutex::new(None));
            let notes = Arc::clone(&last);
            listen(move |stall: &Event<Stalled>| *notes.lock().unwrap() = Some(stall.data.clone()));
            hold();
            Ok(last)
        });
        let last = worker.unwrap().join().unwrap().done().unwrap();
        assert_eq!(last.lock().unwrap().as_ref().unwrap().what, "the task");
    });
}

#[test]
fn the_time_of_nested_waits_does_not_count_and_what_is_around_them_does() {
    bounded(|| {
        const NESTED: Duration = Duration::from_millis(5);
        let start = Instant::now();
        let stalls = Stalls::listen();
        let done = Rc::new(Cell::new(false));
        let sets = Rc::clone(&done);
        let place = line!() + 1;
        later(Duration::ZERO, move || {
            hold();
            sleep(NESTED).unwrap();
            hold();
            sets.set(true);
        });
        let place = format!("stalls.rs:{place}:");
        let is_ours = |stall: &&Stalled| stall.what.contains(&place);
        wait_until(None, || done.get() && stalls.0.borrow().iter().filter(is_ours).count() >= 2).unwrap();
        // It was held before and after, and had the nested wait been counted too, there would be more time than there was.
        assert!(stalls.total() + NESTED <= start.elapsed());
    });
}

#[test]
fn who_waits_is_not_blamed_for_who_is_called_in_that_wait() {
    bounded(|| {
        let start = Instant::now();
        let stalls = Stalls::listen();
        let done = Rc::new(Cell::new(false));
        let sets = Rc::clone(&done);
        let seen = stalls.clone();
        later(Duration::ZERO, move || {
            struct Inner;
            listen(|_: &Event<Inner>| hold());
            current().fire(Inner).unwrap();
            seen.wait_for("Inner");
            sets.set(true);
        });
        wait_until(None, || done.get()).unwrap();
        update().unwrap();
        assert!(stalls.total() <= start.elapsed(), "no time is counted twice");
    });
}

#[test]
fn who_is_called_for_a_flush_before_a_wait_is_blamed_and_not_the_task() {
    bounded(|| {
        let start = Instant::now();
        let stalls = Stalls::listen();
        let event_loop = EventLoop::current();
        event_loop.flush_later(Slow::attach(Some("one that flushes")));
        assert_eq!(wait_until(None, || true), Ok(true), "it does not turn");
        stalls.wait_for("one that flushes");
        assert!(stalls.total() <= start.elapsed(), "no time is counted twice");
    });
}

#[test]
fn a_task_that_computes_is_not_held_where_its_checkpoints_turn_the_loop() {
    bounded(|| {
        let start = Instant::now();
        let stalls = Stalls::listen();
        let (mut longest, mut last, mut is_over) = (Duration::ZERO, start, false);
        while !is_over {
            is_over = start.elapsed() >= 4 * LIMIT;
            if is_over { update() } else { checkpoint() }.unwrap();
            let now = Instant::now();
            longest = longest.max(now - last);
            last = now;
        }
        // A checkpoint turns if the last one that did was a millisecond ago.
        let most = Duration::from_millis(1) + 2 * longest.max(Duration::from_millis(1));
        assert!(stalls.0.borrow().iter().all(|stall| stall.held <= most));
    });
}

#[test]
fn what_stays_within_the_limit_is_not_reported() {
    bounded(|| {
        let stalls = Stalls::listen();
        EventLoop::current().set_stall_limit(Some(PATIENCE));
        later(Duration::ZERO, hold);
        let token = Slow::attach(None);
        EventLoop::current().requeue(token, Ready::READABLE);
        hold();
        sleep(LIMIT).unwrap();
        update().unwrap();
        assert!(stalls.0.borrow().is_empty());
        assert_eq!(EventLoop::current().last_stall(), None);
    });
}

#[test]
fn nothing_is_reported_without_a_limit_and_what_was_is_forgotten() {
    bounded(|| {
        let event_loop = EventLoop::current();
        hold();
        update().unwrap();
        assert_eq!(event_loop.last_stall(), None);
        let stalls = Stalls::listen();
        hold();
        update().unwrap();
        let (when, held) = event_loop.last_stall().unwrap();
        assert!(when <= Instant::now() && held > LIMIT);
        event_loop.set_stall_limit(None);
        assert_eq!(event_loop.last_stall(), None);
        update().unwrap();
        stalls.0.take();
        later(Duration::ZERO, hold);
        hold();
        sleep(LIMIT).unwrap();
        update().unwrap();
        assert!(stalls.0.borrow().is_empty());
    });
}

#[test]
fn a_limit_that_is_set_by_a_callback_is_for_those_that_come_after_it() {
    bounded(|| {
        let set = Rc::new(RefCell::new(None));
        let sets = Rc::clone(&set);
        later(Duration::ZERO, move || {
            let stalls = Stalls::listen();
            hold();
            update().unwrap();
            hold();
            *sets.borrow_mut() = Some((stalls, Instant::now()));
        });
        wait_until(None, || set.borrow().is_some()).unwrap();
        let (stalls, its_end) = set.take().unwrap();
        update().unwrap();
        assert!(stalls.find("stalls.rs").is_none());
        assert!(stalls.total() <= its_end.elapsed(), "nobody else is blamed for it");
        later(Duration::ZERO, hold);
        stalls.wait_for("stalls.rs");
    });
}

#[test]
fn a_listener_for_stalls_that_stalls_is_not_reported_to_itself() {
    bounded(|| {
        let called = Rc::new(RefCell::new(Vec::new()));
        let calls = Rc::clone(&called);
        let event_loop = EventLoop::current();
        listen(move |stall: &Event<Stalled>| {
            calls.borrow_mut().push((stall.what.clone(), Instant::now()));
            hold();
        });
        event_loop.set_stall_limit(Some(LIMIT));
        hold();
        update().unwrap();
        (0..3).for_each(|_| update().unwrap());
        let (when, _) = event_loop.last_stall().unwrap();
        assert!(called.borrow().iter().all(|(what, _)| what == "the task"), "{called:?}");
        assert!(when > called.borrow()[0].1, "but it is noted");
    });
}

#[test]
fn a_callback_that_panics_in_the_end_is_reported_too() {
    bounded(|| {
        let stalls = Stalls::listen();
        later(Duration::ZERO, || {
            hold();
            panic!("boom");
        });
        stalls.wait_for("stalls.rs");
    });
}

/// What is logged on this thread, of warnings and errors.
#[derive(Clone, Default)]
pub(super) struct Logged(Arc<Mutex<String>>);

impl Logged {
    /// Runs `code` on another thread, and returns what it has logged there.
    pub(super) fn while_running(code: impl FnOnce() + Send + 'static) -> String {
        let logged = Logged::default();
        let subscriber = logged.clone();
        let thread = thread::spawn(move || tracing::subscriber::with_default(subscriber, code));
        if let Err(payload) = thread.join() {
            std::panic::resume_unwind(payload);
        }
        std::mem::take(&mut logged.0.lock().unwrap())
    }
}

impl tracing::field::Visit for Logged {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        write!(self.0.lock().unwrap(), "{field}={value:?} ").unwrap();
    }
}

impl tracing::Subscriber for Logged {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_stall_is_logged_with_who_it_was_and_how_long() {
    let logged = Logged::while_running(|| {
        let ended = Worker::<()>::builder().stall_limit(LIMIT).run(|| {
            hold();
            Ok(())
        });
        drop(ended);
    });
    assert!(logged.contains("what=\"the task\"") && logged.contains("held="), "{logged}");
}
