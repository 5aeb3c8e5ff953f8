//! Receive buffers for payloads that arrive in more than one piece.

use std::ops::Deref;

/// Above this many bytes a buffer grows by what has arrived, not by what was announced: a length on the wire is a
/// claim, not memory.
const TRUST: usize = 64 << 10;

/// Bytes that have arrived, followed by room for more that is already initialised, so that a socket can read into
/// it directly. A [`Reader`](crate::Reader) makes and fills them.
#[derive(Debug, Default)]
pub struct Buffer {
    /// All of it is initialised; only the first `length` bytes count.
    bytes: Vec<u8>,
    length: usize,
}

impl Buffer {
    /// Appends bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let (inside, beyond) = bytes.split_at(bytes.len().min(self.bytes.len() - self.length));
        self.bytes[self.length..self.length + inside.len()].copy_from_slice(inside);
        self.bytes.extend_from_slice(beyond);
        self.length += bytes.len();
    }

    /// Room to read `wanted` more bytes into, or fewer: no more than doubles what is there.
    pub(crate) fn room(&mut self, wanted: usize) -> &mut [u8] {
        let most = self.length.max(TRUST);
        let end = self.length + wanted.min(most);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        // Memory that is initialised already costs nothing, however far it reaches.
        let end = self.bytes.len().min(self.length + wanted);
        &mut self.bytes[self.length..end]
    }

    /// Room to write `wanted` more bytes into, or fewer: no more than doubles what is there. With what is there it is never more
    /// than `most` bytes, nor is the memory for them.
    pub(crate) fn room_within(&mut self, wanted: usize, most: usize) -> &mut [u8] {
        let end = (self.length + wanted.min(self.length.max(TRUST))).min(most);
        if self.bytes.len() < end {
            if self.bytes.capacity() < end {
                let enough = end.max(2 * self.bytes.capacity()).min(most);
                self.bytes.reserve_exact(enough - self.bytes.len());
            }
            self.bytes.resize(end, 0);
        }
        let end = self.bytes.len().min(most);
        &mut self.bytes[self.length..end]
    }

    /// Makes sure that `wanted` more bytes can be appended without moving what is there, as far as the claim is
    /// trusted.
    pub(crate) fn reserve(&mut self, wanted: usize) {
        let most = self.length.max(TRUST);
        self.bytes.reserve((self.length + wanted.min(most)).saturating_sub(self.bytes.len()));
    }

    /// `count` bytes were read into [`room`](Buffer::room): they count now, and are returned.
    pub(crate) fn commit(&mut self, count: usize) -> &mut [u8] {
        let start = self.length;
        self.length = (start + count).min(self.bytes.len());
        &mut self.bytes[start..self.length]
    }

    /// The number of bytes that the buffer holds or can take without initialising memory.
    pub(crate) fn initialised(&self) -> usize {
        self.bytes.len()
    }

    /// How much memory the buffer has, in bytes.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Forgets the bytes, but not their memory.
    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    /// Whether the buffer has more than twice the memory that its bytes need.
    pub(crate) fn is_mostly_room(&self) -> bool {
        self.bytes.capacity() > 2 * self.length + 64
    }

    /// The bytes, as a vector.
    pub fn into_vec(mut self) -> Vec<u8> {
        self.bytes.truncate(self.length);
        self.bytes
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_inside_and_beyond_what_is_initialised() {
        let mut buffer = Buffer::default();
        buffer.room(4)[..2].copy_from_slice(b"ab");
        assert_eq!(buffer.commit(2), b"ab");
        buffer.append(b"cdefgh");
        assert_eq!(&*buffer, b"abcdefgh");
        assert_eq!(buffer.into_vec(), b"abcdefgh");
    }

    #[test]
    fn a_claim_is_not_memory() {
        let mut buffer = Buffer::default();
        assert_eq!(buffer.room(usize::MAX >> 1).len(), TRUST);
        buffer.commit(TRUST);
        buffer.append(b"x");
        assert!(buffer.room(1 << 40).len() <= 2 * TRUST);
        let mut buffer = Buffer::default();
        buffer.reserve(1 << 40);
        assert!(buffer.bytes.capacity() <= TRUST);
    }

    #[test]
    fn many_small_pieces_move_what_is_there_only_a_few_times() {
        let mut buffer = Buffer::default();
        let mut moves = 0;
        for _ in 0..16_384 {
            let before = buffer.bytes.capacity();
            buffer.reserve(64);
            buffer.append(&[0; 64]);
            moves += u32::from(buffer.bytes.capacity() != before);
        }
        assert!(moves <= 20, "{moves} times");
    }
}
