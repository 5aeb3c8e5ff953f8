//! Inbox of one receiver, under a lock: the connection's thread puts, the receiver takes.
//!
//! There is one receiver, so there is one waker: whoever asked last is woken. Nothing is called under the lock.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard};
use std::task::Waker;

use threadwire_proto::{Message, OwnedMessage};
use threadwire_worker::Lock;

use super::{Backlog, WhenBehind};
use crate::Closed;

/// What a message costs besides its payload, so that many empty ones are not free.
const OVERHEAD: usize = 64;

/// For how many messages there is room that an empty queue keeps.
const MOST_KEPT: usize = 1024;

pub(super) type Filter = Box<dyn Fn(&Message<'_>) -> bool + Send + Sync>;

pub(crate) struct Inbox {
    filter: Option<Filter>,
    backlog: Backlog,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<OwnedMessage>,
    /// What lies in it, with the overhead.
    size: usize,
    /// Whether the connection is to be read no more for now.
    is_full: bool,
    /// How many messages were dropped.
    dropped: u64,
    /// Whether nobody receives any more.
    is_gone: bool,
    end: Option<Arc<Closed>>,
    waiting: Option<Waker>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It was taken, or is not for this receiver.
    Done,
    /// It was taken, and is the last for now: the connection is to look at its receivers.
    Full,
    /// Nobody receives any more.
    Gone,
}

/// What there was for the receiver.
#[derive(Debug)]
pub(super) enum Taken {
    /// A message; `frees` if there is room again for the first time.
    Message { message: OwnedMessage, frees: bool },
    /// Nothing yet.
    Nothing,
    /// There will be nothing more.
    End(Arc<Closed>),
}

impl Inbox {
    pub(super) fn new(backlog: Backlog, filter: Option<Filter>) -> Inbox {
        Inbox { filter, backlog, state: Lock::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Offers a message. The filter is the program's: nothing may be borrowed.
    pub(crate) fn put(&self, message: Message<'_>) -> Put {
        if self.filter.as_ref().is_some_and(|is_wanted| !is_wanted(&message)) {
            return Put::Done;
        }
        let message = message.to_owned();
        let mut dropped = Vec::new();
        let mut state = self.lock();
        if state.is_gone || state.end.is_some() {
            return Put::Gone;
        }
        state.push(message);
        let mut put = Put::Done;
        if self.backlog.when_behind == WhenBehind::DropOldest {
            // The newest stays, however long it is.
            while state.queue.len() > 1 && state.is_over(&self.backlog) {
                dropped.extend(state.pop());
                state.dropped += 1;
            }
        } else if state.is_filled(&self.backlog) && !state.is_full {
            state.is_full = true;
            put = Put::Full;
        }
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waker) = waiting {
            // The code of some executor.
            threadwire_guard::contain("a waker", || waker.wake());
        }
        put
    }

    /// Takes the oldest message. If there is none, the waker is called when there is something.
    pub(super) fn take(&self, waker: Option<&Waker>) -> Taken {
        let mut state = self.lock();
        if let Some(message) = state.pop() {
            let frees = state.is_full && state.is_half_empty(&self.backlog);
            state.is_full &= !frees;
            return Taken::Message { message, frees };
        }
        if let Some(end) = &state.end {
            return Taken::End(Arc::clone(end));
        }
        let Some(waker) = waker else { return Taken::Nothing };
        let before = match &state.waiting {
            Some(known) if known.will_wake(waker) => None,
            _ => state.waiting.replace(waker.clone()),
        };
        drop(state);
        // The drop of a waker may call anything.
        drop(before);
        Taken::Nothing
    }

    /// The connection has ended.
    pub(crate) fn end(&self, closed: &Arc<Closed>) {
        let mut state = self.lock();
        state.end.get_or_insert_with(|| Arc::clone(closed));
        state.is_full = false;
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waker) = waiting {
            // The code of some executor.
            threadwire_guard::contain("a waker", || waker.wake());
        }
    }

    /// Nobody receives any more. Returns whether the connection does not know: it has not ended.
    pub(super) fn leave(&self) -> bool {
        let mut state = self.lock();
        state.is_gone = true;
        state.is_full = false;
        state.size = 0;
        let left = (std::mem::take(&mut state.queue), state.waiting.take());
        let is_news = state.end.is_none();
        drop(state);
        drop(left);
        is_news
    }

    /// Whether nobody receives any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.lock().is_gone
    }

    /// Whether the connection is to be read no more for now.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().is_full
    }

    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    pub(super) fn len(&self) -> usize {
        self.lock().queue.len()
    }

    pub(super) fn closed(&self) -> Option<Arc<Closed>> {
        self.lock().end.clone()
    }
}

