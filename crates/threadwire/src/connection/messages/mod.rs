//! Several that receive on one connection: each has a queue, which the connection's one reader fills beside its listener.

pub(crate) mod inbox;

pub use crate::connection::handle::Parts;

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
#[cfg(feature = "aio")]
use std::task::ready;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use threadwire_proto::{Message, OwnedMessage};
use threadwire_worker::EventLoop;

use threadwire_core::session::outcome::EndOfReceiving;

use crate::connection::handle::waker_of_this_thread;
use crate::error::TimeoutKind;
use crate::{Closed, Error, Handle};
use inbox::{Filter, Inbox, Taken};

/// How far a receiver of [`Messages`] may be behind, and what happens then. There is always a bound.
///
/// What a message costs is its payload and 64 bytes.
///
/// ```
/// use threadwire::messages::{Backlog, WhenBehind};
///
/// // Prices: who is slow gets the newest 16.
/// let newest = Backlog::default().messages(16).when_behind(WhenBehind::DropOldest);
/// assert_eq!((newest.bytes, Backlog::default().messages), (1 << 20, usize::MAX));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// How many messages may wait. As many as there are bytes for, by default. 0 counts as 1.
    pub messages: usize,
    /// How many bytes may wait. 1 MiB by default. One message is taken however long it is.
    pub bytes: usize,
    /// What happens to more than that. By default nothing is lost: [`WhenBehind::Hold`].
    pub when_behind: WhenBehind,
}

threadwire_proto::setters! {
    Backlog { messages: usize, bytes: usize, when_behind: WhenBehind }
}

impl Default for Backlog {
    fn default() -> Backlog {
        Backlog { messages: usize::MAX, bytes: 1 << 20, when_behind: WhenBehind::Hold }
    }
}

/// What happens when a receiver of [`Messages`] is as far behind as it [may](Backlog) be.
///
/// ```
/// use threadwire::messages::{Backlog, Messages, WhenBehind};
/// use threadwire::Handle;
///
/// fn newest(feed: &Handle) -> Messages {
///     feed.messages(Backlog::default().messages(1).when_behind(WhenBehind::DropOldest))
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenBehind {
    /// The connection is read no more until half of it was received: for nobody, neither for its listener nor for other
    /// receivers. The peer can go on to send only as far as the system's buffers allow, and its pings and its close frame are
    /// not seen meanwhile, as with [`pause_reading`](crate::Connection::pause_reading). What was read already (64 KiB at most)
    /// is still taken. Nothing is lost, so everybody who has [`Messages`] has to receive or to drop them.
    #[default]
    Hold,
    /// The oldest messages of this receiver are dropped, and [counted](Messages::dropped). Nobody else notices.
    DropOldest,
}

/// The messages of a connection, for one more receiver: on whatever thread, in whatever task. Made by [`Handle::messages`], any
/// number of them for each connection.
///
/// The connection goes on as it is: it lives on its thread, and its [`Listener`](crate::Listener) is called as ever. Each message
/// is put into the queue of each of its receivers first. So a callback, a thread that blocks and a task that awaits can share one
/// connection. What is not there yet when the receiver is made is received, in order; what had arrived before is not.
///
/// | to wait | there is |
/// | --- | --- |
/// | on a thread, while its loop turns | [`recv`](Messages::recv), [`recv_timeout`](Messages::recv_timeout), [`try_recv`](Messages::try_recv), [`iter`](Messages::iter) |
/// | in a task of any executor | [`recv_async`](Messages::recv_async), or as a `Stream` (feature `aio`) |
///
/// Of connections whose listener is for [frames](crate::frame::Level::Frames), only messages of one frame are received. While a callback
/// of the connection's waits, nothing more is read, so it can't wait for what its own connection would bring.
///
/// ```
/// use std::thread;
/// use threadwire::messages::Backlog;
/// use threadwire::{Connection, Message, connect};
/// # use threadwire::{Reply, Server};
/// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let ws = connect(&url, |_ws: &Connection, message: Message<'_>| {
///     println!("the listener: {message}");
///     Ok(())
/// })?;
/// let handle = ws.handle();
/// let mut messages = handle.messages(Backlog::default());
/// let other = thread::spawn(move || {
///     handle.send("hello")?;
///     let message = messages.recv()?;
///     handle.close()?;
///     Ok::<_, threadwire::Error>(message)
/// });
/// ws.wait_closed()?;
/// assert_eq!(other.join().unwrap()?.unwrap(), "hello");
/// # Ok::<(), threadwire::Error>(())
/// ```
pub struct Messages {
    inbox: Arc<Inbox>,
    handle: Handle,
    end: EndOfReceiving,
}

