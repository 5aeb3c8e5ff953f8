//! One message for many connections, compressed once.

use super::compressor::alone;
use super::engines::DeflateKind;
use crate::frame::{Header, OpCode};
use crate::{Compress, Pool};

/// What a message must be compressed like, so that a connection can send it although it was not compressed for it alone:
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
    pub(super) kind: DeflateKind,
    pub(super) threshold: usize,
}

impl Sharing {
    /// Appends the message as one compressed frame of a server, which refers to nothing in front of it. False, and nothing
    /// has happened, if the message is better sent as it is: since it is short, or does not get smaller, or is not to be
    /// compressed.
    pub fn append_frame(
        &self,
        opcode: OpCode,
        payload: &[u8],
        compress: Compress,
        pool: &mut Pool,
        out: &mut Vec<u8>,
    ) -> bool {
        if !compress.applies_to(payload.len(), self.threshold) {
            return false;
        }
        let engines = &mut pool.engines;
        let Some(made) = alone(self.kind, payload, engines) else { return false };
        let header = Header { fin: true, rsv: Header::RSV1, opcode, mask: None, length: made as u64 };
        header.append_to(out, &engines.scratch[..made]);
        true
    }
}
