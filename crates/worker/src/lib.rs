//! Threads with an event loop: sockets, timers, events and calls from other threads arrive in one place, and every
//! wait keeps that loop turning.
//!
//! A [`Worker`] is a thread that lives around a loop. It can be stopped, paused and waited for from anywhere, and gives
//! back a result. Workers fire [`Event`]s at each other, which are known by their type; who wants them [`listen`]s, or
//! [waits](wait_event) for one. Whatever a thread waits for - [`sleep`], [`wait_forever`], [`Worker::join`] - its loop goes
//! on meanwhile, and a stop ends the wait with [`Stopped`].
//!
//! ```
//! use threadwire_worker::{Event, Worker, listen, wait_forever};
//!
//! struct Print(&'static str);
//!
//! let printer = Worker::spawn(|| {
//!     listen(|event: &Event<Print>| println!("{}", event.0));
//!     wait_forever()
//! });
//! printer.fire(Print("foo"))?;
//! printer.fire(Print("bar"))?;
//! printer.stop();
//! assert!(printer.join()?.was_stopped());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Workers form a tree: one that ends stops those that it has started, and waits for them. A thread that is no worker gets
//! a loop when it first needs one ([`EventLoop::current`]), and stands at the root of such a tree. [`Remote`] is how all
//! threads reach a worker, [`EventLoop`] is where sockets join in, and the rest is made of these.
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
mod promise;
mod queue;
mod remote;
mod restart;
mod source;
mod status;
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
pub use event_loop::{EventLoop, Stalled, TimeKeeper};
pub use inbox::Overflow;
pub use join::{Winner, join_all, race};
pub use listener::{Answer, Listen, ListenerId, listen, listen_named, unlisten};
pub use node::WorkerId;
pub use pool::{Map, Pool, PoolBuilder};
pub use promise::{Async, Defer, PromiseError, Resolver};
pub use queue::{GetError, Iter, PutError, Queue, Task};
pub use remote::{Rejected, Remote, current};
pub use restart::{NotStarted, Restartable, StartError};
pub use source::{Ready, Source, Token};
pub use status::{Outcome, Status, StatusChange};
pub use stop_token::{StopBinding, StopToken};
pub use threadwire_stopped::Stopped;
pub use timer::TimerId;
pub use tree::{Change, ChildEvent, Stuck};
pub use wait::{
    EventWait, broadcast, bubble, cancel, checkpoint, later, sleep, update, wait_event, wait_event_from,
    wait_event_timeout, wait_for, wait_forever, wait_until, wait_worker,
};
pub use worker::{Builder, Ended, Worker};
