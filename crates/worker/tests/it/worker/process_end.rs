//! Tests of the end of a process and of its threads: workers are stopped, clean up, and are reported by name if they do not; nothing is
//! logged in a destructor of a thread-local, and no panic leaves one.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use crate::common::process::alone;
use threadwire_worker::{
    Event, EventLoop, Ready, Source, Worker, later, listen, sleep, update, wait_forever,
};

thread_local! {
    /// The line that is being written. Common loggers have such a thread-local, and panic where it is gone.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Writes all that is logged to the standard output, as a logger would.
struct Log;

struct Fields(String);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _metadata: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        LINE.with_borrow_mut(|line| {
            line.clear();
            line.push_str(&fields.0);
            say(&format!("log:{line}"));
        });
    }

    fn enter(&self, _span: &tracing::span::Id) {}

    fn exit(&self, _span: &tracing::span::Id) {}
}

/// Not `println!`, which the test harness would capture.
fn say(text: &str) {
    use std::io::Write;
    std::io::stdout().write_all(format!("{text}\n").as_bytes()).unwrap();
}

struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        say("cleaned up");
    }
}

/// Ends with the thread that stands for the main thread: it leaves a worker that obeys, and a daemon that does not.
fn end() {
    static HELD: Mutex<()> = Mutex::new(());
    tracing::subscriber::set_global_default(Log).unwrap();
    EventLoop::current().set_grace(Duration::from_millis(20));
    Worker::spawn(|| {
        let _guard = Guard;
        wait_forever()
    });
    let held = HELD.lock().unwrap();
    Worker::builder()
        .name("deaf daemon")
        .daemon(true)
        .spawn(|| {
            drop(HELD.lock());
            Ok(())
        })
        .unwrap();
    sleep(Duration::ZERO).unwrap();
    // The logger's thread-local is younger than the loop's, so it is gone before.
    tracing::info!("about to leave");
    std::mem::forget(held);
}

/// A value of the program's that does all that can't be done at the end of a thread.
struct Noisy(&'static str);

impl Drop for Noisy {
    fn drop(&mut self) {
        say(&format!("dropped {}", self.0));
        tracing::info!("{} is dropped", self.0);
        assert!(wait_forever().is_err());
        panic!("in the drop of {}", self.0);
    }
}

impl Source for Noisy {
    fn ready(self: Rc<Self>, _: Ready) {}
    fn stop(self: Rc<Self>) {}
    fn abandon(self: Rc<Self>) {
        LINE.with_borrow(|line| say(line));
    }
}

/// Ends with values in every place that a loop keeps some.
fn end_with_noise() {
    tracing::subscriber::set_global_default(Log).unwrap();
    let event_loop = EventLoop::current();
    for name in ["a source", "another source"] {
        event_loop.attach_idle(|_| Rc::new(Noisy(name)));
    }
    for name in ["a listener", "another listener"] {
        let noisy = Noisy(name);
        listen(move |_: &Event<u8>| _ = &noisy);
    }
    for name in ["a timer", "another timer"] {
        let noisy = Noisy(name);
        later(Duration::from_secs(3600), move || drop(noisy));
    }
    update().unwrap();
    for name in ["a call", "another call"] {
        let noisy = Noisy(name);
        event_loop.remote().post(move |_| drop(noisy)).unwrap();
    }
    event_loop.remote().fire(Noisy("an event")).unwrap_or_else(|_| unreachable!());
    tracing::info!("about to leave");
}

#[test]
fn what_is_left_is_stopped_and_cleans_up_or_is_reported_by_name() {
    #[allow(clippy::redundant_closure, reason = "the test is found by the closure's name")]
    let Some(said) = alone(|| end()) else { return };
    assert!(said.contains("cleaned up"), "{said}");
    let report = said.lines().find(|line| line.contains("still at work")).unwrap_or_else(|| panic!("{said}"));
    assert!(report.contains("\"deaf daemon\""), "{report}");
}

#[test]
fn what_a_thread_leaves_behind_may_log_wait_and_panic_as_it_is_dropped() {
    #[allow(clippy::redundant_closure, reason = "the test is found by the closure's name")]
    let Some(said) = alone(|| end_with_noise()) else { return };
    let left = ["a source", "a listener", "a timer", "a call"];
    for what in left.iter().flat_map(|what| [(*what).to_owned(), what.replacen('a', "another", 1)]) {
        assert!(said.contains(&format!("dropped {what}\n")), "{what}: {said}");
    }
    assert!(said.contains("dropped an event"), "{said}");
}
