//! Write buffer of a connection: what waits to be written.

use std::io::{self, IoSlice};

use super::buffers::Buffers;
use super::droppable::DroppableFrames;
use crate::transport::Transport;

/// How much memory more than it needs a queue may have that is not empty.
const SPARE: usize = 4 << 10;

/// Output in the order in which it is to leave. It has memory of its own only while something is in it.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// How much of `bytes` has left already.
    sent: usize,
    /// How many bytes have ever left.
    written: u64,
    /// The system takes no more until it says so.
    blocked: bool,
    /// Whether the first byte that waits, or is put in next if none does, has left already: the transport [owes](Transport::owes) it.
    owed: bool,
    /// Nothing can leave any more: what comes is dropped.
    broken: bool,
    /// Where the frames begin and end that wait behind others, if some of them may be dropped.
    marks: Option<Box<DroppableFrames>>,
}

impl Outbox {
    /// With something in it to begin with.
    pub fn with(bytes: Vec<u8>) -> Outbox {
        Outbox { bytes, ..Outbox::default() }
    }

    /// How many bytes wait.
    #[inline]
    pub fn len(&self) -> usize {
        let waiting = self.bytes.len() - self.sent;
        match &self.marks {
            Some(marks) => waiting - marks.gap(),
            None => waiting,
        }
    }

    /// How much memory the queue has, in bytes.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives memory back that is much more than what waits needs, where that may wait for long.
    pub fn fit(&mut self, buffers: &Buffers) {
        if self.bytes.capacity() > 2 * self.bytes.len() + SPARE {
            let bytes = self.bytes.clone();
            buffers.return_output(std::mem::replace(&mut self.bytes, bytes));
        }
    }

    /// How many of the bytes that wait may be dropped.
    pub fn droppable(&self) -> usize {
        self.marks.as_ref().map_or(0, |marks| marks.droppable())
    }

