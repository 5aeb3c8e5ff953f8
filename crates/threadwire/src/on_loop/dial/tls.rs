//! TLS on a stream of a loop, with the server or with its proxy.

use std::rc::Rc;

use super::{Attempt, Held};
use threadwire_core::client::route::Secure;

#[cfg(not(feature = "tls"))]
pub(super) fn start(attempt: &Rc<Attempt>, secure: Secure, held: Held) {
    super::drop_held(Some(held));
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
    use crate::on_loop::dial::drop_held;
    use crate::on_loop::stream::Stream;
    use threadwire_core::tls::{Failed, stream::TlsStream};

    /// A TLS handshake under way.
    struct Securing {
        attempt: Rc<Attempt>,
        token: Token,
        host: String,
        stream: RefCell<Option<Box<TlsStream<Stream>>>>,
    }

    /// Makes TLS on a connected stream, in the place that the stream has on the loop.
    pub(in crate::on_loop::dial) fn start(attempt: &Rc<Attempt>, secure: Secure, held: Held) {
        let session = match secure.session() {
            Ok(session) => session,
            Err(error) => {
                drop_held(Some(held));
                let error = attempt.route.borrow().failed(error);
                return attempt.fail(error);
            }
        };
        let Held { stream, token, ready } = held;
        let stream = RefCell::new(Some(Box::new(TlsStream::of(session, stream))));
        let securing = Rc::new(Securing { attempt: Rc::clone(attempt), token, host: secure.host, stream });
        EventLoop::current().replace(token, Rc::clone(&securing) as Rc<dyn Source>);
        let cancelled = Rc::clone(&securing);
        attempt.set_cancel(move || cancelled.detach());
        securing.ready(ready);
    }

    impl Securing {
        fn detach(&self) {
            let stream = self.stream.borrow_mut().take();
            if let Some(mut stream) = stream {
                EventLoop::current().detach(self.token, &mut stream.stream);
            }
        }
    }

    impl Source for Securing {
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
                        let held = Held { stream: Stream::Tls(stream), token: self.token, ready };
                        self.attempt.go_on(Some(held));
                    }
                }
                Err(error) => {
                    let error = Failed::explain(error, &self.host);
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
