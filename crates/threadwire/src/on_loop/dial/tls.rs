//! TLS handshake on a loop, with the server or with its proxy.

use std::rc::Rc;

use super::{AttachedStream, Attempt};
use threadwire_core::client::route::Secure;

#[cfg(not(feature = "tls"))]
pub(super) fn start(attempt: &Rc<Attempt>, secure: Secure, attached: AttachedStream) {
    super::drop_attached(Some(attached));
    attempt.fail(secure.impossible());
}

#[cfg(feature = "tls")]
pub(super) use with_tls::start;

#[cfg(feature = "tls")]
mod with_tls {
    use std::cell::RefCell;

    use threadwire_worker::{EventLoop, Ready, Source, Token};

    use super::*;
    use crate::Error;
    use crate::connection::stream::Stream;
    use crate::on_loop::dial::drop_attached;
    use threadwire_core::tls::{TlsFailure, stream::TlsStream};

    /// A TLS handshake under way.
    struct TlsHandshake {
        attempt: Rc<Attempt>,
        token: Token,
        host: String,
        stream: RefCell<Option<Box<TlsStream<Stream>>>>,
    }

    /// Makes TLS on a connected stream, in the place that the stream has on the loop.
    pub(in crate::on_loop::dial) fn start(attempt: &Rc<Attempt>, secure: Secure, attached: AttachedStream) {
        let session = match secure.session() {
            Ok(session) => session,
            Err(error) => {
                drop_attached(Some(attached));
                let error = attempt.route.borrow().failed(error);
                return attempt.fail(error);
            }
        };
        let AttachedStream { stream, token, ready } = attached;
        let stream = RefCell::new(Some(Box::new(TlsStream::of(session, stream))));
        let handshake =
            Rc::new(TlsHandshake { attempt: Rc::clone(attempt), token, host: secure.host, stream });
        EventLoop::current().replace(token, Rc::clone(&handshake) as Rc<dyn Source>);
        let cancelled = Rc::clone(&handshake);
        attempt.set_cancel(move || cancelled.detach());
        handshake.ready(ready);
    }

    impl TlsHandshake {
        fn detach(&self) {
            let stream = self.stream.borrow_mut().take();
            if let Some(mut stream) = stream {
                EventLoop::current().detach(self.token, &mut stream.stream);
            }
        }
    }

    impl Source for TlsHandshake {
        fn ready(self: Rc<Self>, ready: Ready) {
            let progress = match &mut *self.stream.borrow_mut() {
                Some(secured) => secured.tls.handshake(&mut secured.stream),
                None => return,
            };
            match progress {
                Ok(false) => {}
                Ok(true) => {
                    let stream = self.stream.borrow_mut().take();
                    if let Some(stream) = stream {
                        let attached =
                            AttachedStream { stream: Stream::Tls(stream), token: self.token, ready };
                        self.attempt.go_on(Some(attached));
                    }
                }
                Err(error) => {
                    let error = TlsFailure::explain(error, &self.host);
                    let error = self.attempt.route.borrow().failed(error);
                    self.attempt.fail(error);
                }
            }
        }

        fn stop(self: Rc<Self>) {
            self.attempt.fail(Error::Stopped);
        }

        fn abandon(self: Rc<Self>) {
            self.attempt.fail(Error::Stopped);
        }
    }
}
