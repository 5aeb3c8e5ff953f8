//! A connection as its halves and handles share it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Instant;

use threadwire_proto::deflate::Agreement;
use threadwire_proto::{
    CloseCode, CloseFrame, Compress, Level, OpCode, OwnedMessage, Role, RoundTripSummary,
    SendOptions as FrameOptions,
};
use threadwire_worker::Lock;
use tokio::runtime;
use tokio::task::coop;

use super::driver;
use super::flusher::{Flusher, Kick};
use super::received::Event;
use super::state::{After, Env, State};
use super::stream::Stream;
#[cfg(feature = "tls")]
use crate::tls::TlsInfo;
use crate::{Closed, Config, Error, SendOptions, WhenFull};
use threadwire_core::agreed::Agreed;
use threadwire_core::session::buffers::Buffers;
use threadwire_core::session::shared_message::SharedMessage;
use threadwire_core::session::unparsed::Unparsed;
use threadwire_core::session::{self, Session};

pub(super) struct Core {
    state: Lock<State>,
    kick: Arc<Kick>,
    /// Has the connection flushed.
    waker: Waker,
    runtime: runtime::Handle,
    pub(super) config: Arc<Config>,
    agreed: Option<Box<Agreed>>,
}

/// What a connection begins with, when its opening handshake is done.
pub(super) struct Opening {
    pub(super) role: Role,
    pub(super) stream: Stream,
    pub(super) config: Arc<Config>,
    pub(super) agreed: Option<Box<Agreed>>,
    /// If messages may be compressed.
    pub(super) deflate: Option<Agreement>,
    /// What has to be written first.
    pub(super) output: Vec<u8>,
    /// What was read of the handshake and behind it, and where that begins.
    pub(super) received: Vec<u8>,
    pub(super) early: usize,
}

impl Core {
    /// A connection that is open; on a runtime.
    pub(super) fn open(opening: Opening) -> Arc<Core> {
        let Opening { role, stream, config, agreed, deflate, output, received, early } = opening;
        let runtime = runtime::Handle::current();
        let flusher = Flusher::current(&runtime);
        let unparsed =
            if early < received.len() { Unparsed::with(received, early) } else { Unparsed::default() };
        let core = Arc::new_cyclic(|core| {
            let kick = Arc::new(Kick::new(core.clone(), flusher));
            let protocol = config.open(role, Level::Messages, deflate);
            let mut session = Session::new(protocol, output);
            session.begin_keepalive(&config, Instant::now());
            session.set_more_follows(!unparsed.is_empty());
            let state = Lock::new(State::new(stream, session, unparsed));
            Core { state, waker: Waker::from(Arc::clone(&kick)), kick, runtime, config, agreed }
        });
        core.flush();
        core
    }

