//! Masking of fewer than 64 bytes, in safe Rust.
//!
//! There is no loop over the bytes. The data is covered by one word from its front and one from its end,
//! which may overlap; both are read before either is written, so that a byte under both words gets the same
//! value twice.

use super::{SHORT, rotate};

/// Masks `data` in place; true if all resulting bytes are ASCII.
#[inline]
pub(super) fn apply(data: &mut [u8], key: [u8; 4]) -> bool {
    debug_assert!(data.len() < SHORT);
    match data.len() {
        0..4 => {
            let mut seen = 0;
            for (byte, key) in data.iter_mut().zip(key) {
                *byte ^= key;
                seen |= *byte;
            }
            seen.is_ascii()
        }
        4..8 => Ends::<4>::masked(data, key).write(data),
        8..16 => Ends::<8>::masked(data, key).write(data),
        16..32 => Ends::<16>::masked(data, key).write(data),
        _ => Ends::<32>::masked(data, key).write(data),
    }
}

/// Writes `src`, masked, to `dst` of the same length. To copy first and mask then would be slower: the
/// processor has to wait for bytes that it reads in other words than it wrote them in.
#[inline]
pub(super) fn copy(dst: &mut [u8], src: &[u8], key: [u8; 4]) {
    debug_assert!(src.len() < SHORT && src.len() == dst.len());
    match src.len() {
        0..4 => {
            for ((to, from), key) in dst.iter_mut().zip(src).zip(key) {
                *to = from ^ key;
            }
        }
        4..8 => _ = Ends::<4>::masked(src, key).write(dst),
        8..16 => _ = Ends::<8>::masked(src, key).write(dst),
        16..32 => _ = Ends::<16>::masked(src, key).write(dst),
        _ => _ = Ends::<32>::masked(src, key).write(dst),
    }
}

/// The words of `N` bytes at the front and at the end of data of `N` to `2 * N` bytes, masked.
struct Ends<const N: usize> {
    front: [u8; N],
    end: [u8; N],
    /// The OR of both words, in parts of four bytes.
    seen: u32,
}

impl<const N: usize> Ends<N> {
    #[inline(always)]
    fn masked(data: &[u8], key: [u8; 4]) -> Self {
        debug_assert!((N..=2 * N).contains(&data.len()));
        let (Some(&(mut front)), Some(&(mut end))) = (data.first_chunk(), data.last_chunk()) else {
            unreachable!("the caller chose a word no longer than the data")
        };
        let seen = xor(&mut front, key) | xor(&mut end, rotate(key, data.len() - N));
        Self { front, end, seen }
    }

    /// Writes the words to data of the length they were read from; true if they are ASCII.
    #[inline(always)]
    fn write(self, data: &mut [u8]) -> bool {
        let last = data.len() - N;
        data[..N].copy_from_slice(&self.front);
        data[last..].copy_from_slice(&self.end);
        self.seen & 0x8080_8080 == 0
    }
}

/// Masks one word and returns the OR of its parts. The compiler makes a vector operation of the loop.
#[inline(always)]
fn xor<const N: usize>(word: &mut [u8; N], key: [u8; 4]) -> u32 {
    let key = u32::from_ne_bytes(key);
    let mut seen = 0;
    for bytes in word.as_chunks_mut::<4>().0 {
        let plain = u32::from_ne_bytes(*bytes) ^ key;
        seen |= plain;
        *bytes = plain.to_ne_bytes();
    }
    seen
}
