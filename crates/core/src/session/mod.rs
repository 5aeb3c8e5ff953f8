//! The connection engine: what is the same for connections on an event loop and on tokio, without I/O, clock or waker.

pub mod buffers;
mod droppable;
pub mod linger;
pub mod outbox;
pub mod transport;
