//! Servers without I/O: opening handshake, admission, routing, trust in proxies, shutdown.

#[doc(hidden)]
pub mod accept_errors;
#[doc(hidden)]
pub mod admission;
#[doc(hidden)]
pub mod check;
#[doc(hidden)]
pub mod forwarded;
#[doc(hidden)]
pub mod listen_socket;
#[doc(hidden)]
pub mod opening_handshake;
#[doc(hidden)]
pub mod pending;
#[doc(hidden)]
pub mod proxy_protocol;
#[doc(hidden)]
pub mod reply;
#[doc(hidden)]
pub mod request;
mod router;
#[doc(hidden)]
pub mod settings;
mod shutdown;
#[doc(hidden)]
pub mod tally;
mod trusted;

pub use admission::Admission;
pub use check::{BasicAuth, BasicUser, Bearer, Check, Hosts, Origins};
pub use forwarded::Forwarded;
pub use listen_socket::{ListenAddr, ListenSocket};
pub use proxy_protocol::{Proxied, ProxyProtocol};
pub use request::Request;
pub use router::Router;
pub use shutdown::{CloseProblem, Shutdown, ShutdownReport, StuckWorker, UncleanClose};
