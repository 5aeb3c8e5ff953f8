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
//! use threadwire::{Reply, Connection, Error, Listener, Message, Server};
//!
//! struct Echo;
//!
//! impl Listener for Echo {
//!     fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
//!         ws.send(message)
//!     }
//! }
//!
//! let server = Server::bind("127.0.0.1:0")?.workers(2).serve(|_request| Reply::with(Echo))?;
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
//! # use threadwire::{Reply, Server};
//! # let server = Server::bind("127.0.0.1:0")?.serve(|_| Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m)))?;
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
//! What each of the faces can is told by the tables of [`faces`].
//!
//! With the feature `printer` there is the module `printer`, by which all threads print to one terminal.
//!
//! # Threads and tasks on one connection
//!
//! | from | to | there is |
//! | --- | --- | --- |
//! | any thread or task | a connection of callbacks | a [`Handle`]: send, ping, close, [`run`](Handle::run) |
//! | a connection of callbacks | threads that block, and tasks | [`Messages`](messages::Messages) by [`Handle::messages`]; [`events`] for workers |
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
pub mod client;
mod connection;

mod listener;
mod on_loop;
#[cfg(feature = "aio")]
mod tasks;
pub mod tls;

/// The printer, which owns the terminal for all threads: the `threadwire-printer` crate.
#[cfg(feature = "printer")]
pub use threadwire_printer as printer;
/// The protocol without I/O: the `threadwire-proto` crate.
pub use threadwire_proto as proto;
/// The threads and event loops under it all: the `threadwire-worker` crate.
pub use threadwire_worker as worker;

pub use app::App;
pub use client::{Client, connect};
pub use connection::Connection;
pub use connection::closure::on_message;
pub use connection::handle::Handle;
pub use connection::handle::events;
pub use connection::listener::Listener;
pub use connection::reply::Reply;
pub use connection::room::Room;
pub use connection::{messages, room};
pub use listener::running::Running;
pub use listener::server::Server;
pub use threadwire_core::config::{Budget, Config, SendOptions, WhenFull};
pub use threadwire_core::error::{Closed, Error};
pub use threadwire_core::server::Request;
pub use threadwire_core::trace;
pub use threadwire_proto::handshake::{Headers, Response};
pub use threadwire_proto::{
    AsMessage, CloseCode, Compress, Deflate, Initiator, Keepalive, Limits, Message, OwnedMessage,
};
pub use threadwire_worker::{Stopped, sleep, update, wait_forever, wait_until};

pub mod error {
    //! Errors in detail: which limit, which timeout, which part of a URL, and what went wrong with a proxy, a redirect, TLS or
    //! a handshake. `threadwire::Error` itself is at the root.

    pub use threadwire_core::error::{
        Closed, ConnectError, ConnectUnixError, Error, LimitError, LimitKind, ListenError, ProxyError,
        ProxyProblem, RedirectError, RedirectProblem, RequestRefused, ResolveError, RouteError, SettingError,
        Stage, Step, TimeoutKind, TlsError, TlsFileError, TlsProblem, UrlError, UrlPart,
    };
    pub use threadwire_proto::handshake::{HandshakeError, HeaderError};
    pub use threadwire_proto::{SendError, Violation};
}

pub mod frame {
    //! Frames as they come (RFC 6455, section 5.2), for listeners at that [`Level`].

    pub use threadwire_proto::{Frame, Level, OpCode};
}

pub mod keepalive {
    //! Pings (RFC 6455, section 5.5.2): when one is due, when a peer counts as silent, and how long the answers took.

    pub use threadwire_proto::{Keepalive, PingStrategy, RoundTripSummary};
}

pub mod reconnect {
    //! Connections that come back by themselves: [`Client::reconnect`](crate::Client::reconnect) makes one. After which ends, and
    //! after how long, is a [table](crate::reconnecting).

    pub use crate::on_loop::reconnect::{Attempt, Backoff, Cause, Change, Reconnect, ReconnectHandle, State};
}

pub mod server {
    //! What servers of all faces have in common: who is let in, which path leads to what, where to listen, and how to shut down.

    pub use crate::connection::reply::Reply;
    pub use crate::listener::router::Router;
    pub use crate::listener::running::Running;
    pub use crate::listener::server::{Server, Spread};
    pub use crate::on_loop::server::Stopper;
    pub use threadwire_core::server::{
        Admission, BasicAuth, BasicUser, Bearer, Check, CloseProblem, Forwarded, Hosts, ListenAddr,
        ListenSocket, Origins, Proxied, ProxyProtocol, Request, Shutdown, ShutdownReport, StuckWorker,
        UncleanClose,
    };
    #[cfg(feature = "tls")]
    pub use threadwire_core::tls::ServerTls;
}

#[cfg(doc)]
#[doc = include_str!("../docs/faces.md")]
pub mod faces {}

#[cfg(doc)]
#[doc = include_str!("../docs/reconnecting.md")]
pub mod reconnecting {}

/// The examples of the README are tests too. One of them needs the async face.
#[cfg(all(doctest, feature = "aio"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
