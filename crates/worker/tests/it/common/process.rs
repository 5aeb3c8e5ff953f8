//! A process of its own for a test.

use std::any::type_name;
use std::process::{Command, Stdio};

/// Set in the process of a test that runs alone.
const ALONE: &str = "THREADWIRE_TEST_ALONE";

/// Runs a test in a process of its own: for what the whole process shares, such as its threads, its log and its end. Must be
/// called by the test itself, which is found by the closure's name. Returns what the process has printed, and nothing in
/// that process.
pub fn alone<F: FnOnce()>(test: F) -> Option<String> {
    if std::env::var_os(ALONE).is_some() {
        test();
        return None;
    }
    let path = type_name::<F>();
    let name = path.split_once("::").unwrap().1.trim_end_matches("::{{closure}}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_well = output.status.success() && said.contains("1 passed");
    assert!(is_well, "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    Some(said)
}
