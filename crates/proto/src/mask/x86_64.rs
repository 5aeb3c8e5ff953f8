//! Masking of long data with AVX2 or SSE2, picked at run time. This file is `unsafe`: it reads and writes
//! through pointers, and calls functions that only some processors can run.
//!
//! Both kernels go the same way. The first and the last vector of the data are masked in registers before
//! anything is written; then whole vectors between them, at aligned addresses (a payload follows its header,
//! so that it nearly never begins at one); and last the two ends are written, over bytes that have the same
//! value already where they overlap the middle. So there is no loop over single bytes, and no access outside
//! the data.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{SHORT, rotate};

/// Masks `data` in place; true if all resulting bytes are ASCII.
///
/// # Panics
///
/// If `data` has fewer than [`SHORT`] bytes.
#[inline]
pub(super) fn apply(data: &mut [u8], key: [u8; 4]) -> bool {
    let (at, len) = (data.as_mut_ptr(), data.len());
    // SAFETY: `data` is borrowed mutably: its `len` bytes may be read and written, and source and destination
    // are the same bytes.
    unsafe { mask(at, at, len, key) }
}

/// Writes `src`, masked, to `dst`.
///
/// # Panics
///
/// If the lengths differ, or are below [`SHORT`].
#[inline]
pub(super) fn copy(dst: &mut [u8], src: &[u8], key: [u8; 4]) {
    assert_eq!(dst.len(), src.len());
    // SAFETY: `dst` and `src` have the same length, one may be written and the other read, and a mutable
    // borrow does not overlap another.
    unsafe { mask(dst.as_mut_ptr(), src.as_ptr(), src.len(), key) };
}

/// Appends `src`, masked, to `out`. Its bytes are written to the spare room of `out` directly, so that they
/// go through memory once.
///
/// # Panics
///
/// If `src` has fewer than [`SHORT`] bytes.
pub(super) fn append(out: &mut Vec<u8>, src: &[u8], key: [u8; 4]) {
    out.reserve(src.len());
    let room = &mut out.spare_capacity_mut()[..src.len()];
    // SAFETY: `room` may be written, `src` may be read, both are `src.len()` bytes, and a mutable borrow does
    // not overlap another.
    unsafe { mask(room.as_mut_ptr().cast(), src.as_ptr(), src.len(), key) };
    let len = out.len() + src.len();
    // SAFETY: the capacity is at least `len`, as there was a `room`; all its bytes have been written just now.
    unsafe { out.set_len(len) };
}

/// Writes the `len` bytes at `src`, masked, to `dst`; true if all written bytes are ASCII.
///
/// # Safety
///
/// `len` bytes at `src` must be readable and `len` bytes at `dst` writable; the two must be the same bytes,
/// or not overlap.
unsafe fn mask(dst: *mut u8, src: *const u8, len: usize, key: [u8; 4]) -> bool {
    assert!(len >= SHORT);
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, `len` is not below 32, and the caller vouches for the pointers.
        unsafe { avx2(dst, src, len, key) }
    } else {
        // SAFETY: every x86-64 processor has SSE2, `len` is not below 16, and the caller vouches for the
        // pointers.
        unsafe { sse2(dst, src, len, key) }
    }
}