/// Receiving.
impl Messages {
    /// Receives a message; this thread's loop turns while none is there. `None` after a normal close by either side (1000, 1001,
    /// or without a code), and [`Error::Ended`] once after any other end; then `None` too. What arrived before the end is
    /// received before it.
    ///
    /// Fails with [`Error::Stopped`] if this thread's worker is stopped; and at once in a callback of the connection itself, where nothing
    /// is there, as nothing more is read before that returns. In a task, where waiting would hold its thread, there is
    /// [`recv_async`](Messages::recv_async).
    pub fn recv(&mut self) -> Result<Option<OwnedMessage>, Error> {
        self.recv_until(None)
    }

    /// As [`recv`](Messages::recv), but fails with [`TimeoutKind::Receive`] if no message comes within `timeout`: see
    /// [`Error::is_timeout`]. Nothing is lost then.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<OwnedMessage>, Error> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// As [`recv`](Messages::recv), but only takes what is there, and fails with [`TimeoutKind::Receive`] if that is nothing. The
    /// loop of this thread is given a turn then.
    ///
    /// ```
    /// use threadwire::messages::Backlog;
    /// use threadwire::{Connection, Message, connect};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let ws = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?;
    /// let mut messages = ws.handle().messages(Backlog::default());
    /// assert!(messages.try_recv().unwrap_err().is_timeout());
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn try_recv(&mut self) -> Result<Option<OwnedMessage>, Error> {
        if let Some(received) = self.look(None) {
            return received;
        }
        EventLoop::current().update()?;
        self.look(None).unwrap_or(Err(Error::Timeout(TimeoutKind::Receive)))
    }

    fn recv_until(&mut self, until: Option<Instant>) -> Result<Option<OwnedMessage>, Error> {
        if self.is_empty() && self.handle.is_in_own_callback() {
            return match self.look(None) {
                Some(received) => received,
                None => {
                    Err(Error::other("messages can't be waited for in a callback of their own connection"))
                }
            };
        }
        let waker = waker_of_this_thread();
        let mut received = None;
        EventLoop::current().wait(until, || {
            received = self.look(Some(&waker));
            received.is_some()
        })?;
        received.unwrap_or(Err(Error::Timeout(TimeoutKind::Receive)))
    }

    /// As [`recv`](Messages::recv), in a task: of tokio, of any other executor, or under
    /// [`block_on`](crate::worker::block_on). Dropped before it is ready, it has lost nothing, so that it can be used in
    /// `select!` and under a timeout.
    ///
    /// ```
    /// use threadwire::worker::block_on;
    /// use threadwire::messages::Backlog;
    /// use threadwire::{Connection, Message, connect};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let handle = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?.handle();
    /// let mut messages = handle.messages(Backlog::default());
    /// let answer = block_on(async {
    ///     handle.send("hello")?;
    ///     messages.recv_async().await
    /// })??;
    /// assert_eq!(answer.unwrap(), "hello");
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn recv_async(&mut self) -> impl Future<Output = Result<Option<OwnedMessage>, Error>> + Send + '_ {
        poll_fn(|cx| self.poll_recv(cx))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<OwnedMessage>, Error>> {
        // A task of tokio that always finds something still leaves others their turn.
        #[cfg(feature = "aio")]
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        let Some(received) = self.look(Some(cx.waker())) else { return Poll::Pending };
        #[cfg(feature = "aio")]
        turn.made_progress();
        Poll::Ready(received)
    }

    /// What there is: `None` if nothing is.
    fn look(&mut self, waker: Option<&Waker>) -> Option<Result<Option<OwnedMessage>, Error>> {
        match self.inbox.take(waker) {
            Taken::Message { message, frees } => {
                if frees {
                    self.handle.post(crate::Connection::look_at_receivers);
                }
                Some(Ok(Some(message)))
            }
            Taken::Nothing => None,
            Taken::End(closed) => Some(self.end.tell(&closed).map(|()| None)),
        }
    }

    /// All messages until the end: [`recv`](Messages::recv) as an iterator.
    ///
    /// ```
    /// use threadwire::messages::Messages;
    /// use threadwire::Error;
    ///
    /// fn print_all(messages: &mut Messages) -> Result<(), Error> {
    ///     for message in messages {
    ///         println!("{}", message?);
    ///     }
    ///     Ok(()) // it was closed as it should be
    /// }
    /// ```
    pub fn iter(&mut self) -> MessagesIter<'_> {
        MessagesIter(self)
    }
}

