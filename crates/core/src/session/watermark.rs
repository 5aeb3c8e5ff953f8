//! Watermarks: when what waits counts as much, and when as little again.

/// A change of the watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More waits than the high watermark.
    Paused,
    /// No more waits than the low watermark.
    Resumed,
    Unchanged,
}

/// Two marks, so that it does not change with every byte: what was much stays much until it is little.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watermark {
    is_high: bool,
}

impl Watermark {
    /// So much waits now.
    #[inline]
    pub fn update(&mut self, waiting: usize, low: usize, high: usize) -> Flow {
        let is_high = waiting > high || (self.is_high && waiting > low);
        match (std::mem::replace(&mut self.is_high, is_high), is_high) {
            (false, true) => Flow::Paused,
            (true, false) => Flow::Resumed,
            _ => Flow::Unchanged,
        }
    }

    #[inline]
    pub fn is_high(self) -> bool {
        self.is_high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_much_above_the_high_mark_and_little_at_the_low_one() {
        let mut mark = Watermark::default();
        let looked = [50, 100, 101, 100, 51, 50, 51, 101, 0];
        let told: Vec<_> = looked.map(|waiting| mark.update(waiting, 50, 100)).into();
        use Flow::*;
        assert_eq!(
            told,
            [Unchanged, Unchanged, Paused, Unchanged, Unchanged, Resumed, Unchanged, Paused, Resumed]
        );
    }

    #[test]
    fn marks_that_are_the_wrong_way_round_are_one_mark() {
        let mut mark = Watermark::default();
        assert_eq!(mark.update(11, 100, 10), Flow::Paused);
        assert_eq!(mark.update(11, 100, 10), Flow::Unchanged);
        assert_eq!(mark.update(10, 100, 10), Flow::Resumed);
    }
}
