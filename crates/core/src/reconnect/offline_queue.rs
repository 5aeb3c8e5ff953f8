//! Offline queue: messages that wait for the next connection.

use std::collections::VecDeque;

use threadwire_proto::{Compress, Message, OwnedMessage};

use crate::error::{Error, LimitError, LimitKind};

/// The most that may wait, whatever the limit: payloads may be empty.
const MOST: usize = 1 << 20;

/// A bounded queue of whole messages, oldest first.
#[derive(Debug)]
pub struct OfflineQueue {
    /// How many bytes may wait; none if nothing may.
    limit: Option<usize>,
    messages: VecDeque<(OwnedMessage, Compress)>,
    /// How many bytes wait.
    bytes: usize,
}

impl OfflineQueue {
    pub fn new(limit: Option<usize>) -> OfflineQueue {
        OfflineQueue { limit, messages: VecDeque::new(), bytes: 0 }
    }

    /// Whether messages may wait here at all.
    pub fn holds(&self) -> bool {
        self.limit.is_some()
    }

    /// Takes a message in.
    pub fn push(&mut self, message: Message<'_>, compress: Compress) -> Result<(), Error> {
        let limit = self.limit.ok_or(Error::Closed)?;
        if message.len() > limit - self.bytes || self.messages.len() >= MOST {
            return Err(Error::Limit(LimitError { kind: LimitKind::Held, limit }));
        }
        self.bytes += message.len();
        self.messages.push_back((message.into(), compress));
        Ok(())
    }

    /// Gives the messages to `send`, oldest first, until it takes no more. That one stays, and what is behind it.
    pub fn drain(
        &mut self,
        mut send: impl FnMut(Message<'_>, Compress) -> Result<(), Error>,
    ) -> Result<(), Error> {
        while let Some((message, compress)) = self.messages.front() {
            send(message.as_message(), *compress)?;
            self.bytes -= message.as_message().len();
            self.messages.pop_front();
        }
        Ok(())
    }

    /// The length of the oldest message in bytes.
    pub fn first(&self) -> usize {
        self.messages.front().map_or(0, |(message, _)| message.as_message().len())
    }

    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets all of it.
    pub fn clear(&mut self) -> VecDeque<(OwnedMessage, Compress)> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_whole_messages_up_to_its_limit() {
        let mut held = OfflineQueue::new(Some(6));
        held.push("four".into(), Compress::Auto).unwrap();
        assert!(matches!(
            held.push("abc".into(), Compress::Auto),
            Err(Error::Limit(LimitError { kind: LimitKind::Held, limit: 6 }))
        ));
        held.push("ab".into(), Compress::Auto).unwrap();
        held.push("".into(), Compress::Auto).unwrap();
        assert_eq!(held.bytes(), 6);
    }

    #[test]
    fn gives_them_out_in_order_and_keeps_what_is_not_taken() {
        let mut held = OfflineQueue::new(Some(100));
        for text in ["1", "22", "333"] {
            held.push(text.into(), Compress::Auto).unwrap();
        }
        let mut seen = Vec::new();
        let stopped = held.drain(|message, _| match message.len() {
            3 => Err(Error::Closed),
            _ => {
                seen.push(message.to_string());
                Ok(())
            }
        });
        assert!(stopped.is_err());
        assert_eq!((seen, held.bytes(), held.first()), (vec!["1".to_owned(), "22".to_owned()], 3, 3));
        held.drain(|_, _| Ok(())).unwrap();
        assert_eq!((held.bytes(), held.first()), (0, 0));
    }

    #[test]
    fn without_a_limit_it_takes_nothing() {
        assert!(matches!(OfflineQueue::new(None).push("".into(), Compress::Auto), Err(Error::Closed)));
    }
}
