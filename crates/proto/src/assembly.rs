//! Fragmented messages: the rules by which frames make a message (RFC 6455, section 5.4).

use crate::header::Header;
use crate::opcode::OpCode;
use crate::utf8::Validator;
use crate::{Limits, Violation};

/// The message that is arriving: the frames that may come next, its length so far, and the check of its UTF-8.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// The opcode of the message whose fragments are arriving. None between messages.
    begun: Option<OpCode>,
    fragments: u32,
    /// The length that the frames so far announced, in bytes.
    length: u64,
    text: Validator,
    /// Whether the message is compressed.
    is_compressed: bool,
}

impl Assembly {
    /// Whether the next data frame must be a continuation.
    #[inline]
    pub(crate) fn in_message(&self) -> bool {
        self.begun.is_some()
    }

    /// A data frame begins: checks its place among the others, and counts it. Returns the opcode of its message.
    #[inline]
    pub(crate) fn begin(&mut self, header: &Header, limits: Option<&Limits>) -> Result<OpCode, Violation> {
        let opcode = match (self.begun, header.opcode) {
            (None, OpCode::Continuation) => return Err(Violation::NothingToContinue),
            (Some(begun), OpCode::Continuation) => begun,
            (Some(_), opcode) => return Err(Violation::MessageUnfinished(opcode)),
            (None, opcode) => {
                self.length = 0;
                self.fragments = 0;
                self.is_compressed = header.rsv & Header::RSV1 != 0;
                opcode
            }
        };
        self.length = self.length.saturating_add(header.length);
        self.fragments = self.fragments.saturating_add(1);
        if let Some(limits) = limits {
            if self.length > self.most(limits) {
                return Err(Violation::MessageTooLong { length: self.length, limit: limits.max_message });
            }
            if self.fragments > limits.max_fragments {
                return Err(Violation::TooManyFragments { limit: limits.max_fragments });
            }
        }
        self.begun = (!header.fin).then_some(opcode);
        Ok(opcode)
    }

    /// The limit on the payloads of all frames. Compressed bytes are not kept, and have a limit of their own when they are
    /// inflated; this one is for input that only costs time, as empty blocks do, and leaves room for data that do not get smaller.
    #[inline]
    fn most(&self, limits: &Limits) -> u64 {
        let most = limits.max_message as u64;
        if self.is_compressed { most.saturating_add(most / 8).saturating_add(1024) } else { most }
    }

    /// Whether the message that is arriving is compressed.
    #[inline]
    pub(crate) fn is_compressed(&self) -> bool {
        self.is_compressed
    }

    /// Bytes of a text message have arrived; `ascii` if they are known to be.
    #[inline]
    pub(crate) fn check_text(&mut self, bytes: &[u8], ascii: bool) -> Result<(), Violation> {
        if ascii {
            self.text.feed_ascii(bytes)?
        } else {
            self.text.feed(bytes)?
        }
        Ok(())
    }

    /// The last byte of a text message has arrived.
    #[inline]
    pub(crate) fn finish_text(&mut self) -> Result<(), Violation> {
        Ok(self.text.finish()?)
    }
}
