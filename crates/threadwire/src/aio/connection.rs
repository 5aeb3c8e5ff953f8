//! A connection, owned by one task.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_core::stream::FusedStream;
use futures_sink::Sink;
use threadwire_core::session::round_trip::Measurement;
use threadwire_proto::deflate::Agreement;
use threadwire_proto::handshake::{self, Headers};
use threadwire_proto::{AsMessage, CloseCode, OpCode, OwnedMessage, RoundTripSummary};

use super::core::{Core, Opening};
use super::handle::Handle;
use super::received::Event;
use super::round_trip;
use super::scope::Scope;
use super::sending::{send_frame, send_message};
use super::sending_parts::send_parts;
use super::split::{Receiver, Sender};
#[cfg(feature = "tls")]
use crate::tls::TlsInfo;
use crate::{Closed, Error, SendOptions};

/// An open connection.
///
/// Dropping it closes it with 1001. For two tasks, [`split`](Connection::split) it; for any number, and for other threads,
/// there are [`Handle`]s.
///
/// ```
/// use threadwire::{Error, aio};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let server = aio::Server::bind("127.0.0.1:0").await?;
/// # let url = format!("ws://{}", server.local_addr()?);
/// # tokio::spawn(server.serve(|_, mut ws| async move {
/// #     while let Ok(Some(message)) = ws.recv().await { ws.send(&message).await.unwrap() }
/// # }));
///
/// let mut ws = aio::connect(&url).await?;
/// for number in 0..3 {
///     ws.send(&format!("message {number}")).await?; // the three leave in one write
/// }
/// while let Some(message) = ws.recv().await? {
///     println!("{message}");
///     if message == "message 2" {
///         ws.close().await?;
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Connection {
    // Dropped first: what is received goes on to be read where the receiver goes before its sender.
    sender: Sender,
    receiver: Receiver,
}

impl Connection {
    pub(super) fn open(opening: Opening) -> Connection {
        let core = Core::open(opening);
        Connection { sender: Sender::new(Arc::clone(&core)), receiver: Receiver::new(core) }
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.receiver.core
    }

