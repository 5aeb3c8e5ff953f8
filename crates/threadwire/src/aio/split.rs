//! The two halves of a connection, for two tasks.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_core::stream::FusedStream;
use futures_sink::Sink;
use threadwire_core::session::parts::Part;
use threadwire_core::session::round_trip::Measurement;
use threadwire_proto::{AsMessage, CloseCode, OpCode, OwnedMessage};
use tokio::task::coop;

use super::core::Core;
use super::handle::Handle;
use super::received::{Arrival, Event};
use super::round_trip;
use super::sending::{Ending, Waiting, forget_sender, send_frame, send_message};
use super::sending_parts::send_parts;
use crate::{Closed, Error, SendOptions};

/// The half that receives: see [`Connection::split`](super::Connection::split).
///
/// Where it is dropped before the [`Sender`], what arrives is dropped too; pings are answered, and the end is noticed.
pub struct Receiver {
    pub(super) core: Arc<Core>,
    /// Messages that have arrived together with those that were received.
    ahead: VecDeque<OwnedMessage>,
}

impl Receiver {
    pub(super) fn new(core: Arc<Core>) -> Receiver {
        Receiver { core, ahead: VecDeque::new() }
    }

    /// Receives a message: see [`Connection::recv`](super::Connection::recv).
    #[inline]
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<OwnedMessage>, Error>> + Send + '_ {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// Receives a message, a ping or a pong: see [`Connection::recv_event`](super::Connection::recv_event).
    pub fn recv_event(&mut self) -> impl Future<Output = Result<Option<Event>, Error>> + Send + '_ {
        self.core.with(|state, _| state.wants_control = true);
        poll_fn(|cx| self.poll_event(cx))
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event>, Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        let received = loop {
            if let Some(message) = self.ahead.pop_front() {
                break Ok(Some(Event::Message(message)));
            }
            break match ready!(self.core.poll_recv(cx, &mut self.ahead)) {
                Ok(Some(Arrival::Message(message))) => Ok(Some(Event::Message(message))),
                Ok(Some(Arrival::Ping(payload))) => Ok(Some(Event::Ping(payload))),
                Ok(Some(Arrival::Pong(payload))) => Ok(Some(Event::Pong(payload))),
                Ok(Some(Arrival::Part(_))) => continue,
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
        };
        turn.made_progress();
        Poll::Ready(received)
    }

    /// The next part of a message, of a connection that was opened for parts.
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Part>, Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        let received = loop {
            match ready!(self.core.poll_recv(cx, &mut self.ahead)) {
                Ok(Some(Arrival::Part(part))) => break Ok(Some(part)),
                Ok(Some(_)) => {}
                Ok(None) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        turn.made_progress();
        Poll::Ready(received)
    }

    #[inline]
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<OwnedMessage>, Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        let received = loop {
            if let Some(message) = self.ahead.pop_front() {
                break Ok(Some(message));
            }
            match ready!(self.core.poll_recv(cx, &mut self.ahead)) {
                Ok(Some(Arrival::Message(message))) => break Ok(Some(message)),
                Ok(Some(_)) => {}
                Ok(None) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        turn.made_progress();
        Poll::Ready(received)
    }

    /// A handle to the connection, for other tasks and threads.
    pub fn handle(&self) -> Handle {
        Handle::new(&self.core)
    }

    /// How the connection ended, if it has.
    pub fn closed(&self) -> Option<Arc<Closed>> {
        self.core.outcome()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.core.release(true);
    }
}

/// The messages until the end, which is an error if it was no normal one: as [`Receiver::recv`].
impl Stream for Receiver {
    type Item = Result<OwnedMessage, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<OwnedMessage, Error>>> {
        self.get_mut().poll_recv(cx).map(Result::transpose)
    }
}

impl FusedStream for Receiver {
    fn is_terminated(&self) -> bool {
        self.core.with(|state, _| state.end.was_told())
    }
}

/// The half that sends: see [`Connection::split`](super::Connection::split).
///
/// What arrives is for the other half, whether that receives or not: pings are answered, and the end is noticed
/// ([more](crate::aio#where-nobody-receives)).
pub struct Sender {
    pub(super) core: Arc<Core>,
    /// Its place among those who wait to send, as a [`Sink`].
    number: Option<u64>,
    ending: Option<Box<Ending>>,
}

impl Sender {
    pub(super) fn new(core: Arc<Core>) -> Sender {
        Sender { core, number: None, ending: None }
    }

    /// Sends a message: see [`Connection::send`](super::Connection::send).
    #[inline]
    pub fn send<'a>(
        &'a self,
        message: impl AsMessage + Send + Unpin + 'a,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        send_message(&self.core, message, SendOptions::default())
    }

    /// Sends a message, and chooses what is to happen if there is no room for it, or whether it is compressed: see
    /// [`SendOptions`]. Where no policy is chosen, or [`WhenFull::Wait`](crate::WhenFull::Wait), it waits as
    /// [`send`](Sender::send) does; any other policy is for messages past [`Config::max_buffered`](crate::Config::max_buffered),
    /// and waits for nothing.
    pub fn send_with<'a>(
        &'a self,
        message: impl AsMessage + Send + Unpin + 'a,
        options: impl Into<SendOptions>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        send_message(&self.core, message, options.into())
    }

