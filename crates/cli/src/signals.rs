//! Signals that end a command: SIGINT, SIGTERM and SIGHUP, except those that were ignored when it started, as `nohup` has them.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The signal that came first, or 0.
static FIRST: AtomicI32 = AtomicI32::new(0);

/// Has `call` called for each of the signals, on a thread of its own.
pub(crate) fn on_end(mut call: impl FnMut() + Send + 'static) -> io::Result<()> {
    let ignored = ignored();
    let heeded = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = Signals::new(heeded)?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let _ = FIRST.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
            call();
        }
    })?;
    Ok(())
}

/// The exit code of a command that a signal has ended, as shells report it: 128 and the signal's number, so 130 for Ctrl-C.
pub(crate) fn exit_code() -> u8 {
    match FIRST.load(Ordering::Relaxed) {
        // A stop that came by a key.
        0 => 128 + SIGINT as u8,
        signal => 128u8.wrapping_add(signal as u8),
    }
}

/// Signals that whoever started this process has it ignore, a bit for each, the lowest for signal 1. None where the system has no
/// file that tells it.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status)
}

fn ignored_in(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        assert_eq!(ignored_in("Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"), 0x1001);
        assert_eq!(ignored_in("Name:\tx\n"), 0);
    }
}
