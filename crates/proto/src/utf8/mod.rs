//! UTF-8 validation of text while it arrives (RFC 6455, section 8.1; RFC 3629).
//!
//! Text comes in pieces that may end inside a code point. The validator keeps what it takes to go on: how
//! many bytes the code point at the end still needs, and between which bounds the next of them must be. It
//! keeps no text, so that no byte is looked at again when more bytes come; and as the bounds are exact, text
//! fails at the first byte that no valid text could have there.
//!
//! A piece is split: the rest of the code point begun before is checked against the bounds, the whole code
//! points after it in bulk with SIMD, and the code point begun at its end (found by looking back at most
//! three bytes) against the bounds again.

mod trusted;

/// Whether bytes that are all there are a valid text.
#[inline]
pub(crate) fn is_valid(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}

#[cfg(test)]
mod tests;

pub(crate) use trusted::{trusted, trusted_string};

/// Pieces shorter than this many bytes are looked through for ASCII first: a bulk check takes longer to
/// begin.
const SHORT: usize = 64;

/// The text is not UTF-8: the connection fails with close code 1007 (RFC 6455, sections 7.4.1 and 8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("text is not UTF-8 (RFC 6455, section 8.1)")]
pub struct InvalidUtf8;

/// Validates one text after the other, each in any number of pieces.
///
/// The work is proportional to the bytes fed. It fails at the first byte that proves the text invalid, also
/// inside an incomplete code point: `F4 90` fails at `90`, `C0` at once. After a failure every call fails, up
/// to and including the next [`finish`](Self::finish).
///
/// ```
/// use threadwire_proto::utf8::Validator;
///
/// let mut validator = Validator::default();
/// validator.feed(b"caf\xc3")?;
/// assert!(!validator.is_complete());
/// validator.feed(b"\xa9")?;
/// validator.finish()?;
///
/// assert!(validator.feed(b"\xed\xa0").is_err(), "a surrogate, before its last byte is there");
/// # Ok::<(), threadwire_proto::utf8::InvalidUtf8>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Validator {
    /// The number of bytes that the code point at the end still needs; 0 between code points.
    needed: u8,
    /// The bounds of the next of these bytes, both included. Without meaning between code points.
    low: u8,
    high: u8,
}

impl Validator {
    /// Text was invalid: a byte is needed, and no byte is within the bounds.
    const FAILED: Self = Self { needed: 1, low: 0xff, high: 0 };

    /// Validates the next bytes of the text. They may begin and end inside a code point.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if no valid text begins with the bytes fed so far.
    #[inline]
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), InvalidUtf8> {
        if self.needed == 0 && bytes.len() < SHORT && bytes.is_ascii() {
            return Ok(());
        }
        let checked = self.check(bytes);
        if checked.is_err() {
            *self = Self::FAILED;
        }
        checked
    }

    /// As [`feed`](Self::feed), for bytes that are known to be ASCII, as [`mask::apply_ascii`] finds on its
    /// way. It does not look at them.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if there are any bytes, and a code point was incomplete before them.
    ///
    /// [`mask::apply_ascii`]: crate::mask::apply_ascii
    ///
    /// ```
    /// use threadwire_proto::utf8::Validator;
    ///
    /// let mut validator = Validator::default();
    /// validator.feed(b"caf\xc3")?;
    /// assert!(validator.feed_ascii(b"e").is_err(), "the é was not finished");
    /// # Ok::<(), threadwire_proto::utf8::InvalidUtf8>(())
    /// ```
    #[inline]
    pub fn feed_ascii(&mut self, bytes: &[u8]) -> Result<(), InvalidUtf8> {
        debug_assert!(bytes.is_ascii());
        if self.needed == 0 { Ok(()) } else { self.feed(bytes) }
    }

    /// Ends the text, and makes the validator ready for the next.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if the text ends inside a code point, or was invalid before.
    #[inline]
    pub fn finish(&mut self) -> Result<(), InvalidUtf8> {
        let ended = std::mem::take(self);
        if ended.is_complete() { Ok(()) } else { Err(InvalidUtf8) }
    }

    /// Whether the bytes fed so far are a valid text that could end here. True before the first.
    #[inline]
    pub fn is_complete(&self) -> bool {
        self.needed == 0
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), InvalidUtf8> {
        if self.low > self.high {
            return Err(InvalidUtf8);
        }
        let rest = self.step(bytes)?;
        let (whole, begun) = split(rest);
        if simdutf8::basic::from_utf8(whole).is_err() {
            return Err(InvalidUtf8);
        }
        if let Some((lead, continuation)) = begun.split_first() {
            *self = Self::after(*lead).ok_or(InvalidUtf8)?;
            self.step(continuation)?;
        }
        Ok(())
    }

    /// Takes the bytes that the code point at the end needs, as far as they are there, and returns those
    /// after them.
    fn step<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], InvalidUtf8> {
        while self.needed > 0
            && let Some((byte, rest)) = bytes.split_first()
        {
            if !(self.low..=self.high).contains(byte) {
                return Err(InvalidUtf8);
            }
            *self = Self { needed: self.needed - 1, low: 0x80, high: 0xbf };
            bytes = rest;
        }
        Ok(bytes)
    }

    /// The bytes that a code point needs after its first byte (the syntax in RFC 3629, section 4).
    fn after(lead: u8) -> Option<Self> {
        let (needed, low, high) = match lead {
            0xc2..=0xdf => (1, 0x80, 0xbf),
            // Code points below U+0800 fit two bytes.
            0xe0 => (2, 0xa0, 0xbf),
            // U+D800 to U+DFFF are surrogates.
            0xed => (2, 0x80, 0x9f),
            0xe1..=0xef => (2, 0x80, 0xbf),
            // Code points below U+10000 fit three bytes.
            0xf0 => (3, 0x90, 0xbf),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            // There are no code points above U+10FFFF.
            0xf4 => (3, 0x80, 0x8f),
            _ => return None,
        };
        Some(Self { needed, low, high })
    }
}

/// Splits off the code point that begins at the end of `bytes` and is not complete there: its first byte, and
/// up to two bytes that may or may not continue it.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    for (back, byte) in (1..=3).zip(bytes.iter().rev()) {
        if (0x80..0xc0).contains(byte) {
            continue;
        }
        if Validator::after(*byte).is_some_and(|state| usize::from(state.needed) >= back) {
            return bytes.split_at(bytes.len() - back);
        }
        break;
    }
    (bytes, &[])
}
