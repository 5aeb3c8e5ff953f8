//! Quoting of bytes that a peer sent, for errors.

/// The most bytes of a received value that an error quotes.
const QUOTED_BYTES: usize = 64;

/// Bytes from outside, made fit to be read by people: in quotes, escaped, and cut off where they are too
/// long.
pub(super) fn quote(bytes: &[u8]) -> String {
    match bytes.get(..QUOTED_BYTES) {
        Some(start) if bytes.len() > QUOTED_BYTES => format!("\"{}\"...", start.escape_ascii()),
        _ => format!("\"{}\"", bytes.escape_ascii()),
    }
}
