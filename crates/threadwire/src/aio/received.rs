//! Received messages and frames of the async face, owned.

use threadwire_core::session::parts::Part;
use threadwire_proto::OwnedMessage;

/// What has arrived, for [`Connection::recv_event`](super::Connection::recv_event): messages, and what the peer sends to see
/// whether we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Message(OwnedMessage),
    /// A ping, with its payload. It was answered already, unless [`Config::auto_pong`](crate::Config::auto_pong) is off.
    Ping(Vec<u8>),
    /// A pong, with its payload.
    Pong(Vec<u8>),
}

/// What has arrived, and waits to be received.
pub(super) enum Arrival {
    Message(OwnedMessage),
    /// Where messages are received in parts.
    Part(Part),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

impl Arrival {
    /// About how much memory it takes.
    pub(super) fn cost(&self) -> usize {
        let payload = match self {
            Arrival::Message(message) => message.len(),
            Arrival::Part(part) => part.bytes.len(),
            Arrival::Ping(payload) | Arrival::Pong(payload) => payload.len(),
        };
        size_of::<Arrival>() + payload
    }
}
