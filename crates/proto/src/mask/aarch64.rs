//! Masking of long data with NEON, which every AArch64 processor that runs std has. This file is `unsafe`: it
//! reads and writes through pointers.
//!
//! The first and the last vector of the data are masked in registers before anything is written; then whole
//! vectors between them; and last the two ends are written, over bytes that have the same value already where
//! they overlap the middle. So there is no loop over single bytes, and no access outside the data.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::{SHORT, rotate};

/// Bytes in a vector.
const WIDTH: usize = 16;

/// Masks `data` in place; true if all resulting bytes are ASCII.
///
/// # Panics
///
/// If `data` has fewer than [`SHORT`] bytes.
pub(super) fn apply(data: &mut [u8], key: [u8; 4]) -> bool {
    assert!(data.len() >= SHORT);
    let (at, len) = (data.as_mut_ptr(), data.len());
    // SAFETY: `data` is borrowed mutably: its `len` bytes, at least WIDTH, may be read and written, and
    // source and destination are the same bytes. Every AArch64 target with std has NEON.
    unsafe { neon(at, at, len, key) }
}

/// Writes `src`, masked, to `dst`.
///
/// # Panics
///
/// If the lengths differ, or are below [`SHORT`].
pub(super) fn copy(dst: &mut [u8], src: &[u8], key: [u8; 4]) {
    assert_eq!(dst.len(), src.len());
    assert!(src.len() >= SHORT);
    // SAFETY: `dst` and `src` have the same length, at least WIDTH, one may be written and the other read,
    // and a mutable borrow does not overlap another. Every AArch64 target with std has NEON.
    unsafe { neon(dst.as_mut_ptr(), src.as_ptr(), src.len(), key) };
}

/// Appends `src`, masked, to `out`. Its bytes are written to the spare room of `out` directly, so that they
/// go through memory once.
///
/// # Panics
///
/// If `src` has fewer than [`SHORT`] bytes.
pub(super) fn append(out: &mut Vec<u8>, src: &[u8], key: [u8; 4]) {
    assert!(src.len() >= SHORT);
    out.reserve(src.len());
    let room = &mut out.spare_capacity_mut()[..src.len()];
    // SAFETY: `room` may be written, `src` may be read, both are `src.len()` bytes, at least WIDTH, and a
    // mutable borrow does not overlap another. Every AArch64 target with std has NEON.
    unsafe { neon(room.as_mut_ptr().cast(), src.as_ptr(), src.len(), key) };
    let len = out.len() + src.len();
    // SAFETY: the capacity is at least `len`, as there was a `room`; all its bytes have been written just now.
    unsafe { out.set_len(len) };
}

/// Writes the `len` bytes at `src`, masked, to `dst`; true if all written bytes are ASCII.
///
/// # Safety
///
/// `len` bytes at `src` must be readable and `len` bytes at `dst` writable; the two must be the same bytes,
/// or not overlap; `len` must not be below [`WIDTH`].
#[target_feature(enable = "neon")]
unsafe fn neon(dst: *mut u8, src: *const u8, len: usize, key: [u8; 4]) -> bool {
    debug_assert!(len >= WIDTH);

    let masked = |at: usize, key: uint8x16_t| {
        debug_assert!(at + WIDTH <= len);
        // SAFETY: every caller below keeps `at + WIDTH <= len`, and `src` is readable for `len` bytes. The
        // load needs no alignment.
        veorq_u8(unsafe { vld1q_u8(src.add(at)) }, key)
    };
    let write = |at: usize, vector: uint8x16_t| {
        debug_assert!(at + WIDTH <= len);
        // SAFETY: every caller below keeps `at + WIDTH <= len`, and `dst` is writable for `len` bytes. The
        // store needs no alignment.
        unsafe { vst1q_u8(dst.add(at), vector) }
    };
    // As bytes in memory, so that the order of bytes in a word does not matter.
    let key_at = |at: usize| vreinterpretq_u8_u32(vdupq_n_u32(u32::from_ne_bytes(rotate(key, at))));

    let last = len - WIDTH;
    let front = masked(0, key_at(0));
    let end = masked(last, key_at(last));
    let mut seen = vorrq_u8(front, end);

    // The middle begins behind the front, and stops at most WIDTH - 1 bytes before the end of the data, so
    // that the end reaches back to it. No byte of the middle is read after it is written, also where source
    // and destination are the same. WIDTH is a multiple of four: the key need not be turned.
    let mut at = WIDTH;
    let middle_key = key_at(0);
    while at + 4 * WIDTH <= len {
        let a = masked(at, middle_key);
        let b = masked(at + WIDTH, middle_key);
        let c = masked(at + 2 * WIDTH, middle_key);
        let d = masked(at + 3 * WIDTH, middle_key);
        write(at, a);
        write(at + WIDTH, b);
        write(at + 2 * WIDTH, c);
        write(at + 3 * WIDTH, d);
        seen = vorrq_u8(seen, vorrq_u8(vorrq_u8(a, b), vorrq_u8(c, d)));
        at += 4 * WIDTH;
    }
    while at + WIDTH <= len {
        let vector = masked(at, middle_key);
        write(at, vector);
        seen = vorrq_u8(seen, vector);
        at += WIDTH;
    }
    write(0, front);
    write(last, end);
    vmaxvq_u8(seen) < 0x80
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::tests::agrees_with_the_portable_code;

    #[test]
    fn neon_agrees_with_the_portable_code() {
        agrees_with_the_portable_code(WIDTH, |dst, src, key| {
            assert_eq!(dst.len(), src.len());
            // SAFETY: the lengths are equal and not below WIDTH; the two borrows do not overlap.
            unsafe { neon(dst.as_mut_ptr(), src.as_ptr(), src.len(), key) }
        });
        agrees_with_the_portable_code(WIDTH, |dst, src, key| {
            dst.copy_from_slice(src);
            let at = dst.as_mut_ptr();
            // SAFETY: the length is not below WIDTH; both pointers are to the same borrowed bytes.
            unsafe { neon(at, at, dst.len(), key) }
        });
    }
}
