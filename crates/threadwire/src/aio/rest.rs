//! What was read and not looked at yet.

use std::mem;

use threadwire_core::session::buffers::Buffers;

/// From this many bytes on the receive buffer is kept, instead of being copied from. (It is 64 KiB: at most eight times of
/// what is kept.)
const WHOLE: usize = 8 << 10;

/// Bytes behind the message that was handed out, until the next one is asked for.
#[derive(Default)]
pub(super) struct Rest {
    bytes: Bytes,
    start: usize,
    end: usize,
}

#[derive(Default)]
enum Bytes {
    #[default]
    None,
    Copied(Vec<u8>),
    Whole(Box<[u8]>),
}

impl Rest {
    /// Takes over what the handshake has read too much.
    pub(super) fn with(bytes: Vec<u8>, start: usize) -> Rest {
        let end = bytes.len();
        Rest { bytes: Bytes::Copied(bytes), start, end }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes, to be worked on. Say how many are left with [`keep_last`](Rest::keep_last).
    #[inline]
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Bytes::None => &mut [],
            Bytes::Copied(bytes) => &mut bytes[self.start..self.end],
            Bytes::Whole(bytes) => &mut bytes[self.start..self.end],
        }
    }

    /// All but the last `count` bytes were dealt with.
    #[inline]
    pub(super) fn keep_last(&mut self, count: usize, local: &Buffers) {
        self.start = self.end - count;
        if count == 0 {
            self.clear(local);
        }
    }

    /// Keeps what is left of a read: `input` from `start` to `end`.
    #[inline]
    pub(super) fn keep(&mut self, input: Box<[u8]>, start: usize, end: usize, local: &Buffers) {
        let count = end - start;
        if count >= WHOLE {
            *self = Rest { bytes: Bytes::Whole(input), start, end };
            return;
        }
        if count > 0 {
            let mut bytes = local.lend_output();
            bytes.extend_from_slice(&input[start..end]);
            *self = Rest { bytes: Bytes::Copied(bytes), start: 0, end: count };
        }
        local.return_input(input);
    }

    /// Drops what is left.
    #[inline]
    pub(super) fn clear(&mut self, local: &Buffers) {
        match mem::take(self).bytes {
            Bytes::None => {}
            Bytes::Copied(bytes) => local.return_output(bytes),
            Bytes::Whole(bytes) => local.return_input(bytes),
        }
    }
}
