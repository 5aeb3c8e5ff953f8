//! Masking keys (RFC 6455, sections 5.3 and 10.3): unpredictable, and a new one for each frame.
//!
//! A key is four bytes from the operating system's random source. A system call for each frame would cost
//! more than all the rest of sending it, so that the source is asked for a batch, and each key of the batch
//! is used once.

use std::fmt;

/// The bytes of keys that one call to the operating system brings: 4 KiB.
const BATCH: usize = 1024;

/// A supply of masking keys, drawn from the operating system's random source 4 KiB at a time.
///
/// A supply without end, made to be shared by all connections of one thread: it holds 4 KiB of heap from the
/// first key on, and nothing before. It cannot be cloned, because a clone would hand out the same keys again;
/// for the same reason it must not be used on both sides of a `fork`.
///
/// ```
/// use threadwire_proto::mask::Keys;
///
/// let mut keys = Keys::new();
/// let (first, second) = (keys.next(), keys.next());
/// # let _ = (first, second);
/// ```
pub struct Keys {
    batch: Vec<[u8; 4]>,
    /// The number of keys of the batch that have been handed out.
    used: usize,
    source: KeySource,
}

/// The source of the next batch.
enum KeySource {
    System,
    /// The batch itself, over and over.
    Fixed,
}

impl Keys {
    /// A supply that has drawn nothing yet; the first key draws the first batch.
    pub const fn new() -> Self {
        Self { batch: Vec::new(), used: 0, source: KeySource::System }
    }

    /// A supply of these keys, over and over: **for tests only**, as a peer that knows the keys to come can
    /// choose the bytes that go over the wire (RFC 6455, section 10.3).
    ///
    /// ```
    /// use threadwire_proto::mask::Keys;
    ///
    /// let mut keys = Keys::fixed([[1, 2, 3, 4], [5, 6, 7, 8]]);
    /// assert_eq!([keys.next(), keys.next(), keys.next()], [[1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 4]]);
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no key among `keys`.
    pub fn fixed(keys: impl IntoIterator<Item = [u8; 4]>) -> Self {
        let batch = Vec::from_iter(keys);
        assert!(!batch.is_empty(), "a supply of fixed keys needs at least one");
        Self { batch, used: 0, source: KeySource::Fixed }
    }

    /// A key that this supply has not handed out before.
    ///
    /// # Panics
    ///
    /// If the operating system's random source fails, as std's `HashMap` does: there is no safe way to go on
    /// without it. It does not fail on a healthy system.
    #[expect(
        clippy::should_implement_trait,
        reason = "a supply has no end: a caller should not have to unwrap"
    )]
    #[inline]
    pub fn next(&mut self) -> [u8; 4] {
        if self.used == self.batch.len() {
            self.refill(getrandom::fill);
        }
        let key = self.batch[self.used];
        self.used += 1;
        key
    }

    #[cold]
    fn refill(&mut self, draw: impl FnOnce(&mut [u8]) -> Result<(), getrandom::Error>) {
        if let KeySource::System = self.source {
            self.batch.resize(BATCH, [0; 4]);
            // If drawing panics and the panic is caught, no key of this batch may be taken for a drawn one.
            self.used = BATCH;
            if let Err(error) = draw(self.batch.as_flattened_mut()) {
                panic!("cannot draw masking keys: the operating system's random source failed: {error}");
            }
        }
        self.used = 0;
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self::new()
    }
}

/// Says how many keys are left of the batch, not which: they are secret until they are used.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("left", &(self.batch.len() - self.used)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn draws_nothing_before_the_first_key() {
        let mut keys = Keys::new();
        assert_eq!(keys.batch.capacity(), 0);
        keys.next();
        assert_eq!(keys.batch.len(), BATCH);
    }

    #[test]
    fn hands_out_each_key_of_a_batch_once_and_then_draws_another() {
        let mut keys = Keys::new();
        let first = Vec::from_iter((0..BATCH).map(|_| keys.next()));
        assert_eq!(first, keys.batch, "in order, each once");
        let second = Vec::from_iter((0..BATCH).map(|_| keys.next()));
        assert_eq!(second, keys.batch, "in order, each once");
        assert_ne!(first, second);
    }

    #[test]
    fn two_supplies_differ() {
        let (mut one, mut other) = (Keys::new(), Keys::new());
        one.next();
        other.next();
        assert_ne!(one.batch, other.batch);
    }

    #[test]
    fn a_failed_draw_panics_and_leaves_no_keys_behind() {
        let mut keys = Keys::new();
        let failed = catch_unwind(AssertUnwindSafe(|| keys.refill(|_| Err(getrandom::Error::UNSUPPORTED))));
        let message = failed.expect_err("the draw failed");
        assert!(message.downcast_ref::<String>().is_some_and(|text| text.contains("random source failed")));
        keys.next();
        assert_ne!(keys.batch, vec![[0; 4]; BATCH], "the next key comes from a new draw");
    }

    #[test]
    fn fixed_keys_repeat_in_order() {
        let mut keys = Keys::fixed([[1; 4], [2; 4]]);
        assert_eq!([keys.next(), keys.next(), keys.next(), keys.next()], [[1; 4], [2; 4], [1; 4], [2; 4]]);
    }

    #[test]
    fn debug_output_does_not_tell_the_keys_to_come() {
        let mut keys = Keys::fixed([[170; 4], [187; 4]]);
        keys.next();
        assert_eq!(format!("{keys:?}"), "Keys { left: 1, .. }");
    }
}
