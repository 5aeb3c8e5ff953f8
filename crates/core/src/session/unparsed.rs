//! Unparsed input: what was read behind the message that was handed out, and not looked at yet.

use std::mem;

use super::buffers::Buffers;

/// From this many bytes on the receive buffer is kept, instead of being copied from. (It is 64 KiB: at most eight times of
/// what is kept.)
const WHOLE: usize = 8 << 10;

/// Bytes behind the message that was handed out, until the next one is asked for.
#[derive(Default)]
pub struct Unparsed {
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

impl Unparsed {
    /// Takes over what the handshake has read too much.
    pub fn with(bytes: Vec<u8>, start: usize) -> Unparsed {
        let end = bytes.len();
        Unparsed { bytes: Bytes::Copied(bytes), start, end }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes, to be worked on. Say how many are left with [`keep_last`](Unparsed::keep_last).
    #[inline]
    pub fn bytes(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Bytes::None => &mut [],
            Bytes::Copied(bytes) => &mut bytes[self.start..self.end],
            Bytes::Whole(bytes) => &mut bytes[self.start..self.end],
        }
    }

    /// All but the last `count` bytes were dealt with.
    #[inline]
    pub fn keep_last(&mut self, count: usize, buffers: &Buffers) {
        self.start = self.end - count;
        if count == 0 {
            self.clear(buffers);
        }
    }

    /// Keeps what is left of a read: `input` from `start` to `end`.
    #[inline]
    pub fn keep(&mut self, input: Box<[u8]>, start: usize, end: usize, buffers: &Buffers) {
        let count = end - start;
        if count >= WHOLE {
            *self = Unparsed { bytes: Bytes::Whole(input), start, end };
            return;
        }
        if count > 0 {
            let mut bytes = buffers.lend_output();
            bytes.extend_from_slice(&input[start..end]);
            *self = Unparsed { bytes: Bytes::Copied(bytes), start: 0, end: count };
        }
        buffers.return_input(input);
    }

    /// Drops what is left.
    #[inline]
    pub fn clear(&mut self, buffers: &Buffers) {
        match mem::take(self).bytes {
            Bytes::None => {}
            Bytes::Copied(bytes) => buffers.return_output(bytes),
            Bytes::Whole(bytes) => buffers.return_input(bytes),
        }
    }
}
