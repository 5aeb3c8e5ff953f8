//! Shared frame: a message for many connections, compressed and framed once.

use crate::header::Header;
use crate::opcode::OpCode;
use crate::{Compress, Pool, deflate::Sharing};

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
        let Some(compressed) = self.deflate(payload, compress, &mut pool.engines) else { return false };
        let header =
            Header { fin: true, rsv: Header::RSV1, opcode, mask: None, length: compressed.len() as u64 };
        header.append_to(out, compressed);
        true
    }
}
