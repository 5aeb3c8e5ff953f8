//! The driver: has its machine's states happen, on the loop of its thread.
//!
//! It is a source of the loop that has no socket. Whatever happens to it (an attempt that has failed, a listener that is given
//! back, a wish from another thread, a timer) is noted, and has it take a turn; all that follows is done in that turn, so that
//! nothing ever recurses, and a callback that waits is not called again inside of that wait.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use threadwire_core::client::settings::Settings;
use threadwire_core::panic::contain;
use threadwire_core::reconnect::command::Wish;
use threadwire_core::reconnect::hooks::{self, random};
use threadwire_core::reconnect::machine::{Machine, Verdict, is_wanted};
use threadwire_proto::CloseCode;
use threadwire_worker::{EventLoop, Ready, Source, TimerId, Token};

use super::link::{Link, Shared};
use super::session::Session;
use super::{Attempt, Backoff, Cause, Change, Hooks, State};
use crate::{Connection, Error, Listener, dial};

pub(super) struct Driver {
    token: Token,
    shared: Arc<Shared>,
    settings: Settings,
    machine: RefCell<Machine>,
    hooks: RefCell<Hooks>,
    /// The program's listener, while no connection or attempt has it.
    listener: RefCell<Option<Box<dyn Listener>>>,
    step: RefCell<Step>,
    /// What an attempt has failed with.
    failure: RefCell<Option<Error>>,
    /// Whether a callback of the connection's listener failed.
    callback_failed: Cell<bool>,
    /// Whether this side wants the end.
    is_ending: Cell<bool>,
    /// Whether this side wants another connection.
    is_renewing: Cell<bool>,
    /// What this side has dropped the connection for, which would otherwise count as closed by the program.
    dropped_for: RefCell<Option<Cause>>,
    /// Whether the loop has ended: there will be no further turn.
    is_abandoned: Cell<bool>,
    /// Whether a turn is under way, and whether another one is due after it.
    is_busy: Cell<bool>,
    again: Cell<bool>,
}

/// What it is at.
#[derive(Clone)]
enum Step {
    /// The next attempt is due.
    Due,
    /// An attempt is under way.
    Dialing(Rc<dial::Attempt>),
    /// A connection has the listener.
    Connected(Connection),
    /// It waits; without a timer if that has rung.
    Waiting(Option<TimerId>),
    Over,
}

/// Beginning.
impl Driver {
    pub(super) fn start<L: Listener>(
        settings: Settings,
        backoff: Backoff,
        hooks: Hooks,
        hold: Option<usize>,
        make: impl FnOnce(&Link) -> L,
    ) -> Link {
        let machine = Machine::new(backoff);
        let event_loop = EventLoop::current();
        // The place is taken before the driver is made, which has to know it.
        let token = event_loop.attach_idle(|token| Rc::new(Reserved(token)));
        let link = Link(Arc::new(Shared::new(token, hold, machine.state())));
        let listener = make(&link);
        let driver = Rc::new(Driver {
            token,
            shared: Arc::clone(&link.0),
            settings,
            machine: RefCell::new(machine),
            hooks: RefCell::new(hooks),
            listener: RefCell::new(Some(Box::new(listener))),
            step: RefCell::new(Step::Due),
            failure: RefCell::default(),
            callback_failed: Cell::default(),
            is_ending: Cell::default(),
            is_renewing: Cell::default(),
            dropped_for: RefCell::default(),
            is_abandoned: Cell::default(),
            is_busy: Cell::default(),
            again: Cell::default(),
        });
        event_loop.replace(token, driver);
        event_loop.requeue(token, Ready::READABLE);
        link
    }
}

/// Keeps a driver's place on the loop until it is there.
struct Reserved(Token);

impl Source for Reserved {
    fn ready(self: Rc<Self>, _ready: Ready) {}

    fn stop(self: Rc<Self>) {
        // The program has panicked while it made its listener.
        EventLoop::current().detach_idle(self.0);
    }
}

/// What its session tells it.
impl Driver {
    /// A connection is open.
    pub(super) fn opened(&self, ws: &Connection) {
        *self.step.borrow_mut() = Step::Connected(ws.clone());
        self.callback_failed.set(false);
        self.shared.opened(ws.handle());
        let state = self.machine.borrow_mut().opened(Instant::now());
        self.announce(state, self.shared.cause());
    }

    /// The listener has begun: what was held may leave.
    pub(super) fn release(&self) {
        self.shared.release();
    }

    /// Finds out whether the connection is quick enough, and drops it if it is not.
    pub(super) fn measure(self: &Rc<Self>, ws: &Connection) {
        let Some((slowest, rounds)) = self.hooks.borrow().slowest else { return };
        let (driver, measured) = (Rc::downgrade(self), ws.clone());
        ws.measure_roundtrip_then(rounds, move |times| {
            let (Some(driver), Ok(mut times)) = (driver.upgrade(), times) else { return };
            times.sort_unstable();
            let Some(&median) = times.get(times.len() / 2) else { return };
            if median > slowest {
                driver.dropped_for.borrow_mut().get_or_insert(Cause::TooSlow { round_trip: median });
                drop_now(&measured);
            }
        });
    }

