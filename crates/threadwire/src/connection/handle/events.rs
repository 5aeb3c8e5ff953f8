//! Events of a connection's life, for workers that subscribe, on any thread.
//!
//! A worker that is not the connection's own hears of it by [`Handle::subscribe`], or because the connection was given a
//! [`Forward`] for its listener. Events come to the worker's loop like all others: `listen` for them, or `wait_event`.
//!
//! ```
//! use threadwire::events::{Closed, Received};
//! use threadwire::worker::{Event, Worker, listen, wait_event};
//! use threadwire::{Connection, Message, connect};
//! # use threadwire::{Reply, Server};
//! # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
//! # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
//! # let url = format!("ws://{}", server.local_addr()?);
//!
//! // The connection lives on this thread; another one works on its messages.
//! let ws = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?;
//! let worker = Worker::spawn(|| {
//!     listen(|event: &Event<Received>| {
//!         println!("{}", event.data.message);
//!         event.data.handle.close().unwrap();
//!     });
//!     wait_event::<Closed>().map(|event| event.data.closed.code)
//! });
//! ws.subscribe_worker(&worker.remote());
//! ws.send("hello")?;
//! let code = worker.join()?.done();
//! assert_eq!(code, Some(threadwire::CloseCode::NORMAL));
//! # Ok::<(), threadwire::Error>(())
//! ```

use std::sync::Arc;

use threadwire_proto::OwnedMessage;
use threadwire_worker::{EventLoop, Remote};

use crate::{Connection, Error, Handle, Listener};

/// The connection is open.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Opened {
    /// Which connection.
    pub handle: Handle,
}

/// A message has arrived. Of connections whose listener is for [frames](crate::frame::Level::Frames), only messages of one frame.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Received {
    /// Which connection.
    pub handle: Handle,
    /// The message.
    pub message: OwnedMessage,
}

/// The connection has ended: exactly once for each worker that has subscribed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Closed {
    /// Which connection.
    pub handle: Handle,
    /// How it ended.
    pub closed: Arc<crate::Closed>,
}

/// A listener that does nothing but forward everything to a worker, as events.
///
/// ```
/// use threadwire::events::{Forward, Opened, Received};
/// use threadwire::Client;
/// use threadwire::worker::wait_event;
/// # use threadwire::{Reply, Connection, Message, Server};
/// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// Client::new(&url)?.start(Forward::to_current())?; // to this thread itself
/// let handle = wait_event::<Opened>()?.data.handle.clone();
/// handle.send("hello")?;
/// assert_eq!(wait_event::<Received>()?.data.message, "hello");
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Forward {
    worker: Remote,
}

impl Forward {
    /// Forwards to this worker.
    pub fn to(worker: &Remote) -> Forward {
        Forward { worker: worker.clone() }
    }

    /// Forwards to the worker of this thread.
    pub fn to_current() -> Forward {
        Forward::to(&EventLoop::current().remote())
    }
}

impl Listener for Forward {
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        ws.handle().subscribe_worker(&self.worker);
        Ok(())
    }
}