impl State {
    fn push(&mut self, message: OwnedMessage) {
        self.size += message.len() + OVERHEAD;
        self.queue.push_back(message);
    }

    fn pop(&mut self) -> Option<OwnedMessage> {
        let message = self.queue.pop_front()?;
        self.size -= message.len() + OVERHEAD;
        if self.queue.is_empty() && self.queue.capacity() > MOST_KEPT {
            self.queue = VecDeque::new();
        }
        Some(message)
    }

    /// Whether there is more than there may be.
    fn is_over(&self, backlog: &Backlog) -> bool {
        self.queue.len() > backlog.messages || self.size > backlog.bytes
    }

    /// Whether there is as much as there may be.
    fn is_filled(&self, backlog: &Backlog) -> bool {
        self.queue.len() >= backlog.messages || self.size >= backlog.bytes
    }

    fn is_half_empty(&self, backlog: &Backlog) -> bool {
        self.queue.len() <= backlog.messages / 2 && self.size <= backlog.bytes / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(messages: usize, bytes: usize, when_behind: WhenBehind) -> Inbox {
        Inbox::new(Backlog { messages, bytes, when_behind }, None)
    }

    fn texts(inbox: &Inbox) -> Vec<String> {
        std::iter::from_fn(|| match inbox.take(None) {
            Taken::Message { message, .. } => Some(message.to_string()),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn drops_the_oldest_by_count_and_by_size_but_never_the_newest() {
        let few = inbox(2, usize::MAX, WhenBehind::DropOldest);
        for text in ["1", "2", "3"] {
            assert_eq!(few.put(text.into()), Put::Done);
        }
        assert_eq!((few.dropped(), texts(&few)), (1, vec!["2".to_owned(), "3".to_owned()]));

        let small = inbox(100, OVERHEAD + 8, WhenBehind::DropOldest);
        small.put("12345678".into());
        small.put("1".into());
        small.put("longer than all that may wait".into());
        assert_eq!(small.dropped(), 2);
        assert_eq!(texts(&small), ["longer than all that may wait"]);
    }

    #[test]
    fn is_full_once_and_has_room_again_when_half_of_it_is_taken() {
        let inbox = inbox(4, usize::MAX, WhenBehind::Hold);
        let puts: Vec<Put> = (0..6).map(|_| inbox.put("x".into())).collect();
        assert_eq!(puts, [Put::Done, Put::Done, Put::Done, Put::Full, Put::Done, Put::Done]);
        let frees: Vec<bool> = (0..6)
            .map(|_| match inbox.take(None) {
                Taken::Message { frees, .. } => frees,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(frees, [false, false, false, true, false, false]);
        assert!(!inbox.is_full());
    }

    #[test]
    fn takes_nothing_for_a_receiver_that_has_gone() {
        let inbox = inbox(1, 1, WhenBehind::Hold);
        assert_eq!(inbox.put("x".into()), Put::Full);
        assert!(inbox.leave(), "the connection has to be told");
        assert_eq!(inbox.put("x".into()), Put::Gone);
        assert!(!inbox.is_full() && inbox.len() == 0);
    }
}
