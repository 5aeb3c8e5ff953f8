//! Tests of events, channels, queues and promises.

mod channels;
mod events;
mod flags;
mod listeners;
mod promises;
mod queues;
