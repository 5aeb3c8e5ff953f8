//! Connections on an event loop: streams, and what opens, accepts and reopens them there.

pub(crate) mod dial;
pub(crate) mod reconnect;
pub(crate) mod server;
pub(crate) mod stream;
