//! Tests of the opening handshake (RFC 6455, section 4).

mod client;
mod headers;
mod heads;
mod server;
