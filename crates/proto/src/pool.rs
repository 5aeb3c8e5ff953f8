//! Pooled memory of a thread, for all its connections: free buffers and compression engines.

use crate::Buffer;
use crate::deflate::Engines;

/// Memory to be used again by any connection of a thread: buffers, so that long messages do not cost an allocation and its
/// page faults each, and the engines of [compression](crate::deflate). Bounded: at most 8 buffers of at most 1 MiB each are
/// kept, and as many engines as the [budget](crate::deflate::memory_budget) allows.
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
            .filter(|&index| self.free[index].initialised() >= wanted)
            .min_by_key(|&index| self.free[index].initialised());
        fits.map(|index| self.free.swap_remove(index)).unwrap_or_default()
    }

    /// Takes a buffer back. It is dropped if it has room for less than 4 KiB or more than 1 MiB, or if 8 are kept
    /// already.
    pub fn give(&mut self, mut buffer: Buffer) {
        // Small ones are cheaper to allocate than to keep.
        if self.free.len() < Pool::MOST && (4096..=Pool::LARGEST).contains(&buffer.initialised()) {
            buffer.clear();
            self.free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!((buffer.initialised(), buffer.len()), (50_000, 0));
        assert_eq!(pool.take(200_000).initialised(), 0, "too small ones are not given out");
        for _ in 0..100 {
            let mut buffer = Buffer::default();
            buffer.append(&[0; 4096]);
            pool.give(buffer);
        }
        assert_eq!(pool.free.len(), Pool::MOST);
    }
}
