//! Name resolution on a loop: DNS threads ask the system, and the loop goes on meanwhile.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use threadwire_worker::{EventLoop, Lock, Ready, Source, Token};

use super::Attempt;
use crate::Error;
use threadwire_core::client::dns_threads::{self, Waiter};

/// The continuation with a result.
type Take<T> = fn(&Rc<Attempt>, io::Result<T>);

/// The slot for a result.
type ResultSlot<T> = Arc<Lock<Option<io::Result<T>>>>;

/// Work under way on a DNS thread, and the source that waits for its result.
struct OffloadedWork<T> {
    attempt: Rc<Attempt>,
    token: Token,
    answer: ResultSlot<T>,
    take: Take<T>,
    wanted: RefCell<Option<Waiter>>,
    is_over: Cell<bool>,
}

pub(super) fn start(attempt: &Rc<Attempt>, host: String, port: u16) {
    offload(
        attempt,
        move || dns_threads::look_up(&host, port),
        |attempt, addresses| {
            let found = attempt.route.borrow_mut().found(addresses);
            match found {
                Ok(()) => attempt.go_on(None),
                Err(error) => attempt.fail(error),
            }
        },
    );
}

/// Runs blocking work on a DNS thread, and goes on with its result.
pub(super) fn offload<T: Send + 'static>(
    attempt: &Rc<Attempt>,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
    take: Take<T>,
) {
    let answer = ResultSlot::default();
    let event_loop = EventLoop::current();
    let mut offloaded = None;
    let token = event_loop.attach_idle(|token| {
        let source = Rc::new(OffloadedWork {
            attempt: Rc::clone(attempt),
            token,
            answer: Arc::clone(&answer),
            take,
            wanted: RefCell::default(),
            is_over: Cell::default(),
        });
        offloaded = Some(Rc::clone(&source));
        source
    });
    let Some(offloaded) = offloaded else { return };
    let cancelled = Rc::clone(&offloaded);
    attempt.set_cancel(move || cancelled.leave());
    let remote = event_loop.remote();
    let wanted = dns_threads::offload(work, move |result| {
        *answer.lock() = Some(result);
        // A loop that has ended wants no answer.
        let _ = remote.post(move |event_loop| event_loop.requeue(token, Ready::READABLE));
    });
    *offloaded.wanted.borrow_mut() = Some(wanted);
}

impl<T: Send + 'static> OffloadedWork<T> {
    fn leave(&self) {
        if !self.is_over.replace(true) {
            self.wanted.borrow_mut().take();
            EventLoop::current().detach_idle(self.token);
        }
    }
}

impl<T: Send + 'static> Source for OffloadedWork<T> {
    fn ready(self: Rc<Self>, _ready: Ready) {
        let answer = self.answer.lock().take();
        if let Some(answer) = answer.filter(|_| !self.is_over.get()) {
            self.leave();
            (self.take)(&self.attempt, answer);
        }
    }

    fn stop(self: Rc<Self>) {
        self.attempt.fail(Error::Stopped);
    }

    fn abandon(self: Rc<Self>) {
        self.attempt.fail(Error::Stopped);
    }
}
