//! The printer's integration tests, in one program.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

#[path = "../../examples/printer.rs"]
pub mod example;
mod plain_output;
#[cfg(unix)]
mod pseudo_terminal;

/// How long anything may take before the test fails. Nothing here waits for that long unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test on a thread of its own, and fails it where it would hang.
fn bounded(test: impl FnOnce() + Send + 'static) {
    let (running, ended) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(test));
        drop(running);
        result
    });
    match ended.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Timeout) => panic!("still running after {PATIENCE:?}"),
        _ => {
            if let Ok(Err(payload)) | Err(payload) = thread.join() {
                resume_unwind(payload);
            }
        }
    }
}
