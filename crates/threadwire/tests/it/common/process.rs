//! Process of its own for a test, and counts of a process: descriptors, threads, memory.

use std::any::type_name;
use std::ffi::OsStr;
#[cfg(target_os = "linux")]
use std::io::{BufRead, BufReader};
#[cfg(target_os = "linux")]
use std::net::SocketAddr;
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

/// Runs a server in a process of its own that may open only so many descriptors, and `test` in this one, with the address that the
/// server has printed. The server ends when its input does. Must be called by the test itself.
#[cfg(target_os = "linux")]
pub fn with_descriptors<F: FnOnce()>(count: usize, serve: F, test: impl FnOnce(SocketAddr)) {
    if std::env::var_os(ALONE).is_some() {
        return serve();
    }
    let path = type_name::<F>();
    let name = path.split_once("::").unwrap().1.trim_end_matches("::{{closure}}");
    let mut server = Command::new("sh")
        .args(["-c", &format!("ulimit -n {count} && exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let addr = lines.by_ref().find_map(|line| {
        let line = line.unwrap();
        line.split_once("listening on ").map(|(_, addr)| addr.parse().unwrap())
    });
    test(addr.expect("it listens"));
    drop(server.stdin.take());
    // What it still says must not be in its way.
    lines.for_each(drop);
    assert!(server.wait().unwrap().success());
}
