//! The WebSocket protocol (RFC 6455) and its compression (RFC 7692) without I/O: bytes in, bytes and events out.
//!
//! Nothing here opens a socket, starts a thread, reads a clock (time is an argument) or allocates on the path
//! of a message that arrives unfragmented. That makes the protocol testable to the last byte, and usable under
//! any kind of I/O: the `threadwire` crate drives it from event loops, your program may drive it from anything
//! that moves bytes.
//!
//! The way through the crate:
//!
//! - [`handshake`] turns bytes into an upgraded connection, on either side;
//! - [`Connection`] is one open connection: it takes received bytes and gives [`Event`]s, it takes messages and
//!   gives bytes to write, and it knows the rules of closing ([`state`] has them as a table);
//! - [`deflate`] compresses messages, where both sides agree to that;
//! - [`Reader`] is the receiving half alone, [`frame`], [`mask`], [`utf8`] and [`close`] are its parts.
//!
//! # Example
//!
//! A client says hello to a server; both live in memory.
//!
//! ```
//! use threadwire_proto::{Config, Connection, Event, Message, Role, Shared};
//!
//! let mut shared = Shared::new();
//! let mut client = Connection::new(Role::Client, &Config::default());
//! let mut server = Connection::new(Role::Server, &Config::default());
//!
//! let mut wire = Vec::new();
//! client.send(Message::Text("hello"), &mut shared, &mut wire)?;
//!
//! let mut input = &mut wire[..];
//! let mut replies = Vec::new();
//! match server.receive(&mut input, &mut shared, &mut replies) {
//!     Some(Event::Frame(frame)) => assert_eq!(frame.message(), Some(Message::Text("hello"))),
//!     other => panic!("expected the message, not {other:?}"),
//! }
//! # Ok::<(), threadwire_proto::SendError>(())
//! ```
#![deny(unsafe_code)]

mod assembly;
mod buffer;
pub mod close;
mod close_code;
mod config;
mod connection;
pub mod deflate;
mod error;
pub mod frame;
pub mod handshake;
mod header;
pub mod keepalive;
pub mod mask;
mod message;
mod opcode;
mod owned;
mod pool;
mod reader;
mod round_trip;
mod setters;
pub mod state;
pub mod utf8;

pub use buffer::Buffer;
pub use close::CloseFrame;
pub use close_code::CloseCode;
pub use config::{Config, Level, Limits, Role};
pub use connection::{Closing, Connection, Event, Initiator, Shared};
pub use deflate::{Compress, Deflate, SendOptions};
pub use error::{SendError, Violation};
pub use frame::Frame;
pub use keepalive::{Keepalive, PingStrategy, Pulse};
pub use message::{AsMessage, Message};
pub use opcode::OpCode;
pub use owned::OwnedMessage;
pub use pool::Pool;
pub use reader::Reader;
pub use round_trip::{RoundTripSummary, RoundTrips};
