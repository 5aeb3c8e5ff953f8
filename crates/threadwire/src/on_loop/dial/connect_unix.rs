//! Unix socket connect on a loop.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use mio::net::UnixStream;
use threadwire_worker::{EventLoop, Ready, Source, TimerId, Token};

use super::{Attempt, attach};
use crate::Error;
use crate::connection::stream::Stream;

/// How long to wait where the server's queue is full, which is not announced when it changes.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

pub(super) fn start(attempt: &Rc<Attempt>, path: PathBuf) {
    match UnixStream::connect(&path) {
        // A unix socket is connected at once, or not at all.
        Ok(socket) => {
            if let Err(error) = attach(attempt, Stream::Unix(socket)) {
                attempt.fail(error);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            QueueFullPause::start(attempt, path);
        }
        Err(error) => {
            let error = attempt.route.borrow().unix_failed(path, error);
            attempt.fail(error);
        }
    }
}

/// The place on the loop of an attempt that waits for room in the queue: who has the attempt there, so that it is told of the end of
/// the loop.
struct QueueFullPause {
    attempt: Rc<Attempt>,
    token: Token,
    timer: Cell<Option<TimerId>>,
    is_over: Cell<bool>,
}

impl QueueFullPause {
    fn start(attempt: &Rc<Attempt>, path: PathBuf) {
        let mut pause = None;
        EventLoop::current().attach_idle(|token| {
            let (timer, is_over) = Default::default();
            let source = Rc::new(QueueFullPause { attempt: Rc::clone(attempt), token, timer, is_over });
            pause = Some(Rc::clone(&source));
            source
        });
        let Some(pause) = pause else { return };
        let late = Rc::downgrade(&pause);
        pause.timer.set(Some(EventLoop::current().after(PAUSE, move || {
            if let Some(pause) = late.upgrade() {
                pause.timer.set(None);
                pause.leave();
                if !pause.attempt.is_over() {
                    start(&pause.attempt, path);
                }
            }
        })));
        attempt.set_cancel(move || pause.leave());
    }

    fn leave(&self) {
        if let Some(timer) = self.timer.take() {
            EventLoop::current().cancel(timer);
        }
        if !self.is_over.replace(true) {
            EventLoop::current().detach_idle(self.token);
        }
    }
}

impl Source for QueueFullPause {
    fn ready(self: Rc<Self>, _ready: Ready) {}

    fn stop(self: Rc<Self>) {
        self.attempt.fail(Error::Stopped);
    }

    fn abandon(self: Rc<Self>) {
        self.attempt.fail(Error::Stopped);
    }
}