    pub(super) fn callback_failed(&self) {
        self.callback_failed.set(true);
    }

    /// The connection, or the attempt, is over.
    pub(super) fn take_back(self: &Rc<Self>, listener: Box<dyn Listener>) {
        *self.listener.borrow_mut() = Some(listener);
        if self.is_abandoned.get() {
            self.turn();
        } else {
            self.turn_soon();
        }
    }
}

/// Turning.
impl Driver {
    fn turn_soon(&self) {
        EventLoop::current().requeue(self.token, Ready::READABLE);
    }

    fn turn(self: &Rc<Self>) {
        if self.is_busy.replace(true) {
            self.again.set(true);
            return;
        }
        self.advance();
        self.is_busy.set(false);
        if self.again.take() {
            self.turn_soon();
        }
    }

    fn advance(self: &Rc<Self>) {
        let wish = self.shared.take_wish();
        let is_stopping = self.is_abandoned.get() || EventLoop::current().is_stopping();
        self.is_ending.set(self.is_ending.get() || is_stopping || wish.is_end());
        self.is_renewing.set(self.is_renewing.get() || matches!(wish, Wish::Renew));
        let is_interrupted = self.is_ending.get() || self.is_renewing.get();
        if self.is_ending.get() {
            self.shared.shut();
        }

        let step = self.step.borrow().clone();
        match step {
            Step::Due | Step::Waiting(None) if is_interrupted => {
                self.follow(self.verdict(), self.shared.cause());
            }
            Step::Due | Step::Waiting(None) => self.begin(),
            Step::Dialing(attempt) => {
                if is_interrupted {
                    attempt.fail(if is_stopping { Error::Stopped } else { Error::Closed });
                }
                // Otherwise it is still under way, or tells its listener of the failure.
                let failure = self.failure.borrow_mut().take();
                if let Some(error) = failure {
                    self.failed(error);
                }
            }
            Step::Connected(ws) => {
                if self.is_renewing.take() {
                    self.dropped_for.borrow_mut().get_or_insert(Cause::Requested);
                }
                if self.listener.borrow().is_some() {
                    return self.ended(&ws);
                }
                match wish {
                    Wish::Close(code, reason) => {
                        // It was checked.
                        let _ = ws.handle().close_with(code, &reason);
                    }
                    Wish::Renew | Wish::Stop => drop_now(&ws),
                    Wish::Nothing => self.shared.release(),
                }
            }
            Step::Waiting(Some(timer)) => {
                if is_interrupted {
                    EventLoop::current().cancel(timer);
                    self.follow(self.verdict(), self.shared.cause());
                }
            }
            Step::Over => {}
        }
    }

    /// What the wishes of this side make of an end.
    fn verdict(&self) -> Verdict {
        if self.is_ending.get() { Verdict::Stop } else { Verdict::Renew }
    }

    /// Whether something has come up that is to be dealt with first.
    fn is_interrupted(&self) -> bool {
        self.shared.has_wish() || EventLoop::current().is_stopping()
    }

    /// Begins an attempt.
    fn begin(self: &Rc<Self>) {
        *self.step.borrow_mut() = Step::Due;
        let (state, cause) = (self.machine.borrow_mut().connecting(), self.shared.cause());
        self.announce(state, cause.clone());
        let State::Connecting { attempt: number } = state else { return };
        let mut attempt = Attempt { settings: self.settings.clone(), number, cause };
        let allowed = if self.is_interrupted() { Ok(()) } else { self.ask_before(&mut attempt) };
        if self.is_interrupted() {
            // There is a turn for it.
            return;
        }
        if let Err(error) = allowed {
            return self.follow(Verdict::GiveUp, Some(Arc::new(Cause::Error(error))));
        }
        let Some(listener) = self.listener.borrow_mut().take() else { return };
        let session = Box::new(Session::new(Rc::clone(self), listener));
        let driver = Rc::clone(self);
        let started = dial::Attempt::start(&attempt.settings, session, move |result| {
            let Err((mut session, error)) = result else { return };
            contain("on_failed", || session.on_failed(&error));
            *driver.failure.borrow_mut() = Some(error);
            // Gives the listener back, and has the driver take a turn.
            drop(session);
        });
        match started {
            Ok(attempt) => *self.step.borrow_mut() = Step::Dialing(attempt),
            Err(error) => self.failed(error),
        }
    }

