//! Connecting to a unix socket, on a loop.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use mio::net::UnixStream;
use threadwire_worker::EventLoop;

use super::{Attempt, attach};
use crate::stream::Stream;

/// How long to wait where the server's queue is full, which is not announced when it changes.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

pub(super) fn start(attempt: &Rc<Attempt>, path: PathBuf) {
    match UnixStream::connect(&path) {
        // It is connected at once, or not at all.
        Ok(socket) => {
            if let Err(error) = attach(attempt, Stream::Unix(socket)) {
                attempt.fail(error);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let timer = attempt.after(PAUSE, move |attempt| {
                if !attempt.is_over() {
                    start(attempt, path);
                }
            });
            attempt.set_cancel(move || {
                EventLoop::current().cancel(timer);
            });
        }
        Err(error) => {
            let error = attempt.route.borrow().unix_failed(path, error);
            attempt.fail(error);
        }
    }
}