/// Defines a kernel: `mask` above, for one width of vector.
///
/// # Safety
///
/// Of the function defined: as for `mask`; besides, `len` must not be below the width of a vector, and the
/// processor must have the feature.
macro_rules! kernel {
    (
        $name:ident, $feature:literal, $vector:ty,
        $load:ident, $store:ident, $splat:ident, $xor:ident, $or:ident, $high_bits:ident
    ) => {
        #[target_feature(enable = $feature)]
        unsafe fn $name(dst: *mut u8, src: *const u8, len: usize, key: [u8; 4]) -> bool {
            const WIDTH: usize = size_of::<$vector>();
            debug_assert!(len >= WIDTH);

            let masked = |at: usize, key: $vector| {
                debug_assert!(at + WIDTH <= len);
                // SAFETY: every caller below keeps `at + WIDTH <= len`, and `src` is readable for `len`
                // bytes. The load needs no alignment.
                $xor(unsafe { $load(src.add(at).cast()) }, key)
            };
            let write = |at: usize, vector: $vector| {
                debug_assert!(at + WIDTH <= len);
                // SAFETY: every caller below keeps `at + WIDTH <= len`, and `dst` is writable for `len`
                // bytes. The store needs no alignment.
                unsafe { $store(dst.add(at).cast(), vector) }
            };
            let key_at = |at: usize| $splat(i32::from_ne_bytes(rotate(key, at)));

            let last = len - WIDTH;
            let front = masked(0, key_at(0));
            let end = masked(last, key_at(last));
            let mut seen = $or(front, end);

            // `at` begins below WIDTH, so that the front reaches it; the middle stops at most WIDTH - 1 bytes
            // before the end of the data, so that the end reaches back to it. No byte of the middle is read
            // after it is written, also where source and destination are the same.
            let mut at = dst.addr().wrapping_neg() % WIDTH;
            let middle_key = key_at(at);
            while at + 4 * WIDTH <= len {
                let a = masked(at, middle_key);
                let b = masked(at + WIDTH, middle_key);
                let c = masked(at + 2 * WIDTH, middle_key);
                let d = masked(at + 3 * WIDTH, middle_key);
                write(at, a);
                write(at + WIDTH, b);
                write(at + 2 * WIDTH, c);
                write(at + 3 * WIDTH, d);
                seen = $or(seen, $or($or(a, b), $or(c, d)));
                at += 4 * WIDTH;
            }
            while at + WIDTH <= len {
                let vector = masked(at, middle_key);
                write(at, vector);
                seen = $or(seen, vector);
                at += WIDTH;
            }
            write(0, front);
            write(last, end);
            $high_bits(seen) == 0
        }
    };
}

kernel!(
    avx2,
    "avx2",
    __m256i,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    _mm256_set1_epi32,
    _mm256_xor_si256,
    _mm256_or_si256,
    _mm256_movemask_epi8
);
kernel!(
    sse2,
    "sse2",
    __m128i,
    _mm_loadu_si128,
    _mm_storeu_si128,
    _mm_set1_epi32,
    _mm_xor_si128,
    _mm_or_si128,
    _mm_movemask_epi8
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::tests::agrees_with_the_portable_code;

    #[test]
    fn avx2_agrees_with_the_portable_code() {
        if !is_x86_feature_detected!("avx2") {
            return;
        }
        agrees_with_the_portable_code(32, |dst, src, key| {
            assert_eq!(dst.len(), src.len());
            // SAFETY: AVX2 was detected; the lengths are equal and not below 32; the two borrows do not
            // overlap.
            unsafe { avx2(dst.as_mut_ptr(), src.as_ptr(), src.len(), key) }
        });
        agrees_with_the_portable_code(32, |dst, src, key| {
            dst.copy_from_slice(src);
            let at = dst.as_mut_ptr();
            // SAFETY: AVX2 was detected; the length is not below 32; both pointers are to the same borrowed
            // bytes.
            unsafe { avx2(at, at, dst.len(), key) }
        });
    }

    #[test]
    fn sse2_agrees_with_the_portable_code() {
        agrees_with_the_portable_code(16, |dst, src, key| {
            assert_eq!(dst.len(), src.len());
            // SAFETY: the lengths are equal and not below 16; the two borrows do not overlap.
            unsafe { sse2(dst.as_mut_ptr(), src.as_ptr(), src.len(), key) }
        });
        agrees_with_the_portable_code(16, |dst, src, key| {
            dst.copy_from_slice(src);
            let at = dst.as_mut_ptr();
            // SAFETY: the length is not below 16; both pointers are to the same borrowed bytes.
            unsafe { sse2(at, at, dst.len(), key) }
        });
    }
}
