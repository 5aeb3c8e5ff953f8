//! The codec alone, in this process: no sockets, no frames.

use super::codec::{Codec, Settings, TAIL};
use super::market::{Kind, Market};
use crate::fail::Result;
use crate::measure::own_cpu_time;
use std::time::Duration;

/// Messages of each connection that are made at once.
const BATCH: usize = 4;

/// Nanoseconds to inflate one message and to compress it again, with engines for each of so many connections, whose turns
/// come one after the other as on a server.
pub(super) fn measure(kind: Kind, takeover: bool, connections: usize, time: Duration) -> Result<f64> {
    let settings = Settings::defaults(takeover);
    let mut clients: Vec<_> = (0..connections as u64)
        .map(|seed| (Market::new(seed), Codec::new(settings), Codec::new(settings)))
        .collect();
    let mut wire: Vec<Vec<u8>> = vec![Vec::new(); connections];
    let (mut message, mut answer) = (Vec::new(), Vec::new());
    let (mut spent, mut messages) = (0, 0);
    // The first batch fills windows and caches.
    let mut is_first = true;
    while spent < time.as_nanos() as u64 {
        for _ in 0..BATCH {
            for ((market, client, _), wire) in clients.iter_mut().zip(&mut wire) {
                wire.clear();
                client.deflate(market.next(kind).as_bytes(), wire)?;
                wire.extend_from_slice(&TAIL);
            }
            let begin = own_cpu_time();
            for ((_, _, server), wire) in clients.iter_mut().zip(&wire) {
                answer.clear();
                let length = server.inflate(wire, &mut message)?;
                server.deflate(&message[..length], &mut answer)?;
            }
            if !is_first {
                spent += own_cpu_time() - begin;
                messages += connections;
            }
        }
        is_first = false;
    }
    Ok(spent as f64 / messages as f64)
}
