//! Bytes that were validated already, as text. This file is `unsafe`: it makes a `str` without a check.
#![allow(unsafe_code)]

/// The text in `bytes`, which must have been validated: a message is validated while it arrives, and not
/// again when it is handed out.
///
/// The invariant that every caller keeps: since the last byte of `bytes` was written, all of them, from the
/// first to the last and nothing between, either passed one [`Validator`](super::Validator) up to a
/// successful `finish`, or are ASCII according to [`apply_ascii`](crate::mask::apply_ascii).
///
/// # Panics
///
/// In debug builds, if the bytes are not UTF-8.
#[inline]
pub(crate) fn trusted(bytes: &[u8]) -> &str {
    debug_assert!(std::str::from_utf8(bytes).is_ok(), "bytes were trusted to be UTF-8, and are not");
    // SAFETY: the bytes are UTF-8 by the invariant above: a validator's `finish` succeeds only for UTF-8, and
    // ASCII is a part of it.
    unsafe { std::str::from_utf8_unchecked(bytes) }
}

/// As [`trusted`], for a vector, which becomes the text's own.
///
/// # Panics
///
/// In debug builds, if the bytes are not UTF-8.
#[inline]
pub(crate) fn trusted_string(bytes: Vec<u8>) -> String {
    debug_assert!(std::str::from_utf8(&bytes).is_ok(), "bytes were trusted to be UTF-8, and are not");
    // SAFETY: as above.
    unsafe { String::from_utf8_unchecked(bytes) }
}