    #[inline]
    pub(super) fn lock(&self) -> Locked<'_> {
        let state = self.state.lock();
        Locked { state, deferred: Deferred { core: self, kick: false, after: None } }
    }

    #[cold]
    fn perform(&self, after: After) {
        let After { woken, drive, stream } = after;
        if stream.is_some() {
            // The connection has ended: its stream is dropped.
            drop(stream);
            self.agreed.iter().for_each(|agreed| agreed.give_permit_back());
        }
        if drive && let Some(core) = self.kick.core.upgrade() {
            self.runtime.spawn(driver::drive(core));
        }
        woken.into_iter().for_each(Waker::wake);
    }

    pub(super) fn agreed(&self) -> Option<&Agreed> {
        self.agreed.as_deref()
    }

    pub(super) fn deflate(&self) -> Option<Agreement> {
        self.lock().session.deflate()
    }

    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.lock().stream()?.socket()?.peer_addr()
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.lock().stream()?.socket()?.local_addr()
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> Option<TlsInfo> {
        Some(self.lock().stream().ok()?.tls()?.info())
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let state = self.lock();
        f.debug_struct(name)
            .field("is_open", &state.session.is_open())
            .field("buffered", &state.session.buffered())
            .finish_non_exhaustive()
    }

    pub(super) fn outcome(&self) -> Option<Arc<Closed>> {
        self.lock().outcome().cloned()
    }

    /// Writes what waits; the stream takes more again, or somebody has sent something.
    pub(super) fn flush(&self) {
        self.lock().flush(self.env(&Buffers::current()));
    }

    /// Receives. What was sent before leaves, where nothing has arrived. Some messages that have arrived together are taken at
    /// once, and lie in `ahead` until they are asked for.
    #[inline]
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        ahead: &mut VecDeque<OwnedMessage>,
    ) -> Poll<Result<Option<Event>, Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        if let Some(message) = ahead.pop_front() {
            turn.made_progress();
            return Poll::Ready(Ok(Some(Event::Message(message))));
        }
        let buffers = Buffers::current();
        let mut state = self.lock();
        match state.poll_event(cx, self.env(&buffers), ahead) {
            Poll::Ready(Some(event)) => {
                turn.made_progress();
                state.flush_if_needed();
                return Poll::Ready(Ok(Some(event)));
            }
            Poll::Ready(None) => {
                state.write(self.env(&buffers));
                state.settle(self.env(&buffers));
                if let Some(end) = state.end_of_stream() {
                    turn.made_progress();
                    return Poll::Ready(end.map(|()| None));
                }
            }
            Poll::Pending => state.write(self.env(&buffers)),
        }
        let is_known = !state.note_reader(cx.waker());
        state.look_at_pulse(cx, is_known, self.env(&buffers));
        match state.end_of_stream() {
            Some(end) => Poll::Ready(end.map(|()| None)),
            None => Poll::Pending,
        }
    }

    /// Sends a frame, once no more waits than the low watermark, if it was more than the high one. `number` is the place of
    /// who waits. With `reads`, whoever sends is the receiver as well, and what arrives is looked at now and then.
    #[inline]
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        (opcode, fin, payload): (OpCode, bool, &[u8]),
        options: SendOptions,
        number: &mut Option<u64>,
        reads: bool,
    ) -> Poll<Result<(), Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        let buffers = Buffers::current();
        // Dropped when the lock is not held any more.
        let _forgotten;
        let mut state = self.lock();
        if reads && (state.is_time_to_read() || state.session.is_broken()) {
            state.read_ahead(cx, self.env(&buffers));
        }
        if opcode.is_control() && fin {
            // This send does not wait, but counts against the task's budget all the same.
            turn.made_progress();
            return Poll::Ready(state.send_or(
                opcode,
                payload,
                WhenFull::Error,
                Compress::Never,
                self.env(&buffers),
            ));
        }
        let compress = options.compress;
        if let Some(when_full) = options.when_full.filter(|when_full| *when_full != WhenFull::Wait) {
            turn.made_progress();
            return Poll::Ready(state.send_or(opcode, payload, when_full, compress, self.env(&buffers)));
        }
        if state.is_paused() {
            if reads {
                state.read_ahead(cx, self.env(&buffers));
            }
            if state.is_paused() {
                state.senders.note(number, cx.waker());
                return Poll::Pending;
            }
        }
        _forgotten = state.senders.forget(number);
        turn.made_progress();
        Poll::Ready(state.send_frame(opcode, fin, payload, compress.into(), self.env(&buffers)))
    }

    /// Waits until there is room to send.
    pub(super) fn poll_room(
        &self,
        cx: &mut Context<'_>,
        number: &mut Option<u64>,
        reads: bool,
    ) -> Poll<Result<(), Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        let mut state = self.lock();
        if reads && (state.is_paused() || state.is_time_to_read()) {
            state.read_ahead(cx, self.env(&Buffers::current()));
        }
        if state.is_paused() {
            state.senders.note(number, cx.waker());
            return Poll::Pending;
        }
        turn.made_progress();
        Poll::Ready(if state.session.is_open() { Ok(()) } else { Err(Error::Closed) })
    }

    /// Sends a message at once.
    pub(super) fn send_now(&self, opcode: OpCode, fin: bool, payload: &[u8]) -> Result<(), Error> {
        let buffers = Buffers::current();
        self.lock().send_frame(opcode, fin, payload, FrameOptions::default(), self.env(&buffers))
    }

    /// Waits until all that was sent has left, or the connection has ended.
    pub(super) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        number: &mut Option<u64>,
    ) -> Poll<Result<(), Error>> {
        let mut state = self.lock();
        state.write(self.env(&Buffers::current()));
        if state.outcome().is_some() || state.session.is_broken() {
            return Poll::Ready(Err(Error::Closed));
        }
        if state.session.is_drained() {
            return Poll::Ready(Ok(()));
        }
        state.senders.note(number, cx.waker());
        Poll::Pending
    }

    /// Waits until the connection has ended.
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>, number: &mut Option<u64>) -> Poll<Arc<Closed>> {
        let mut state = self.lock();
        if let Some(outcome) = state.outcome() {
            return Poll::Ready(Arc::clone(outcome));
        }
        state.close_waiters.note(number, cx.waker());
        Poll::Pending
    }

    /// Sends a message at once, or does what the policy says where there is no room for it.
    pub(super) fn send_or(
        &self,
        opcode: OpCode,
        payload: &[u8],
        when_full: WhenFull,
        compress: Compress,
    ) -> Result<(), Error> {
        let buffers = Buffers::current();
        self.lock().send_or(opcode, payload, when_full, compress, self.env(&buffers))
    }

    /// The same for a message that others share. Without a policy the connection's own decides.
    pub(super) fn send_shared(
        &self,
        message: &mut SharedMessage<'_>,
        when_full: Option<WhenFull>,
        buffers: &Buffers,
    ) -> Result<(), Error> {
        let mut state = self.lock();
        let framed = message.framed(state.session.sharing(), buffers);
        state.send_shared(framed, when_full.unwrap_or(self.config.when_full), self.env(buffers))
    }

    /// Waits until there is room for a payload of this length, or the connection has closed.
    pub(super) fn poll_room_for(
        &self,
        cx: &mut Context<'_>,
        number: &mut Option<u64>,
        length: usize,
    ) -> Poll<()> {
        let mut state = self.lock();
        if !state.session.is_open() || state.session.has_room(0, length, self.config.max_buffered) {
            return Poll::Ready(());
        }
        state.senders.note(number, cx.waker());
        Poll::Pending
    }

    /// Begins to close, and tries once to have that leave.
    pub(super) fn close(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        let buffers = Buffers::current();
        let mut state = self.lock();
        state.close(CloseFrame { code: Some(code), reason }, self.env(&buffers))?;
        state.write(self.env(&buffers));
        Ok(())
    }

    pub(super) fn abort(&self, error: Option<Error>) {
        let mut state = self.lock();
        if !state.is_over() {
            state.abort(error, self.env(&Buffers::current()));
        }
    }

    /// An owner lets go of the connection.
    pub(super) fn release(&self, is_receiver: bool) {
        let buffers = Buffers::current();
        let mut state = self.lock();
        state.release(is_receiver, self.env(&buffers));
    }

    /// Closes without waiting for the peer's answer.
    pub(super) fn close_now(&self) {
        let buffers = Buffers::current();
        self.lock().close_now(self.env(&buffers));
    }

    pub(super) fn runtime(&self) -> &runtime::Handle {
        &self.runtime
    }

    #[inline]
    pub(super) fn env<'a>(&'a self, buffers: &'a Buffers) -> Env<'a> {
        let session = session::Env { config: &self.config, buffers };
        Env { session, waker: &self.waker, runtime: &self.runtime }
    }

    pub(super) fn round_trips(&self) -> Option<RoundTripSummary> {
        self.lock().session.round_trips()
    }
}

/// A connection that is locked. Letting it go does what must not be done under the lock.
pub(super) struct Locked<'a> {
    // The lock is let go first: fields are dropped in this order.
    state: MutexGuard<'a, State>,
    deferred: Deferred<'a>,
}

impl Deref for Locked<'_> {
    type Target = State;

    #[inline]
    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        // A flush is announced before its lock is taken: the flag seen here can't be too old.
        if mem::take(&mut self.state.needs_flush) && !self.deferred.core.kick.is_queued() {
            self.deferred.kick = true;
        }
        self.deferred.after = self.state.after.take();
    }
}

/// What is done without the lock.
struct Deferred<'a> {
    core: &'a Core,
    kick: bool,
    after: Option<Box<After>>,
}

impl Drop for Deferred<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.kick {
            self.core.kick.wake_by_ref();
        }
        if let Some(after) = self.after.take() {
            self.core.perform(*after);
        }
    }
}
