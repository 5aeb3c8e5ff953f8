//! From a URL to an open connection, in steps: resolve the host, reach one of its addresses, make TLS, upgrade.
//!
//! Each step is a file. A step that waits for a socket is a source on the loop and takes the place of the one before, so
//! that further steps (a proxy) fit in between: each gets a stream and hands one on.

pub(crate) mod answer;
mod connect;
mod resolve;
mod secure;
mod target;
mod upgrade;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use threadwire_proto::handshake::ClientRequest;
use threadwire_worker::{EventLoop, TimerId};

pub use target::Target;

use crate::error::TimeoutKind;
#[cfg(feature = "tls")]
use crate::tls::ClientTls;
use crate::{Config, Connection, Error, Listener};

/// What is told when an attempt has come to its end: the listener is given back if it failed.
type Done = Box<dyn FnOnce(Result<Connection, (Box<dyn Listener>, Error)>)>;

/// An attempt to open a connection.
pub(crate) struct Attempt {
    target: Target,
    request: ClientRequest,
    config: Arc<Config>,
    #[cfg(feature = "tls")]
    tls: ClientTls,
    /// Missing once the attempt has ended.
    pending: RefCell<Option<(Box<dyn Listener>, Done)>>,
    /// Drops the socket of the step that is under way.
    cancel: RefCell<Option<Box<dyn FnOnce()>>>,
    timer: Cell<Option<TimerId>>,
}

impl Attempt {
    /// Begins, on this thread's loop. `done` is called from there.
    pub(crate) fn start(
        target: Target,
        request: ClientRequest,
        config: Arc<Config>,
        #[cfg(feature = "tls")] tls: ClientTls,
        listener: Box<dyn Listener>,
        done: Done,
    ) -> Rc<Attempt> {
        let timeout = config.open_timeout;
        let attempt = Rc::new(Attempt {
            target,
            request,
            config,
            #[cfg(feature = "tls")]
            tls,
            pending: RefCell::new(Some((listener, done))),
            cancel: RefCell::default(),
            timer: Cell::default(),
        });
        let event_loop = EventLoop::current();
        let late = Rc::downgrade(&attempt);
        let timer = event_loop.after(timeout, move || {
            if let Some(attempt) = Weak::upgrade(&late) {
                attempt.timer.set(None);
                attempt.fail(Error::Timeout(TimeoutKind::Open));
            }
        });
        attempt.timer.set(Some(timer));
        resolve::start(&attempt);
        attempt
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
        if let Some(timer) = self.timer.take() {
            EventLoop::current().cancel(timer);
        }
        self.pending.borrow_mut().take()
    }
}
