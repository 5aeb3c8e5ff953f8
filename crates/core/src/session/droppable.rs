//! Droppable frames of the write buffer: which of the bytes that wait may be dropped.
//!
//! The bytes lie in this order: what must leave (a frame that has begun to, for one), a gap of dropped frames, and the
//! frames that are marked one by one. To drop the oldest is to let the gap grow over it, so it costs nothing however much
//! waits; an older frame that must stay is moved to the front of the gap first.

use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct DroppableFrames {
    /// Where the marked frames begin.
    from: usize,
    /// How many bytes before that were dropped.
    gap: usize,
    /// Where what is marked ends.
    end: usize,
    /// The length of each frame, and whether it may be dropped.
    frames: VecDeque<(usize, bool)>,
    /// How many bytes may be dropped.
    droppable: usize,
}

impl DroppableFrames {
    /// DroppableFrames what comes from here on.
    pub(super) fn new(end: usize) -> DroppableFrames {
        DroppableFrames { from: end, gap: 0, end, frames: VecDeque::new(), droppable: 0 }
    }

    /// How many bytes may be dropped.
    pub(super) fn droppable(&self) -> usize {
        self.droppable
    }

    /// How many bytes were dropped that still lie between the others.
    pub(super) fn gap(&self) -> usize {
        self.gap
    }

    /// DroppableFrames what was appended since the last time.
    pub(super) fn mark(&mut self, end: usize, droppable: bool) {
        if end > self.end {
            self.frames.push_back((end - self.end, droppable));
            self.droppable += if droppable { end - self.end } else { 0 };
            self.end = end;
        }
    }

    /// Drops the oldest frame that may be. False if there is none.
    pub(super) fn drop_oldest(&mut self, bytes: &mut [u8]) -> bool {
        while let Some((length, droppable)) = self.pop() {
            if droppable {
                self.gap += length;
                self.from += length;
                return true;
            }
            bytes.copy_within(self.from..self.from + length, self.from - self.gap);
            self.from += length;
        }
        false
    }

    /// Takes what was dropped out of the bytes.
    pub(super) fn close_gap(&mut self, bytes: &mut Vec<u8>) {
        bytes.drain(self.from - self.gap..self.from);
        self.from -= self.gap;
        self.end -= self.gap;
        self.gap = 0;
    }

    /// The end of the bytes that can be written in one go.
    pub(super) fn end_of_run(&self, end: usize) -> usize {
        if self.gap > 0 { self.from - self.gap } else { end }
    }

    /// The bytes up to here have left. Returns from where to go on: what was dropped is left out.
    pub(super) fn advance(&mut self, mut sent: usize) -> usize {
        if self.gap > 0 && sent == self.from - self.gap {
            sent = self.from;
            self.gap = 0;
        }
        while self.gap == 0 && self.from < sent {
            // This frame is partly written.
            let Some((length, _)) = self.pop() else { break };
            self.from += length;
        }
        sent
    }

    /// The byte that waits at `sent` has left already: the frame that it begins, if it begins one, is not dropped any more.
    pub(super) fn begin(&mut self, sent: usize) {
        if self.gap == 0
            && self.from == sent
            && let Some((length, _)) = self.pop()
        {
            self.from += length;
        }
    }

    fn pop(&mut self) -> Option<(usize, bool)> {
        let (length, droppable) = self.frames.pop_front()?;
        self.droppable -= if droppable { length } else { 0 };
        Some((length, droppable))
    }

    /// The first bytes are taken away.
    pub(super) fn shift(&mut self, count: usize) {
        self.from -= count;
        self.end -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum QueueChange {
        Append(usize, bool),
        Drop,
        Write(usize),
    }

    fn step() -> impl Strategy<Value = QueueChange> {
        prop_oneof![
            (1..9usize, any::<bool>()).prop_map(|(length, droppable)| QueueChange::Append(length, droppable)),
            Just(QueueChange::Drop),
            (1..12usize).prop_map(QueueChange::Write),
        ]
    }

    proptest! {
        #[test]
        fn whole_frames_are_dropped_the_oldest_first_and_all_others_leave_in_order(
            head in 1..9usize,
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let mut bytes: Vec<u8> = vec![0; head];
            let mut marks = DroppableFrames::new(head);
            let (mut sent, mut number) = (0, 0u8);
            // Expected output: the bytes of each frame that are left, and whether the frame is droppable.
            let mut expected = VecDeque::from([(vec![0; head], false)]);
            for step in steps {
                match step {
                    QueueChange::Append(length, droppable) => {
                        number += 1;
                        bytes.extend(std::iter::repeat_n(number, length));
                        marks.mark(bytes.len(), droppable);
                        expected.push_back((vec![number; length], droppable));
                    }
                    QueueChange::Drop => {
                        let oldest = expected.iter().position(|(_, droppable)| *droppable);
                        prop_assert_eq!(marks.drop_oldest(&mut bytes), oldest.is_some());
                        oldest.map(|at| expected.remove(at));
                        sent = marks.advance(sent);
                        if marks.gap() > bytes.len() / 2 {
                            marks.close_gap(&mut bytes);
                        }
                    }
                    QueueChange::Write(most) => {
                        let run = &bytes[sent..marks.end_of_run(bytes.len())];
                        let run = &run[..most.min(run.len())];
                        prop_assert!(!run.is_empty() || expected.is_empty());
                        for byte in run {
                            let (frame, droppable) = expected.front_mut().unwrap();
                            prop_assert_eq!(frame.pop(), Some(*byte));
                            *droppable = false;
                            if frame.is_empty() {
                                expected.pop_front();
                            }
                        }
                        sent = marks.advance(sent + run.len());
                        if sent > bytes.len() / 2 {
                            bytes.drain(..sent);
                            marks.shift(sent);
                            sent = 0;
                        }
                    }
                }
                let left: usize = expected.iter().map(|(frame, _)| frame.len()).sum();
                prop_assert_eq!(bytes.len() - sent - marks.gap(), left);
                let droppable: usize =
                    expected.iter().map(|(frame, droppable)| if *droppable { frame.len() } else { 0 }).sum();
                prop_assert_eq!(marks.droppable(), droppable);
            }
        }
    }
}
