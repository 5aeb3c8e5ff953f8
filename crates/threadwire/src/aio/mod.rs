//! The async face: connections on tokio, as a `Stream` and a `Sink`, with plain `recv` and `send` (feature `aio`).
//!
//! ```
//! use threadwire::{Error, aio};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let server = aio::Server::bind("127.0.0.1:0").await?;
//! let url = format!("ws://{}/echo", server.local_addr()?);
//! tokio::spawn(server.serve(|_request, mut ws| async move {
//!     while let Ok(Some(message)) = ws.recv().await {
//!         if ws.send(&message).await.is_err() {
//!             break;
//!         }
//!     }
//! }));
//!
//! let mut ws = aio::connect(&url).await?;
//! ws.send("hello").await?;
//! assert_eq!(ws.recv().await?.unwrap(), "hello");
//! ws.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What leaves when
//!
//! A send is done when its message lies in the connection's buffer, and it leaves soon, with all that was sent in the same
//! burst, in one write: when the task receives next, or else when the tasks that are ready have had their turn. Nobody has to
//! flush. What no runtime can do is to write for a task that computes on without an `.await`: there,
//! [`flush`](Connection::flush) writes at once.
//!
//! With more than [`Config::high_watermark`](crate::Config::high_watermark) bytes waiting, a send waits until they are no more
//! than [`Config::low_watermark`](crate::Config::low_watermark).
//!
//! # Where nobody receives
//!
//! Pings and the peer's close frame are answered, [keepalive](crate::Config::keepalive) goes on, and the end is noticed, also while a
//! program only sends, does neither, or is busy with the last message: two tasks of the runtime, which all connections of a thread
//! share, look at what no receive does (within some 20 ms where a receive was begun and not finished). Messages
//! wait until they are received, in order. When they are more than 256 KiB, nothing more is read until some were received: then
//! the peer has to wait, and its pings with it.
//!
//! # Loops are fair
//!
//! A loop of sends gives other tasks their turn, and so does a loop of receives.
//!
//! # Cancelling
//!
//! Every future here may be dropped at any time, as `select!` and timeouts do: a receive that is dropped has lost nothing, and
//! a send that was waiting has sent nothing.
//!
//! # The end
//!
//! A receive ends with `None` after a normal close (1000, 1001, or without a code), and with
//! [`Error::Ended`](crate::Error::Ended) after any other. A [`Connection`] that is dropped closes with 1001; by a panic, with 1011. In any case the end
//! comes in bounded time ([`Config::close_timeout`](crate::Config::close_timeout)), also if nobody waits for it. A connection ends with its
//! runtime.
//!
//! # Tasks that block
//!
//! What sleeps, computes or blocks without an `.await` holds its thread, and with it all connections there. [`watch`] names tasks that
//! do so, and [`watch_runtime`] notices it while it lasts. What has to block belongs into `spawn_blocking`; or the connection onto a
//! thread of its own, as one of callbacks, whose [`Messages`](crate::messages::Messages) tasks can await.
//!
//! The runtime needs both drivers, for I/O and for time (`enable_all`; [`tokio::main`](https://docs.rs/tokio) has both).

mod attendant;
mod broadcast;
mod client;
mod connection;
mod connections;
mod core;
mod dial;
mod guarded;
mod handle;
mod link;
mod listening;
mod partial;
mod pending;
mod reading;
mod received;
mod reception;
mod reconnecting;
mod request;
mod round_trip;
mod scope;
mod sending;
mod sending_parts;
mod serve;
mod server;
mod shutdown;
mod split;
mod state;
mod stream;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "hyper")]
mod upgrade;
mod waiters;

pub use crate::tasks::{RuntimeWatch, Watched, watch, watch_runtime};
pub use broadcast::{Broadcast, broadcast, broadcast_with};
pub use client::{connect, connect_in_parts, connect_over};
pub use connection::Connection;
pub use connections::{Connections, connections};
pub use handle::Handle;
pub use partial::{Incoming, PartialReceiver};
pub use received::Event;
pub use reconnecting::{ReconnectHandle, Reconnecting, Update, reconnect};
pub use request::{Request, accept_over, accept_request};
pub use scope::Scope;
pub use server::Server;
pub use shutdown::Stopper;
pub use split::{Receiver, Sender};
#[cfg(feature = "hyper")]
pub use upgrade::Upgrade;
