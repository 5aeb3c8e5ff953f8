//! Detached connection, on its way to another thread.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use threadwire_proto::OwnedMessage;

use super::Connection;
use super::inbox::{Inbox, InboxListener};
use crate::Error;
use crate::connection::{Moving, Remains};
use crate::on_loop::server::ServerWorker;

/// A connection that belongs to no thread, so that it can be given to another one: see [`Connection::detach`]. Nothing is read or
/// written meanwhile; what its handles send waits. Dropped, it breaks the connection off.
pub struct Detached {
    connection: DetachedState,
    queue: VecDeque<OwnedMessage>,
}

/// The connection on its way.
enum DetachedState {
    Open(Box<Moving>),
    Ended(Box<Remains>),
}

impl Connection {
    /// Takes the connection off this thread, to be given to another one and [attached](Detached::attach) there. Its handles stay
    /// valid; what has arrived and was not received goes along. It leaves its rooms, and kept round trips begin anew.
    ///
    /// One that has ended can be given away as well; one that is closing can't:
    /// that fails with [`Error::Closed`].
    ///
    /// ```
    /// use std::thread;
    /// use threadwire::blocking;
    /// # let echo = || threadwire::Reply::with(|ws: &threadwire::Connection, m: threadwire::Message<'_>| ws.send(m));
    /// # let server = threadwire::Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let mut ws = blocking::connect(&url)?;
    /// ws.send("sent here")?;
    /// let ws = ws.detach()?;
    /// let other = thread::spawn(move || {
    ///     let mut ws = ws.attach()?;
    ///     let message = ws.recv()?;
    ///     ws.close()?;
    ///     Ok::<_, threadwire::Error>(message)
    /// });
    /// assert_eq!(other.join().unwrap()?.unwrap(), "sent here");
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn detach(self) -> Result<Detached, Error> {
        let connection = match self.ws.remains() {
            Some(remains) => DetachedState::Ended(Box::new(remains)),
            None => DetachedState::Open(Box::new(self.ws.take_off()?)),
        };
        Ok(Detached { connection, queue: self.inbox.take_all() })
    }
}

impl Detached {
    /// Puts the connection on the loop of this thread. Fails with [`Error::Io`] if the system can't watch it there; the
    /// connection is then broken off.
    pub fn attach(self) -> Result<Connection, Error> {
        self.attach_to(None)
    }

    /// The same, as a connection of this thread's worker of a server.
    pub(super) fn attach_to(self, worker: Option<&ServerWorker>) -> Result<Connection, Error> {
        let inbox = Rc::new(Inbox::with(self.queue));
        let ws = match self.connection {
            DetachedState::Ended(remains) => crate::Connection::of_remains(*remains),
            DetachedState::Open(moving) => {
                let site = worker.map(|worker| Rc::clone(worker.site()));
                crate::Connection::put_on(*moving, Box::new(InboxListener::new(Rc::clone(&inbox))), site)?
            }
        };
        if ws.has_deferred_end() {
            inbox.await_program(&ws);
        }
        if !inbox.window.is_full() {
            ws.resume_reading();
        }
        Ok(Connection::new(ws, inbox))
    }
}

impl fmt::Debug for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached").field("waiting", &self.queue.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use crate::blocking::{Server, connect};
    use crate::server::Shutdown;

    #[test]
    fn a_connection_that_comes_to_a_thread_behind_the_order_to_shut_down_is_closed() {
        let mut server = Server::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", server.local_addr().unwrap());
        let client = thread::spawn(move || {
            let mut ws = connect(&url).unwrap();
            let received = ws.recv().unwrap();
            (received, ws.closed().expect("it has ended"))
        });
        let detached = server.accept().unwrap().detach().unwrap();
        // Where the connection is going.
        let worker = server.service().begin_once();
        server.shutdown(Shutdown::default().reason("restart")).unwrap();
        let mut ws = detached.attach_to(Some(&worker)).unwrap();
        assert!(!ws.is_open());
        assert!(ws.recv().unwrap().is_none());
        let (received, closed) = client.join().unwrap();
        assert!(received.is_none() && closed.clean && closed.reason == "restart", "{closed}");
    }
}
