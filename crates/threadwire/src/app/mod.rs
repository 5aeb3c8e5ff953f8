//! The app face: a connection as a program of callbacks, run by one call (websocket-client's `WebSocketApp`).
//!
//! [`App`] is a thin layer over [`Client`](crate::Client) and [`Reconnect`](crate::reconnect::Reconnect): it takes closures instead of a
//! [`Listener`](crate::Listener), any of which may be missing, runs on the loop of the thread that calls
//! [`run_forever`](App::run_forever) (whose timers, events and other connections go on), and gives other threads an
//! [`AppHandle`].
//!
//! ```
//! use threadwire::App;
//! # use threadwire::{Reply, Connection, Message, Server};
//! # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
//! # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
//! # let url = format!("ws://{}", server.local_addr()?);
//!
//! App::new(&url)?
//!     .on_open(|ws| ws.send("hello"))
//!     .on_message(|ws, message| {
//!         println!("{message}");
//!         ws.close()
//!     })
//!     .on_close(|_ws, closed| println!("{closed}"))
//!     .run_forever()?;
//! # Ok::<(), threadwire::Error>(())
//! ```
//!
//! # For those who come from websocket-client
//!
//! | there | here |
//! | --- | --- |
//! | `on_close` is called when `run_forever` ends | [`on_close`](App::on_close) is called once for each connection that was open, also between re-connections, and in whatever way it ended |
//! | `on_error` is called for a normal close, and no more once it reconnects | a normal close is no error; each failure is told of, also between re-connections |
//! | a callback that raises is reported, and the connection goes on | it is reported, and its connection is closed with 1011 |
//! | `close()` before `run_forever` is forgotten, and later it may take 10 s | it counts, and takes effect at once, from any thread |
//! | `run_forever` says whether there was an error | it says [how it ended](Ended), or what the error was |
//! | `on_data` comes before `on_message` | the same ([`App::on_data`]) |
//! | `on_cont_message` | a listener for [frames](crate::frame::Level::Frames) |
//! | `header` as a callable | [`App::headers`] |
//! | `ping_interval`, `ping_timeout` | [`App::ping`] |
//! | `reconnect=5`, for ever | [`App::reconnect`], with a [`Backoff`](crate::reconnect::Backoff) |
//! | `http_proxy_host`, `http_proxy_auth`, `proxy_type`, ... | a [`Proxy`](crate::client::Proxy), by [`Client::proxy`](crate::Client::proxy); `https` is a kind, too |
//! | `http_no_proxy` | [`Proxy::except`](crate::client::Proxy::except) |
//! | `redirect_limit`, `origin`, `host`, `cookie`, `subprotocols` | [`Client::redirects`](crate::Client::redirects), [`origin`](crate::Client::origin), [`host`](crate::Client::host), [`header`](crate::Client::header), [`subprotocols`](crate::Client::subprotocols) |
//! | a redirect to another host takes `Authorization` and `Cookie` along | it does not |
//! | cookies of all connections in one jar | none, unless a client is given a [`CookieJar`](crate::client::CookieJar) |
//! | `socket`, `sockopt` | [`Client::over`](crate::Client::over), [`Client::open_socket`](crate::Client::open_socket), [`Client::prepare_socket`](crate::Client::prepare_socket) |
//! | `enableTrace(True)` | [`App::trace`] |
//! | `enable_multithread` | always: [`AppHandle`] |
//! | `ws.sock.recv()` for the answer to what was just sent, which waits forever | [`AppHandle::request`] |

mod callbacks;
mod client;
mod handle;
mod listener;
mod request;
mod running;

pub use crate::connection::closure::Outcome;
pub use client::{App, Ended};
pub use handle::AppHandle;
pub use request::PendingReply;
pub use running::{Running, spawn};
pub use threadwire_core::client::HeaderList;
pub use threadwire_core::error::RequestId;