    /// The attempt has opened no connection.
    fn failed(self: &Rc<Self>, error: Error) {
        self.machine.borrow_mut().failed();
        if self.is_ending.get() || self.is_renewing.get() {
            return self.follow(self.verdict(), self.shared.cause());
        }
        let is_stopped = matches!(error, Error::Stopped);
        let cause = Cause::Error(error);
        let verdict = if is_stopped { Verdict::Stop } else { self.ask_whether_to_retry(&cause) };
        self.follow(verdict, Some(Arc::new(cause)));
    }

    /// The connection has ended.
    fn ended(self: &Rc<Self>, ws: &Connection) {
        let state = self.machine.borrow_mut().closed(Instant::now());
        self.shared.closed();
        *self.step.borrow_mut() = Step::Due;
        // At the end of a thread nobody is told how it ended.
        let closed = ws.handle().closed();
        let wanted = closed.as_ref().is_none_or(|closed| is_wanted(closed, self.callback_failed.get()));
        let dropped_for = self.dropped_for.borrow_mut().take();
        let was_dropped = dropped_for.is_some();
        let cause = dropped_for.or(closed.map(Cause::Closed)).map(Arc::new);
        self.announce(state, cause.clone());
        let verdict = match cause.as_deref() {
            _ if self.is_ending.get() => Verdict::Stop,
            Some(Cause::Requested) => Verdict::Renew,
            Some(cause) if was_dropped || !wanted => self.ask_whether_to_retry(cause),
            _ => Verdict::Stop,
        };
        self.follow(verdict, cause);
    }

    /// Goes on from an end.
    fn follow(self: &Rc<Self>, verdict: Verdict, cause: Option<Arc<Cause>>) {
        self.is_renewing.set(false);
        let random = if verdict == Verdict::Retry { random() } else { 0.0 };
        let at_least = hooks::retry_after(cause.as_deref(), SystemTime::now());
        let state = self.machine.borrow_mut().next(verdict, random, at_least);
        match state {
            State::Waiting { delay, .. } => {
                *self.step.borrow_mut() = Step::Waiting(None);
                self.announce(state, cause);
                self.wait(delay);
            }
            State::GaveUp | State::Stopped => self.end(state, cause),
            _ => {
                *self.step.borrow_mut() = Step::Due;
                self.turn_soon();
            }
        }
    }

    fn wait(self: &Rc<Self>, delay: Duration) {
        if delay.is_zero() {
            return self.turn_soon();
        }
        let driver = Rc::clone(self);
        let timer = EventLoop::current().after(delay, move || {
            *driver.step.borrow_mut() = Step::Waiting(None);
            driver.turn_soon();
        });
        *self.step.borrow_mut() = Step::Waiting(Some(timer));
    }

    /// The end of it all.
    fn end(&self, state: State, cause: Option<Arc<Cause>>) {
        *self.step.borrow_mut() = Step::Over;
        self.shared.shut();
        self.shared.closed();
        self.announce(state, cause);
        let (listener, hooks) = (self.listener.borrow_mut().take(), self.hooks.take());
        // Their values' own drops may call back.
        contain("dropping a listener", || drop((listener, hooks)));
        self.shared.end();
        EventLoop::current().detach_idle(self.token);
    }
}

/// Closes without waiting for the peer's answer.
fn drop_now(ws: &Connection) {
    // It may be closing already.
    let _ = ws.handle().close_with(CloseCode::GOING_AWAY, "");
    ws.flush();
    ws.abort();
}

/// Calling the program.
impl Driver {
    fn announce(&self, state: State, cause: Option<Arc<Cause>>) {
        let change = Change::new(state, self.machine.borrow().connections(), cause);
        tracing::debug!(%change, "reconnecting");
        self.shared.change(change.clone());
        let hook = self.hooks.borrow_mut().on_change.take();
        if let Some(mut hook) = hook {
            contain("on_change", || hook(&change));
            self.hooks.borrow_mut().on_change = Some(hook);
        }
    }

    fn ask_before(&self, attempt: &mut Attempt) -> Result<(), Error> {
        let hook = self.hooks.borrow_mut().before.take();
        let Some(mut hook) = hook else { return Ok(()) };
        let allowed = hooks::ask_before(&mut *hook, attempt);
        self.hooks.borrow_mut().before = Some(hook);
        allowed
    }

    fn ask_whether_to_retry(&self, cause: &Cause) -> Verdict {
        let mut hook = self.hooks.borrow_mut().retry_if.take();
        let verdict = hooks::ask_whether_to_retry(hook.as_deref_mut(), cause);
        if hook.is_some() {
            self.hooks.borrow_mut().retry_if = hook;
        }
        verdict
    }
}

impl Source for Driver {
    fn ready(self: Rc<Self>, _ready: Ready) {
        self.turn();
    }

    fn stop(self: Rc<Self>) {
        self.turn();
    }

    fn abandon(self: Rc<Self>) {
        self.is_abandoned.set(true);
        self.turn();
    }
}
