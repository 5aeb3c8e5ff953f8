//! The engine of [`threadwire`](https://docs.rs/threadwire) without I/O: settings, errors, TLS sessions, and what clients, servers
//! and reconnecting connections do next. No event loop, no runtime, no thread that waits for a socket.
//!
//! **Use `threadwire` instead**, which re-exports all of this that is meant for programs. This crate is a part of it, with a name
//! of its own so that its rules can't reach for a loop or a runtime; it makes no promise of stability, and what is hidden from
//! these pages may change with any version.
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod agreed;
pub mod client;
pub mod config;
pub mod error;
#[doc(hidden)]
pub mod panic;
pub mod reconnect;
pub mod server;
#[doc(hidden)]
pub mod session;
#[cfg(feature = "tls")]
pub mod tls;
pub mod trace;
#[doc(hidden)]
pub mod transport;

/// The protocol without I/O: the `threadwire-proto` crate.
pub use threadwire_proto as proto;

pub use client::{CookieJar, Proxy, Socket, Target, Timeouts};
pub use config::{Budget, Config, WhenFull};
pub use error::{
    Closed, Error, LimitKind, ProxyProblem, RedirectProblem, Stage, Step, TimeoutKind, TlsProblem, UrlPart,
};
pub use reconnect::{Attempt, Backoff, Cause, Change, State};
pub use server::{
    Admission, BasicAuth, BasicUser, Bearer, Check, CloseProblem, Forwarded, Hosts, ListenAddr, ListenSocket,
    Origins, Proxied, ProxyProtocol, Request, Router, Shutdown, ShutdownReport, StuckWorker, UncleanClose,
};
#[cfg(feature = "tls")]
pub use tls::{ClientTls, ServerTls};
pub use trace::Trace;
