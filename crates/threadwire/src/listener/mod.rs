//! The callback face: servers and clients whose connections call a [`Listener`](crate::Listener).

pub(crate) mod router;
pub(crate) mod running;
pub(crate) mod server;
