//! Dialing on a loop: from a URL to an open connection. [`Route`] decides the next step, without I/O, for every face; each step
//! that waits is a source of the loop, in a file of its own. A step takes the stream of the one before, in its place on the loop,
//! and hands it on to the next.

mod connect;
mod connect_unix;
#[cfg(feature = "aio")]
pub(crate) use connect_unix::PAUSE as UNIX_PAUSE;
mod exchange;
mod resolve;
mod socket;
mod tls;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use mio::Interest;
use threadwire_core::client::route::{Route, Task};
use threadwire_core::client::settings::Settings;
use threadwire_core::config::setting::Way;
use threadwire_proto::Role;
use threadwire_worker::{EventLoop, Placeholder, Ready, Source, TimerId, Token};

use crate::connection::stream::Stream;
use crate::{Config, Connection, Error, Listener};
use exchange::LoopExchange;

/// The callback for the end of an attempt: a failed one gives the listener back.
type Done = Box<dyn FnOnce(Result<Connection, (Box<dyn Listener>, Error)>)>;

/// An attempt to open a connection.
pub(crate) struct Attempt {
    route: RefCell<Route>,
    config: Arc<Config>,
    /// Missing once the attempt has ended.
    pending: RefCell<Option<(Box<dyn Listener>, Done)>>,
    /// The exchange that is under way, which may have been refused already when its time is up.
    exchange: RefCell<Weak<LoopExchange>>,
    /// Drops the resources of the current step.
    cancel: RefCell<Option<Box<dyn FnOnce()>>>,
    timer: Cell<Option<TimerId>>,
    /// For the step.
    step_timer: Cell<Option<TimerId>>,
}

/// A stream, its place on the loop, and what it is ready for.
struct AttachedStream {
    stream: Stream,
    token: Token,
    ready: Ready,
}

impl Attempt {
    /// Begins, on this thread's loop. `done` is called from there, at its next turn at the earliest.
    pub(crate) fn start(
        settings: &Settings,
        listener: Box<dyn Listener>,
        done: impl FnOnce(Result<Connection, (Box<dyn Listener>, Error)>) + 'static,
    ) -> Result<Rc<Attempt>, Error> {
        settings.config.check(Way::of_level(listener.level()))?;
        let route = Route::new(settings)?;
        let config = Arc::new(route.config().clone());
        let timeout = config.open_timeout;
        let attempt = Rc::new(Attempt {
            route: RefCell::new(route),
            config,
            pending: RefCell::new(Some((listener, Box::new(done)))),
            exchange: RefCell::default(),
            cancel: RefCell::default(),
            timer: Cell::default(),
            step_timer: Cell::default(),
        });
        attempt.timer.set(Some(attempt.after(timeout, |attempt| {
            attempt.timer.set(None);
            let error = attempt.route.borrow().too_late();
            attempt.time_is_up(error);
        })));
        AttemptStart::start(&attempt);
        Ok(attempt)
    }

    /// Calls back some time later, if there is an attempt still.
    fn after(self: &Rc<Self>, delay: Duration, call: impl FnOnce(&Rc<Attempt>) + 'static) -> TimerId {
        let late = Rc::downgrade(self);
        EventLoop::current().after(delay, move || {
            if let Some(attempt) = Weak::upgrade(&late) {
                call(&attempt);
            }
        })
    }

    /// Goes on with the next step, over the stream that there is by now.
    fn go_on(self: &Rc<Self>, attached: Option<AttachedStream>) {
        self.end_step();
        let task = self.route.borrow_mut().task();
        let task = match task {
            Ok(task) => task,
            Err(error) => {
                drop_attached(attached);
                return self.fail(error);
            }
        };
        let limit = self.route.borrow().limit();
        if let Some(limit) = limit {
            self.step_timer.set(Some(self.after(limit, |attempt| {
                attempt.step_timer.set(None);
                let error = attempt.route.borrow().late();
                attempt.time_is_up(error);
            })));
        }
        match (task, attached) {
            (Task::Resolve { host, port }, _) => resolve::start(self, host, port),
            (Task::Connect(race), _) => connect::start(self, race),
            (Task::ConnectUnix(path), _) => connect_unix::start(self, path),
            (Task::Open(open, target), _) => socket::start(self, open, target),
            (Task::Secure(secure), Some(attached)) => tls::start(self, secure, attached),
            (Task::Exchange(exchange), Some(mut attached)) => {
                if exchange.is_last() {
                    let trace = self.config.trace_in_force();
                    attached.stream = attached.stream.traced(trace.as_ref(), Role::Client);
                }
                exchange::start(self, exchange, attached);
            }
            (Task::Secure(_) | Task::Exchange(_), None) => self.fail(Error::Lost),
        }
    }

