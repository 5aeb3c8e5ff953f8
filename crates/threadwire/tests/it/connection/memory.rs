//! Memory of a connection whose peer does not read.

use crate::common::process::{alone, resident};
use crate::common::recorder::Log;
use crate::common::sharing::{fill, pair};
use crate::common::{bounded, patient};
use threadwire::WhenFull;

/// Dropped frames stay in the outbox's vector as a gap until the peer reads again.
#[test]
fn dropping_the_oldest_keeps_memory_within_bounds() {
    alone(|| {
        bounded(|| {
            let config = patient().max_buffered(1 << 20).when_full(WhenFull::DropOldest);
            let (ws, _peer) = pair(config, &Log::new());
            fill(&ws);
            let before = resident();
            for _ in 0..2000 {
                ws.send(&[1; 100 << 10]).unwrap();
            }
            let grown = resident().saturating_sub(before);
            assert!(grown < 100 << 20, "{} MiB for {} KiB that wait", grown >> 20, ws.buffered() >> 10);
        });
    });
}
