//! Servers without I/O: what they answer, whom they let in, and whom they believe.

#[doc(hidden)]
pub mod admission;
#[doc(hidden)]
pub mod answer;
#[doc(hidden)]
pub mod check;
#[doc(hidden)]
pub mod forwarded;
#[doc(hidden)]
pub mod listen_socket;
#[doc(hidden)]
pub mod proxy_protocol;
#[doc(hidden)]
pub mod request;
mod router;
mod shutdown;
mod trusted;

pub use admission::Admission;
pub use check::{BasicAuth, BasicUser, Bearer, Check, Hosts, Origins};
pub use forwarded::Forwarded;
pub use listen_socket::{ListenAddr, Listening};
pub use proxy_protocol::{Proxied, ProxyProtocol};
pub use request::Request;
pub use router::Router;
pub use shutdown::{Shutdown, ShutdownReport, Standing, StuckWorker, Unanswered};
