//! The blocking face: receive and send as with a socket, on any thread.
//!
//! A connection lives on the loop of its thread, and every call that waits turns that loop: pings are answered, timers ring,
//! and other connections of the thread go on meanwhile. There are no threads behind it.
//!
//! ```
//! use threadwire::blocking;
//! # let echo = || threadwire::Reply::with(|ws: &threadwire::Connection, m: threadwire::Message<'_>| ws.send(m));
//! # let server = threadwire::Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
//! # let url = format!("ws://{}", server.local_addr()?);
//!
//! let mut ws = blocking::connect(&url)?;
//! ws.send("hello")?;
//! while let Some(message) = ws.recv()? {
//!     println!("{message}");
//!     ws.close()?;
//! }
//! # Ok::<(), threadwire::Error>(())
//! ```
//!
//! | to do | there is |
//! | --- | --- |
//! | wait for the next message, a while, or not at all | [`recv`](Connection::recv), [`recv_timeout`](Connection::recv_timeout), [`try_recv`](Connection::try_recv) |
//! | go through all messages | `for message in &mut ws` |
//! | take a large message as it comes | [`connect_in_parts`] |
//! | connect again when a connection ends | `for ws in` [`connections`] |
//! | read and write on two threads | [`split`](Connection::split), and any number of [`handle`](Connection::handle)s |
//! | hand a connection to another thread | [`detach`](Connection::detach) |
//! | wait for several at once | [`Select`] |
//! | serve | [`Server`]: connection by connection, all on one thread with `Select`, or [a thread for each](Server::serve) |
//! | wait in another loop than this thread's | [`EventLoop::before_sleep`](crate::worker::EventLoop::before_sleep) |

mod client;
mod connection;
mod connections;
mod detached;
mod inbox;
mod partial;
mod queue;
mod reserves;
mod select;
mod server;
mod split;
mod window;

pub use client::{connect, connect_in_parts};
pub use connection::{Connection, Iter};
pub use connections::{Connections, connections};
pub use detached::Detached;
pub use partial::{Incoming, PartialReceiver};
pub use select::{Key, Select, Selected};
pub use server::{Server, Serving};
pub use split::Sender;
