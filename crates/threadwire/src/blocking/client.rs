//! Connections that this side opens.

use std::rc::Rc;

use super::Connection;
use super::mailbox::{Mailbox, Receiver};
use super::parts::{self, Streaming};
use crate::Error;
use crate::client::AsClient;

/// Opens a connection to a URL, or as a [`Client`](crate::Client) says, and waits until it is open; the thread's loop turns
/// meanwhile. Fails as [`Client::connect`](crate::Client::connect) does.
///
/// ```
/// use threadwire::{Client, blocking};
/// # let echo = || threadwire::Reply::with(|ws: &threadwire::Connection, m: threadwire::Message<'_>| ws.send(m));
/// # let server = threadwire::Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let mut plain = blocking::connect(&url)?;
/// let client = Client::new(&url)?.header("Authorization", "Bearer 1234")?;
/// let mut known = blocking::connect(&client)?;
/// # plain.close()?;
/// # known.close()?;
/// # Ok::<(), threadwire::Error>(())
/// ```
pub fn connect(target: impl AsClient) -> Result<Connection, Error> {
    let mailbox = Rc::new(Mailbox::default());
    let ws = target.client()?.connect(Receiver::new(Rc::clone(&mailbox)))?;
    Ok(Connection::new(ws, mailbox))
}

/// As [`connect`], for messages that are received in parts, as they come: see [`Streaming`].
pub fn connect_in_parts(target: impl AsClient) -> Result<Streaming, Error> {
    parts::connect(&*target.client()?)
}
