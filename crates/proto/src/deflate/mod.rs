//! Compression: permessage-deflate (RFC 7692).
//!
//! - [`Deflate`] holds the settings: by them a client offers and a server answers ([negotiation](Deflate::offer)), and they
//!   tune the compressor.
//! - Both sides come to an [`Agreement`]; a [`Connection`](crate::Connection) is made to speak it with
//!   [`Connection::with_deflate`](crate::Connection::with_deflate).
//! - [`Compress`] chooses for one message.
//!
//! # Memory
//!
//! A connection does not own a compressor. Of what was said before it keeps at most the window, in each direction in
//! which it was agreed that messages refer back to earlier ones (context takeover): 2<sup>bits</sup> bytes, filled as
//! messages come. The engines (161 KiB to compress with 12 bits, 47 KiB to decompress) belong to the thread's
//! [`Pool`](crate::Pool). A connection that finds its engine there as it left it just goes on; one whose engine has served
//! another meanwhile, or was given up, gets one that is primed with its window. All threads together keep no more engines
//! than [`memory_budget`] allows.
//!
//! # Example
//!
//! ```
//! use threadwire_proto::handshake::Extension;
//! use threadwire_proto::{Config, Connection, Deflate, Event, Message, Role, Shared};
//!
//! let deflate = Deflate::new();
//! let offer = deflate.offer();
//! assert_eq!(offer.to_string(), "permessage-deflate; client_max_window_bits");
//! let agreement = deflate.answer(&[offer]).expect("it takes its own offers");
//! let answer = agreement.to_extension();
//! assert_eq!(deflate.accept(&[answer])?, Some(agreement));
//!
//! let [mut client, mut server] = [Role::Client, Role::Server]
//!     .map(|role| Connection::new(role, &Config::default()).with_deflate(&deflate, agreement));
//! let (mut shared, mut wire) = (Shared::new(), Vec::new());
//! let message = "all work and no play makes a dull message. ".repeat(10);
//! client.send(Message::Text(&message), &mut shared, &mut wire)?;
//! assert!(wire.len() < 100, "{} bytes were sent", wire.len());
//! match server.receive(&mut &mut wire[..], &mut shared, &mut Vec::new()) {
//!     Some(Event::Frame(frame)) => assert_eq!(frame.message(), Some(Message::Text(&message))),
//!     other => panic!("expected the message, not {other:?}"),
//! };
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod agreement;
mod budget;
mod compressor;
mod decompressor;
mod engines;
mod history;
mod params;

pub use agreement::Agreement;
pub use budget::{memory_budget, memory_in_use, set_memory_budget};
pub(crate) use compressor::Compressor;
pub use compressor::Sharing;
pub(crate) use decompressor::{Decompressor, InflateBuffer};
pub(crate) use engines::Engines;
pub use params::ParamError;
pub(crate) use params::Params;

/// The name of the extension.
pub const NAME: &str = "permessage-deflate";

/// The bytes that both sides leave out at the end of a message (RFC 7692, section 7.2.1): an empty stored block without its header.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Whether a message is compressed, where that was agreed on.
///
/// ```
/// use threadwire_proto::{Compress, Config, Connection, Deflate, OpCode, Role, Shared};
///
/// let deflate = Deflate::new();
/// let agreement = deflate.answer(&[deflate.offer()]).expect("it takes its own offers");
/// let mut server = Connection::new(Role::Server, &Config::default()).with_deflate(&deflate, agreement);
/// let (mut shared, mut out) = (Shared::new(), Vec::new());
/// let picture = [7; 1000]; // of a kind that is compressed already, say
/// server.send_frame_with(OpCode::Binary, true, &picture, Compress::Never.into(), &mut shared, &mut out)?;
/// assert_eq!(out.len(), 4 + 1000);
/// # Ok::<(), threadwire_proto::SendError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compress {
    /// A message is compressed if it is as long as [`Deflate::threshold`], or comes in fragments: its length is not known then.
    #[default]
    Auto,
    /// A message is compressed however short it is; but one that no other refers to (without context takeover, to a crowd, or
    /// where it may be dropped) goes out as it is if it does not get smaller. One that others may refer to grows by 5 bytes for each 64 KiB, and
    /// by one, at most.
    Always,
    /// A message is not compressed: for data that do not get smaller, or must not, as their length would tell of a secret that
    /// stands beside something that an attacker chose.
    Never,
}

impl Compress {
    /// Whether a message of this length is to be compressed.
    #[inline]
    fn applies_to(self, length: usize, threshold: usize) -> bool {
        match self {
            Compress::Always => true,
            Compress::Auto => length >= threshold,
            Compress::Never => false,
        }
    }
}

