//! One message for many connections.

use threadwire_proto::Message;

use super::handle::Handle;
use crate::{Error, WhenFull};

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
/// [`Config::when_full`](crate::Config::when_full) decides ([`WhenFull::Wait`] is taken for [`WhenFull::Error`]), so that a peer
/// that does not read holds up nobody.
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
pub fn broadcast<'h, 'm>(
    handles: impl IntoIterator<Item = &'h Handle>,
    message: impl Into<Message<'m>>,
) -> Broadcast {
    let message = message.into();
    let mut result = Broadcast::default();
    for handle in handles {
        let when_full = match handle.when_full() {
            WhenFull::Wait => WhenFull::Error,
            policy => policy,
        };
        match handle.send_with(message, when_full) {
            Ok(()) => result.sent += 1,
            Err(Error::Limit(_)) => result.full += 1,
            Err(_) => result.closed += 1,
        }
    }
    result
}
