//! The compressor of a connection: deflate of outgoing messages (RFC 7692, section 7.2.1).

use super::engines::{DeflateEngine, DeflateKind, Ticket};
use super::history::History;
use super::{Agreement, Compress, Deflate, Engines, TAIL};
use crate::Role;
use crate::opcode::OpCode;

/// The sending half.
#[derive(Debug)]
pub(crate) struct Compressor {
    agreement: Agreement,
    kind: DeflateKind,
    takeover: bool,
    threshold: usize,
    /// The content of the peer's window: the end of what we have sent. Empty without context takeover.
    history: History,
    ticket: Option<Ticket>,
    /// The message in fragments that is under way.
    under_way: UnderWay,
}

#[derive(Debug, Default)]
enum UnderWay {
    #[default]
    Nothing,
    /// The message is not compressed.
    Plain,
    Compressed(DeflateEngine),
}

/// Scratch memory beyond this many bytes is not kept.
const SCRATCH_KEPT: usize = 1 << 20;

impl Compressor {
    pub(crate) fn new(role: Role, deflate: &Deflate, agreement: Agreement) -> Compressor {
        let (window_bits, no_takeover) = match role {
            Role::Server => (agreement.server_max_window_bits, agreement.server_no_context_takeover),
            Role::Client => (agreement.client_max_window_bits, agreement.client_no_context_takeover),
        };
        Compressor {
            agreement,
            kind: DeflateKind { window_bits, level: deflate.level, mem_level: deflate.mem_level },
            takeover: !no_takeover,
            threshold: deflate.threshold,
            history: History::default(),
            ticket: None,
            under_way: UnderWay::Nothing,
        }
    }

    pub(crate) fn agreement(&self) -> Agreement {
        self.agreement
    }

    /// Whether a data frame is to be compressed that would be sent now.
    #[inline]
    pub(crate) fn wants(&self, opcode: OpCode, fin: bool, length: usize, compress: Compress) -> bool {
        match (&self.under_way, opcode) {
            (UnderWay::Compressed(_), OpCode::Continuation) => true,
            (_, OpCode::Continuation) => false,
            // A window of 8 bits is more than we can do: what is sent plainly refers to nothing.
            _ if self.kind.window_bits < 9 => false,
            // The length of a message in fragments is not known yet.
            _ if !fin => compress != Compress::Never,
            _ => compress.applies_to(length, self.threshold),
        }
    }

    /// A data frame is sent as it is.
    #[inline]
    pub(crate) fn pass(&mut self, fin: bool) {
        self.under_way = if fin { UnderWay::Nothing } else { UnderWay::Plain };
    }

    /// Compresses the payload of a data frame that it [wants](Compressor::wants). `None` if that is better sent as it is, which has
    /// then been noted.
    #[inline]
    pub(crate) fn deflate<'e>(
        &mut self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        engines: &'e mut Engines,
    ) -> Option<&'e [u8]> {
        trim(&mut engines.scratch);
        let Engines { deflate, scratch, .. } = engines;
        let mut engine = match std::mem::take(&mut self.under_way) {
            UnderWay::Compressed(engine) => engine,
            _ => deflate.take(self.kind, self.ticket.take(), &self.history),
        };
        let mut made = engine.run(payload, 0, scratch);
        if self.takeover {
            self.history.append(payload, 1 << self.kind.window_bits);
        }
        if !fin {
            self.under_way = UnderWay::Compressed(engine);
            made = stored_if_shorter(payload, false, scratch, made);
            return Some(&scratch[..made]);
        }
        made = finish(scratch, made);
        if self.takeover {
            // The input of the engine is part of the stream from now on: it must be a part of the message, whatever its length.
            self.ticket = deflate.keep(engine);
        } else {
            deflate.release(engine);
            if opcode != OpCode::Continuation && made >= payload.len() {
                return None;
            }
        }
        made = stored_if_shorter(payload, true, scratch, made);
        Some(&scratch[..made])
    }

    /// Compresses a whole message so that it can be left out of the stream again: it refers to none, and none refers to it. `None`
    /// as for [`deflate`](Compressor::deflate).
    pub(crate) fn deflate_alone<'e>(&mut self, payload: &[u8], engines: &'e mut Engines) -> Option<&'e [u8]> {
        let made = alone(self.kind, payload, engines)?;
        self.sent_shared();
        Some(&engines.scratch[..made])
    }

    /// The settings by which a message for many must be compressed, for this connection to be among them; `None` if it can't be
    /// now.
    #[inline]
    pub(crate) fn sharing(&self) -> Option<Sharing> {
        let is_free = matches!(self.under_way, UnderWay::Nothing) && self.kind.window_bits >= 9;
        is_free.then_some(Sharing { kind: self.kind, threshold: self.threshold })
    }

    /// A message was sent that refers to no earlier one. The peer's window holds it, but later messages need not refer to it
    /// or to anything in front of it: forgetting both is cheaper than to remember it for each of a crowd.
    #[inline]
    pub(crate) fn sent_shared(&mut self) {
        self.ticket = None;
        if !self.history.is_empty() {
            self.history.clear();
        }
    }
}