    /// Takes the step that begins into account, so that the end of the attempt ends it.
    fn set_cancel(&self, cancel: impl FnOnce() + 'static) {
        *self.cancel.borrow_mut() = Some(Box::new(cancel));
    }

    /// The step is over: what it has is to be taken over, or gone.
    fn end_step(&self) {
        self.cancel.borrow_mut().take();
        if let Some(timer) = self.step_timer.take() {
            EventLoop::current().cancel(timer);
        }
    }

    /// Ends it, unless it has ended: with a refusal if there is one, which says more.
    fn time_is_up(&self, error: Error) {
        let refusal = self.exchange.borrow().upgrade().and_then(|exchange| exchange.refusal());
        self.fail(refusal.unwrap_or(error));
    }

    /// Ends it with an error, unless it has ended.
    pub(crate) fn fail(&self, error: Error) {
        let cancel = self.cancel.borrow_mut().take();
        if let Some(cancel) = cancel {
            cancel();
        }
        if let Some((listener, done)) = self.finish() {
            done(Err((listener, error)));
        }
    }

    /// Takes out what the end needs. Nothing happens after it.
    fn finish(&self) -> Option<(Box<dyn Listener>, Done)> {
        for timer in [self.timer.take(), self.step_timer.take()].into_iter().flatten() {
            EventLoop::current().cancel(timer);
        }
        self.pending.borrow_mut().take()
    }

    fn is_over(&self) -> bool {
        self.pending.borrow().is_none()
    }
}

/// Takes a stream from its loop, and drops it.
fn drop_attached(attached: Option<AttachedStream>) {
    if let Some(mut attached) = attached {
        EventLoop::current().detach(attached.token, &mut attached.stream);
    }
}

/// Takes a connected stream in, and goes on with it.
fn attach(attempt: &Rc<Attempt>, stream: Stream) -> Result<(), Error> {
    let mut taken = None;
    EventLoop::current().attach(stream, Interest::READABLE | Interest::WRITABLE, |stream, token| {
        taken = Some(AttachedStream { stream, token, ready: Ready::default() });
        // A placeholder keeps the place until the next step.
        let attempt = Rc::clone(attempt);
        Rc::new(Placeholder(move || attempt.fail(Error::Stopped)))
    })?;
    attempt.go_on(taken);
    Ok(())
}

/// The begin of an attempt, for which there is a turn of the loop: nobody is to be called back before the call returns that
/// began it.
struct AttemptStart {
    attempt: Rc<Attempt>,
    token: Token,
    is_over: Cell<bool>,
}

impl AttemptStart {
    fn start(attempt: &Rc<Attempt>) {
        let event_loop = EventLoop::current();
        let mut start = None;
        let token = event_loop.attach_idle(|token| {
            let source =
                Rc::new(AttemptStart { attempt: Rc::clone(attempt), token, is_over: Cell::default() });
            start = Some(Rc::clone(&source));
            source
        });
        if let Some(start) = start {
            attempt.set_cancel(move || start.leave());
        }
        event_loop.requeue(token, Ready::READABLE);
    }

    fn leave(&self) {
        if !self.is_over.replace(true) {
            EventLoop::current().detach_idle(self.token);
        }
    }
}

impl Source for AttemptStart {
    fn ready(self: Rc<Self>, _ready: Ready) {
        if !self.is_over.get() {
            self.leave();
            self.attempt.go_on(None);
        }
    }

    fn stop(self: Rc<Self>) {
        self.attempt.fail(Error::Stopped);
    }

    fn abandon(self: Rc<Self>) {
        self.attempt.fail(Error::Stopped);
    }
}
