//! The opening handshake of an accepted connection on tokio: does what the [machine of the opening handshake](threadwire_core::server::opening_handshake) says.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use threadwire_proto::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{oneshot, watch};

use super::pending::Place;
use super::request::{Given, Request};
use super::shutdown::{Control, Ending, in_time};
use super::stream::Stream;
use crate::Error;
use crate::on_loop::server::Hook;
use threadwire_core::server::opening_handshake::{OpeningHandshake, Step};
use threadwire_core::server::settings::ServerSettings;

/// How many bytes a request may have to arrive in one read.
const ROOM_FOR_HEAD: usize = 2048;

/// Says when the server shuts down.
pub(super) struct Closing {
    control: Arc<Control>,
    ending: watch::Receiver<Option<Ending>>,
}

impl Closing {
    pub(super) fn new(control: &Arc<Control>) -> Closing {
        Closing { control: Arc::clone(control), ending: control.subscribe() }
    }
}

/// A socket that is no connection, or not yet.
pub(super) struct Reception {
    pub(super) stream: Stream,
    pub(super) opening: OpeningHandshake,
}

/// What following the steps of an opening handshake has come to.
pub(super) enum Came {
    /// A request, and what was received behind it.
    Asked(Box<crate::Request>, Vec<u8>),
    Over(Result<(), Error>),
}

impl Reception {
    /// Does what follows from a step, until the program is to be asked, or the socket is to be closed. If the server is `closing`
    /// meanwhile, the peer is refused.
    async fn follow(mut self, mut step: Step, mut closing: Option<Closing>) -> (Reception, Came) {
        let mut input = Vec::new();
        loop {
            step = match step {
                Step::Read => {
                    input.resize(ROOM_FOR_HEAD, 0);
                    match unless_closing(self.stream.read(&mut input), closing.as_mut()).await {
                        Some(Ok(count)) => {
                            input.truncate(count);
                            self.opening.advance(&input)
                        }
                        Some(Err(error)) => {
                            let step = self.opening.failed(error);
                            if let Step::Linger = step {
                                // Later input can't be decrypted.
                                let _ = self.stream.shutdown().await;
                                self.stream = self.stream.without_tls();
                                Step::Read
                            } else {
                                step
                            }
                        }
                        None => self.refuse_for_shutdown(closing.take()),
                    }
                }
                Step::Wrap => {
                    let step;
                    (self, step) = self.wrap().await;
                    step
                }
                Step::Ask(request, early) => return (self, Came::Asked(request, early.into_vec(&input))),
                Step::Answer(bytes) => match self.stream.write_all(&bytes).await {
                    Ok(()) => self.opening.answered(),
                    Err(error) => self.opening.failed(error),
                },
                Step::Linger => {
                    // Where that fails, so will reading.
                    let _ = self.stream.shutdown().await;
                    Step::Read
                }
                Step::Over(result) => return (self, Came::Over(result)),
            };
        }
    }

    fn refuse_for_shutdown(&mut self, closing: Option<Closing>) -> Step {
        let ending = closing.as_ref().and_then(|closing| closing.control.ending());
        let (Some(closing), Some(Ending { order, .. })) = (closing, ending) else { return Step::Read };
        let Some(step) = self.opening.shut_down(&order.refusal) else { return Step::Read };
        closing.control.count_refused();
        step
    }

    /// Puts TLS and the trace around the stream.
    async fn wrap(mut self) -> (Reception, Step) {
        #[cfg(feature = "tls")]
        match self.opening.session() {
            Ok(Some(session)) => match self.stream.secured(session).await {
                Ok(stream) => self.stream = stream,
                Err((stream, error)) => {
                    self.stream = stream;
                    let step = self.opening.failed(error);
                    return (self, step);
                }
            },
            Ok(None) => {}
            Err(error) => return (self, Step::Over(Err(error))),
        }
        let config = &self.opening.settings().config;
        self.stream = self.stream.traced_after(config, Role::Server, self.opening.early());
        let step = self.opening.wrapped();
        (self, step)
    }

    /// The same, and `tell`s when the answer is written, or can't be.
    pub(super) async fn finish_telling(mut self, step: Step, tell: oneshot::Sender<Result<(), Error>>) {
        let Step::Answer(bytes) = step else { return };
        let deadline = self.opening.deadline();
        let written = in_time(deadline, self.stream.write_all(&bytes)).await;
        let written = written.map_or_else(|| Err(OpeningHandshake::too_late()), |written| Ok(written?));
        let is_written = written.is_ok();
        // Perhaps nobody wants to know.
        let _ = tell.send(written);
        if is_written {
            let step = self.opening.answered();
            // The answer was sent: the end of the peer does not matter.
            let _ = self.finish(step).await;
        }
    }

    /// Goes on until the peer that is answered has ended, at most until the [deadline](OpeningHandshake::deadline).
    pub(super) async fn finish(self, step: Step) -> Result<(), Error> {
        match in_time(self.opening.deadline(), self.follow(step, None)).await {
            Some((_, Came::Over(result))) => result,
            Some((_, Came::Asked(..))) => Ok(()),
            None => Err(OpeningHandshake::too_late()),
        }
    }
}

/// What comes of some work, or `None` if the server shuts down before.
async fn unless_closing<T>(work: impl Future<Output = T>, closing: Option<&mut Closing>) -> Option<T> {
    let Some(closing) = closing else { return Some(work.await) };
    let closed = async {
        if closing.ending.wait_for(Option::is_some).await.is_err() {
            // The sender is gone: the signal never comes.
            std::future::pending::<()>().await;
        }
    };
    let (mut work, mut closed) = (pin!(work), pin!(closed));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => closed.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Reads the request. One that is none is answered with what is wrong with it, and so is one that the program's hook answers. On a
/// server it has a place, which it keeps until it has ended, or is a connection.
pub(super) async fn receive(
    stream: Stream,
    peer: Option<SocketAddr>,
    settings: Arc<ServerSettings>,
    hook: Option<Hook>,
    closing: Option<Closing>,
    place: Option<Place>,
) -> Result<Option<Request>, Error> {
    let mut opening = OpeningHandshake::new(settings, peer, Instant::now());
    let (deadline, step) = (opening.deadline(), opening.begin());
    in_time(deadline, async move {
        let (mut reception, came) = Reception { stream, opening }.follow(step, closing).await;
        #[cfg_attr(not(feature = "tls"), allow(unused_mut, reason = "only TLS has something to add to it"))]
        let (mut request, early) = match came {
            Came::Asked(request, early) => (request, early),
            Came::Over(result) => return result.map(|()| None),
        };
        #[cfg(feature = "tls")]
        request.set_tls(reception.stream.tls());
        let given = hook.map_or_else(|| Ok(Given::default()), |hook| Given::of(hook.ask(&request)));
        match given {
            Ok(given) => Ok(Some(Request { head: *request, reception, early, given, place })),
            Err(response) => {
                let step = reception.opening.refuse(&response, Ok(()));
                reception.finish(step).await.map(|()| None)
            }
        }
    })
    .await
    .unwrap_or_else(|| Err(OpeningHandshake::too_late()))
}
