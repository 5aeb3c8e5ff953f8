//! Droppable frames in an outbox over an encrypting stream: dropped whole, wherever its pieces end.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::*;

/// A stream that takes pieces and holds back what does not fit, with the last byte not counted as long as it does: as TLS.
struct Sealing {
    piece: usize,
    room: usize,
    sealed: VecDeque<u8>,
    owes: bool,
    left: Vec<u8>,
}

impl Sealing {
    fn push(&mut self) {
        let count = self.room.min(self.sealed.len());
        self.left.extend(self.sealed.drain(..count));
        self.room -= count;
    }
}

impl Transport for Sealing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.push();
        if !self.sealed.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let skipped = usize::from(self.owes);
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).skip(skipped).collect();
        let count = bytes.len().min(self.piece);
        self.sealed.extend(&bytes[..count]);
        self.push();
        self.owes = !self.sealed.is_empty();
        match skipped + count - usize::from(self.owes) {
            0 if self.owes => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn may_have_more(&self, _: usize, _: usize) -> bool {
        false
    }

    fn owes(&self) -> bool {
        self.owes
    }
}

#[derive(Clone, Debug)]
enum Action {
    Append(usize, bool),
    Direct(usize, bool),
    Shared(Vec<usize>, bool),
    Drop,
    Write(usize),
}

fn step() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (2..9_usize, any::<bool>()).prop_map(|(length, droppable)| Action::Append(length, droppable)),
        1 => (2..20_usize, any::<bool>()).prop_map(|(length, droppable)| Action::Direct(length, droppable)),
        1 => (prop::collection::vec(2..9_usize, 1..4), any::<bool>())
            .prop_map(|(lengths, droppable)| Action::Shared(lengths, droppable)),
        2 => Just(Action::Drop),
        3 => (0..20_usize).prop_map(Action::Write),
    ]
}

proptest! {
    #[test]
    fn a_frame_that_has_begun_to_leave_is_not_dropped_wherever_a_piece_ends(
        piece in 1..14_usize,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let buffers = Buffers::current();
        let mut stream = Sealing { piece, room: 0, sealed: VecDeque::new(), owes: false, left: Vec::new() };
        let mut outbox = Outbox::default();
        let mut frames: HashMap<u8, (usize, bool)> = HashMap::new();
        let mut dropped = 0;
        for step in steps {
            // Its length, and its number over and over.
            let mut frame = |length: usize, droppable| {
                let number = frames.len() as u8;
                frames.insert(number, (length, droppable));
                [vec![length as u8], vec![number; length - 1]].concat()
            };
            let append = |outbox: &mut Outbox, bytes: &[u8], droppable| {
                outbox.before_frame(droppable);
                outbox.end(&buffers).extend_from_slice(bytes);
                outbox.mark(droppable);
            };
            match step {
                Action::Append(length, droppable) => {
                    append(&mut outbox, &frame(length, droppable), droppable);
                }
                Action::Direct(length, droppable) => {
                    let frame = frame(length, droppable);
                    outbox.write_frame(&frame[..1], &frame[1..], droppable, &mut stream, &buffers).unwrap();
                }
                Action::Shared(lengths, droppable) => {
                    let shared: Vec<_> = lengths.iter().map(|length| frame(*length, droppable)).collect();
                    let mut written = outbox.write_shared(&shared.concat(), &mut stream, &buffers).unwrap();
                    for frame in &shared {
                        let here = written.min(frame.len());
                        written -= here;
                        if here < frame.len() {
                            append(&mut outbox, &frame[here..], droppable && here == 0);
                        }
                    }
                }
                Action::Drop => dropped += usize::from(outbox.drop_oldest()),
                Action::Write(room) => {
                    stream.room += room;
                    outbox.unblock();
                    outbox.write(&mut stream, &buffers).unwrap();
                }
            }
        }
        stream.room = usize::MAX;
        outbox.unblock();
        outbox.write(&mut stream, &buffers).unwrap();
        prop_assert!(outbox.is_empty() && stream.sealed.is_empty());
        let mut bytes = &stream.left[..];
        let mut arrived = Vec::new();
        while let [length, number, ..] = bytes {
            let known = frames.get(number).map(|(length, _)| *length);
            prop_assert_eq!(known, Some(usize::from(*length)), "in {:?}", stream.left);
            let (frame, rest) = bytes.split_at(usize::from(*length));
            prop_assert!(frame[1..].iter().all(|byte| byte == number), "in {:?}", stream.left);
            arrived.push(*number);
            bytes = rest;
        }
        prop_assert!(bytes.is_empty() && arrived.is_sorted());
        prop_assert_eq!(arrived.len() + dropped, frames.len());
        prop_assert!(frames.iter().all(|(number, (_, droppable))| *droppable || arrived.contains(number)));
    }
}
