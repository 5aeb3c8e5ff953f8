//! Dialing, serving and reconnecting on an event loop: what opens, accepts and reopens connections there.

pub(crate) mod dial;
pub(crate) mod reconnect;
pub(crate) mod server;
