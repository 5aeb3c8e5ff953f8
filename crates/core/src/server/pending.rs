//! Pending handshakes of a server: sockets that are no connections, or not yet. They count, and where there are too many, the oldest is
//! dropped.
//!
//! A socket is in the list from its being accepted until it is a connection or is closed: while its request is read, waits for the program,
//! or is answered otherwise, and until a peer that was answered has ended. What an entry is, the face decides that can drop one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::admission::{Gate, UnderWay};

#[derive(Debug)]
pub struct PendingHandshakes<T> {
    gate: Arc<Gate>,
    begun: u64,
    /// By number, so in the order in which they were accepted.
    entries: BTreeMap<u64, (T, UnderWay)>,
}

impl<T> PendingHandshakes<T> {
    pub fn new(gate: Arc<Gate>) -> PendingHandshakes<T> {
        PendingHandshakes { gate, begun: 0, entries: BTreeMap::new() }
    }

    /// One more was accepted. Returns its number, and where the server has too many now, the oldest of this list that can make room.
    pub fn enter<R>(&mut self, entry: T, take: impl FnMut(&mut T) -> Option<R>) -> (u64, Option<R>) {
        let counted = self.gate.begin_handshake();
        let oldest = if self.gate.has_too_many_handshakes() { self.oldest(take) } else { None };
        self.begun += 1;
        self.entries.insert(self.begun, (entry, counted));
        (self.begun, oldest)
    }

    /// The handshake of that number is over: it counts no more.
    pub fn leave(&mut self, number: u64) -> Option<T> {
        self.entries.remove(&number).map(|(entry, _)| entry)
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.entries.get_mut(&number).map(|(entry, _)| entry)
    }

    /// The oldest that `take` finds something to drop in. It counts until it [leaves](PendingHandshakes::leave).
    pub fn oldest<R>(&mut self, take: impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        self.entries.values_mut().map(|(entry, _)| entry).find_map(take)
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.values().map(|(entry, _)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Admission;

    fn take(entry: &mut Option<&'static str>) -> Option<&'static str> {
        entry.take()
    }

    #[test]
    fn past_the_limit_the_oldest_makes_room_and_counts_until_it_has_left() {
        let gate = Gate::new(Admission { max_handshakes: 2, ..Admission::default() });
        let mut pending = PendingHandshakes::new(Arc::clone(&gate));
        let (first, none) = pending.enter(Some("first"), take);
        assert_eq!(none, None);
        let (second, none) = pending.enter(Some("second"), take);
        assert_eq!(none, None);
        let (third, oldest) = pending.enter(Some("third"), take);
        assert_eq!(oldest, Some("first"));
        // The first has not gone yet, and is not dropped twice.
        let (_, oldest) = pending.enter(Some("fourth"), take);
        assert_eq!(oldest, Some("second"));
        assert!(gate.has_too_many_handshakes());
        for number in [first, second] {
            assert_eq!(pending.leave(number), Some(None));
            assert_eq!(pending.leave(number), None);
        }
        assert!(!gate.has_too_many_handshakes());
        assert_eq!(pending.get_mut(third), Some(&mut Some("third")));
        assert_eq!(pending.iter().flatten().copied().collect::<Vec<_>>(), ["third", "fourth"]);
        drop(pending);
        assert!(!gate.has_too_many_handshakes());
    }

    #[test]
    fn the_limit_is_that_of_the_server_and_room_is_made_by_the_list_that_grows() {
        let gate = Gate::new(Admission { max_handshakes: 0, ..Admission::default() });
        let (mut one, mut other) =
            (PendingHandshakes::new(Arc::clone(&gate)), PendingHandshakes::new(Arc::clone(&gate)));
        assert_eq!(one.enter(Some("one"), take).1, None, "0 counts as 1");
        assert_eq!(other.enter(Some("other"), take).1, None, "the new one itself is not dropped");
        assert_eq!(one.oldest(take), Some("one"));
        assert_eq!(one.oldest(take), None);
    }
}
