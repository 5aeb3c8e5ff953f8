//! Typed events between workers: firing, listeners, waits for an event, and channels.
//!
//! An event reaches a worker as mail in the inbox of its loop. The loop knows [topics](topic) by the type of their events
//! alone; here is how a topic hands an event out.

pub(crate) mod channel;
pub(crate) mod event_wait;
pub(crate) mod fire;
pub(crate) mod listener;
pub(crate) mod named;
pub(crate) mod topic;
