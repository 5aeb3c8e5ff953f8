//! Arms of the `latency` command: a client and a server of the same library.

use super::recorder::Recorder;
use super::{raw, threadwire};
use crate::fail::Result;
use crate::servers::{Outcome, listener};

#[cfg(feature = "peers")]
use super::{fastwebsockets, tokio_tungstenite};
#[cfg(feature = "peers")]
use crate::servers;

/// A client and a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arm {
    /// Its name on the command line and in tables.
    pub(crate) name: &'static str,
    /// Whether it is another library.
    pub(crate) peer: bool,
    /// Serves 127.0.0.1 at this port until the process ends: echoes messages of so many bytes.
    pub(crate) server: fn(port: u16, bytes: usize) -> Outcome,
    /// Has messages of so many bytes echoed by the server at this port, one after the other, until the recorder has
    /// enough.
    pub(crate) client: fn(port: u16, bytes: usize, recorder: Recorder) -> Result<Recorder>,
}

/// All of them, in the order of the table; the others are compared with the first.
pub(crate) const ARMS: &[Arm] = &[
    Arm { name: "raw", peer: false, server: raw::serve_blocking, client: raw::ask_blocking },
    Arm { name: "raw busy", peer: false, server: raw::serve_busy, client: raw::ask_busy },
    Arm {
        name: "threadwire",
        peer: false,
        server: |port, _bytes| listener::run(port),
        client: threadwire::ask,
    },
    Arm {
        name: "threadwire busy",
        peer: false,
        server: threadwire::serve_busy,
        client: threadwire::ask_busy,
    },
    #[cfg(feature = "peers")]
    Arm {
        name: "tokio-tungstenite",
        peer: true,
        server: |port, _bytes| servers::tokio_tungstenite::run(port),
        client: tokio_tungstenite::ask,
    },
    #[cfg(feature = "peers")]
    Arm {
        name: "fastwebsockets",
        peer: true,
        server: |port, _bytes| servers::fastwebsockets::run(port),
        client: fastwebsockets::ask,
    },
];

/// The arm of this name.
pub(crate) fn find(name: &str) -> Option<Arm> {
    ARMS.iter().copied().find(|arm| arm.name == name)
}

/// The payload of the messages: binary, of all byte values.
pub(crate) fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31) as u8).collect()
}
