//! Resource usage of a process, from `/proc`.

use crate::fail;
use crate::fail::Result;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Whether this system tells what a process uses.
///
/// # Errors
/// The machine does not; the message says what is missing.
pub(crate) fn supported() -> Result<()> {
    if !Path::new("/proc/self/smaps_rollup").exists() {
        return Err(fail!(
            "measuring needs Linux: CPU time and memory are read from /proc, which is not here"
        ));
    }
    if !Path::new("/proc/self/schedstat").exists() {
        return Err(fail!("/proc has no schedstat (CONFIG_SCHED_INFO), which CPU times are read from"));
    }
    Ok(())
}

/// Nanoseconds that all threads of a process have run so far, in user and kernel mode.
///
/// Exact for threads that sleep; a running one's count is as old as the last tick of the scheduler.
pub(crate) fn cpu_time(process: u32) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => total += run_time(&text).ok_or_else(|| fail!("a schedstat that says {text:?}"))?,
            // A thread that ended after it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(total)
}

/// Bytes of a process that are in memory (its resident set).
pub(crate) fn resident(process: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    kilobytes(&text, "Rss:")
        .map(|size| size * 1024)
        .ok_or_else(|| fail!("/proc/{process}/smaps_rollup has no Rss"))
}

/// The first of the three fields of a schedstat.
fn run_time(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// The number in the line `name   number kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.parse().ok()
}

/// Nanoseconds that the calling thread has run so far.
#[cfg(target_os = "linux")]
pub(crate) fn own_cpu_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Never called: what runs a load has found this system supported.
#[cfg(not(target_os = "linux"))]
pub(crate) fn own_cpu_time() -> u64 {
    0
}

/// Nanoseconds that all threads of this process have run so far, also those that have ended.
#[cfg(target_os = "linux")]
pub(crate) fn process_cpu_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Never called: what compares workers has found this system supported.
#[cfg(not(target_os = "linux"))]
pub(crate) fn process_cpu_time() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_run_time_of_a_schedstat() {
        assert_eq!(run_time("518836413 286622 16\n"), Some(518_836_413));
        assert_eq!(run_time(""), None);
    }

    #[test]
    fn reads_a_size_of_smaps() {
        let text = "00400000-7fff rollup\nRss:              1720 kB\nPss:               400 kB\n";
        assert_eq!(kilobytes(text, "Rss:"), Some(1720));
        assert_eq!(kilobytes(text, "Swap:"), None);
    }
}
