//! The locks and atomics under the lane, named in one place, so that a test can put a model checker's in.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
