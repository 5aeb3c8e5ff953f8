//! Memory for payloads that arrive in more than one piece.

use std::ops::Deref;

use crate::deflate::Engines;

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
        // What is initialised already costs nothing, however far it reaches.
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

    /// Whether it has more than twice the memory that its bytes need.
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

/// What waits to be used again by any connection of a thread: buffers, so that long messages do not cost an allocation and
/// its page faults each, and the engines of [compression](crate::deflate). Bounded: at most 8 buffers of at most 1 MiB each
/// are kept, and as many engines as the [budget](crate::deflate::memory_budget) allows.
///
/// ```
/// use threadwire_proto::{Config, Message, Pool, Reader, Role};
///
/// let mut reader = Reader::new(Role::Client, &Config::default());
/// let mut pool = Pool::new();
/// let mut wire = *b"\x01\x02in\x80\x04 two"; // two fragments: they are gathered in a buffer
/// let frame = reader.next(&mut &mut wire[..], &mut pool)?.expect("the message is whole");
/// assert_eq!(frame.message(), Some(Message::Text("in two")));
/// frame.recycle(&mut pool); // another long message may have it
/// # Ok::<(), threadwire_proto::Violation>(())
/// ```
#[derive(Debug, Default)]
pub struct Pool {
    free: Vec<Buffer>,
    pub(crate) engines: Engines,
}

impl Pool {
    const MOST: usize = 8;
    const LARGEST: usize = 1 << 20;

    /// A pool with nothing in it.
    pub fn new() -> Pool {
        Pool::default()
    }

    /// An empty buffer for about `wanted` bytes: the smallest free one that has the room, or a new one.
    pub(crate) fn take(&mut self, wanted: usize) -> Buffer {
        let fits = (0..self.free.len())
            .filter(|&index| self.free[index].bytes.len() >= wanted)
            .min_by_key(|&index| self.free[index].bytes.len());
        fits.map(|index| self.free.swap_remove(index)).unwrap_or_default()
    }

    /// Takes a buffer back. It is dropped if it has room for less than 4 KiB or more than 1 MiB, or if 8 are kept
    /// already.
    pub fn give(&mut self, mut buffer: Buffer) {
        // Small ones are cheaper to allocate than to keep.
        if self.free.len() < Pool::MOST && (4096..=Pool::LARGEST).contains(&buffer.bytes.len()) {
            buffer.length = 0;
            self.free.push(buffer);
        }
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

    #[test]
    fn the_pool_gives_back_what_fits_and_keeps_little() {
        let mut pool = Pool::new();
        for size in [100_000, 50_000, 2 << 20, 10] {
            let mut buffer = Buffer::default();
            buffer.append(&vec![1; size]);
            pool.give(buffer);
        }
        assert_eq!(pool.free.len(), 2, "neither the huge one nor the tiny one");
        let buffer = pool.take(40_000);
        assert_eq!((buffer.bytes.len(), buffer.len()), (50_000, 0));
        assert_eq!(pool.take(200_000).bytes.len(), 0, "too small ones are not given out");
        for _ in 0..100 {
            let mut buffer = Buffer::default();
            buffer.append(&[0; 4096]);
            pool.give(buffer);
        }
        assert_eq!(pool.free.len(), Pool::MOST);
    }
}
