//! Tests of workers.

mod big_tree;
mod ending;
mod failures;
mod lifecycle;
mod native_threads;
mod panicking_drops;
mod ported;
mod process_end;
mod spawning;
mod stopping;
mod tree;
