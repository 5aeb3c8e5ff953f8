//! The error with which every wait answers a stop: [`Stopped`], in a crate of its own as both `threadwire-worker`, whose waits return
//! it, and `threadwire-core`, whose `Error` is made of it, need the type and must not need each other.
#![forbid(unsafe_code)]

/// The worker was asked to stop. Every wait returns it, also those that begin afterwards: pass it on with `?`, and
/// let drop guards clean up.
///
/// ```
/// use threadwire_worker::{Stopped, Worker, wait_forever};
///
/// let worker = Worker::spawn(|| -> Result<(), Stopped> {
///     wait_forever()?;
///     unreachable!("a wait that nothing but a stop ends")
/// });
/// worker.stop();
/// assert!(worker.join().unwrap().was_stopped());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker was asked to stop")]
pub struct Stopped;
