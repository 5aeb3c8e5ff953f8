//! Sending half of a connection, for another thread.

use std::sync::Arc;

use threadwire_proto::{AsMessage, CloseCode};

use super::Connection;
use crate::{Closed, Error, Handle};

/// The writing end of a connection, for another thread than the one that reads: see [`Connection::split`].
#[derive(Clone, Debug)]
pub struct Sender(Handle);

impl Connection {
    /// A reading end, which stays on this thread, and a writing end for another one. What is sent there leaves while this thread
    /// waits in [`recv`](Connection::recv).
    ///
    /// ```
    /// use std::thread;
    /// use threadwire::blocking;
    /// # let echo = || threadwire::Reply::with(|ws: &threadwire::Connection, m: threadwire::Message<'_>| ws.send(m));
    /// # let server = threadwire::Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let (sender, mut receiver) = blocking::connect(&url)?.split();
    /// let writer = thread::spawn(move || {
    ///     for number in 0..3 {
    ///         sender.send(&format!("message {number}"))?;
    ///     }
    ///     Ok::<_, threadwire::Error>(())
    /// });
    /// for number in 0..3 {
    ///     assert_eq!(receiver.recv()?.unwrap(), format!("message {number}").as_str());
    /// }
    /// writer.join().unwrap()?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn split(self) -> (Sender, Connection) {
        (Sender(self.handle()), self)
    }
}

impl Sender {
    /// Sends a message; waits (while the loop of this thread turns) as long as more than
    /// [`Config::max_buffered`](crate::Config::max_buffered) bytes wait for the peer, unless
    /// [`Config::when_full`](crate::Config::when_full) says otherwise. Fails with [`Error::Closed`] if the
    /// connection is not open.
    pub fn send(&self, message: impl AsMessage) -> Result<(), Error> {
        self.0.send_with(message, self.0.config().policy_of_waiting(None))
    }

    /// Closes with 1000 (normal closure) and no reason, and waits until the connection has ended: see [`Connection::close`]. The
    /// thread that reads has to be waiting in some call meanwhile.
    pub fn close(&self) -> Result<Arc<Closed>, Error> {
        self.close_with(CloseCode::NORMAL, "")
    }

    /// As [`close`](Sender::close), with a code and a reason: see [`Connection::close_with`].
    pub fn close_with(&self, code: CloseCode, reason: &str) -> Result<Arc<Closed>, Error> {
        self.0.close_with(code, reason)?;
        self.0.wait_closed()
    }

    /// The handle that this is made of.
    pub fn handle(&self) -> &Handle {
        &self.0
    }
}
