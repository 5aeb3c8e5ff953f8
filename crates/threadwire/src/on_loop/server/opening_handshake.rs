//! The opening handshake of an accepted connection on an event loop: does what the [machine of the opening handshake](threadwire_core::server::opening_handshake) says.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use mio::Interest;
use threadwire_proto::Role;
use threadwire_worker::{EventLoop, Ready, Source, TimerId, Token};

use super::accept::Arrival;
use super::worker::ServerWorker;
use crate::connection::Opening;
use crate::connection::stream::Stream;
use crate::{Connection, Error, Listener, Request};
use threadwire_core::server::check::plain;
use threadwire_core::server::opening_handshake::{Early, Granted, OpeningHandshake, Step};
use threadwire_core::server::reply::Answer;
use threadwire_core::server::tally::Pending;
use threadwire_core::session::buffers::Buffers;
use threadwire_core::session::outbox::Outbox;
use threadwire_core::transport::Transport as _;

/// A handshake under way.
pub(super) struct Upgrading {
    worker: Rc<ServerWorker>,
    token: Token,
    /// Missing while the program is asked, which may wait, and when the handshake is over.
    state: RefCell<Option<State>>,
    /// Readiness that came while the program was asked.
    missed: Cell<Ready>,
    /// Why the connection is to be dropped, if that was decided while the program was asked.
    verdict: RefCell<Option<Error>>,
    timer: Cell<Option<TimerId>>,
    /// Until it is over, a shutdown waits for it.
    pending: Cell<Option<Pending>>,
    /// Its number among the pending handshakes of its worker.
    number: Cell<Option<u64>>,
}

struct State {
    stream: Stream,
    opening: OpeningHandshake,
    /// An answer that is no upgrade, as far as it has not left.
    answer: Option<Outbox>,
    /// Whether the end of the stream was announced: then it is read on to.
    ends: bool,
    may_have_more: bool,
    /// Whether the peer's end is awaited: whatever it sends means nothing any more.
    lingers: bool,
    /// Whether what the peer sends can't be decrypted.
    is_garbled: bool,
}

/// Begins the handshake of a connection that was accepted, on this thread's loop.
pub(super) fn start(worker: &Rc<ServerWorker>, arrival: Arrival, pending: Option<Pending>) {
    let Arrival { stream, peer, since } = arrival;
    let mut opening = OpeningHandshake::new(Arc::clone(&worker.settings), peer, since);
    let step = opening.begin();
    let state = State::new(stream, opening);
    let (state, step) = if let Step::Wrap = step { state.wrap() } else { (state, step) };
    if let Step::Over(result) = step {
        return log(result);
    }
    let event_loop = EventLoop::current();
    let State { stream, opening, .. } = state;
    let deadline = opening.deadline();
    let mut upgrading = None;
    let interest = Interest::READABLE | Interest::WRITABLE;
    let attached = event_loop.attach(stream, interest, |stream, token| {
        let state = State::new(stream, opening);
        let source = Rc::new(Upgrading {
            worker: Rc::clone(worker),
            token,
            state: RefCell::new(Some(state)),
            missed: Cell::default(),
            verdict: RefCell::default(),
            timer: Cell::default(),
            pending: Cell::new(pending),
            number: Cell::default(),
        });
        upgrading = Some(Rc::clone(&source));
        source
    });
    match (attached, upgrading) {
        (Ok(_), Some(upgrading)) => {
            let late = Rc::downgrade(&upgrading);
            let timer = deadline.map(|deadline| {
                event_loop.at(deadline, move || {
                    if let Some(upgrading) = late.upgrade() {
                        upgrading.condemn(OpeningHandshake::too_late());
                    }
                })
            });
            upgrading.timer.set(timer);
            upgrading.number.set(Some(worker.begin_handshake(&upgrading)));
            if worker.is_shutting_down() {
                upgrading.shut_down();
            }
        }
        (Err(error), _) => tracing::warn!(%error, "can't watch an accepted connection"),
        (Ok(_), None) => {}
    }
}

fn log(result: Result<(), Error>) {
    match result {
        Ok(()) => tracing::debug!("a peer has left that was answered otherwise than by a connection"),
        Err(error) => tracing::debug!(%error, "dropped a connection before it was open"),
    }
}

