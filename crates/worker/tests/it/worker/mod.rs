//! Workers: threads around a loop.

mod ending;
mod lifecycle;
mod native_threads;
mod spawning;
mod stopping;
mod tree;
