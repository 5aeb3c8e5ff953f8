//! Open connections on loops.

mod backpressure;
mod closing;
mod closing_races;
mod deflate;
mod events;
mod half_closed;
mod isolation;
mod keepalive;
mod keepalive_faults;
mod pausing_reads;
mod receivers;
mod round_trips;
mod sending;
mod stalls;
mod trace;
mod waiting_callbacks;
