//! Tests of events, channels, queues and promises.

mod channels;
mod events;
mod listeners;
mod promises;
mod queues;
