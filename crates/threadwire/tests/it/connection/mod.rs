//! Tests of open connections on loops.

mod backpressure;
mod closed_events;
mod closing;
mod closing_races;
mod closing_with_worker;
mod deflate;
mod deflate_bombs;
#[cfg(target_os = "linux")]
mod descriptors;
mod ending_threads;
mod error_drops;
mod events;
mod going_on;
mod half_closed;
mod isolation;
mod keepalive;
mod keepalive_and_waits;
mod keepalive_pauses;
mod keepalive_pings;
mod last_answers;
mod long_reasons;
mod measurement_ends;
mod memory;
mod overflow_from_threads;
mod pausing_reads;
mod receivers;
mod round_trips;
mod self_waits;
mod sending;
mod stall_names;
mod stalls;
mod trace;
mod waiting_callbacks;
mod waiting_sends;
