//! WebSockets for programs made of threads.
//!
//! Every thread that uses this crate has one event loop ([`worker::EventLoop`]): its sockets, its timers and the calls
//! that other threads make to it all arrive there, and every wait keeps that loop turning. A connection lives on the
//! loop of its thread. What happens to it is told to a [`Listener`]; what is sent in answer to what was read together
//! leaves together, in one write.
//!
//! # A server
//!
//! ```
//! use threadwire::{Accept, Connection, Error, Listener, Message, Server};
//!
//! struct Echo;
//!
//! impl Listener for Echo {
//!     fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
//!         ws.send(message)
//!     }
//! }
//!
//! let server = Server::bind("127.0.0.1:0")?.workers(2).serve(|_request| Accept::with(Echo))?;
//! println!("listening on {}", server.local_addr()?);
//! # server.stop();
//! server.join()?;
//! # Ok::<(), Error>(())
//! ```
//!
//! # A client
//!
//! ```
//! use threadwire::{Connection, Message, connect};
//! # use threadwire::{Accept, Server};
//! # let server = Server::bind("127.0.0.1:0")?.serve(|_| Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m)))?;
//! # let url = format!("ws://{}", server.local_addr()?);
//!
//! let ws = connect(&url, |ws: &Connection, message: Message<'_>| {
//!     println!("{message}");
//!     ws.close()
//! })?;
//! ws.send("hello")?;
//! ws.wait_closed()?;
//! # server.stop();
//! # server.join()?;
//! # Ok::<(), threadwire::Error>(())
//! ```
//!
//! # Async
//!
//! With the feature `aio` there is an async face on tokio: connections with `recv` and `send`, which are a `Stream` and a `Sink`,
//! and handles for all tasks and threads. With the features `hyper` and `axum` they are also made from requests that such a
//! server has received.
//!
//! # Threads and tasks on one connection
//!
//! | from | to | there is |
//! | --- | --- | --- |
//! | any thread or task | a connection of callbacks | a [`Handle`]: send, ping, close, [`run`](Handle::run) |
//! | a connection of callbacks | threads that block, and tasks | [`Messages`] by [`Handle::messages`]; [`events`] for workers |
//! | any thread or task | a connection of the async face | `aio::Handle` |
//! | a worker | a future | [`worker::block_on`], with the tokio runtime entered if it needs one |
//! | a task | what a worker brings | [`worker::Async`] and [`worker::Defer`], which are futures |
#![forbid(unsafe_code)]

// A short read counts as "there is no more", which is not how readiness works on Windows.
#[cfg(not(unix))]
compile_error!("this version of threadwire needs a Unix system");

#[cfg(feature = "aio")]
pub mod aio;
pub mod app;
pub mod blocking;
mod client;
mod connection;
pub mod events;
mod flow;
mod handle;
mod link;
mod listener;
mod messages;
mod on_loop;
mod room;
pub mod tls;

/// The protocol without I/O: the `threadwire-proto` crate.
pub use threadwire_proto as proto;
/// The threads and event loops under it all: the `threadwire-worker` crate.
pub use threadwire_worker as worker;

pub use app::App;
pub use client::{Client, IntoClient, connect};
pub use connection::Connection;
pub use connection::listener::Listener;
pub use handle::{Handle, Parts};
pub use listener::accept::Accept;
pub use listener::router::Router;
pub use listener::running::{Running, Stopper};
pub use listener::server::{Server, Spread};
pub use messages::{Backlog, Messages, MessagesIter, WhenBehind};
pub use on_loop::reconnect::{Attempt, Backoff, Cause, Change, Reconnect, ReconnectHandle, State};
pub use room::{Delivery, Except, Report, Room};
pub use threadwire_core::client::{CookieJar, Proxy, Socket, Target, Timeouts};
pub use threadwire_core::config::{Config, WhenFull};
pub use threadwire_core::error::{
    Closed, Error, LimitKind, ProxyProblem, RedirectProblem, Stage, Step, TimeoutKind, TlsProblem, UrlPart,
};
pub use threadwire_core::server::{
    Admission, BasicAuth, BasicUser, Bearer, Check, Forwarded, Hosts, ListenAddr, ListenSocket, Origins,
    Proxied, ProxyProtocol, Request, Shutdown, ShutdownReport, Standing, StuckWorker, Unanswered,
};
pub use threadwire_core::trace::{self, Trace};
pub use threadwire_proto::handshake::{Answer, HandshakeError, HeaderError, Headers, Response};
pub use threadwire_proto::{
    CloseCode, Compress, Deflate, Frame, Initiator, Keepalive, Level, Limits, Message, OpCode, OwnedMessage,
    PingStrategy, RoundTripSummary, SendError, Violation,
};
pub use threadwire_worker::{Stopped, sleep, update, wait_forever, wait_until};
#[cfg(feature = "tls")]
pub use tls::{ClientTls, ServerTls};

/// The examples of the README are tests too. One of them needs the async face.
#[cfg(all(doctest, feature = "aio"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
