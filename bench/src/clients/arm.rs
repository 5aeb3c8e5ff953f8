//! Arms of the `clients` command: a client of each face and of each library.

use super::meter::Meter;
use super::{aio, blocking, listener, raw};
use crate::fail::Result;

#[cfg(feature = "peers")]
use super::{fastwebsockets, tokio_tungstenite, tungstenite};

/// A client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arm {
    /// Its name on the command line and in tables.
    pub(crate) name: &'static str,
    /// Whether it is another library.
    pub(crate) peer: bool,
    /// Has messages of so many bytes echoed by the server at this port, as many in flight as the meter says, until that
    /// has enough.
    pub(crate) client: fn(port: u16, bytes: usize, meter: Meter) -> Result<Meter>,
}

/// All of them, in the order of the table; the others are compared with the first.
pub(crate) const ARMS: &[Arm] = &[
    Arm { name: "raw", peer: false, client: raw::ask },
    Arm { name: "listener", peer: false, client: listener::ask },
    Arm { name: "blocking", peer: false, client: blocking::ask },
    Arm { name: "aio", peer: false, client: aio::ask },
    #[cfg(feature = "peers")]
    Arm { name: "tungstenite", peer: true, client: tungstenite::ask },
    #[cfg(feature = "peers")]
    Arm { name: "tokio-tungstenite", peer: true, client: tokio_tungstenite::ask },
    #[cfg(feature = "peers")]
    Arm { name: "fastwebsockets", peer: true, client: fastwebsockets::ask },
];

/// The payload of the messages: binary, of all byte values.
pub(crate) fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31) as u8).collect()
}
