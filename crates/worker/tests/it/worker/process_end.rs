//! Tests of the end of a process: workers are stopped, clean up, and are reported by name if they do not.

use std::sync::Mutex;
use std::time::Duration;

use crate::common::process::alone;
use threadwire_worker::{EventLoop, Worker, sleep, wait_forever};

/// Writes warnings to the standard output, as a logger would.
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
        say(&format!("log:{}", fields.0));
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
    std::mem::forget(held);
}

#[test]
fn what_is_left_is_stopped_and_cleans_up_or_is_reported_by_name() {
    // Not `end` itself, as the test is found by the closure's name.
    #[allow(clippy::redundant_closure)]
    let Some(said) = alone(|| end()) else { return };
    assert!(said.contains("cleaned up"), "{said}");
    let report = said.lines().find(|line| line.contains("still at work")).unwrap_or_else(|| panic!("{said}"));
    assert!(report.contains("\"deaf daemon\""), "{report}");
}
