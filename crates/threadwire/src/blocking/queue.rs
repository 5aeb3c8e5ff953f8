//! Message queue in pooled memory.
//!
//! Short ones lie one behind the other in a piece of memory that connections of the thread lend each other, and get memory of
//! their own only when they are taken out: a program that is done with one before it takes the next then gets the same piece of
//! memory again and again. A queue that is empty owns none at all.

use std::cell::RefCell;
use std::collections::VecDeque;

use threadwire_proto::{Message, OwnedMessage};

/// Longer messages than this are not copied twice.
const LONGEST: usize = 4 << 10;

/// How much of what was taken out already may lie in front of the others.
const MOST_GONE: usize = 64 << 10;

/// The most pieces of memory that a thread keeps, and the largest of them in bytes.
const KEPT: usize = 128;
const LARGEST_KEPT: usize = 32 << 10;

#[allow(clippy::vec_box, reason = "they come and go as they are, by a pointer")]
type Spare = Vec<Box<Store>>;

thread_local! {
    static SPARE: RefCell<Spare> = RefCell::default();
}

/// Messages that wait to be taken.
#[derive(Default)]
pub(super) struct Queue(Option<Box<Store>>);

#[derive(Default)]
struct Store {
    entries: VecDeque<Entry>,
    text: String,
    bytes: Vec<u8>,
    /// Ends of the parts that were taken out.
    text_gone: usize,
    bytes_gone: usize,
}

enum Entry {
    /// So many bytes of the text.
    Text(usize),
    /// So many of the bytes.
    Binary(usize),
    Own(OwnedMessage),
}

impl Queue {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether it is the only one.
    #[inline]
    pub(super) fn push(&mut self, message: Message<'_>) -> bool {
        let store = self.0.get_or_insert_with(Store::lend);
        store.push(message);
        store.entries.len() == 1
    }

    pub(super) fn push_own(&mut self, message: OwnedMessage) {
        self.0.get_or_insert_with(Store::lend).entries.push_back(Entry::Own(message));
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<OwnedMessage> {
        let store = self.0.as_mut()?;
        let message = store.pop();
        if store.entries.is_empty()
            && let Some(store) = self.0.take()
        {
            store.give_back();
        }
        message
    }
}

impl Store {
    #[inline]
    fn lend() -> Box<Store> {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
        spare.ok().flatten().unwrap_or_default()
    }

    #[inline]
    fn give_back(mut self: Box<Store>) {
        let entries = self.entries.capacity() * size_of::<Entry>();
        if self.text.capacity() + self.bytes.capacity() + entries > LARGEST_KEPT {
            return;
        }
        self.text.clear();
        self.bytes.clear();
        (self.text_gone, self.bytes_gone) = (0, 0);
        // At the end of the thread the spare memory is gone.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT {
                spare.push(self);
            }
        });
    }

    #[inline]
    fn push(&mut self, message: Message<'_>) {
        let entry = match message {
            message if message.len() > LONGEST => Entry::Own(message.to_owned()),
            Message::Text(text) => {
                self.text.push_str(text);
                Entry::Text(text.len())
            }
            Message::Binary(bytes) => {
                self.bytes.extend_from_slice(bytes);
                Entry::Binary(bytes.len())
            }
        };
        self.entries.push_back(entry);
    }

    #[inline]
    fn pop(&mut self) -> Option<OwnedMessage> {
        Some(match self.entries.pop_front()? {
            Entry::Text(length) => {
                let text = self.text[self.text_gone..][..length].to_owned();
                self.text_gone += length;
                if self.text_gone > MOST_GONE && self.text_gone > self.text.len() / 2 {
                    self.text.drain(..self.text_gone);
                    self.text_gone = 0;
                }
                OwnedMessage::Text(text)
            }
            Entry::Binary(length) => {
                let bytes = self.bytes[self.bytes_gone..][..length].to_owned();
                self.bytes_gone += length;
                if self.bytes_gone > MOST_GONE && self.bytes_gone > self.bytes.len() / 2 {
                    self.bytes.drain(..self.bytes_gone);
                    self.bytes_gone = 0;
                }
                OwnedMessage::Binary(bytes)
            }
            Entry::Own(message) => message,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The n-th message: short and long, text and bytes, empty ones too.
    fn message(number: usize) -> OwnedMessage {
        let length = [0, 1, 20, LONGEST, LONGEST + 1, 3000][number % 6] + number % 7;
        if number % 5 < 3 {
            OwnedMessage::Text("é".repeat(length / 2) + &number.to_string())
        } else {
            OwnedMessage::Binary(vec![number as u8; length])
        }
    }

    #[test]
    fn gives_back_what_was_put_in_whatever_the_rhythm() {
        for ahead in [1, 2, 50, 1000] {
            let (mut queue, mut taken) = (Queue::default(), 0);
            for number in 0..2000 {
                let expected = number == taken;
                assert_eq!(queue.push(message(number).as_message()), expected);
                if number + 1 - taken == ahead {
                    assert_eq!(queue.pop(), Some(message(taken)));
                    taken += 1;
                }
            }
            while let Some(next) = queue.pop() {
                assert_eq!(next, message(taken));
                taken += 1;
            }
            assert!(taken == 2000 && queue.is_empty());
        }
    }

    #[test]
    fn what_is_gone_does_not_pile_up() {
        let mut queue = Queue::default();
        for number in 0..10_000 {
            queue.push(Message::Text("some text"));
            queue.push(Message::Binary(&[7; 1000]));
            if number > 0 {
                queue.pop();
                queue.pop();
            }
            let store = queue.0.as_ref().unwrap();
            assert!(store.text.len() + store.bytes.len() < 4 * MOST_GONE);
        }
    }

    #[test]
    fn an_empty_queue_owns_nothing_and_a_thread_keeps_little() {
        let mut queues: Vec<Queue> = (0..2 * KEPT).map(|_| Queue::default()).collect();
        for queue in &mut queues {
            queue.push(Message::Text("hello"));
        }
        for queue in &mut queues {
            queue.pop();
            assert!(queue.0.is_none());
        }
        SPARE.with_borrow(|spare| assert_eq!(spare.len(), KEPT));
        let mut large = Queue::default();
        for _ in 0..200 {
            large.push(Message::Binary(&[1; 4000]));
        }
        while large.pop().is_some() {}
        let largest = |spare: &Spare| spare.iter().map(|store| store.bytes.capacity()).max();
        assert!(SPARE.with_borrow(largest) <= Some(LARGEST_KEPT));
        let mut many = Queue::default();
        for _ in 0..100_000 {
            many.push(Message::Text(""));
        }
        while many.pop().is_some() {}
        let most = |spare: &Spare| spare.iter().map(|store| store.entries.capacity()).max();
        assert!(SPARE.with_borrow(most) <= Some(LARGEST_KEPT / size_of::<Entry>()));
    }
}
