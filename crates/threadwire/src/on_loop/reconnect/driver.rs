//! The driver of reconnecting on a loop: carries out what the conductor says.
//!
//! It is a source of the loop that has no socket. Whatever happens (an attempt that has failed, a listener that is given back, a
//! command from another thread, a timer) is noted, and has the driver take a turn; all that follows is done in that turn, so
//! that nothing ever recurses, and a callback that waits is not called again inside of that wait.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant, SystemTime};

use threadwire_core::client::settings::Settings;
use threadwire_core::panic::catch;
use threadwire_core::reconnect::conductor::{Conductor, Effect, Event};
use threadwire_core::reconnect::retry::{is_worth_it, random};
use threadwire_core::reconnect::shared::SharedState;
use threadwire_guard::contain;
use threadwire_worker::{EventLoop, Placeholder, Ready, Remote, Source, TimerId, Token};

use super::lent_listener::LentListener;
use super::{Attempt, Change, Hooks, Reconnect, ReconnectHandle};
use crate::on_loop::dial;
use crate::{Connection, Error, Handle, Listener};

pub(super) struct Driver {
    token: Token,
    shared: Arc<SharedState<Handle>>,
    settings: Settings,
    conductor: RefCell<Conductor>,
    hooks: RefCell<Hooks>,
    /// The program's listener, while no connection or attempt has it.
    listener: RefCell<Option<Box<dyn Listener>>>,
    /// The attempt that the program has allowed.
    allowed: RefCell<Option<Attempt>>,
    under_way: RefCell<UnderWay>,
    /// Whether the loop has ended: there will be no further turn.
    is_abandoned: Cell<bool>,
    /// Whether a turn is under way, and whether another one is due after it.
    is_busy: Cell<bool>,
    again: Cell<bool>,
}

/// What the driver waits for.
#[derive(Clone)]
enum UnderWay {
    Nothing,
    Attempt(Rc<dial::Attempt>),
    /// It has the listener.
    Connection(Connection),
    Timer(TimerId),
    /// The next turn, as after a timer that has rung.
    Turn,
}

/// Beginning.
impl Driver {
    pub(super) fn start<L: Listener>(
        reconnect: Reconnect,
        make: impl FnOnce(&ReconnectHandle) -> L,
    ) -> ReconnectHandle {
        let Reconnect { settings, backoff, hooks, hold, slowest } = reconnect;
        let mut conductor = Conductor::new(backoff);
        if let Some((slowest, rounds)) = slowest {
            conductor.slower_than(slowest, rounds);
        }
        let event_loop = EventLoop::current();
        // The place is taken before the driver is made, which has to know it.
        let token = event_loop.attach_idle(|token| {
            // If the program panics while it makes its listener, the placeholder stays until the end of the loop.
            Rc::new(Placeholder(move || EventLoop::current().detach_idle(token)))
        });
        let owner = event_loop.remote();
        let shared = SharedState::new(owner.clone(), conductor.state());
        shared.set_driver(Waker::from(Arc::new(Nudge { owner, token })));
        if let Some(bytes) = hold {
            shared.hold(bytes);
        }
        let handle = ReconnectHandle(Arc::clone(&shared));
        let listener = make(&handle);
        let driver = Rc::new(Driver {
            token,
            shared,
            settings,
            conductor: RefCell::new(conductor),
            hooks: RefCell::new(hooks),
            listener: RefCell::new(Some(Box::new(listener))),
            allowed: RefCell::default(),
            under_way: RefCell::new(UnderWay::Nothing),
            is_abandoned: Cell::default(),
            is_busy: Cell::default(),
            again: Cell::default(),
        });
        event_loop.replace(token, driver);
        event_loop.requeue(token, Ready::READABLE);
        handle
    }
}

/// Has the driver take a turn, from any thread.
struct Nudge {
    owner: Remote,
    token: Token,
}

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        let token = self.token;
        // A loop that has ended has ended the driver.
        let _ = self.owner.post(move |event_loop| event_loop.requeue(token, Ready::READABLE));
    }
}

/// What its session tells it.
impl Driver {
    /// A connection is open.
    pub(super) fn opened(self: &Rc<Self>, ws: &Connection) {
        self.set(UnderWay::Connection(ws.clone()));
        self.shared.opened(ws.handle());
        self.on(Event::Opened(Instant::now()));
        self.carry_out();
    }

    /// The listener has begun.
    pub(super) fn ready(self: &Rc<Self>) {
        self.on(Event::Ready);
        self.carry_out();
    }

    /// A call of the listener that is not for an open connection.
    pub(super) fn calling(&self, call: impl FnOnce()) {
        self.shared.calling(call);
    }

    pub(super) fn callback_failed(&self) {
        self.on(Event::CallbackFailed(None));
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
        self.take_news();
        self.look_around();
        while let Some(effect) = self.next() {
            self.perform(effect);
            // Callbacks of the program may have taken their time.
            self.take_news();
        }
        self.is_busy.set(false);
        if self.again.take() {
            self.turn_soon();
        }
    }

    fn is_stopping(&self) -> bool {
        self.is_abandoned.get() || EventLoop::current().is_stopping()
    }

    /// Commands, first of all.
    fn take_news(&self) {
        if let Some((command, has_room)) = self.shared.take_news() {
            self.on(Event::Commanded(command));
            if has_room {
                self.on(Event::Room);
            }
        }
        if self.is_stopping() {
            self.shared.shut();
            self.on(Event::Stopping);
        }
    }

