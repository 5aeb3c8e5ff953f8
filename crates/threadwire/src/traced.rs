//! A stream of the loop that is traced.

use std::io::{self, IoSlice, IoSliceMut, Write};

use threadwire_core::trace::Direction;
use threadwire_core::trace::tap::Tap;
use threadwire_proto::Role;

use crate::Trace;
use crate::stream::Stream;

/// A stream that is traced.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) stream: Stream,
    tap: Tap,
}

impl Traced {
    pub(crate) fn new(stream: Stream, trace: &Trace, role: Role) -> Traced {
        Traced { stream, tap: Tap::new(trace, role) }
    }

    /// Shows what was received before the stream was traced.
    pub(crate) fn show(&mut self, early: &[u8]) {
        self.tap.watch(Direction::Received, early);
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.tap.watch(Direction::Received, &buffer[..count]);
        Ok(count)
    }

    pub(crate) fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let count = self.stream.read_vectored(buffers)?;
        let mut left = count;
        for buffer in buffers {
            let here = left.min(buffer.len());
            self.tap.watch(Direction::Received, &buffer[..here]);
            left -= here;
        }
        Ok(count)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(bytes)?;
        self.tap.watch(Direction::Sent, &bytes[..count]);
        Ok(count)
    }

    pub(crate) fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = self.stream.write_vectored(buffers)?;
        self.tap.watch_sent(buffers, count);
        Ok(count)
    }
}
