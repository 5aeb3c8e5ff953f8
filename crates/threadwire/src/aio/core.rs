//! A connection as its halves and handles share it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use threadwire_proto::deflate::Agreement;
use threadwire_proto::{
    CloseCode, CloseFrame, Compress, Level, OpCode, OwnedMessage, Role, RoundTripSummary, SendOptions,
};
use tokio::runtime;
use tokio::task::coop;

use super::driver;
use super::flusher::{Flusher, Kick};
use super::received::Event;
use super::stream::Stream;
use super::wire::{After, Means, Wire};
#[cfg(feature = "tls")]
use crate::tls::TlsInfo;
use crate::{Closed, Config, Error, WhenFull};
use threadwire_core::agreed::Agreed;
use threadwire_core::session::buffers::Buffers;
use threadwire_core::session::unparsed::Unparsed;

pub(super) struct Core {
    wire: Mutex<Wire>,
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
        let rest = if early < received.len() { Unparsed::with(received, early) } else { Unparsed::default() };
        let core = Arc::new_cyclic(|core| {
            let kick = Arc::new(Kick::new(core.clone(), flusher));
            let protocol = config.open(role, Level::Messages, deflate);
            let wire = Mutex::new(Wire::new(stream, protocol, &config, output, rest));
            Core { wire, waker: Waker::from(Arc::clone(&kick)), kick, runtime, config, agreed }
        });
        core.flush();
        core
    }

    #[inline]
    pub(super) fn lock(&self) -> Locked<'_> {
        let wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { wire, deferred: Deferred { core: self, kick: false, after: None } }
    }

    #[cold]
    fn perform(&self, after: After) {
        let After { woken, drive, stream } = after;
        if stream.is_some() {
            // It has ended.
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
        self.lock().deflate()
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
        let wire = self.lock();
        f.debug_struct(name)
            .field("is_open", &wire.is_open())
            .field("buffered", &wire.buffered())
            .finish_non_exhaustive()
    }

    pub(super) fn outcome(&self) -> Option<Arc<Closed>> {
        self.lock().outcome().cloned()
    }

    /// Writes what waits; the stream takes more again, or somebody has sent something.
    pub(super) fn flush(&self) {
        self.lock().flush(self.means(&Buffers::current()));
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
        let local = Buffers::current();
        let mut wire = self.lock();
        match wire.poll_event(cx, &local, ahead) {
            Poll::Ready(Some(event)) => {
                turn.made_progress();
                wire.kick_if_needed();
                return Poll::Ready(Ok(Some(event)));
            }
            Poll::Ready(None) => {
                wire.write(self.means(&local));
                wire.settle(&local);
                if let Some(end) = wire.end_of_stream() {
                    turn.made_progress();
                    return Poll::Ready(end.map(|()| None));
                }
            }
            Poll::Pending => wire.write(self.means(&local)),
        }
        let is_known = !wire.note_reader(cx.waker());
        wire.look_at_pulse(cx, is_known, self.means(&local));
        match wire.end_of_stream() {
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
        compress: Compress,
        number: &mut Option<u64>,
        reads: bool,
    ) -> Poll<Result<(), Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        let local = Buffers::current();
        // Dropped when the lock is not held any more.
        let _forgotten;
        let mut wire = self.lock();
        if reads && (wire.is_time_to_read() || wire.is_broken()) {
            wire.read_ahead(cx, &local);
        }
        if opcode.is_control() && fin {
            // It does not wait, but there is an end to it all the same.
            turn.made_progress();
            return Poll::Ready(wire.send_or(opcode, payload, WhenFull::Error, compress, self.means(&local)));
        }
        if wire.is_paused() {
            if reads {
                wire.read_ahead(cx, &local);
            }
            if wire.is_paused() {
                wire.senders.note(number, cx.waker());
                return Poll::Pending;
            }
        }
        _forgotten = wire.senders.forget(number);
        turn.made_progress();
        Poll::Ready(wire.send_frame(opcode, fin, payload, compress.into(), self.means(&local)))
    }

    /// Waits until there is room to send.
    pub(super) fn poll_room(
        &self,
        cx: &mut Context<'_>,
        number: &mut Option<u64>,
        reads: bool,
    ) -> Poll<Result<(), Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        let mut wire = self.lock();
        if reads && (wire.is_paused() || wire.is_time_to_read()) {
            wire.read_ahead(cx, &Buffers::current());
        }
        if wire.is_paused() {
            wire.senders.note(number, cx.waker());
            return Poll::Pending;
        }
        turn.made_progress();
        Poll::Ready(if wire.is_open() { Ok(()) } else { Err(Error::Closed) })
    }

    /// Sends a message at once.
    pub(super) fn send_now(&self, opcode: OpCode, fin: bool, payload: &[u8]) -> Result<(), Error> {
        let local = Buffers::current();
        self.lock().send_frame(opcode, fin, payload, SendOptions::default(), self.means(&local))
    }

    /// Waits until all that was sent has left, or the connection has ended.
    pub(super) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        number: &mut Option<u64>,
    ) -> Poll<Result<(), Error>> {
        let mut wire = self.lock();
        wire.write(self.means(&Buffers::current()));
        if wire.outcome().is_some() || wire.is_broken() {
            return Poll::Ready(Err(Error::Closed));
        }
        if wire.is_drained() {
            return Poll::Ready(Ok(()));
        }
        wire.senders.note(number, cx.waker());
        Poll::Pending
    }

    /// Waits until the connection has ended.
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>, number: &mut Option<u64>) -> Poll<Arc<Closed>> {
        let mut wire = self.lock();
        if let Some(outcome) = wire.outcome() {
            return Poll::Ready(Arc::clone(outcome));
        }
        wire.mourners.note(number, cx.waker());
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
        let local = Buffers::current();
        self.lock().send_or(opcode, payload, when_full, compress, self.means(&local))
    }

    /// Waits until there is room for a payload of this length, or the connection has closed.
    pub(super) fn poll_room_for(
        &self,
        cx: &mut Context<'_>,
        number: &mut Option<u64>,
        length: usize,
    ) -> Poll<()> {
        let mut wire = self.lock();
        if !wire.is_open() || wire.has_room(length, self.config.max_buffered) {
            return Poll::Ready(());
        }
        wire.senders.note(number, cx.waker());
        Poll::Pending
    }

    /// Begins to close, and tries once to have that leave.
    pub(super) fn close(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        let local = Buffers::current();
        let mut wire = self.lock();
        wire.close(CloseFrame { code: Some(code), reason }, &local)?;
        wire.write(self.means(&local));
        Ok(())
    }

    pub(super) fn abort(&self, error: Option<Error>) {
        let mut wire = self.lock();
        if !wire.is_over() {
            wire.abort(error, &Buffers::current());
        }
    }

    /// An owner lets go of the connection.
    pub(super) fn release(&self, is_receiver: bool) {
        let local = Buffers::current();
        let mut wire = self.lock();
        if wire.release(is_receiver, &local) {
            wire.write(self.means(&local));
        }
    }

    pub(super) fn runtime(&self) -> &runtime::Handle {
        &self.runtime
    }

    #[inline]
    pub(super) fn means<'a>(&'a self, local: &'a Buffers) -> Means<'a> {
        Means { config: &self.config, waker: &self.waker, runtime: &self.runtime, local }
    }

    pub(super) fn round_trips(&self) -> Option<RoundTripSummary> {
        self.lock().round_trips()
    }
}

/// A connection that is locked. Letting it go does what must not be done under the lock.
pub(super) struct Locked<'a> {
    // The lock is let go first: fields are dropped in this order.
    wire: MutexGuard<'a, Wire>,
    deferred: Deferred<'a>,
}

impl Deref for Locked<'_> {
    type Target = Wire;

    #[inline]
    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        // Whoever flushes says so before it takes the lock: what is seen here can't be too old.
        if mem::take(&mut self.wire.kick) && !self.deferred.core.kick.is_queued() {
            self.deferred.kick = true;
        }
        self.deferred.after = self.wire.after.take();
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
