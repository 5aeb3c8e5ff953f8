//! Options of one send: what its message is to be done with that differs from what is usual on its connection.

use threadwire_proto::Compress;

use super::WhenFull;

/// What a send may choose for its message. Where only one thing is chosen, that is enough: [`WhenFull`] and [`Compress`] turn into
/// options.
///
/// ```
/// use threadwire::{Compress, Connection, Error, SendOptions, WhenFull};
///
/// fn show(ws: &Connection, jpeg: &[u8], price: &str) -> Result<(), Error> {
///     ws.send_with(price, WhenFull::DropOldest)?; // who is slow gets the newest
///     ws.send_with(jpeg, Compress::Never)?; // it does not get smaller
///     ws.send_with(jpeg, SendOptions::default().when_full(WhenFull::DropNewest).compress(Compress::Never))
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendOptions {
    /// What happens if there is no room for the message. By default what [`Config::when_full`](crate::Config::when_full) says,
    /// or what the kind of send does by itself.
    pub when_full: Option<WhenFull>,
    /// Whether the message is compressed, where that was agreed on ([`Config::deflate`](crate::Config::deflate)). By default
    /// where it is worth it.
    pub compress: Compress,
}

impl SendOptions {
    /// What happens if there is no room for the message.
    pub fn when_full(mut self, when_full: WhenFull) -> SendOptions {
        self.when_full = Some(when_full);
        self
    }

    /// Whether the message is compressed.
    pub fn compress(mut self, compress: Compress) -> SendOptions {
        self.compress = compress;
        self
    }
}

impl From<WhenFull> for SendOptions {
    fn from(when_full: WhenFull) -> SendOptions {
        SendOptions::default().when_full(when_full)
    }
}

impl From<Compress> for SendOptions {
    fn from(compress: Compress) -> SendOptions {
        SendOptions::default().compress(compress)
    }
}
