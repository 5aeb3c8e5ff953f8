//! Open connections on loops.

mod backpressure;
mod closing;
mod closing_races;
mod deflate;
#[cfg(target_os = "linux")]
mod descriptors;
mod events;
mod half_closed;
mod isolation;
mod keepalive;
mod keepalive_faults;
mod memory;
mod pausing_reads;
mod receivers;
mod round_trips;
mod sending;
mod stalls;
mod trace;
mod waiting_callbacks;
