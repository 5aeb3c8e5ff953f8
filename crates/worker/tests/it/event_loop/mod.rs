//! Tests of event loops.

mod busy_polling;
mod clock;
mod stalls;
mod timers_calls_sources;
mod waits;
mod wakes;
