//! Masking of fewer than 64 bytes, in safe Rust.
//!
//! There is no loop over the bytes. The data is covered by one word from its front and one from its end, which may
//! overlap; both are read before either is written, so that a byte under both words gets the same value twice.

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
        4..8 => ends::<4>(data, key),
        8..16 => ends::<8>(data, key),
        16..32 => ends::<16>(data, key),
        _ => ends::<32>(data, key),
    }
}

/// Masks `data` of `N` to `2 * N` bytes as two words of `N` bytes.
#[inline(always)]
fn ends<const N: usize>(data: &mut [u8], key: [u8; 4]) -> bool {
    debug_assert!((N..=2 * N).contains(&data.len()));
    let last = data.len() - N;
    let (Some(front), Some(end)) = (data.first_chunk(), data.last_chunk()) else {
        unreachable!("the caller chose a word no longer than the data")
    };
    let front: [u8; N] = xor(front, key);
    let end: [u8; N] = xor(end, rotate(key, last));
    data[..N].copy_from_slice(&front);
    data[last..].copy_from_slice(&end);
    front.is_ascii() & end.is_ascii()
}

/// One word, masked. The compiler makes a vector operation of it.
#[inline(always)]
fn xor<const N: usize>(word: &[u8; N], key: [u8; 4]) -> [u8; N] {
    std::array::from_fn(|at| word[at] ^ key[at % 4])
}
