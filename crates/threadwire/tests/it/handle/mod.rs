//! Handles.

mod faults;
mod order;
mod use_from_threads;
