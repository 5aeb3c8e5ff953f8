//! Compression in rooms: a message is compressed once for all members whose
//! peers can read the same, on whatever thread they are.

use threadwire_proto::deflate::Sharing;
use threadwire_proto::{Compress, OpCode, Pool};
use threadwire_worker::Lock;

use super::branch::{Gathered, Span};
use threadwire_core::session::buffers::Buffers;

/// A message's compressed frames, of which there are as many as there are settings among the members: one, as a rule.
/// `None` stands for one that is better sent as it is.
#[derive(Debug, Default)]
pub(crate) struct Deflated(Lock<Vec<Known>>);

/// A frame for members with these settings.
type Known = (Sharing, Option<Box<[u8]>>);

impl Deflated {
    /// Appends the frame of a message, which is compressed now if nobody has done it yet. False if it is better sent as it is.
    fn append(
        &self,
        sharing: Sharing,
        (opcode, payload): (OpCode, &[u8]),
        compress: Compress,
        pool: &mut Pool,
        out: &mut Vec<u8>,
    ) -> bool {
        // A second thread waits for the first: compressing would take as long itself.
        let mut known = self.0.lock();
        if let Some((_, frame)) = known.iter().find(|(its, _)| *its == sharing) {
            frame.iter().for_each(|frame| out.extend_from_slice(frame));
            return frame.is_some();
        }
        let start = out.len();
        let is_better = sharing.append_frame(opcode, payload, compress, pool, out);
        known.push((sharing, is_better.then(|| out[start..].into())));
        is_better
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

#[cfg(test)]
mod tests {
    use threadwire_proto::{Config, Connection, Deflate, Role};

    use super::*;

    fn sharing(deflate: &Deflate) -> Sharing {
        let agreement = deflate.answer(&[deflate.offer()]).unwrap();
        let server = Connection::new(Role::Server, &Config::default()).with_deflate(deflate, agreement);
        server.sharing().unwrap()
    }

    #[test]
    fn a_message_is_compressed_once_for_all_with_the_same_settings() {
        let (deflated, mut pool) = (Deflated::default(), Pool::new());
        let mut append = |sharing, payload: &[u8]| {
            let mut out = Vec::new();
            let text = (OpCode::Text, payload);
            deflated.append(sharing, text, Compress::Auto, &mut pool, &mut out).then_some(out)
        };
        let (twelve, nine) = (Deflate::new(), Deflate::new().server_max_window_bits(9));
        let first = append(sharing(&twelve), &[b'a'; 100]);
        assert!(first.is_some());
        // The payload of the second call is not looked at.
        assert_eq!(append(sharing(&twelve), &[b'b'; 100]), first);
        assert_ne!(append(sharing(&nine), &[b'b'; 100]), first);
        let short = Deflate::new().threshold(1000);
        assert_eq!(append(sharing(&short), &[b'a'; 100]), None);
        assert_eq!(append(sharing(&short), &[b'a'; 2000]), None, "it was found to be too short");
    }
}
