//! A message that is sent in parts.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use threadwire_core::session::parts::Kind;
use threadwire_proto::{Compress, OpCode, OwnedMessage};

use super::Handle;
use crate::{CloseCode, Error, WhenFull};

static PARTS: AtomicU64 = AtomicU64::new(1);

/// A message that is sent in parts, each a fragment (RFC 6455, section 5.4), while it is being made.
///
/// From its first part to its end the message has the connection for itself: other messages, from whatever thread, are taken
/// and wait behind it; pings, pongs and a close do not. [`finish`](Parts::finish) ends it. Dropped without that, the message
/// can't be completed any more, and the connection is closed with 1011.
///
/// It is a [`Write`](io::Write), each write a part.
///
/// ```
/// use std::io::Write;
/// use threadwire::{Connection, Message, connect};
/// # use threadwire::{Reply, Server};
/// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let ws = connect(&url, |ws: &Connection, message: Message<'_>| {
///     assert_eq!(message.as_text(), Some("1 2 3 "));
///     ws.close()
/// })?;
/// let mut numbers = ws.handle().start_text();
/// for number in 1..=3 {
///     write!(numbers, "{number} ")?;
/// }
/// numbers.finish()?;
/// assert!(ws.handle().wait_closed()?.error.is_none());
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Debug)]
pub struct Parts {
    handle: Handle,
    number: u64,
    opcode: OpCode,
    is_over: bool,
}

impl Parts {
    pub(super) fn new(handle: Handle, opcode: OpCode) -> Parts {
        Parts { handle, number: PARTS.fetch_add(1, Ordering::Relaxed), opcode, is_over: false }
    }

    /// Sends a part. The parts of a text need not end at a character; that they make UTF-8 together is up to the caller.
    ///
    /// Where there is no room ([`Config::max_buffered`](crate::Config::max_buffered)) it waits if
    /// [`Config::when_full`](crate::Config::when_full) is [`WhenFull::Wait`], and otherwise fails with [`Error::Limit`];
    /// then it may be tried again. Fails with [`Error::Closed`] if the connection is not open.
    pub fn send(&mut self, part: impl AsRef<[u8]>) -> Result<(), Error> {
        self.fragment(part.as_ref(), false)
    }

    /// Ends the message. Fails as [`send`](Parts::send) does; the message is then lost, and the connection closed with
    /// 1011.
    pub fn finish(mut self) -> Result<(), Error> {
        self.fragment(b"", true)
    }

    fn fragment(&mut self, part: &[u8], fin: bool) -> Result<(), Error> {
        self.fragment_with(part, fin, self.handle.0.config.when_full)
    }

    /// Fragments are never dropped: where there is no room for one, this waits or fails.
    fn fragment_with(&mut self, part: &[u8], fin: bool, when_full: WhenFull) -> Result<(), Error> {
        let when_full = if when_full == WhenFull::Wait { when_full } else { WhenFull::Error };
        match self.handle.connection() {
            Some(connection) => connection.send_part(self.opcode, fin, part, self.number, when_full)?,
            None => {
                self.handle.leave_frame((self.opcode, fin), part, self.number, when_full, Compress::Auto)?;
            }
        }
        self.opcode = OpCode::Continuation;
        self.is_over = fin;
        Ok(())
    }
}

impl Handle {
    /// Sends a message whose parts an iterator makes, each a fragment (RFC 6455, section 5.4), while it makes them: all text, or all
    /// binary, as the first is. From the first to the last one the message has the connection for itself, as [`Parts`] have. Of no
    /// part there is no message.
    ///
    /// Where there is no room for a part, this waits, while this thread's loop turns, unless
    /// [`Config::when_full`](crate::Config::when_full) says otherwise.
    ///
    /// An error of the iterator, or a part of another kind, ends this with that error. If a part was sent before, the message can't be
    /// completed: a peer would take what it has for the whole. So the connection is closed with 1011 then. Fails with
    /// [`Error::Closed`] if the connection is not open.
    ///
    /// ```
    /// use threadwire::{Connection, Error, Message, connect};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let ws = connect(&url, |ws: &Connection, message: Message<'_>| {
    ///     assert_eq!(message.as_text(), Some("1 2 3 "));
    ///     ws.close()
    /// })?;
    /// ws.handle().send_parts((1..=3).map(|number| Ok(format!("{number} "))))?;
    /// assert!(ws.handle().wait_closed()?.error.is_none());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn send_parts<P: Into<OwnedMessage>>(
        &self,
        parts: impl IntoIterator<Item = Result<P, Error>>,
    ) -> Result<(), Error> {
        let when_full = self.config().policy_of_waiting(None);
        self.send_each_part(parts, |send| send(when_full))
    }

    /// The same, where `pace` has each part sent, with what is to happen if there is no room for it.
    pub(crate) fn send_each_part<P: Into<OwnedMessage>>(
        &self,
        parts: impl IntoIterator<Item = Result<P, Error>>,
        mut pace: impl FnMut(&mut dyn FnMut(WhenFull) -> Result<(), Error>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (mut kind, mut begun) = (Kind::default(), None);
        for part in parts {
            let part = part?.into();
            let opcode = kind.next(&part)?;
            let begun = begun.get_or_insert_with(|| Parts::new(self.clone(), opcode));
            pace(&mut |when_full| begun.fragment_with(part.as_bytes(), false, when_full))?;
        }
        let Some(mut begun) = begun else { return Ok(()) };
        pace(&mut |when_full| begun.fragment_with(b"", true, when_full))
    }
}

impl io::Write for Parts {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.send(part).map_err(io::Error::other)?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if !self.is_over && self.opcode == OpCode::Continuation {
            // Code and reason are valid, so this fails only on a closed connection.
            let _ = self.handle.close_with(CloseCode::INTERNAL_ERROR, "a message was not finished");
        }
    }
}
