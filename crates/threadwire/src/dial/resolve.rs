//! The first step: the addresses of a host. The system's resolver blocks, so it is asked on a thread of its own, and the
//! loop goes on meanwhile.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use threadwire_worker::{EventLoop, Ready, Source, Token};

use super::{Attempt, connect};
use crate::Error;

/// Where the answer is left.
type Answer = Arc<Mutex<Option<io::Result<Vec<SocketAddr>>>>>;

/// A name that is being resolved.
struct Resolving {
    attempt: Rc<Attempt>,
    token: Token,
    answer: Answer,
    is_over: Cell<bool>,
}

/// Finds the addresses, and goes on to connecting; at the loop's next turn, at the earliest.
pub(super) fn start(attempt: &Rc<Attempt>) {
    let answer = Answer::default();
    let event_loop = EventLoop::current();
    let mut resolving = None;
    let token = event_loop.attach_idle(|token| {
        let (attempt, answer) = (Rc::clone(attempt), Arc::clone(&answer));
        let source = Rc::new(Resolving { attempt, token, answer, is_over: Cell::new(false) });
        resolving = Some(Rc::clone(&source));
        source
    });
    let cancelled = resolving.map(|resolving| Box::new(move || resolving.leave()) as Box<dyn FnOnce()>);
    *attempt.cancel.borrow_mut() = cancelled;

    let target = &attempt.target;
    let (host, port) = (target.host().to_owned(), target.port());
    if let Some(ip) = target.ip() {
        *lock(&answer) = Some(Ok(vec![SocketAddr::new(ip, port)]));
        return event_loop.requeue(token, Ready::READABLE);
    }
    let remote = event_loop.remote();
    let leave = Arc::clone(&answer);
    let asked = thread::Builder::new().name(format!("resolve {host}")).spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        *lock(&leave) = Some(found);
        // A loop that has ended wants no answer.
        let _ = remote.post(move |event_loop| event_loop.requeue(token, Ready::READABLE));
    });
    if let Err(error) = asked {
        *lock(&answer) = Some(Err(error));
        event_loop.requeue(token, Ready::READABLE);
    }
}

fn lock(answer: &Answer) -> std::sync::MutexGuard<'_, Option<io::Result<Vec<SocketAddr>>>> {
    answer.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Resolving {
    fn leave(&self) {
        if !self.is_over.replace(true) {
            EventLoop::current().detach_idle(self.token);
        }
    }

    fn fail(&self, source: io::Error) {
        self.attempt.fail(Error::Resolve { host: self.attempt.target.host().to_owned(), source });
    }
}

impl Source for Resolving {
    fn ready(self: Rc<Self>, _ready: Ready) {
        let answer = lock(&self.answer).take();
        let Some(answer) = answer.filter(|_| !self.is_over.get()) else { return };
        self.leave();
        match answer {
            Ok(addresses) if !addresses.is_empty() => connect::start(&self.attempt, addresses),
            Ok(_) => self.fail(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            Err(error) => self.fail(error),
        }
    }

    fn stop(self: Rc<Self>) {
        self.attempt.fail(Error::Stopped);
    }

    fn abandon(self: Rc<Self>) {
        self.attempt.fail(Error::Stopped);
    }
}

impl super::Target {
    /// The host, if it is an address, so that nothing has to be resolved.
    fn ip(&self) -> Option<IpAddr> {
        self.is_ip().then(|| self.host().parse().ok())?
    }
}
