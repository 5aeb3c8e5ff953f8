//! The connection engine: what is the same for connections on an event loop and on tokio, without I/O, clock or waker.

pub(crate) mod buffers;
mod droppable;
pub(crate) mod linger;
pub(crate) mod outbox;
pub(crate) mod transport;
