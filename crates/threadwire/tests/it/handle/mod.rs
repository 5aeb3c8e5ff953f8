//! Tests of handles.

mod after_the_end;
mod backpressure;
mod calls;
mod order;
mod use_from_threads;
