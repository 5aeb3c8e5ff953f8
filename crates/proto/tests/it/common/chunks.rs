//! Reproducible cuts of a stream of bytes into reads.

/// How a stream is cut.
#[derive(Clone, Debug)]
pub(crate) enum Chunks {
    /// Not at all.
    Whole,
    /// After every byte.
    Bytes,
    /// Anywhere: many short pieces, and some long ones.
    Random(Rng),
}

impl Chunks {
    /// One of each kind, and two that are random.
    pub(crate) fn all() -> [Chunks; 4] {
        [Chunks::Whole, Chunks::Bytes, Chunks::Random(Rng(1)), Chunks::Random(Rng(2))]
    }

    pub(crate) fn cut<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let size = match self {
                Chunks::Whole => bytes.len(),
                Chunks::Bytes => 1,
                Chunks::Random(rng) => rng.size().min(bytes.len()),
            };
            let (piece, rest) = bytes.split_at(size);
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}

/// Numbers that look random: splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % end as u64) as usize
    }

    /// A size from 1 to 16 KiB; each power of two is as likely as the next.
    pub(crate) fn size(&mut self) -> usize {
        let most = 1 << self.below(15);
        1 + self.below(most)
    }
}