    /// The half that receives.
    pub(super) fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Receives a message: `None` after a normal close by either side (1000, 1001, or without a code), and
    /// [`Error::Ended`] once after any other end; then `None` too. What arrived before the peer's end is received before it.
    ///
    /// Dropped before it is ready, it has lost nothing, so that it can be used in `select!` and under a timeout.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::{Error, aio};
    /// use tokio::time::timeout;
    ///
    /// async fn listen(ws: &mut aio::Connection) -> Result<(), Error> {
    ///     loop {
    ///         match timeout(Duration::from_secs(30), ws.recv()).await {
    ///             Ok(Ok(Some(message))) => println!("{message}"),
    ///             Ok(Ok(None)) => return Ok(()),
    ///             Ok(Err(Error::Ended(closed))) => return Err(Error::other(format!("the feed ended: {closed}"))),
    ///             Ok(Err(error)) => return Err(error),
    ///             Err(_elapsed) => ws.send("are you there?").await?,
    ///         }
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<OwnedMessage>, Error>> + Send + '_ {
        self.receiver.recv()
    }

    /// Receives a message, a ping or a pong. From the first call on, pings and pongs are kept for it; [`recv`](Connection::recv)
    /// skips them.
    ///
    /// ```
    /// use threadwire::{Error, aio};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let server = aio::Server::bind("127.0.0.1:0").await?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    /// # tokio::spawn(server.serve(|_, mut ws| async move { while let Ok(Some(_)) = ws.recv().await {} }));
    ///
    /// let mut ws = aio::connect(&url).await?;
    /// ws.ping(b"1").await?;
    /// assert_eq!(ws.recv_event().await?, Some(aio::Event::Pong(b"1".to_vec())));
    /// # Ok(())
    /// # }
    /// ```
    pub fn recv_event(&mut self) -> impl Future<Output = Result<Option<Event>, Error>> + Send + '_ {
        self.receiver.recv_event()
    }

    /// Sends a message: text or bytes. It is done when the message lies in the connection's buffer, which is at once unless more
    /// than [`Config::high_watermark`](crate::Config::high_watermark) bytes wait there because the peer does not read them. It
    /// leaves soon, whatever the task does next ([more](crate::aio#what-leaves-when)).
    ///
    /// Dropped while it waits, it has sent nothing; once it is done, all of the message will leave, unless the connection ends
    /// first.
    ///
    /// Fails with [`Error::Closed`] if the connection is not open, and with [`Error::Send`] between the fragments of a message
    /// ([`send_frame`](Connection::send_frame)).
    #[inline]
    pub fn send<'a>(
        &'a self,
        message: impl AsMessage + Send + Unpin + 'a,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        send_message(self.core(), message, SendOptions::default())
    }

    /// Sends a message, and chooses what is to happen if there is no room for it, or whether it is compressed: see
    /// [`SendOptions`]. Where no policy is chosen, or [`WhenFull::Wait`](crate::WhenFull::Wait), it waits as
    /// [`send`](Connection::send) does; any other policy is for messages past [`Config::max_buffered`](crate::Config::max_buffered),
    /// and waits for nothing.
    pub fn send_with<'a>(
        &'a self,
        message: impl AsMessage + Send + Unpin + 'a,
        options: impl Into<SendOptions>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        send_message(self.core(), message, options.into())
    }

    /// Sends a message whose parts a stream yields, each a fragment (RFC 6455, section 5.4), as it yields them: all text, or all
    /// binary, as the first is. Each waits for room as [`send`](Connection::send) does. Of no part there is no message.
    ///
    /// From the first part to the last one the message has the connection for itself: sends that wait also wait for its end, and
    /// those that don't fail with [`Error::Send`]. Pings, pongs and a close pass.
    ///
    /// An error of the stream, or a part of another kind, ends this with that error. If a part was sent before, the message can't be
    /// completed: a peer would take what it has for the whole. So the connection is closed with 1011 then, and so it is where this
    /// is dropped in the middle. Fails as [`send`](Connection::send) does besides.
    ///
    /// ```
    /// use std::pin::Pin;
    /// use std::task::{Context, Poll};
    /// use futures_core::Stream;
    /// use threadwire::{Error, aio};
    /// use tokio::sync::mpsc;
    ///
    /// struct Rows(mpsc::Receiver<String>);
    ///
    /// impl Stream for Rows {
    ///     type Item = Result<String, Error>;
    ///
    ///     fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
    ///         self.0.poll_recv(cx).map(|row| row.map(Ok))
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let server = aio::Server::bind("127.0.0.1:0").await?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    /// # tokio::spawn(server.serve(|_, mut ws| async move {
    /// #     while let Ok(Some(message)) = ws.recv().await { ws.send(&message).await.unwrap() }
    /// # }));
    ///
    /// let mut ws = aio::connect(&url).await?;
    /// let (give, rows) = mpsc::channel(1);
    /// tokio::spawn(async move {
    ///     for number in 1..=3 {
    ///         give.send(format!("{number} ")).await.unwrap();
    ///     }
    /// });
    /// ws.send_parts(Rows(rows)).await?;
    /// assert_eq!(ws.recv().await?.unwrap(), "1 2 3 ");
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_parts<'a, P: Into<OwnedMessage> + Send + 'a>(
        &'a self,
        parts: impl Stream<Item = Result<P, Error>> + Send + 'a,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        send_parts(Arc::clone(self.core()), parts)
    }

    /// Sends one frame: a message, a fragment of one (`fin` false on all but the last, the opcode
    /// [`Continuation`](OpCode::Continuation) on all but the first), a ping or a pong.
    ///
    /// Between the fragments of a message no other can be sent, neither here nor by a handle: that fails with [`Error::Send`], as
    /// does a frame that must not be sent (RFC 6455, sections 5.4 and 5.5). Fails as [`send`](Connection::send) does besides.
    ///
    /// ```
    /// use threadwire::frame::OpCode;
    /// use threadwire::{Error, aio};
    ///
    /// async fn in_parts(ws: &aio::Connection) -> Result<(), Error> {
    ///     ws.send_frame(OpCode::Text, false, b"in two ").await?;
    ///     ws.send_frame(OpCode::Continuation, true, b"fragments").await
    /// }
    /// ```
    pub fn send_frame<'a>(
        &'a self,
        opcode: OpCode,
        fin: bool,
        payload: &'a [u8],
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        send_frame(self.core(), (opcode, fin, payload), SendOptions::default())
    }

    /// Sends a ping with a payload of at most 125 bytes, without waiting for room. The pong that the peer answers is received by
    /// [`recv_event`](Connection::recv_event). Fails as [`send_frame`](Connection::send_frame) does.
    pub fn ping<'a>(&'a self, payload: &'a [u8]) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        self.send_frame(OpCode::Ping, true, payload)
    }

    /// Sends a pong with a payload of at most 125 bytes: only needed where
    /// [`Config::auto_pong`](crate::Config::auto_pong) is off. Fails as [`send_frame`](Connection::send_frame) does.
    pub fn pong<'a>(&'a self, payload: &'a [u8]) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        self.send_frame(OpCode::Pong, true, payload)
    }

    /// Writes at once, and waits until all that was sent has been handed to the system. Only needed before a long computation,
    /// or to know that the peer reads. Fails with [`Error::Closed`] if the connection ends first.
    pub fn flush(&self) -> impl Future<Output = Result<(), Error>> + Send + '_ {
        self.sender.flush()
    }

    /// Closes with 1000, and waits for the end. See [`close_with`](Connection::close_with).
    pub fn close(&self) -> impl Future<Output = Result<Arc<Closed>, Error>> + Send + '_ {
        self.sender.close()
    }

    /// Closes, behind what was sent before, and waits until the peer has answered and TCP has ended, or
    /// [`Config::close_timeout`](crate::Config::close_timeout) has passed. Returns how the connection has ended. What was
    /// not received yet may be dropped. Closing goes on if this is dropped.
    ///
    /// On a connection that is closing already, or has ended, it only waits.
    ///
    /// Of a reason longer than 123 bytes as much is sent as [fits](crate::proto::close::fit_reason), and a warning is logged.
    ///
    /// Fails with [`Error::Send`], and does nothing, if the code must not be sent (1000-1003, 1007-1014 and 3000-4999 may).
    ///
    /// ```
    /// use threadwire::{CloseCode, Error, aio};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let server = aio::Server::bind("127.0.0.1:0").await?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    /// # tokio::spawn(server.serve(|_, mut ws| async move { while let Ok(Some(_)) = ws.recv().await {} }));
    ///
    /// let ws = aio::connect(&url).await?;
    /// let closed = ws.close_with(CloseCode::new(4001), "another tab has taken over").await?;
    /// assert!(closed.clean);
    /// # Ok(())
    /// # }
    /// ```
    pub fn close_with<'a>(
        &'a self,
        code: CloseCode,
        reason: &'a str,
    ) -> impl Future<Output = Result<Arc<Closed>, Error>> + Send + 'a {
        self.sender.close_with(code, reason)
    }

    /// Drops TCP without a closing handshake: the peer sees that the connection broke.
    pub fn abort(&self) {
        self.core().abort(None);
    }

    /// Whether messages can be sent, as far as is known.
    pub fn is_open(&self) -> bool {
        self.core().is_open()
    }

    /// How the connection ended, if it has: the same for everybody who asks.
    pub fn closed(&self) -> Option<Arc<Closed>> {
        self.core().outcome()
    }

    /// How many bytes wait to be written.
    pub fn buffered(&self) -> usize {
        self.core().buffered()
    }

    /// How long pings took to come back so far, if [`Config::keep_round_trips`](crate::Config::keep_round_trips) is on and one
    /// has: those of [keepalive](crate::Config::keepalive)'s pings.
    pub fn round_trips(&self) -> Option<RoundTripSummary> {
        self.core().round_trips()
    }

    /// Measures how long a ping takes to come back, this many times, one after the other. Keepalive pings are held back
    /// meanwhile. What arrives in this time is kept until it is received.
    ///
    /// Fails with [`Error::Timeout`] if a pong takes longer than [`Keepalive::reply_timeout`](crate::Keepalive::reply_timeout) (20 s
    /// without keepalive), and with [`Error::Closed`] if the connection closes. Dropped, it measures no more.
    ///
    /// ```
    /// use threadwire::{Error, aio};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let server = aio::Server::bind("127.0.0.1:0").await?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    /// # tokio::spawn(server.serve(|_, mut ws| async move { while let Ok(Some(_)) = ws.recv().await {} }));
    ///
    /// let ws = aio::connect(&url).await?;
    /// let times = ws.measure_roundtrip(3).await?;
    /// assert_eq!(times.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn measure_roundtrip(
        &self,
        rounds: usize,
    ) -> impl Future<Output = Result<Vec<Duration>, Error>> + Send + '_ {
        round_trip::measure(Arc::clone(self.core()), Measurement::new(rounds))
    }

    /// Sends a ping, and waits for its pong: how long that took. An empty payload stands for one that no other ping has. At most
    /// one is under way, this and [`measure_roundtrip`](Connection::measure_roundtrip) together: others wait for their turn. Fails as that does,
    /// and with [`Error::Send`] for a payload of more than 125 bytes. Dropped, it waits no more.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::{Error, aio};
    /// use tokio::time::timeout;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let server = aio::Server::bind("127.0.0.1:0").await?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    /// # tokio::spawn(server.serve(|_, mut ws| async move { while let Ok(Some(_)) = ws.recv().await {} }));
    ///
    /// let ws = aio::connect(&url).await?;
    /// match timeout(Duration::from_secs(5), ws.roundtrip(b"")).await {
    ///     Ok(latency) => println!("answered after {:?}", latency?),
    ///     Err(_elapsed) => ws.abort(),
    /// }
    /// # assert!(ws.is_open());
    /// # Ok(())
    /// # }
    /// ```
    pub fn roundtrip(
        &self,
        payload: &[u8],
    ) -> impl Future<Output = Result<Duration, Error>> + Send + 'static {
        round_trip::one(self.core(), payload)
    }

    /// How many messages were dropped because there was no room for them, as [`WhenFull`](crate::WhenFull) had it.
    pub fn dropped(&self) -> u64 {
        self.core().dropped()
    }

    /// Reads no more, until [`resume_reading`](Connection::resume_reading), whoever receives or sends: the peer can go on to send
    /// only as far as the system's buffers allow. What was read already is still received. Pings, and the peer's close frame,
    /// are not seen meanwhile; closing on this side ends the pause.
    pub fn pause_reading(&self) {
        self.core().with(|state, env| state.pause_reading(true, env));
    }

    /// Reads again, after [`pause_reading`](Connection::pause_reading).
    pub fn resume_reading(&self) {
        self.core().with(|state, env| state.pause_reading(false, env));
    }

    /// Whether reading is [paused](Connection::pause_reading) by the program.
    pub fn is_reading_paused(&self) -> bool {
        self.core().with(|state, _| state.is_reading_paused)
    }

    /// A handle to the connection, for other tasks and threads.
    pub fn handle(&self) -> Handle {
        Handle::new(self.core())
    }

    /// A scope for tasks that end with the connection.
    pub fn scope(&self) -> Scope {
        Scope::new(self.core())
    }

    /// The two halves, for two tasks. The connection closes with 1001 when both are dropped.
    ///
    /// ```
    /// use threadwire::{Error, aio};
    ///
    /// async fn chat(ws: aio::Connection, mut lines: tokio::sync::mpsc::Receiver<String>) -> Result<(), Error> {
    ///     let (sender, mut receiver) = ws.split();
    ///     let typed = tokio::spawn(async move {
    ///         while let Some(line) = lines.recv().await {
    ///             sender.send(&line).await?;
    ///         }
    ///         sender.close().await.map(drop)
    ///     });
    ///     while let Some(message) = receiver.recv().await? {
    ///         println!("{message}");
    ///     }
    ///     typed.abort(); // nobody is left to talk to
    ///     Ok(())
    /// }
    /// ```
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// What was agreed on about compression (RFC 7692); `None` if nothing was, or if the connection has ended.
    pub fn deflate(&self) -> Option<Agreement> {
        self.core().deflate()
    }

    /// The subprotocol that was agreed on, if one was (RFC 6455, section 1.9).
    pub fn subprotocol(&self) -> Option<&str> {
        self.core().agreed()?.subprotocol.as_deref()
    }

    /// The headers of the server's answer: as received on a client, those it added on a server. `None` on a server where it
    /// neither added any nor chose a subprotocol.
    pub fn response_headers(&self) -> Option<&Headers> {
        self.core().agreed()?.response_headers()
    }

    /// What the program has [attached](crate::Request::attach) to the request that this connection began with, of this type: who the client
    /// is, say. `None` on a client.
    pub fn attached<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.core().agreed()?.attached()
    }

    /// The request that this connection began with, if the program has [kept](crate::Request::keep) it. `None` on a client.
    pub fn request(&self) -> Option<Arc<handshake::Request>> {
        self.attached()
    }

    /// What the TLS handshake came to: see [`Connection::tls`](crate::Connection::tls).
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<TlsInfo> {
        self.core().tls()
    }

    /// The address of the peer. Fails after the end, and where the stream is not TCP.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.core().peer_addr()
    }

    /// The address of this end. Fails after the end, and where the stream is not TCP.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.core().local_addr()
    }
}

/// The messages until the end, which is an error if it was no normal one: as [`Connection::recv`].
impl Stream for Connection {
    type Item = Result<OwnedMessage, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<OwnedMessage, Error>>> {
        Pin::new(&mut self.get_mut().receiver).poll_next(cx)
    }
}

impl FusedStream for Connection {
    fn is_terminated(&self) -> bool {
        self.receiver.is_terminated()
    }
}

/// Feeding is sending: what is fed leaves soon also without a flush, which waits until it has. Closing is
/// [`close`](Connection::close).
impl Sink<OwnedMessage> for Connection {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().sender.poll_room(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: OwnedMessage) -> Result<(), Error> {
        Pin::new(&mut self.get_mut().sender).start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().sender).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().sender).poll_close(cx)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core().describe(f, "Connection")
    }
}
