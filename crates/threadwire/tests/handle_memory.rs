//! What a connection holds whose peer does not read: alone in its process, as it is the process that is measured.

#[path = "it/common/mod.rs"]
pub mod common;

use common::recorder::Log;
use common::sharing::{fill, pair};
use common::{bounded, patient};
use threadwire::{Config, WhenFull};

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Dropped frames stay in the outbox's vector as a gap until the peer reads again.
#[test]
fn dropping_the_oldest_keeps_memory_within_bounds() {
    bounded(|| {
        let config = Config { max_buffered: 1 << 20, when_full: WhenFull::DropOldest, ..patient() };
        let (ws, _peer) = pair(config, &Log::new());
        fill(&ws);
        let before = resident();
        for _ in 0..5000 {
            ws.send(&[1; 100 << 10]).unwrap();
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 100 << 20, "{} MiB for {} KiB that wait", grown >> 20, ws.buffered() >> 10);
    });
}
