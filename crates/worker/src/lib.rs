//! Threads with an event loop: sockets, timers and calls from other threads arrive in one place, and every wait
//! keeps that loop turning.
//!
//! A thread gets its loop the first time it asks for it ([`EventLoop::current`]); a [`Worker`] is a thread that
//! lives around one, can be stopped from anywhere, and gives back a result. Whatever a thread waits for -
//! [`sleep`], [`wait_forever`], [`Worker::join`] - its loop goes on meanwhile, and a stop ends the wait with
//! [`Stopped`].
//!
//! ```
//! use std::time::Duration;
//! use threadwire_worker::{EventLoop, Worker, sleep, wait_forever};
//!
//! let worker = Worker::spawn(|| {
//!     EventLoop::current().after(Duration::ZERO, || println!("a timer, on the worker's thread"));
//!     wait_forever()
//! });
//! worker.remote().post(|_| println!("a call from another thread"))?;
//! sleep(Duration::from_millis(1))?;
//! worker.stop();
//! assert!(worker.join()?.was_stopped());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod block_on;
mod channel;
mod event;
mod event_loop;
mod inbox;
mod join;
mod listener;
mod mail;
mod node;
mod pool;
#[cfg(feature = "printer")]
pub mod printer;
mod promise;
mod queue;
mod remote;
mod restart;
mod source;
mod status;
mod stop;
mod stop_token;
mod sync;
mod timer;
mod topic;
mod tree;
mod wait;
mod waiters;
mod waker;
mod worker;

/// The sockets that a loop watches are those of this version of mio.
pub use mio;

pub use block_on::block_on;
pub use channel::{Channel, Subscription};
pub use event::{Event, ListenerFailed, Named, Reject, Undeliverable, Undelivered};
pub use event_loop::EventLoop;
pub use inbox::Overflow;
pub use join::{Winner, join_all, race};
pub use listener::{Answer, Listen, ListenerId, listen, listen_named, unlisten};
pub use node::WorkerId;
pub use pool::{Map, Pool, PoolBuilder};
pub use promise::{Async, Defer, PromiseError, Resolver};
pub use queue::{GetError, Iter, PutError, Queue, Task};
pub use remote::{Rejected, Remote};
pub use restart::{NotStarted, Restartable, StartError};
pub use source::{Ready, Source, Token};
pub use status::{Outcome, Status, StatusChange};
pub use stop::Stopped;
pub use stop_token::{StopBinding, StopToken};
pub use timer::TimerId;
pub use tree::{Change, ChildEvent, Stuck};
pub use wait::{
    EventWait, broadcast, bubble, cancel, checkpoint, later, sleep, update, wait_event, wait_event_from,
    wait_event_timeout, wait_for, wait_forever, wait_until, wait_worker,
};
pub use worker::{Builder, Ended, Worker};
