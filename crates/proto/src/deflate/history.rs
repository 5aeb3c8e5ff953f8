//! The sliding window of a connection: the end of earlier messages, as far as later ones may refer back.

/// The last bytes of a stream, at most as many as its window has.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Grows up to the window's size, and is a ring from then on.
    bytes: Vec<u8>,
    /// The place of the oldest byte.
    start: usize,
}

impl History {
    /// Appends a message, as far as a window of `size` bytes reaches back.
    pub(super) fn append(&mut self, said: &[u8], size: usize) {
        let said = &said[said.len().saturating_sub(size)..];
        let (grown, said) = said.split_at(said.len().min(size - self.bytes.len()));
        if !grown.is_empty() {
            let wanted = self.bytes.len() + grown.len();
            if wanted > self.bytes.capacity() {
                // Memory grows by half at most: with many connections, doubled memory is mostly unused.
                let more = (wanted + wanted / 2).min(size) - self.bytes.len();
                self.bytes.reserve_exact(more);
            }
            self.bytes.extend_from_slice(grown);
        }
        let (front, back) = said.split_at(said.len().min(self.bytes.len() - self.start));
        self.bytes[self.start..self.start + front.len()].copy_from_slice(front);
        self.bytes[..back.len()].copy_from_slice(back);
        if !said.is_empty() {
            self.start = (self.start + said.len()) % self.bytes.len();
        }
    }

    /// The two parts of the window, the older one first. Either may be empty.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        let (newer, older) = self.bytes.split_at(self.start);
        [older, newer]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets everything, and lets go of the memory.
    pub(super) fn clear(&mut self) {
        *self = History::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_end_of_what_was_said_however_that_was_cut() {
        let said: Vec<u8> = (0..5000u32).map(|number| (number * 7 % 251) as u8).collect();
        for size in [1, 7, 512, 4096, 8192] {
            for piece in [1, 3, 500, 511, 512, 513, 5000] {
                let mut history = History::default();
                let mut told = 0;
                for bytes in said.chunks(piece) {
                    history.append(bytes, size);
                    told += bytes.len();
                    let expected = &said[told.saturating_sub(size)..told];
                    assert_eq!(history.parts().concat(), expected, "{size} in pieces of {piece}");
                    assert!(history.bytes.capacity() <= size);
                }
            }
        }
    }
}
