//! Masking (RFC 6455, section 5.3): every payload byte a client sends is XORed with a four-byte key.
//!
//! Masking and unmasking are the same operation. The work is split by size, as each size has its own cost:
//!
//! - fewer than 64 bytes (`short`): two overlapping words in safe Rust, inlined into the caller. A small
//!   message must not pay for a choice of instructions.
//! - 64 bytes and more (`x86_64`, `aarch64`): the widest vectors of AVX2, SSE2 and NEON that this processor
//!   has, found at run time, so that a plain `cargo build --release` gets them. On other processors, a loop
//!   in safe Rust (`portable`).
//!
//! Every routine also learns, in the same pass, whether all resulting bytes are ASCII: [`apply_ascii`] hands
//! that on, and text that is ASCII needs no second pass to be known as UTF-8.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod keys;
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod portable;
mod short;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as long;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use portable as long;
#[cfg(target_arch = "x86_64")]
use x86_64 as long;

#[cfg(test)]
mod tests;

pub use keys::Keys;

/// Data of fewer bytes than this is masked inline, by [`short`].
const SHORT: usize = 64;

/// XORs `data` with `key`, in place: masks what is plain, unmasks what is masked.
///
/// Byte `i` is combined with `key[i % 4]` (RFC 6455, section 5.3). For data that begins in the middle of a
/// payload, turn the key first: see [`rotate`].
///
/// ```
/// use threadwire_proto::mask;
///
/// // The masked "Hello" of RFC 6455, section 5.7.
/// let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
/// mask::apply(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
/// assert_eq!(&payload, b"Hello");
/// ```
#[inline]
pub fn apply(data: &mut [u8], key: [u8; 4]) {
    apply_ascii(data, key);
}

/// XORs `data` with `key`, in place, and returns whether every resulting byte is ASCII (below `0x80`).
///
/// The answer costs no second pass. Empty data is ASCII.
///
/// ```
/// use threadwire_proto::mask;
///
/// let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
/// assert!(mask::apply_ascii(&mut payload, [0x37, 0xfa, 0x21, 0x3d]));
/// assert!(!mask::apply_ascii(&mut payload, [0x80, 0, 0, 0]));
/// ```
#[inline]
pub fn apply_ascii(data: &mut [u8], key: [u8; 4]) -> bool {
    if data.len() < SHORT { short::apply(data, key) } else { long::apply(data, key) }
}

/// Writes `src`, XORed with `key`, to `dst`: a copy and a mask in one pass.
///
/// # Panics
///
/// If the two slices have different lengths.
///
/// ```
/// use threadwire_proto::mask;
///
/// let mut masked = [0; 5];
/// mask::copy(&mut masked, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
/// assert_eq!(masked, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
/// ```
#[inline]
pub fn copy(dst: &mut [u8], src: &[u8], key: [u8; 4]) {
    assert_eq!(dst.len(), src.len(), "a masked copy needs a destination as long as its source");
    if src.len() < SHORT {
        short::copy(dst, src, key);
    } else {
        long::copy(dst, src, key);
    }
}

/// Appends `src`, XORed with `key`, to `out`: the way of a client's payload into its output buffer.
///
/// The bytes that `out` already holds are left alone, and `key` begins at the first byte of `src`.
///
/// ```
/// use threadwire_proto::mask;
///
/// let mut frame = vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d];
/// mask::append(&mut frame, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
/// assert_eq!(frame[6..], [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
/// ```
#[inline]
pub fn append(out: &mut Vec<u8>, src: &[u8], key: [u8; 4]) {
    if src.len() < SHORT {
        let start = out.len();
        out.resize(start + src.len(), 0);
        short::copy(&mut out[start..], src, key);
    } else {
        long::append(out, src, key);
    }
}

/// The key as it applies `offset` bytes further on: `rotate(key, n)[0]` is the byte for payload byte `n`.
///
/// For a payload that arrives in pieces: the piece that begins at payload byte `n` is unmasked with
/// `rotate(key, n)`.
///
/// ```
/// use threadwire_proto::mask;
///
/// assert_eq!(mask::rotate([1, 2, 3, 4], 0), [1, 2, 3, 4]);
/// assert_eq!(mask::rotate([1, 2, 3, 4], 5), [2, 3, 4, 1]);
/// ```
#[inline]
pub const fn rotate(key: [u8; 4], offset: usize) -> [u8; 4] {
    // In little-endian order the first byte is the lowest: a turn to the right moves later bytes forward.
    u32::from_le_bytes(key).rotate_right(8 * (offset % 4) as u32).to_le_bytes()
}
