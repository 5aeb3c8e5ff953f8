//! Servers under test that are built into this program, by name.
//!
//! Each is an echo server as its library's users would write it, on one thread, with `TCP_NODELAY`. To add one: write
//! `fn run(port: u16) -> Outcome` in a file of its own and give it a line in [`BUILTIN`].

mod aio;
mod blocking;
#[cfg(feature = "peers")]
pub(crate) mod fastwebsockets;
pub(crate) mod listener;
pub(crate) mod mask;
pub(crate) mod raw;
#[cfg(feature = "peers")]
pub(crate) mod tokio_echo;
#[cfg(feature = "peers")]
pub(crate) mod tokio_tungstenite;
#[cfg(feature = "peers")]
mod tokio_websockets;
pub(crate) mod upgrade;

use std::error::Error;

/// The result of a server. A server runs until it is killed, so it returns only when it cannot go on.
pub(crate) type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// A server that is built into this program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Builtin {
    /// Its name on the command line and in tables.
    pub(crate) name: &'static str,
    /// Serves 127.0.0.1 at this port until the process ends.
    pub(crate) run: fn(port: u16) -> Outcome,
    /// The same in TLS.
    pub(crate) run_in_tls: Option<fn(port: u16) -> Outcome>,
}

/// The server that all others are compared with.
pub(crate) const BASELINE: &str = "raw";

/// All of them, in the order of the tables; the baseline first.
pub(crate) const BUILTIN: &[Builtin] = &[
    Builtin { name: BASELINE, run: raw::run, run_in_tls: Some(raw::run_in_tls) },
    Builtin { name: "listener", run: listener::run, run_in_tls: Some(listener::run_in_tls) },
    Builtin { name: "aio", run: aio::run, run_in_tls: Some(aio::run_in_tls) },
    Builtin { name: "blocking", run: blocking::run, run_in_tls: Some(blocking::run_in_tls) },
    #[cfg(feature = "peers")]
    Builtin {
        name: "tokio-tungstenite",
        run: tokio_tungstenite::run,
        run_in_tls: Some(tokio_tungstenite::run_in_tls),
    },
    #[cfg(feature = "peers")]
    Builtin {
        name: "fastwebsockets",
        run: fastwebsockets::run,
        run_in_tls: Some(fastwebsockets::run_in_tls),
    },
    #[cfg(feature = "peers")]
    Builtin { name: "tokio-websockets", run: tokio_websockets::run, run_in_tls: None },
];

/// The built-in server of this name.
pub(crate) fn find(name: &str) -> Option<Builtin> {
    BUILTIN.iter().copied().find(|server| server.name == name)
}