    /// Sends a message whose parts a stream yields: see [`Connection::send_parts`](super::Connection::send_parts).
    pub fn send_parts<'a, P: Into<OwnedMessage> + Send + 'a>(
        &'a self,
        parts: impl Stream<Item = Result<P, Error>> + Send + 'a,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        send_parts(Arc::clone(&self.core), parts)
    }

    /// Sends a frame: see [`Connection::send_frame`](super::Connection::send_frame).
    pub fn send_frame<'a>(
        &'a self,
        opcode: OpCode,
        fin: bool,
        payload: &'a [u8],
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        send_frame(&self.core, (opcode, fin, payload), SendOptions::default())
    }

    /// Sends a ping: see [`Connection::ping`](super::Connection::ping).
    pub fn ping<'a>(&'a self, payload: &'a [u8]) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        self.send_frame(OpCode::Ping, true, payload)
    }

    /// Waits until all that was sent has been written: see [`Connection::flush`](super::Connection::flush).
    pub fn flush(&self) -> impl Future<Output = Result<(), Error>> + Send + '_ {
        Waiting::new(&self.core, Core::poll_flush)
    }

    /// Closes with 1000, and waits for the end: see [`Connection::close_with`](super::Connection::close_with).
    pub fn close(&self) -> impl Future<Output = Result<Arc<Closed>, Error>> + Send + '_ {
        self.close_with(CloseCode::NORMAL, "")
    }

    /// Closes, and waits for the end: see [`Connection::close_with`](super::Connection::close_with).
    pub async fn close_with(&self, code: CloseCode, reason: &str) -> Result<Arc<Closed>, Error> {
        self.core.close(code, reason)?;
        Ok(Ending::new(&self.core).await)
    }

    /// Measures how long a ping takes to come back, this many times: see
    /// [`Connection::measure_roundtrip`](super::Connection::measure_roundtrip).
    pub fn measure_roundtrip(
        &self,
        rounds: usize,
    ) -> impl Future<Output = Result<Vec<Duration>, Error>> + Send + '_ {
        round_trip::measure(Arc::clone(&self.core), Measurement::new(rounds))
    }

    /// Sends a ping, and waits for its pong: how long that took. See
    /// [`Connection::roundtrip`](super::Connection::roundtrip).
    pub fn roundtrip(
        &self,
        payload: &[u8],
    ) -> impl Future<Output = Result<Duration, Error>> + Send + 'static {
        round_trip::one(&self.core, payload)
    }

    /// A handle to the connection, for other tasks and threads.
    pub fn handle(&self) -> Handle {
        Handle::new(&self.core)
    }

    /// How the connection ended, if it has.
    pub fn closed(&self) -> Option<Arc<Closed>> {
        self.core.outcome()
    }

    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let room = ready!(self.core.poll_room(cx, &mut self.number));
        self.forget();
        Poll::Ready(room)
    }

    fn forget(&mut self) {
        if self.number.is_some() {
            forget_sender(&self.core, &mut self.number);
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.forget();
        self.core.release(false);
    }
}

/// Feeding is sending: what is fed leaves soon also without a flush, which waits until it has. Closing is
/// [`close`](Sender::close).
impl Sink<OwnedMessage> for Sender {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_room(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: OwnedMessage) -> Result<(), Error> {
        self.core.send_now(message.opcode(), true, message.as_bytes())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        let flushed = ready!(this.core.poll_flush(cx, &mut this.number));
        this.forget();
        Poll::Ready(flushed)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        if this.ending.is_none() {
            this.core.close(CloseCode::NORMAL, "")?;
        }
        let ending = this.ending.get_or_insert_with(|| Box::new(Ending::new(&this.core)));
        Pin::new(&mut **ending).poll(cx).map(|_| Ok(()))
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.describe(f, "Receiver")
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.describe(f, "Sender")
    }
}
