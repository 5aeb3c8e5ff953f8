//! Tests of clients until their connection is open.

mod addresses_and_sockets;
mod broken_handshakes;
mod broken_servers;
mod connecting;
mod credentials_in_logs;
mod every_proxy;
mod proxy_failures;
mod redirects;
mod requests;
mod unusual_answers;
