//! Blocking clients: `connect`, and `connect_in_parts`.

use std::rc::Rc;

use super::Connection;
use super::inbox::{Inbox, InboxListener};
use super::partial::{self, PartialReceiver};
use crate::Error;
use crate::client::AsClient;
use threadwire_core::config::setting::Way;

/// Opens a connection to a URL, or as a [`Client`](crate::Client) says, and waits until it is open; the thread's loop turns
/// meanwhile. Fails as [`Client::connect`](crate::Client::connect) does, and with [`Error::Setting`] where
/// [`Config::auto_pong`](crate::Config::auto_pong) is off: pings would never be answered.
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
    let client = target.client()?;
    client.settings().config.check(&Way::BLOCKING)?;
    let inbox = Rc::new(Inbox::default());
    let ws = client.connect(InboxListener::new(Rc::clone(&inbox)))?;
    Ok(Connection::new(ws, inbox))
}

/// As [`connect`], for messages that are received in parts, as they come: see [`PartialReceiver`]. Fails with [`Error::Setting`] for a
/// [`Limits::max_message`](crate::Limits::max_message), too, as a message may have any length there.
pub fn connect_in_parts(target: impl AsClient) -> Result<PartialReceiver, Error> {
    let client = target.client()?;
    client.settings().config.check(&Way::IN_PARTS)?;
    partial::connect(&client)
}
