//! Compression in rooms: a message is compressed once for all members whose
//! peers can read the same, on whatever thread they are.

use threadwire_proto::deflate::Sharing;
use threadwire_proto::{Compress, OpCode, Pool};
use threadwire_worker::Lock;

use super::branch::{Gathered, Span};
use threadwire_core::session::buffers::Buffers;
use threadwire_core::session::shared_message::CompressedFrames;

/// A message's compressed frames, which the threads of a room share.
#[derive(Debug, Default)]
pub(crate) struct Deflated(Lock<CompressedFrames>);

impl Deflated {
    /// Appends the frame of a message, which is compressed now if nobody has done it yet. False if it is better sent as it is.
    fn append(
        &self,
        sharing: Sharing,
        message: (OpCode, &[u8]),
        compress: Compress,
        pool: &mut Pool,
        out: &mut Vec<u8>,
    ) -> bool {
        // A second thread waits for the first: compressing would take as long itself.
        let mut frames = self.0.lock();
        let frame = frames.frame(sharing, message, compress, pool);
        frame.iter().for_each(|frame| out.extend_from_slice(frame));
        frame.is_some()
    }
}

/// What was gathered, as members with these settings get it.
pub(super) struct Variant {
    sharing: Sharing,
    pub(super) bytes: Vec<u8>,
    /// Where the pieces lie, in their order.
    pub(super) spans: Vec<Span>,
}

impl Variant {
    fn new(sharing: Sharing, gathered: &Gathered, buffers: &Buffers) -> Variant {
        let mut shared = buffers.shared.borrow_mut();
        let mut bytes = buffers.lend_output();
        let spans = gathered.pieces.iter().map(|piece| {
            let start = bytes.len();
            let payload = &gathered.bytes[piece.payload..piece.span.end];
            let pool = &mut shared.pool;
            let is_compressed = match &piece.deflated {
                Some(deflated) => {
                    deflated.append(sharing, (piece.opcode, payload), piece.compress, pool, &mut bytes)
                }
                None => sharing.append_frame(piece.opcode, payload, piece.compress, pool, &mut bytes),
            };
            if !is_compressed {
                bytes.extend_from_slice(&gathered.bytes[piece.span.start..piece.span.end]);
            }
            Span { start, end: bytes.len(), is_compressed }
        });
        let spans = spans.collect();
        Variant { sharing, bytes, spans }
    }
}

/// The variants that were needed so far.
#[derive(Default)]
pub(super) struct Variants(Vec<Variant>);

impl Variants {
    /// The one for these settings.
    pub(super) fn of(&mut self, sharing: Sharing, gathered: &Gathered, buffers: &Buffers) -> &Variant {
        let known = self.0.iter().position(|variant| variant.sharing == sharing);
        let place = known.unwrap_or_else(|| {
            self.0.push(Variant::new(sharing, gathered, buffers));
            self.0.len() - 1
        });
        &self.0[place]
    }

    pub(super) fn recycle(self, buffers: &Buffers) {
        self.0.into_iter().for_each(|variant| buffers.return_output(variant.bytes));
    }
}
