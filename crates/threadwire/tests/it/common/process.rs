//! Process of its own for a test, and counts of a process: descriptors, threads, memory.

use std::any::type_name;
use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// Set in the process of a test that runs alone.
const ALONE: &str = "THREADWIRE_TEST_ALONE";

/// Runs a test in a process of its own: for what the whole process shares, such as memory, descriptors, or the log. Must be
/// called by the test itself, which is found by the closure's name.
pub fn alone<F: FnOnce()>(test: F) {
    alone_with(&[], test);
}

/// The same, with these variables in its environment.
pub fn alone_with<F: FnOnce()>(environment: &[(&str, &OsStr)], test: F) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let path = type_name::<F>();
    let name = path.split_once("::").unwrap().1.trim_end_matches("::{{closure}}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let is_well = output.status.success() && said.contains("1 passed");
    assert!(is_well, "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Resident memory of this process, in bytes.
#[cfg(target_os = "linux")]
pub fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Nothing is known of it here.
#[cfg(not(target_os = "linux"))]
pub fn resident() -> usize {
    0
}