/// The choices for one frame that is sent: [`Connection::send_frame_with`](crate::Connection::send_frame_with).
///
/// ```
/// use threadwire_proto::{Compress, SendOptions};
/// assert_eq!(SendOptions::from(Compress::Never), SendOptions { compress: Compress::Never, droppable: false });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SendOptions {
    /// Whether the message is compressed. The first frame of a message decides for all of them.
    pub compress: Compress,
    /// Whether the frame, which is a whole message, may yet be taken out of the output before it leaves. Compressed, it then
    /// refers to no other message, and no later one refers to it: that costs some of what compression saves.
    pub droppable: bool,
}

impl From<Compress> for SendOptions {
    fn from(compress: Compress) -> SendOptions {
        SendOptions { compress, droppable: false }
    }
}

/// Settings of compression: those that are offered or agreed to, and those of our own compressor.
///
/// The names of the parameters are those of RFC 7692, section 7.1, on either side: `server_` is about what the server sends.
/// Numbers out of their range panic, as they are the program's mistake.
///
/// ```
/// use threadwire_proto::Deflate;
///
/// // Little memory on a server: nothing is kept of a message for the ones behind it.
/// let frugal = Deflate::new().server_no_context_takeover(true).client_no_context_takeover(true);
/// let browser = Deflate::new().offer();
/// let agreement = frugal.answer(&[browser]).expect("a browser agrees to that");
/// assert!(agreement.server_no_context_takeover && agreement.client_no_context_takeover);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deflate {
    pub(super) level: u8,
    pub(super) mem_level: u8,
    pub(super) threshold: usize,
    pub(super) server_no_context_takeover: bool,
    pub(super) client_no_context_takeover: bool,
    pub(super) server_max_window_bits: Option<u8>,
    pub(super) client_max_window_bits: Option<u8>,
}

impl Default for Deflate {
    fn default() -> Deflate {
        Deflate::new()
    }
}

impl Deflate {
    /// The defaults: level 1, memory level 5, threshold 64, context takeover both ways; windows of 12 bits where a server
    /// may choose, and of up to 15 where the peer does.
    pub const fn new() -> Deflate {
        Deflate {
            level: 1,
            mem_level: 5,
            threshold: 64,
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: None,
            client_max_window_bits: None,
        }
    }

    /// The effort of our compressor, 1 (fast) to 9 (small). 1 by default: it takes a fifth to a third of the time of 6 for
    /// messages that are a fifth longer; of 16 KiB, they are longer by half.
    ///
    /// # Panics
    ///
    /// If the number is not from 1 to 9.
    pub const fn level(mut self, level: u8) -> Deflate {
        assert!(level >= 1 && level <= 9, "a compression level is 1 to 9");
        self.level = level;
        self
    }

    /// The memory in which our compressor gathers symbols before it writes a block, 1 to 9: 7 × 2<sup>level + 6</sup> bytes,
    /// 14 KiB with the default of 5. More makes long messages at high levels a little smaller.
    ///
    /// # Panics
    ///
    /// If the number is not from 1 to 9.
    pub const fn mem_level(mut self, level: u8) -> Deflate {
        assert!(level >= 1 && level <= 9, "a memory level is 1 to 9");
        self.mem_level = level;
        self
    }

    /// Messages with fewer bytes are sent as they are, unless [`Compress::Always`] is asked for. 64 by default.
    pub const fn threshold(mut self, bytes: usize) -> Deflate {
        self.threshold = bytes;
        self
    }

    /// Whether the server compresses each message for itself, so that neither side keeps anything of it for the next. False
    /// by default. A client asks for it; a server does it even if it is not asked to.
    pub const fn server_no_context_takeover(mut self, yes: bool) -> Deflate {
        self.server_no_context_takeover = yes;
        self
    }

    /// Whether the client compresses each message for itself. False by default. A server can demand it; a client that is set
    /// to it says so, and does it in any case.
    pub const fn client_no_context_takeover(mut self, yes: bool) -> Deflate {
        self.client_no_context_takeover = yes;
        self
    }

    /// The distance that the server's messages may refer back: 2<sup>bits</sup> bytes, 9 to 15. By default a server takes 12 (4 KiB),
    /// and a client does not ask for less than 15 (32 KiB). A server that knows nothing of this parameter declines an offer
    /// that has it.
    ///
    /// # Panics
    ///
    /// If the number is not from 9 to 15. The RFC allows 8, but no compressor of zlib's family can do it: where the peer wants that
    /// of ours, a server declines the offer, and a client sends its messages as they are.
    pub const fn server_max_window_bits(mut self, bits: u8) -> Deflate {
        assert!(bits >= 9 && bits <= 15, "window bits are 9 to 15");
        self.server_max_window_bits = Some(bits);
        self
    }

    /// The distance that the client's messages may refer back: 2<sup>bits</sup> bytes, 9 to 15. By default a server asks for 12 of
    /// clients that let it, and a client leaves it to the server.
    ///
    /// # Panics
    ///
    /// If the number is not from 9 to 15.
    pub const fn client_max_window_bits(mut self, bits: u8) -> Deflate {
        assert!(bits >= 9 && bits <= 15, "window bits are 9 to 15");
        self.client_max_window_bits = Some(bits);
        self
    }
}
