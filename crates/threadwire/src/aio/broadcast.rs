//! Broadcast: one message for many connections, framed once, and compressed once for each set of parameters.

use threadwire_core::session::shared_message::SharedMessage;
use threadwire_proto::AsMessage;

use super::handle::Handle;
use crate::{Error, SendOptions};

/// What became of a message for many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broadcast {
    /// How many connections took it.
    pub sent: usize,
    /// How many had no room for it: their peers are too slow.
    pub full: usize,
    /// How many were closed.
    pub closed: usize,
}

/// Sends a message to many connections, without waiting for any of them. Where there is no room, the connection's own
/// [`Config::when_full`](crate::Config::when_full) decides ([`WhenFull::Wait`](crate::WhenFull::Wait) is taken for
/// [`WhenFull::Error`](crate::WhenFull::Error)), so that a peer that does not read holds up nobody.
///
/// The message is framed once for all, and compressed once for all of them that have agreed on the same.
///
/// ```
/// use threadwire::aio;
///
/// fn tell(room: &mut Vec<aio::Handle>, text: &str) {
///     if aio::broadcast(&*room, text).closed > 0 {
///         room.retain(aio::Handle::is_open);
///     }
/// }
/// ```
pub fn broadcast<'h>(handles: impl IntoIterator<Item = &'h Handle>, message: impl AsMessage) -> Broadcast {
    broadcast_with(handles, message, SendOptions::default())
}

/// The same, and chooses what is to happen where there is no room, or whether the message is compressed: see [`SendOptions`].
///
/// ```
/// use threadwire::{Compress, aio};
///
/// fn show(room: &[aio::Handle], jpeg: &[u8]) {
///     aio::broadcast_with(room, jpeg, Compress::Never); // it does not get smaller
/// }
/// ```
pub fn broadcast_with<'h>(
    handles: impl IntoIterator<Item = &'h Handle>,
    message: impl AsMessage,
    options: impl Into<SendOptions>,
) -> Broadcast {
    let SendOptions { when_full, compress, .. } = options.into();
    let mut message = SharedMessage::new(message.as_message(), compress);
    let mut result = Broadcast::default();
    for handle in handles {
        match handle.core().send_shared(&mut message, when_full) {
            Ok(()) => result.sent += 1,
            Err(Error::Limit(_)) => result.full += 1,
            Err(_) => result.closed += 1,
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use threadwire_proto::{Compress, Deflate, Message};
    use tokio::io::duplex;

    use super::*;
    use crate::aio::{Connection, accept_over, connect_over};
    use crate::{Client, Config};

    /// A server's connection with its client, which have agreed on compression.
    async fn pair(deflate: Deflate) -> (Connection, Connection) {
        let config = Config::default().deflate(deflate);
        let (here, there) = duplex(1 << 20);
        let asks = Client::new("ws://localhost/").unwrap().config(config.clone());
        let (member, peer) = tokio::join!(accept_over(here, config), connect_over(there, &asks));
        (member.unwrap(), peer.unwrap())
    }

    #[tokio::test]
    async fn a_message_is_compressed_once_for_each_set_of_parameters() {
        let mut pairs = Vec::new();
        for deflate in [Deflate::default(), Deflate::default(), Deflate::default().server_max_window_bits(9)]
        {
            pairs.push(pair(deflate).await);
        }
        let text = "news ".repeat(10_000);
        let mut message = SharedMessage::new(Message::Text(&text), Compress::Auto);
        for (member, _) in &pairs {
            member.handle().core().send_shared(&mut message, None).unwrap();
        }
        assert_eq!(message.compressions(), 2);
        for (_, peer) in &mut pairs {
            assert_eq!(peer.recv().await.unwrap().unwrap(), text.as_str());
        }
    }
}