    /// How many bytes have ever left.
    #[inline]
    pub fn written(&self) -> u64 {
        self.written
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether nothing can leave any more.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The system takes more again.
    #[inline]
    pub fn unblock(&mut self) {
        self.blocked = false;
    }

    /// The end of the queue, to append to.
    #[inline]
    pub fn end(&mut self, buffers: &Buffers) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = buffers.lend_output();
        }
        &mut self.bytes
    }

    /// The same, without lending memory for it: for the few bytes that the protocol may add by itself.
    #[inline]
    pub fn end_unlent(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// A frame is going to be appended that may be dropped, or not.
    #[inline]
    pub fn before_frame(&mut self, droppable: bool) {
        if droppable && self.marks.is_none() {
            self.marks = Some(Box::new(DroppableFrames::new(self.bytes.len())));
        }
        self.mark(false);
    }

    /// The bytes appended since then, or since the last frame, are that frame.
    #[inline]
    pub fn mark(&mut self, droppable: bool) {
        if let Some(marks) = &mut self.marks {
            marks.mark(self.bytes.len(), droppable);
        }
    }

    /// Drops the oldest frame that may be dropped. False if there is none.
    pub fn drop_oldest(&mut self) -> bool {
        if let Some(marks) = self.marks.as_mut().filter(|_| self.owed) {
            marks.begin(self.sent);
        }
        let dropped = self.marks.as_mut().is_some_and(|marks| marks.drop_oldest(&mut self.bytes));
        self.advance(0);
        if let Some(marks) = &mut self.marks
            && marks.gap() > self.bytes.len() / 2
        {
            // Moves less than what was dropped.
            marks.close_gap(&mut self.bytes);
        }
        dropped
    }

    /// Writes what waits, until all of it has left or the system takes no more.
    #[inline]
    pub fn write(&mut self, stream: &mut impl Transport, buffers: &Buffers) -> io::Result<()> {
        if self.broken {
            self.clear(buffers);
        }
        while !self.blocked && !self.is_empty() {
            let result = stream.write(&self.bytes[self.sent..self.end_of_run()]);
            self.owed = stream.owes();
            let count = self.count(result, buffers)?;
            self.advance(count);
        }
        if self.is_empty() {
            self.clear(buffers);
        } else if self.sent > self.bytes.len() / 2 {
            // Moves less than what has left: the cost stays in proportion, however long the queue is.
            self.bytes.drain(..self.sent);
            if let Some(marks) = &mut self.marks {
                marks.shift(self.sent);
            }
            self.sent = 0;
        }
        Ok(())
    }

    /// The length of the first contiguous piece of the waiting bytes.
    #[inline]
    fn end_of_run(&self) -> usize {
        let end = self.bytes.len();
        self.marks.as_ref().map_or(end, |marks| marks.end_of_run(end))
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        self.sent += count;
        if let Some(marks) = &mut self.marks {
            self.sent = marks.advance(self.sent);
        }
    }

    /// Writes bytes that stay where they are, and only if nothing waits. Returns how many have left: what to do about the
    /// others is up to the caller.
    #[inline]
    pub fn write_shared(
        &mut self,
        bytes: &[u8],
        stream: &mut impl Transport,
        buffers: &Buffers,
    ) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() && !self.blocked && !self.broken && self.bytes.is_empty() {
            let result = stream.write(&bytes[written..]);
            self.owed = stream.owes();
            written += self.count(result, buffers)?;
        }
        Ok(written)
    }

    /// Writes what waits, then a frame whose payload stays where it is. What the system does not take of it is copied.
    pub fn write_frame(
        &mut self,
        header: &[u8],
        payload: &[u8],
        droppable: bool,
        stream: &mut impl Transport,
        buffers: &Buffers,
    ) -> io::Result<()> {
        if self.marks.is_some() {
            // The waiting bytes are not contiguous.
            self.write(stream, buffers)?;
        }
        let mut written = 0;
        while !self.blocked && written < header.len() + payload.len() {
            let slices = [
                IoSlice::new(&self.bytes[self.sent..]),
                IoSlice::new(&header[written.min(header.len())..]),
                IoSlice::new(&payload[written.saturating_sub(header.len())..]),
            ];
            let result = stream.write_vectored(&slices[usize::from(self.is_empty())..]);
            self.owed = stream.owes();
            let count = self.count(result, buffers)?;
            let waited = count.min(self.len());
            self.advance(waited);
            written += count - waited;
        }
        if self.is_empty() {
            self.clear(buffers);
        }
        if written < header.len() + payload.len() {
            // A frame that is partly written can't be dropped any more.
            let droppable = droppable && written == 0;
            self.before_frame(droppable);
            let end = self.end(buffers);
            end.extend_from_slice(&header[written.min(header.len())..]);
            end.extend_from_slice(&payload[written.saturating_sub(header.len())..]);
            self.mark(droppable);
        }
        Ok(())
    }

    /// Counts the bytes that a write has taken. After an error no more will ever leave.
    #[inline]
    fn count(&mut self, result: io::Result<usize>, buffers: &Buffers) -> io::Result<usize> {
        match result {
            Ok(0) => {
                self.break_off(buffers);
                Err(io::ErrorKind::WriteZero.into())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = true;
                Ok(0)
            }
            Err(error) => {
                self.break_off(buffers);
                Err(error)
            }
            Ok(count) => {
                self.written += count as u64;
                Ok(count)
            }
        }
    }

    /// Lets go of what waits, and of the memory. What is broken stays so.
    pub fn let_go(&mut self) {
        *self = Outbox { broken: self.broken, ..Outbox::default() };
    }

    pub(super) fn break_off(&mut self, buffers: &Buffers) {
        self.broken = true;
        self.clear(buffers);
    }

    #[inline]
    fn clear(&mut self, buffers: &Buffers) {
        self.sent = 0;
        self.marks = None;
        self.bytes.clear();
        buffers.return_output(std::mem::take(&mut self.bytes));
    }
}
