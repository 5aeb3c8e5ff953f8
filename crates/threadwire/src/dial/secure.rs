//! The third step: TLS, where the URL wants it.

use std::rc::Rc;

use threadwire_worker::{Ready, Token};

use super::{Attempt, upgrade};
use crate::stream::Stream;

#[cfg(not(feature = "tls"))]
pub(super) fn start(attempt: &Rc<Attempt>, stream: Stream, token: Token, ready: Ready) {
    // A URL that wants TLS was refused.
    upgrade::start(attempt, stream, token, ready);
}

#[cfg(feature = "tls")]
pub(super) use with_tls::start;

#[cfg(feature = "tls")]
mod with_tls {
    use std::cell::RefCell;

    use threadwire_worker::{EventLoop, Source};

    use super::*;
    use crate::Error;
    use crate::tls::{Failed, session::Session, stream::TlsStream};

    /// A TLS handshake under way.
    struct Securing {
        attempt: Rc<Attempt>,
        token: Token,
        stream: RefCell<Option<Box<TlsStream>>>,
    }

    /// Makes TLS on a connected stream, if the URL wants it, in the place that the stream has on the loop; and goes on to
    /// the upgrade.
    pub(in crate::dial) fn start(attempt: &Rc<Attempt>, mut stream: Stream, token: Token, ready: Ready) {
        if !attempt.target.is_secure() {
            return upgrade::start(attempt, stream, token, ready);
        }
        let host = attempt.target.host();
        let made = attempt.tls.prepare(host).and_then(|(config, name)| {
            let session = Session::client(config, name).map_err(Failed::io);
            session.map_err(|error| Failed::explain(error, host))
        });
        let session = match made {
            Ok(session) => session,
            Err(error) => {
                EventLoop::current().detach(token, &mut stream);
                attempt.cancel.borrow_mut().take();
                return attempt.fail(error);
            }
        };
        let stream = RefCell::new(Some(Box::new(TlsStream::of(session, stream))));
        let securing = Rc::new(Securing { attempt: Rc::clone(attempt), token, stream });
        EventLoop::current().replace(token, Rc::clone(&securing) as Rc<dyn Source>);
        let cancelled = Rc::clone(&securing);
        *attempt.cancel.borrow_mut() = Some(Box::new(move || cancelled.detach()));
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
                Some(stream) => stream.handshake(),
                None => return,
            };
            match progress {
                Ok(false) => {}
                Ok(true) => {
                    let stream = self.stream.borrow_mut().take();
                    if let Some(stream) = stream {
                        upgrade::start(&self.attempt, Stream::Tls(stream), self.token, ready);
                    }
                }
                Err(error) => self.attempt.fail(Failed::explain(error, self.attempt.target.host())),
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
