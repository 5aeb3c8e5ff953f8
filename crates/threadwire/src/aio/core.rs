//! A connection as its halves and handles share it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use threadwire_proto::deflate::Agreement;
use threadwire_proto::{
    CloseCode, CloseFrame, Compress, Level, OpCode, OwnedMessage, Role, RoundTripSummary,
    SendOptions as FrameOptions,
};
use threadwire_worker::Lock;
use tokio::runtime;
use tokio::task::coop;

use super::attendant::{Attendant, now};
use super::link::{Ear, Link};
use super::received::Arrival;
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
    link: Arc<Link>,
    /// The link as the stream's waker for output, and its ear for input.
    waker: Waker,
    ear: Waker,
    runtime: runtime::Handle,
    pub(super) config: Arc<Config>,
    agreed: Option<Box<Agreed>>,
}

/// What a connection begins with, when its opening handshake is done.
pub(super) struct Opening {
    pub(super) role: Role,
    /// Whether messages are received as a whole, or in parts.
    pub(super) level: Level,
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
        let Opening { role, level, stream, config, agreed, deflate, output, received, early } = opening;
        let runtime = runtime::Handle::current();
        let attendant = Attendant::current(&runtime);
        let unparsed =
            if early < received.len() { Unparsed::with(received, early) } else { Unparsed::default() };
        let core = Arc::new_cyclic(|core| {
            let link = Arc::new(Link::new(core.clone(), attendant));
            let protocol = config.open(role, level, deflate);
            let mut session = Session::new(protocol, output);
            session.begin_keepalive(&config, now());
            session.set_more_follows(!unparsed.is_empty());
            let state = Lock::new(State::new(stream, session, unparsed, level));
            let waker = Waker::from(Arc::clone(&link));
            let ear = Waker::from(Arc::new(Ear(Arc::clone(&link))));
            Core { state, waker, ear, link, runtime, config, agreed }
        });
        core.with(|state, env| {
            state.schedule(env);
            state.write(env);
            state.settle(env);
        });
        // If nobody does, the attendant receives.
        core.link.watch();
        core
    }

    /// What tells connections apart.
    pub(super) fn id(core: &Core) -> usize {
        std::ptr::from_ref(core).addr()
    }

    /// Has `call` work with the connection under its lock, and then does what must not be done there.
    #[inline]
    pub(super) fn with<T>(&self, call: impl FnOnce(&mut State, Env<'_>) -> T) -> T {
        let buffers = Buffers::current();
        let session = session::Env { config: &self.config, buffers: &buffers };
        let env = Env { session, link: &self.link, waker: &self.waker, ear: &self.ear };
        let mut state = self.state.lock();
        let result = call(&mut state, env);
        // The attendant says that it comes before it takes the lock: what is seen here can't be too old.
        let calls = mem::take(&mut state.needs_attendant) && !self.link.is_queued();
        let after = state.after.take();
        drop(state);
        if calls {
            self.link.wake_by_ref();
        }
        if let Some(after) = after {
            self.perform(*after);
        }
        result
    }

    #[cold]
    fn perform(&self, after: After) {
        let After { woken, watch, stream } = after;
        if stream.is_some() {
            // The connection has ended: its stream is dropped.
            drop(stream);
            self.agreed.iter().for_each(|agreed| agreed.give_permit_back());
        }
        if watch {
            self.link.watch();
        }
        // The code of some executor: the others are told whatever it does.
        for waker in woken {
            threadwire_guard::contain("a waker", || waker.wake());
        }
    }

    pub(super) fn agreed(&self) -> Option<&Agreed> {
        self.agreed.as_deref()
    }

    pub(super) fn deflate(&self) -> Option<Agreement> {
        self.with(|state, _| state.session.deflate())
    }

    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.with(|state, _| state.stream()?.socket()?.peer_addr())
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.with(|state, _| state.stream()?.socket()?.local_addr())
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> Option<TlsInfo> {
        self.with(|state, _| Some(state.stream().ok()?.tls()?.info()))
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("is_open", &self.is_open())
            .field("buffered", &self.buffered())
            .finish_non_exhaustive()
    }

    pub(super) fn is_open(&self) -> bool {
        self.with(|state, _| state.session.is_open())
    }

    pub(super) fn buffered(&self) -> usize {
        self.with(|state, _| state.session.buffered())
    }

    pub(super) fn dropped(&self) -> u64 {
        self.with(|state, _| state.session.dropped())
    }

    pub(super) fn round_trips(&self) -> Option<RoundTripSummary> {
        self.with(|state, _| state.session.round_trips())
    }

    pub(super) fn outcome(&self) -> Option<Arc<Closed>> {
        self.with(|state, _| state.outcome().cloned())
    }

    pub(super) fn runtime(&self) -> &runtime::Handle {
        &self.runtime
    }

    /// Receives. What was sent before leaves, where nothing has arrived. Some messages that have arrived together are taken at
    /// once, and lie in `ahead`, which is empty.
    #[inline]
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        ahead: &mut VecDeque<OwnedMessage>,
    ) -> Poll<Result<Option<Arrival>, Error>> {
        self.with(|state, env| state.poll_recv(cx, ahead, env))
    }

    /// Sends a frame, once no more waits than the low watermark, if it was more than the high one. `number` is the place of
    /// who waits.
    #[inline]
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        (opcode, fin, payload): (OpCode, bool, &[u8]),
        options: SendOptions,
        number: &mut Option<u64>,
    ) -> Poll<Result<(), Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        // Dropped when the lock is not held any more.
        let mut forgotten = None;
        let sent = ready!(self.with(|state, env| {
            let is_whole = fin && opcode != OpCode::Continuation;
            let when_full = match is_whole {
                // Such a send does not wait, but room for it ends all the same.
                true if opcode.is_control() => WhenFull::Error,
                true => env.session.config.policy_of_waiting(options.when_full),
                false => options.when_full.unwrap_or(WhenFull::Wait),
            };
            if when_full != WhenFull::Wait {
                return Poll::Ready(state.send_or(opcode, payload, when_full, options.compress, env));
            }
            if !state.has_turn(cx, number) {
                return Poll::Pending;
            }
            if number.is_some() {
                forgotten = state.senders.forget(number);
            }
            Poll::Ready(state.send_frame(opcode, fin, payload, options.compress.into(), env))
        }));
        drop(forgotten);
        turn.made_progress();
        Poll::Ready(sent)
    }

    /// Waits until there is room to send.
    pub(super) fn poll_room(
        &self,
        cx: &mut Context<'_>,
        number: &mut Option<u64>,
    ) -> Poll<Result<(), Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        let room = ready!(self.with(|state, _| match state.has_turn(cx, number) {
            true => Poll::Ready(if state.session.is_open() { Ok(()) } else { Err(Error::Closed) }),
            false => Poll::Pending,
        }));
        turn.made_progress();
        Poll::Ready(room)
    }

    /// Sends a message at once.
    pub(super) fn send_now(&self, opcode: OpCode, fin: bool, payload: &[u8]) -> Result<(), Error> {
        self.with(|state, env| state.send_frame(opcode, fin, payload, FrameOptions::default(), env))
    }

    /// Waits until all that was sent has left, or the connection has ended.
    pub(super) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        number: &mut Option<u64>,
    ) -> Poll<Result<(), Error>> {
        self.with(|state, env| {
            state.write(env);
            if state.outcome().is_some() || state.session.is_broken() {
                return Poll::Ready(Err(Error::Closed));
            }
            if state.session.is_drained() {
                return Poll::Ready(Ok(()));
            }
            state.senders.note(number, cx.waker());
            Poll::Pending
        })
    }

    /// Waits until the connection has ended.
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>, number: &mut Option<u64>) -> Poll<Arc<Closed>> {
        self.with(|state, _| {
            if let Some(outcome) = state.outcome() {
                return Poll::Ready(Arc::clone(outcome));
            }
            state.close_waiters.note(number, cx.waker());
            Poll::Pending
        })
    }

    /// Sends a message at once, or does what the policy says where there is no room for it.
    pub(super) fn send_or(
        &self,
        opcode: OpCode,
        payload: &[u8],
        when_full: WhenFull,
        compress: Compress,
    ) -> Result<(), Error> {
        self.with(|state, env| state.send_or(opcode, payload, when_full, compress, env))
    }

    /// The same for a message that others share. Without a policy the connection's own decides.
    pub(super) fn send_shared(
        &self,
        message: &mut SharedMessage<'_>,
        when_full: Option<WhenFull>,
    ) -> Result<(), Error> {
        self.with(|state, env| {
            let framed = message.framed(state.session.sharing(), env.session.buffers);
            state.send_shared(framed, when_full.unwrap_or(self.config.when_full), env)
        })
    }

    /// Waits until there is room for a payload of this length, or the connection has closed.
    pub(super) fn poll_room_for(
        &self,
        cx: &mut Context<'_>,
        number: &mut Option<u64>,
        length: usize,
    ) -> Poll<()> {
        self.with(|state, _| {
            if !state.session.is_open() || state.session.has_room(0, length, self.config.max_buffered) {
                return Poll::Ready(());
            }
            state.senders.note(number, cx.waker());
            Poll::Pending
        })
    }

    /// How many bytes have left.
    pub(super) fn written(&self) -> u64 {
        self.with(|state, _| state.session.written())
    }

    /// Begins to close, and tries once to have that leave.
    pub(super) fn close(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        self.with(|state, env| {
            state.close(CloseFrame { code: Some(code), reason }, env)?;
            state.write(env);
            Ok(())
        })
    }

    pub(super) fn abort(&self, error: Option<Error>) {
        self.with(|state, env| state.abort(error, env));
    }

    /// An owner lets go of the connection.
    pub(super) fn release(&self, is_receiver: bool) {
        self.with(|state, env| state.release(is_receiver, env));
    }

    /// Closes without waiting for the peer's answer.
    pub(super) fn close_now(&self) {
        self.with(State::close_now);
    }
}
