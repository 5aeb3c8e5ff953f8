//! Messages in parts on tokio: fragments as they arrive, for messages too long for memory.

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;

use threadwire_core::session::parts::InParts;
use threadwire_proto::{AsMessage, CloseCode};

use super::connection::Connection;
use super::handle::Handle;
use super::split::{Receiver, Sender};
use crate::{Closed, Error};

/// A connection whose messages are received in parts, each a fragment as the peer has sent it (RFC 6455, section 5.4): for
/// messages that are longer than should be held in memory. [`Limits::max_message`](crate::Limits::max_message) does not apply,
/// [`Limits::max_frame`](crate::Limits::max_frame) does. [`connect_in_parts`](super::connect_in_parts) opens one, and
/// [`Request::upgrade_in_parts`](super::Request::upgrade_in_parts) on a server. Dropping it closes it with 1001.
///
/// Futures of a receive may be dropped at any time, and have lost nothing.
///
/// ```
/// use threadwire::frame::OpCode;
/// use threadwire::{Error, aio};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
///
/// let mut server = aio::Server::bind("127.0.0.1:0").await?;
/// let url = format!("ws://{}/upload", server.local_addr()?);
/// let uploads = tokio::spawn(async move {
///     let mut ws = server.accept().await?.upgrade_in_parts().await?;
///     let mut length = 0;
///     while let Some(mut upload) = ws.recv().await? {
///         while let Some(part) = upload.next_part().await? {
///             length += part.len(); // written to a file, say
///         }
///     }
///     Ok::<_, Error>(length)
/// });
///
/// let ws = aio::connect(&url).await?;
/// ws.send_frame(OpCode::Binary, false, &[0; 1000]).await?;
/// ws.send_frame(OpCode::Continuation, true, &[0; 500]).await?;
/// ws.close().await?;
/// assert_eq!(uploads.await.unwrap()?, 1500);
/// # Ok(())
/// # }
/// ```
pub struct PartialReceiver {
    sender: Sender,
    receiver: Receiver,
    parts: InParts,
}

/// A message that is arriving: see [`PartialReceiver`]. Dropped before its end, the rest of it is skipped when the next one is
/// received.
#[derive(Debug)]
pub struct Incoming<'a> {
    connection: &'a mut PartialReceiver,
    is_text: bool,
}

impl PartialReceiver {
    /// Of a connection that was opened for parts.
    pub(super) fn new(ws: Connection) -> PartialReceiver {
        let (sender, receiver) = ws.split();
        PartialReceiver { sender, receiver, parts: InParts::default() }
    }

    /// Receives the beginning of a message; what was not taken of the one before is skipped. Ends as
    /// [`Connection::recv`] does, and fails with [`Error::Lost`] if a message is skipped that breaks off.
    pub async fn recv(&mut self) -> Result<Option<Incoming<'_>>, Error> {
        while self.parts.is_to_skip() {
            self.next_part().await?;
        }
        let received = poll_fn(|cx| self.receiver.poll_part(cx)).await;
        let begun = self.parts.begin(received)?;
        Ok(begun.map(|is_text| Incoming { connection: self, is_text }))
    }

    async fn next_part(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if let Some(first) = self.parts.take_first() {
            return Ok(Some(first));
        }
        if !self.parts.goes_on() {
            return Ok(None);
        }
        let received = poll_fn(|cx| self.receiver.poll_part(cx)).await;
        self.parts.next(received).map(Some)
    }

    /// Sends a message: see [`Connection::send`].
    pub fn send<'a>(
        &'a self,
        message: impl AsMessage + Send + Unpin + 'a,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        self.sender.send(message)
    }

    /// The half that sends.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Closes with 1000, and waits for the end: see [`Connection::close_with`].
    pub fn close(&self) -> impl Future<Output = Result<Arc<Closed>, Error>> + Send + '_ {
        self.sender.close()
    }

    /// Closes, and waits for the end: see [`Connection::close_with`].
    pub fn close_with<'a>(
        &'a self,
        code: CloseCode,
        reason: &'a str,
    ) -> impl Future<Output = Result<Arc<Closed>, Error>> + Send + 'a {
        self.sender.close_with(code, reason)
    }

    /// How the connection ended, if it has.
    pub fn closed(&self) -> Option<Arc<Closed>> {
        self.sender.closed()
    }

    /// A handle to the connection, for other tasks and threads.
    pub fn handle(&self) -> Handle {
        self.sender.handle()
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
    pub async fn next_part(&mut self) -> Result<Option<Vec<u8>>, Error> {
        self.connection.next_part().await
    }
}

impl fmt::Debug for PartialReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.receiver.core.describe(f, "PartialReceiver")
    }
}
