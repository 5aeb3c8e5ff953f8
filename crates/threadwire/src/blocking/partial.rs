//! Messages in parts: fragments as they arrive, for messages too long for memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use threadwire_proto::{AsMessage, CloseCode, Frame, Level};
use threadwire_worker::EventLoop;

use super::connection::look_around;
use super::window::ReceiveWindow;
use threadwire_core::session::outcome::EndOfReceiving;
use threadwire_core::session::parts::{InParts, Part};

use crate::{Client, Closed, Connection, Error, Handle, Listener};

/// A connection whose messages are received in parts, each a fragment as the peer has sent it (RFC 6455, section 5.4): for
/// messages that are longer than should be held in memory. [`Limits::max_message`](crate::Limits::max_message) does not apply,
/// [`Limits::max_frame`](crate::Limits::max_frame) does.
///
/// ```
/// use threadwire::blocking;
/// # use threadwire::frame::OpCode;
/// # let hello = |ws: &threadwire::Connection, _: threadwire::Message<'_>| {
/// #     ws.send_frame(OpCode::Text, false, b"a long ")?;
/// #     ws.send_frame(OpCode::Continuation, true, b"story")
/// # };
/// # let server = threadwire::Server::bind("127.0.0.1:0")?.serve(move |_| threadwire::Reply::with(hello))?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let mut ws = blocking::connect_in_parts(&url)?;
/// ws.send("tell me")?;
/// if let Some(mut story) = ws.recv()? {
///     while let Some(part) = story.next_part()? {
///         println!("{} bytes", part.len());
///     }
/// }
/// ws.close()?;
/// # Ok::<(), threadwire::Error>(())
/// ```
pub struct PartialReceiver {
    ws: Connection,
    fragments: Rc<Fragments>,
    end: EndOfReceiving,
    parts: InParts,
}

/// A message that is arriving: see [`PartialReceiver`]. Dropped before its end, the rest of it is skipped when the next one is
/// received.
#[derive(Debug)]
pub struct Incoming<'a> {
    connection: &'a mut PartialReceiver,
    is_text: bool,
}

#[derive(Default)]
struct Fragments {
    queue: RefCell<VecDeque<Part>>,
    window: ReceiveWindow,
}

pub(super) fn connect(client: &Client) -> Result<PartialReceiver, Error> {
    let fragments = Rc::new(Fragments::default());
    let ws = client.connect(FragmentListener(Rc::clone(&fragments)))?;
    Ok(PartialReceiver { ws, fragments, end: EndOfReceiving::default(), parts: InParts::default() })
}

impl PartialReceiver {
    /// Receives the beginning of a message; what was not taken of the one before is skipped. Ends as
    /// [`Connection::recv`](super::Connection::recv) does.
    pub fn recv(&mut self) -> Result<Option<Incoming<'_>>, Error> {
        while self.parts.is_to_skip() {
            self.next_part()?;
        }
        self.wait()?;
        let received = self.take();
        let begun = self.parts.begin(received)?;
        Ok(begun.map(|is_text| Incoming { connection: self, is_text }))
    }

    /// The next part of the message, `None` behind its last one.
    fn next_part(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if let Some(first) = self.parts.take_first() {
            return Ok(Some(first));
        }
        if !self.parts.goes_on() {
            return Ok(None);
        }
        self.wait()?;
        let received = self.take();
        self.parts.next(received).map(Some)
    }

    /// The oldest part that is there, or the end.
    fn take(&mut self) -> Result<Option<Part>, Error> {
        let part = self.fragments.queue.borrow_mut().pop_front();
        match &part {
            Some(part) => self.fragments.window.remove(&self.ws, part.bytes.len()),
            None => self.end()?,
        }
        Ok(part)
    }

    fn wait(&self) -> Result<(), Error> {
        let has_something = || !self.fragments.queue.borrow().is_empty() || self.ws.is_reported();
        EventLoop::current().wait(None, has_something)?;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        match self.ws.closed() {
            Some(closed) => self.end.tell(&closed),
            None => Ok(()),
        }
    }

    /// Sends a message: see [`Connection::send`](super::Connection::send).
    pub fn send(&mut self, message: impl AsMessage) -> Result<(), Error> {
        look_around();
        self.fragments.window.while_sending(&self.ws, None, |when_full| {
            self.ws.send_with(message, when_full)?;
            self.ws.flush();
            Ok(())
        })
    }

    /// Closes with 1000, and waits for the end: see [`Connection::close`](super::Connection::close).
    pub fn close(&mut self) -> Result<Arc<Closed>, Error> {
        self.ws.close()?;
        EventLoop::current().wait(None, || self.ws.is_reported())?;
        self.ws.closed().ok_or(Error::Stopped)
    }

    /// How the connection ended, if it has.
    pub fn closed(&self) -> Option<Arc<Closed>> {
        self.ws.closed()
    }

    /// A handle, to send and to close from other threads, also in parts.
    pub fn handle(&self) -> Handle {
        self.ws.handle()
    }
}

impl Incoming<'_> {
    /// Whether it is text. Its parts need not end at a character; that they make UTF-8 together is checked as they come.
    pub fn is_text(&self) -> bool {
        self.is_text
    }

    /// The next part, as soon as it has arrived as a whole; `None` behind the last one.
    ///
    /// Fails with [`Error::Ended`] or [`Error::Lost`] if the connection ends in the middle of the message.
    pub fn next_part(&mut self) -> Result<Option<Vec<u8>>, Error> {
        self.connection.next_part()
    }
}

/// The listener of such a connection.
struct FragmentListener(Rc<Fragments>);

impl Listener for FragmentListener {
    fn level(&self) -> Level {
        Level::Frames
    }

    fn on_frame(&mut self, ws: &Connection, frame: &Frame<'_>) -> Result<(), Error> {
        if !frame.opcode().is_control() {
            let part = Part::copied(frame);
            self.0.window.add(ws, part.bytes.len());
            self.0.queue.borrow_mut().push_back(part);
        }
        Ok(())
    }
}

impl Drop for PartialReceiver {
    fn drop(&mut self) {
        if self.ws.is_open() {
            // The code 1001 is valid, so this can't fail.
            let _ = self.ws.close_with(CloseCode::GOING_AWAY, "");
            self.ws.flush();
        }
    }
}

impl fmt::Debug for PartialReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartialReceiver").field("is_open", &self.ws.is_open()).finish_non_exhaustive()
    }
}
