//! Limits of this side.

use std::fmt;

/// A limit of ours on what we send is reached, see [`Config`](crate::Config); or one of a server on its connections, see
/// [`Admission`](crate::Admission).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} is over the limit of {limit}{}", kind.unit())]
#[non_exhaustive]
pub struct LimitError {
    /// Which one.
    pub kind: LimitKind,
    /// The limit in force: in bytes, or in connections.
    pub limit: usize,
}

/// Which limit was reached.
///
/// ```
/// use threadwire::error::LimitKind;
/// use threadwire::{Client, Config, Connection, Error, Message};
/// # use threadwire::{Reply, Server};
/// # let deaf = |ws: &Connection, _: Message<'_>| Ok(ws.pause_reading());
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| Reply::with(deaf))?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let client = Client::new(&url)?.config(Config::default().max_buffered(1 << 20));
/// let ws = client.connect(|_ws: &Connection, _message: Message<'_>| Ok(()))?;
/// // The server does not read: after what the system takes, no more than a megabyte waits.
/// let refused = loop {
///     if let Err(error) = ws.send(&vec![0; 100_000]) {
///         break error;
///     }
/// };
/// let Error::Limit(error) = refused else { panic!("{refused}") };
/// assert_eq!((error.kind, error.limit), (LimitKind::Buffered, 1_048_576));
/// # ws.abort();
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitKind {
    /// [`Config::max_buffered`](crate::Config::max_buffered).
    Buffered,
    /// `Reconnect::hold`.
    Held,
    /// [`Admission::max_connections`](crate::Admission::max_connections).
    Connections,
    /// [`Admission::max_per_address`](crate::Admission::max_per_address).
    PerAddress,
    /// [`Budget`](crate::Budget).
    Memory,
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LimitKind::Buffered => "what waits to be written to the peer",
            LimitKind::Held => "what waits for the next connection",
            LimitKind::Connections => "the number of connections",
            LimitKind::Memory => "the memory that connections hold together",
            LimitKind::PerAddress => "the number of connections from one address",
        })
    }
}

impl LimitKind {
    fn unit(self) -> &'static str {
        match self {
            LimitKind::Buffered | LimitKind::Held | LimitKind::Memory => " bytes",
            LimitKind::Connections | LimitKind::PerAddress => "",
        }
    }
}