/// What is known of it.
impl Messages {
    /// How many messages wait to be received.
    pub fn len(&self) -> usize {
        self.inbox.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages were dropped so far because this receiver was too far [behind](WhenBehind::DropOldest). What is received
    /// next follows them.
    ///
    /// ```
    /// use threadwire::messages::Messages;
    /// use threadwire::Error;
    ///
    /// /// A chart with gaps where something is missing.
    /// fn plot(prices: &mut Messages) -> Result<(), Error> {
    ///     let mut missed = 0;
    ///     while let Some(price) = prices.recv()? {
    ///         let gap = prices.dropped() - missed;
    ///         missed += gap;
    ///         println!("{price} after a gap of {gap}");
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn dropped(&self) -> u64 {
        self.inbox.dropped()
    }

    /// The connection's handle: to answer, and to close.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// How the connection ended, if it has.
    pub fn closed(&self) -> Option<Arc<Closed>> {
        self.inbox.closed()
    }
}

impl Handle {
    /// A receiver of this connection's messages, beside its listener and others: see [`Messages`].
    ///
    /// The connection takes note of it in the order of what this handle sends: the answer to what is sent after this call is
    /// received. After the end of the connection, all it receives is that end.
    pub fn messages(&self, backlog: Backlog) -> Messages {
        self.receive(backlog, None)
    }

    /// The same for the messages of which `filter` says that they are wanted: so answers and topics can be told apart. It is
    /// called on the connection's thread for each message, and has to be quick; a panic in there closes the connection, as in
    /// other callbacks.
    ///
    /// ```
    /// use threadwire::messages::Backlog;
    /// use threadwire::{Connection, Error, Handle, Message, OwnedMessage, connect};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// /// Asks, and waits for the answer with the same number, whatever else arrives meanwhile.
    /// fn ask(server: &Handle, number: u32, question: &str) -> Result<OwnedMessage, Error> {
    ///     let head = format!("{number}:");
    ///     let begins = head.clone();
    ///     let is_answer = move |message: &Message<'_>| message.as_text().is_some_and(|text| text.starts_with(&begins));
    ///     let mut answers = server.messages_where(Backlog::default(), is_answer);
    ///     server.send(&format!("{head}{question}"))?;
    ///     answers.recv()?.ok_or(Error::Closed)
    /// }
    ///
    /// let handle = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?.handle();
    /// handle.send("something else")?;
    /// assert_eq!(ask(&handle, 1, "how are you?")?, "1:how are you?");
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn messages_where(
        &self,
        backlog: Backlog,
        filter: impl Fn(&Message<'_>) -> bool + Send + Sync + 'static,
    ) -> Messages {
        self.receive(backlog, Some(Box::new(filter)))
    }

    fn receive(&self, backlog: Backlog, filter: Option<Filter>) -> Messages {
        let backlog = Backlog { messages: backlog.messages.max(1), ..backlog };
        let inbox = Arc::new(Inbox::new(backlog, filter));
        self.add_receiver(&inbox);
        Messages { inbox, handle: self.clone(), end: EndOfReceiving::default() }
    }
}

/// The connection goes on; what was not received is dropped.
impl Drop for Messages {
    fn drop(&mut self) {
        if self.inbox.leave() {
            self.handle.post(crate::Connection::look_at_receivers);
        }
    }
}

/// The messages until the end, which is an error if it was no normal one: as [`Messages::recv_async`].
#[cfg(feature = "aio")]
impl futures_core::Stream for Messages {
    type Item = Result<OwnedMessage, Error>;

    fn poll_next(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(cx).map(Result::transpose)
    }
}

impl<'a> IntoIterator for &'a mut Messages {
    type Item = Result<OwnedMessage, Error>;
    type IntoIter = MessagesIter<'a>;

    fn into_iter(self) -> MessagesIter<'a> {
        self.iter()
    }
}

/// The messages of a connection: see [`Messages::iter`].
#[derive(Debug)]
pub struct MessagesIter<'a>(&'a mut Messages);

impl Iterator for MessagesIter<'_> {
    type Item = Result<OwnedMessage, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv().transpose()
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages")
            .field("connection", &self.handle.id())
            .field("len", &self.len())
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
