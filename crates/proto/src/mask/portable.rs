//! Masking of long data in safe Rust: for processors without vector code of their own, and the measure that
//! the vector code is tested against.

use super::{SHORT, short};

/// Masks `data` in place; true if all resulting bytes are ASCII.
pub(super) fn apply(data: &mut [u8], key: [u8; 4]) -> bool {
    let key_word = u64::from(u32::from_ne_bytes(key)) * 0x0000_0001_0000_0001;
    let mut seen = 0;
    let (blocks, rest) = data.as_chunks_mut::<SHORT>();
    for block in blocks {
        for bytes in block.as_chunks_mut::<8>().0 {
            let word = u64::from_ne_bytes(*bytes) ^ key_word;
            seen |= word;
            *bytes = word.to_ne_bytes();
        }
    }
    // A block is a multiple of four bytes, so that the key begins anew at the rest.
    short::apply(rest, key) & (seen & 0x8080_8080_8080_8080 == 0)
}

/// Writes `src`, masked, to `dst` of the same length.
pub(super) fn copy(dst: &mut [u8], src: &[u8], key: [u8; 4]) {
    dst.copy_from_slice(src);
    apply(dst, key);
}

/// Appends `src`, masked, to `out`.
pub(super) fn append(out: &mut Vec<u8>, src: &[u8], key: [u8; 4]) {
    let start = out.len();
    out.extend_from_slice(src);
    apply(&mut out[start..], key);
}