    /// What has happened to that which is under way.
    fn look_around(&self) {
        let under_way = self.under_way.borrow().clone();
        match under_way {
            UnderWay::Connection(ws) if self.listener.borrow().is_some() => {
                self.set(UnderWay::Nothing);
                self.shared.closed();
                // At the end of a thread nobody is told how it ended.
                let closed = ws.handle().closed();
                self.on(Event::Ended { now: Instant::now(), closed });
            }
            UnderWay::Turn => {
                self.set(UnderWay::Nothing);
                self.on(Event::Rung);
            }
            _ => {}
        }
    }

    fn on(&self, event: Event) {
        self.conductor.borrow_mut().on(event);
    }

    fn next(&self) -> Option<Effect> {
        self.conductor.borrow_mut().next_effect()
    }

    fn carry_out(self: &Rc<Self>) {
        while let Some(effect) = self.next() {
            self.perform(effect);
        }
    }

    fn set(&self, under_way: UnderWay) {
        let before = self.under_way.replace(under_way);
        if let UnderWay::Timer(timer) = before {
            EventLoop::current().cancel(timer);
        }
    }
}

/// Effects.
impl Driver {
    fn perform(self: &Rc<Self>, effect: Effect) {
        match effect {
            Effect::Tell(change) => self.announce(&change),
            Effect::Ask { number, cause } => {
                let mut attempt = Attempt { settings: self.settings.clone(), number, cause };
                match self.ask_before(&mut attempt) {
                    Ok(()) => {
                        *self.allowed.borrow_mut() = Some(attempt);
                        self.on(Event::Allowed);
                    }
                    Err(error) => self.on(Event::Forbidden(error)),
                }
            }
            Effect::Dial => self.dial(),
            Effect::Cancel => {
                let under_way = self.under_way.borrow().clone();
                if let UnderWay::Attempt(attempt) = under_way {
                    attempt.fail(if self.is_stopping() { Error::Stopped } else { Error::Closed });
                }
            }
            Effect::Release => self.shared.release(),
            Effect::Measure { rounds } => self.with_connection(|ws| {
                let driver = Rc::downgrade(self);
                ws.measure_roundtrip_then(rounds, move |times| {
                    if let (Some(driver), Ok(times)) = (driver.upgrade(), times) {
                        driver.on(Event::Measured(times));
                        driver.carry_out();
                    }
                });
            }),
            Effect::Close(code, reason) => self.with_connection(|ws| {
                // The handle that asked for it has checked it.
                let _ = ws.handle().close_with(code, &reason);
            }),
            Effect::DropNow => self.with_connection(Connection::close_now),
            Effect::Judge(cause) => {
                let event = match self.is_worth_it(&cause) {
                    true => Event::Retry { random: random(), now: SystemTime::now() },
                    false => Event::GiveUp,
                };
                self.on(event);
            }
            Effect::Wait(delay) => self.wait(delay),
            Effect::End => self.end(),
        }
    }

    fn with_connection(&self, call: impl FnOnce(&Connection)) {
        let under_way = self.under_way.borrow().clone();
        if let UnderWay::Connection(ws) = under_way {
            call(&ws);
        }
    }

    fn dial(self: &Rc<Self>) {
        let (attempt, listener) = (self.allowed.take(), self.listener.take());
        let (Some(attempt), Some(listener)) = (attempt, listener) else { return };
        let session = Box::new(LentListener::new(Rc::clone(self), listener));
        let driver = Rc::clone(self);
        let started = dial::Attempt::start(&attempt.settings, session, move |result| {
            let Err((mut session, error)) = result else { return };
            contain("on_failed", || session.on_failed(&error));
            driver.set(UnderWay::Nothing);
            driver.on(Event::Failed(error));
            // Gives the listener back, and has the driver take a turn.
            drop(session);
        });
        match started {
            Ok(attempt) => self.set(UnderWay::Attempt(attempt)),
            Err(error) => self.on(Event::Failed(error)),
        }
    }

    fn wait(self: &Rc<Self>, delay: Duration) {
        if delay.is_zero() {
            self.set(UnderWay::Turn);
            return self.turn_soon();
        }
        let driver = Rc::clone(self);
        let timer = EventLoop::current().after(delay, move || {
            *driver.under_way.borrow_mut() = UnderWay::Turn;
            driver.turn_soon();
        });
        self.set(UnderWay::Timer(timer));
    }

    fn end(&self) {
        self.set(UnderWay::Nothing);
        let (listener, hooks) = (self.listener.take(), self.hooks.take());
        // Their values' own drops may call back.
        threadwire_guard::discard(listener);
        threadwire_guard::discard(hooks.on_change);
        threadwire_guard::discard(hooks.before);
        threadwire_guard::discard(hooks.retry_if);
        self.shared.end();
        EventLoop::current().detach_idle(self.token);
    }
}

/// Calling the program. A callback that is running is out of its place.
impl Driver {
    fn announce(&self, change: &Change) {
        tracing::debug!(%change, "reconnecting");
        self.shared.change(change.clone());
        let hook = self.hooks.borrow_mut().on_change.take();
        if let Some(mut hook) = hook {
            self.shared.calling(|| contain("on_change", || hook(change)));
            self.hooks.borrow_mut().on_change = Some(hook);
        }
    }

    fn ask_before(&self, attempt: &mut Attempt) -> Result<(), Error> {
        let hook = self.hooks.borrow_mut().before.take();
        let Some(mut hook) = hook else { return Ok(()) };
        let allowed = self.shared.calling(|| catch(|| hook(attempt)));
        self.hooks.borrow_mut().before = Some(hook);
        allowed
    }

    fn is_worth_it(&self, cause: &super::Cause) -> bool {
        let mut hook = self.hooks.borrow_mut().retry_if.take();
        let is_worth_it = self.shared.calling(|| is_worth_it(hook.as_deref_mut(), cause));
        if hook.is_some() {
            self.hooks.borrow_mut().retry_if = hook;
        }
        is_worth_it
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
