//! Session of a connection on an event loop, bound to its stream.
//!
//! Nothing here calls back into the program, so it can be borrowed for the length of a call.

use std::io;
use std::ops::{Deref, DerefMut};

use threadwire_proto::{CloseCode, OpCode, SendOptions};

use crate::Error;
use crate::connection::stream::Stream;
use threadwire_core::session::buffers::Buffers;
use threadwire_core::session::close::EndStep;
use threadwire_core::session::linger::Linger;
use threadwire_core::session::progress::Stall;
use threadwire_core::session::receive::Received;
use threadwire_core::session::{Env, Session};

pub(super) struct BoundSession {
    session: Session,
    /// None once TCP has ended.
    stream: Option<Stream>,
}

impl Deref for BoundSession {
    type Target = Session;

    #[inline]
    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for BoundSession {
    #[inline]
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl BoundSession {
    pub(super) fn new(session: Session, stream: Option<Stream>) -> BoundSession {
        BoundSession { session, stream }
    }

    /// The stream, or the error that says that it has ended.
    pub(super) fn stream(&self) -> io::Result<&Stream> {
        self.stream.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The end: lets go of everything, and of the stream.
    pub(super) fn take_stream(&mut self) -> Option<Stream> {
        self.session.let_go();
        self.stream.take()
    }

    /// Takes out all that can leave the thread. What is left has ended.
    pub(super) fn unbind(&mut self) -> Option<(Session, Stream)> {
        let stream = self.stream.take()?;
        Some((self.session.take(), stream))
    }
}

/// What moves bytes. Without a stream the session has ended, and there is nothing to be moved.
impl BoundSession {
    #[inline]
    pub(super) fn read(&mut self, input: &mut [u8]) -> Received {
        match &mut self.stream {
            Some(stream) => self.session.read(stream, input),
            None => Received::Nothing,
        }
    }

    pub(super) fn input_ended(&mut self, error: Option<io::Error>) {
        if let Some(stream) = &mut self.stream {
            self.session.input_ended(error, stream);
        }
    }

    #[inline]
    pub(super) fn send_frame(
        &mut self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        options: SendOptions,
        buffers: &Buffers,
    ) -> Result<(), Error> {
        match &mut self.stream {
            Some(stream) => self.session.send_frame(stream, opcode, fin, payload, options, buffers),
            None => Err(Error::Closed),
        }
    }

    #[inline]
    pub(super) fn write_shared(&mut self, bytes: &[u8], buffers: &Buffers) -> io::Result<usize> {
        match &mut self.stream {
            Some(stream) => self.session.write_shared(stream, bytes, buffers),
            None => Ok(0),
        }
    }

    #[inline]
    pub(super) fn write(&mut self, buffers: &Buffers) -> io::Result<()> {
        match &mut self.stream {
            Some(stream) => self.session.write(stream, buffers),
            None => Ok(()),
        }
    }

    #[inline]
    pub(super) fn writable(&mut self) {
        if let Some(stream) = &mut self.stream {
            self.session.writable(stream);
        }
    }

    pub(super) fn end_step(&mut self) -> EndStep {
        match &mut self.stream {
            Some(stream) => self.session.end_step(stream, false),
            None => EndStep::HangUp,
        }
    }

    pub(super) fn linger(&mut self, input: &mut [u8]) -> Linger {
        match &mut self.stream {
            Some(stream) => self.session.linger(stream, input),
            None => Linger::Waits,
        }
    }

    pub(super) fn close_now(&mut self, code: CloseCode, reason: &str, buffers: &Buffers) {
        if let Some(stream) = &mut self.stream {
            self.session.close_now(stream, code, reason, buffers);
        }
    }

    pub(super) fn give_up_stalled(&mut self, stall: Stall, env: Env<'_>) {
        if let Some(stream) = &mut self.stream {
            self.session.give_up_stalled(stall, stream, env);
        }
    }

    pub(super) fn give_up_silent(&mut self, silent_for: std::time::Duration, buffers: &Buffers) {
        if let Some(stream) = &mut self.stream {
            self.session.give_up_silent(silent_for, stream, buffers);
        }
    }
}