/// The settings by which a message must be compressed, so that a connection can send it though it was not compressed for it alone:
/// [`Connection::sharing`](crate::Connection::sharing). Connections for which this is equal can share.
///
/// ```
/// use threadwire_proto::{Compress, Config, Connection, Deflate, OpCode, Role, Shared};
///
/// let deflate = Deflate::new();
/// let agreement = deflate.answer(&[deflate.offer()]).expect("it takes its own offers");
/// let mut members = [(); 3].map(|()| {
///     Connection::new(Role::Server, &Config::default()).with_deflate(&deflate, agreement)
/// });
/// let mut shared = Shared::new();
/// let news = "the same for everybody ".repeat(10);
/// let sharing = members[0].sharing().expect("it compresses");
/// let mut frame = Vec::new();
/// assert!(sharing.append_frame(OpCode::Text, news.as_bytes(), Compress::Auto, &mut shared.pool, &mut frame));
/// for member in &mut members {
///     assert_eq!(member.sharing(), Some(sharing));
///     member.sent_shared(); // and `frame` goes to its peer
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sharing {
    kind: DeflateKind,
    threshold: usize,
}

impl Sharing {
    /// Compresses a message without any reference to others. `None` if it is better sent as it is.
    pub(crate) fn deflate<'e>(
        &self,
        payload: &[u8],
        compress: Compress,
        engines: &'e mut Engines,
    ) -> Option<&'e [u8]> {
        if !compress.applies_to(payload.len(), self.threshold) {
            return None;
        }
        let made = alone(self.kind, payload, engines)?;
        Some(&engines.scratch[..made])
    }
}

/// Frees the scratch memory that a long message has needed.
fn trim(scratch: &mut Vec<u8>) {
    if scratch.len() > SCRATCH_KEPT {
        *scratch = Vec::new();
    }
}

/// Compresses a whole message into the scratch memory, without any reference to others. `None` if it does not get smaller.
fn alone(kind: DeflateKind, payload: &[u8], engines: &mut Engines) -> Option<usize> {
    trim(&mut engines.scratch);
    let mut engine = engines.deflate.any(kind);
    let made = engine.run(payload, 0, &mut engines.scratch);
    engines.deflate.release(engine);
    let made = finish(&mut engines.scratch, made);
    (made < payload.len()).then_some(made)
}

/// The most bytes that a stored block has room for (RFC 1951, section 3.2.4), and the bytes in front of them.
const STORED_BLOCK: usize = 0xffff;
const STORED_HEADER: usize = 5;

/// Puts stored blocks in place of what the engine made of a payload, if they are shorter: at its lowest level the engine knows none, and
/// data that do not compress would grow by a twentieth. Either way the peer's window holds the payload, and the stream is at the
/// end of a byte; so the engine, which knows the payload, can go on. Returns the number of bytes.
fn stored_if_shorter(payload: &[u8], fin: bool, scratch: &mut [u8], made: usize) -> usize {
    // At the end of a message stands the first byte of an empty block.
    let end = usize::from(fin);
    let stored = payload.len() + payload.len().div_ceil(STORED_BLOCK) * STORED_HEADER + end;
    if made <= stored {
        return made;
    }
    let mut rest = &mut scratch[..stored];
    for block in payload.chunks(STORED_BLOCK) {
        let length = block.len() as u16;
        let ([low, high], [not_low, not_high]) = (length.to_le_bytes(), (!length).to_le_bytes());
        let (header, behind) = rest.split_at_mut(STORED_HEADER);
        header.copy_from_slice(&[0, low, high, not_low, not_high]);
        let (data, behind) = behind.split_at_mut(block.len());
        data.copy_from_slice(block);
        rest = behind;
    }
    rest.fill(0);
    stored
}

/// Takes the end of a message off, which the peer puts there again. Returns what is left of `made` bytes.
fn finish(scratch: &mut [u8], made: usize) -> usize {
    if made < TAIL.len() {
        // Nothing was to be said: that is the beginning of an empty block (RFC 7692, section 7.2.3.6).
        scratch[0] = 0;
        return 1;
    }
    debug_assert_eq!(scratch[made - TAIL.len()..made], TAIL);
    made - TAIL.len()
}
