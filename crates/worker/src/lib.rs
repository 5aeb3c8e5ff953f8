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
//! A wait sleeps until something wakes its loop: an event, a call, a socket, a timer. A plain variable that another thread changes wakes
//! nobody, so a [`wait_until`] that looks at one asks again only now and then: use a [`Flag`], a [`Defer`] or an event to be woken at once.
//!
//! Workers form a tree: one that ends stops those that it has started, and waits for them. A thread that is no worker gets
//! a loop when it first needs one ([`EventLoop::current`]), and stands at the root of such a tree. [`Remote`] is how all
//! threads reach a worker, [`EventLoop`] is where sockets join in, and the rest is made of these.
#![forbid(unsafe_code)]

mod block_on;
mod event_loop;
mod events;
mod flag;
mod lock;
mod pool;
mod promise;
mod queue;
mod stop_token;
mod sync;
mod this_thread;
mod worker;

/// The sockets that a loop watches are those of this version of mio.
pub use mio;

// For the crates of this workspace.
#[doc(hidden)]
pub use event_loop::reserve::Reserve;
#[doc(hidden)]
pub use lock::{Condition, Lock};

pub use block_on::block_on;
pub use event_loop::event::Event;
pub use event_loop::inbox::Overflow;
pub use event_loop::remote::{Rejected, Remote};
pub use event_loop::source::{Placeholder, Ready, Source, Token};
pub use event_loop::status::{Outcome, Status, StatusChange};
pub use event_loop::timer::TimerId;
pub use event_loop::topics::ListenerId;
pub use event_loop::tree::{ChildChange, ChildEvent, Stuck};
pub use event_loop::worker_state::WorkerId;
pub use event_loop::{EventLoop, Stalled, TimeKeeper};
pub use events::channel::{Channel, Subscription};
pub use events::event_wait::{EventWait, wait_event, wait_event_from, wait_event_timeout, wait_for};
pub use events::fire::{Reject, Undeliverable, Undelivered};
pub use events::listener::{Listen, ListenerFailed, ListenerResult, listen, listen_named, unlisten};
pub use events::named::Named;
pub use flag::Flag;
pub use pool::{Map, Pool, PoolBuilder, ShutdownError};
pub use promise::{Async, Defer, PromiseError, Resolver};
pub use queue::{GetError, Iter, PutError, Queue, Task};
pub use stop_token::{StopBinding, StopToken};
pub use this_thread::{
    broadcast, bubble, cancel, checkpoint, current, is_main, later, sleep, update, wait_forever, wait_until,
    wait_worker,
};
pub use threadwire_stopped::Stopped;
pub use worker::failure::TaskError;
pub use worker::join::{Winner, join_all, race};
pub use worker::restart::{NotStarted, Restartable, StartError};
pub use worker::{Builder, Ended, Worker};