impl State {
    fn new(stream: Stream, opening: OpeningHandshake) -> State {
        State {
            stream,
            opening,
            answer: None,
            ends: false,
            may_have_more: false,
            lingers: false,
            is_garbled: false,
        }
    }

    /// Puts TLS and the trace around the stream.
    fn wrap(mut self) -> (State, Step) {
        #[cfg(feature = "tls")]
        match self.opening.session() {
            Ok(Some(session)) => self.stream = Stream::over_tls(self.stream, session),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "can't serve an accepted connection");
                return (self, Step::Over(Err(error)));
            }
        }
        let trace = self.opening.settings().config.trace_in_force();
        self.stream = self.stream.traced_after(trace.as_ref(), Role::Server, self.opening.early());
        self.may_have_more = true;
        let step = self.opening.wrapped();
        (self, step)
    }

    /// Writes what is left of an answer; without one, reads once. Returns how much was read, too.
    fn turn(&mut self, input: &mut [u8]) -> (Step, usize) {
        self.may_have_more = false;
        if self.answer.is_some() {
            return (self.write(), 0);
        }
        let read = if self.is_garbled { self.stream.read_away(input) } else { self.stream.read(input) };
        match read {
            Ok(count) => {
                let may_have_more = self.lingers || self.stream.may_have_more(count, input.len());
                self.may_have_more = self.ends || may_have_more;
                (self.opening.advance(&input[..count]), count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (Step::Read, 0),
            Err(error) => {
                let step = self.opening.failed(error);
                self.is_garbled = matches!(step, Step::Linger);
                (step, 0)
            }
        }
    }

    fn write(&mut self) -> Step {
        let Some(answer) = &mut self.answer else { return Step::Read };
        answer.unblock();
        if let Err(error) = answer.write(&mut self.stream, &Buffers::current()) {
            return self.opening.failed(error);
        }
        if !answer.is_empty() {
            return Step::Read;
        }
        self.answer = None;
        self.opening.answered()
    }

    /// Tells the peer that nothing more will come.
    fn linger(&mut self) -> Step {
        // Where that fails, so will reading.
        let _ = self.stream.shutdown_write();
        (self.lingers, self.may_have_more) = (true, true);
        Step::Read
    }
}

impl Upgrading {
    /// Does what follows from a step, until more has to arrive or to leave. `count` bytes of `input` are what came last.
    fn follow(&self, mut state: State, mut step: Step, count: usize, input: &mut [u8]) {
        loop {
            step = match step {
                Step::Read => return self.keep(state),
                Step::Wrap => {
                    let (wrapped, step) = state.wrap();
                    state = wrapped;
                    step
                }
                Step::Ask(mut request, early) => match self.ask(&mut state, &mut request) {
                    Ok((listener, granted)) => {
                        return self.open(state, listener, granted, early, count, input);
                    }
                    Err(step) => step,
                },
                Step::Answer(bytes) => {
                    state.answer = Some(Outbox::with(bytes));
                    state.write()
                }
                Step::Linger => state.linger(),
                Step::Over(result) => {
                    log(result);
                    return self.end(state);
                }
            }
        }
    }

    /// Asks the program, and checks the request: a connection, or what is done instead.
    fn ask(&self, state: &mut State, request: &mut Request) -> Result<(Box<dyn Listener>, Granted), Step> {
        let opening = &mut state.opening;
        #[cfg(feature = "tls")]
        request.set_tls(state.stream.tls());
        let answer = self.worker.hook.ask(request).0;
        if let Some(why) = self.verdict.take() {
            return Err(Step::Over(Err(why)));
        }
        let (listener, headers, subprotocol) = match answer {
            Answer::Respond(response) => return Err(opening.refuse(&response, Ok(()))),
            Answer::Upgrade { listener, headers, subprotocol } => (listener, headers, subprotocol),
        };
        let granted = match opening.grant(request, headers, &subprotocol) {
            Ok(granted) => granted,
            Err(refusal) => {
                threadwire_guard::discard(listener);
                return Err(opening.refuse(&refusal.response, Err(refusal.error)));
            }
        };
        match self.refuse_for_shutdown(opening) {
            Some(step) => {
                threadwire_guard::discard(listener);
                Err(step)
            }
            None => match listener.map_or_else(|| self.worker.listener(), Ok) {
                Ok(listener) => Ok((listener, granted)),
                Err(error) => {
                    tracing::warn!(%error, "can't serve a connection: it is refused with status 503");
                    Err(opening.refuse(&plain(503, "not enough resources\n"), Err(error.into())))
                }
            },
        }
    }

    fn open(
        &self,
        state: State,
        listener: Box<dyn Listener>,
        granted: Granted,
        early: Early,
        count: usize,
        input: &mut [u8],
    ) {
        self.stop_timer();
        let mut output = Buffers::current().lend_output();
        granted.encode(&mut output);
        let (mut own, is_full);
        let early = match early {
            Early::Input(start) => {
                is_full = state.stream.may_have_more(count, input.len());
                &mut input[start..count]
            }
            Early::Own(bytes) => {
                // How much the last read took is not known any more: look once too often.
                (own, is_full) = (bytes, true);
                &mut own[..]
            }
        };
        let missed = self.missed.take();
        let unread = Ready {
            readable: is_full || state.ends || missed.readable,
            writable: missed.writable,
            read_closed: state.ends || missed.read_closed,
        };
        // From here on the connection itself is pending.
        self.leave();
        Connection::open(Opening {
            role: Role::Server,
            stream: state.stream,
            token: self.token,
            listener,
            site: Rc::clone(self.worker.site()),
            agreed: granted.agreed,
            deflate: granted.deflate,
            output,
            early,
            unread,
        });
    }

    /// The handshake goes on when more has arrived, or can leave.
    fn keep(&self, state: State) {
        let more = if state.may_have_more { Ready::READABLE } else { Ready::default() };
        *self.state.borrow_mut() = Some(state);
        EventLoop::current().requeue(self.token, self.missed.take() | more);
    }

    /// The connection is to be dropped; if the program is being asked, as soon as it has answered.
    pub(super) fn condemn(&self, why: Error) {
        let state = self.state.borrow_mut().take();
        match state {
            Some(state) => {
                log(Err(why));
                self.end(state);
            }
            None => *self.verdict.borrow_mut() = Some(why),
        }
    }

    pub(super) fn is_condemned(&self) -> bool {
        self.verdict.borrow().is_some()
    }

    /// The server shuts down: the peer is told so, unless it is being told something else. If the program is being asked,
    /// that happens when it has answered.
    pub(super) fn shut_down(&self) {
        let state = self.state.borrow_mut().take();
        let Some(mut state) = state else { return };
        match self.refuse_for_shutdown(&mut state.opening) {
            Some(step) => self.follow(state, step, 0, &mut []),
            None => self.keep(state),
        }
    }

    /// Answers with 503, if the server shuts down.
    fn refuse_for_shutdown(&self, opening: &mut OpeningHandshake) -> Option<Step> {
        let step = opening.shut_down(&self.worker.order()?.refusal)?;
        self.worker.tally().refused();
        Some(step)
    }

    /// The program is being asked on this very thread, and waits for the shutdown: that does not wait for it then.
    pub(super) fn excuse_if_asking(&self) {
        if self.state.borrow().is_none() {
            self.pending.take();
        }
    }

    /// The time of the shutdown has passed.
    pub(super) fn give_up(&self) {
        self.condemn(Error::other("the time to shut down has passed"));
        // Also if the program does not answer.
        self.pending.take();
    }

    fn end(&self, state: State) {
        self.stop_timer();
        self.leave();
        EventLoop::current().detach_and_close(self.token, state.stream);
    }

    /// It is over, whatever came of it.
    fn leave(&self) {
        if let Some(number) = self.number.take() {
            self.worker.end_handshake(number);
        }
        self.pending.take();
    }

    fn stop_timer(&self) {
        if let Some(timer) = self.timer.take() {
            EventLoop::current().cancel(timer);
        }
    }
}

impl Source for Upgrading {
    fn ready(self: Rc<Self>, ready: Ready) {
        let state = self.state.borrow_mut().take();
        let Some(mut state) = state else { return self.missed.set(self.missed.get() | ready) };
        state.ends |= ready.read_closed;
        if ready.writable {
            state.stream.writable();
        }
        let local = Buffers::current();
        let mut input = local.lend_input();
        let (step, count) = state.turn(&mut input);
        self.follow(state, step, count, &mut input);
        local.return_input(input);
    }

    fn stop(self: Rc<Self>) {
        self.condemn(Error::Stopped);
    }
}
