//! What happens to a connection between its being accepted and the program's seeing its request.

use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use threadwire_proto::Role;
use threadwire_proto::handshake::{self, HeadReader, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::client::in_time;
use super::newcomers::Place;
use super::request::{Granted, Request};
use super::stream::Stream;
use crate::on_loop::server::upgrade::encode;
use crate::on_loop::server::{Hook, ask};
use crate::{Config, Error, Reply};
use threadwire_core::server::admission::Gate;
use threadwire_core::server::answer::Answer;
use threadwire_core::server::check::plain;
use threadwire_core::server::proxy_protocol::{self, Demand, Proxied};
use threadwire_core::server::request::Caller;
#[cfg(feature = "tls")]
use threadwire_core::tls::{Failed, ServerTls, session::Session};

/// How many bytes a request may have to arrive in one read.
const ROOM_FOR_HEAD: usize = 2048;

/// What all handshakes of a server share.
#[derive(Clone)]
pub(super) struct Reception {
    pub(super) config: Arc<Config>,
    pub(super) gate: Arc<Gate>,
    pub(super) hook: Option<Arc<Hook>>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<ServerTls>,
    /// Whether the server shuts down.
    closing: watch::Receiver<bool>,
}

impl Reception {
    pub(super) fn new(closing: watch::Receiver<bool>) -> Reception {
        Reception {
            config: Arc::default(),
            gate: Arc::default(),
            hook: None,
            #[cfg(feature = "tls")]
            tls: None,
            closing,
        }
    }

    /// For a stream without a server.
    pub(super) fn alone(config: Config) -> Reception {
        // Nobody says that it shuts down.
        let (_, closing) = watch::channel(false);
        Reception { config: Arc::new(config), ..Reception::new(closing) }
    }

    /// What comes of some work, or `None` if the server shuts down before.
    async fn unless_closing<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut closing = self.closing.clone();
        let shutdown = async {
            if closing.wait_for(|closing| *closing).await.is_err() {
                // Nobody is left to say so: it never does.
                pending::<()>().await;
            }
        };
        let (mut work, mut shutdown) = (pin!(work), pin!(shutdown));
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => shutdown.as_mut().poll(cx).map(|()| None),
        })
        .await
    }
}

/// Reads the request. One that is none is answered with what is wrong with it, and so is one that the program's hook answers. On a
/// server it has a place, which it keeps until it has ended, or is a connection.
pub(super) async fn receive(
    mut stream: Stream,
    peer: Option<SocketAddr>,
    reception: Arc<Reception>,
    place: Option<Place>,
) -> Result<Option<Request>, Error> {
    let mut caller = Caller { peer, proxied: None };
    let config = Arc::clone(&reception.config);
    in_time(&config, async move {
        match reception.gate.demand(peer) {
            Demand::Nothing => {}
            Demand::Drop => return Err(Error::other("it does not come from a proxy that is trusted")),
            Demand::Header => match reception.unless_closing(read_header(&mut stream)).await {
                Some(proxied) => caller.proxied = proxied?,
                None => return Err(Error::Closed),
            },
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &reception.tls {
            let session = Session::server(tls.current()).map_err(Failed::io)?;
            stream = match reception.unless_closing(stream.secured(session)).await {
                Some(Ok(secured)) => secured,
                Some(Err((mut stream, error))) => {
                    // The client was told what is wrong with it, and has to be able to read that.
                    let _ = stream.shutdown().await;
                    discard(&mut stream).await;
                    return Err(error.into());
                }
                None => return Err(Error::Closed),
            };
        }
        let mut stream = stream.traced(&reception.config, Role::Server);
        // Room for most of them: otherwise the first read would take 64 bytes.
        let mut received = Vec::with_capacity(ROOM_FOR_HEAD);
        let read = read_head(&mut stream, &mut received, &reception.config);
        let (head, early) = match reception.unless_closing(read).await {
            Some(Ok(head)) => head,
            Some(Err(NoRequest::Answered(response, error))) => {
                refuse(&mut stream, &response, false).await?;
                return Err(error);
            }
            Some(Err(NoRequest::Failed(error))) => return Err(error),
            None => {
                refuse(&mut stream, &shutting_down(), false).await?;
                return Ok(None);
            }
        };
        let is_head = head.method() == "HEAD";
        let answered = admit(&reception, head, caller, &stream);
        match answered {
            Ok((head, granted)) => {
                let Reception { config, gate, .. } = &*reception;
                let (config, gate) = (Arc::clone(config), Arc::clone(gate));
                Ok(Some(Request { head, stream, received, early, config, gate, granted, place }))
            }
            Err(response) => {
                refuse(&mut stream, &response, is_head).await?;
                Ok(None)
            }
        }
    })
    .await
}

/// What a request is answered while the server shuts down.
pub(super) fn shutting_down() -> Response {
    plain(503, "the server is shutting down\n")
}

/// Asks the program's hook, if it has one.
fn admit(
    reception: &Reception,
    head: handshake::Request,
    caller: Caller,
    stream: &Stream,
) -> Result<(crate::Request, Granted), Response> {
    let request = reception.gate.request(head, caller)?;
    #[cfg(feature = "tls")]
    let request = request.secured(stream.tls());
    #[cfg(not(feature = "tls"))]
    let _ = stream;
    let Some(hook) = &reception.hook else { return Ok((request, Granted::default())) };
    let granted = Granted::of(ask(&**hook, &request))?;
    Ok((request, granted))
}

impl Granted {
    /// What of an answer is for this face.
    pub(super) fn of(accept: Reply) -> Result<Granted, Response> {
        match accept.0 {
            Answer::Respond(response) => Err(response),
            Answer::Upgrade { listener: Some(_), .. } => {
                tracing::error!("a listener has no place on the async face, expected Reply::upgrade");
                Err(plain(500, ""))
            }
            Answer::Upgrade { listener: None, headers, subprotocol } => Ok(Granted { headers, subprotocol }),
        }
    }
}

/// Why there is no request.
enum NoRequest {
    Answered(Response, Error),
    Failed(Error),
}

async fn read_head(
    stream: &mut Stream,
    received: &mut Vec<u8>,
    config: &Config,
) -> Result<(handshake::Request, usize), NoRequest> {
    let mut head = HeadReader::new(config.head_limits());
    loop {
        match stream.read_buf(received).await {
            Ok(0) => return Err(NoRequest::Failed(Error::Lost)),
            Ok(_) => {}
            Err(error) => return Err(NoRequest::Failed(error.into())),
        }
        match head.request(received) {
            Ok(Some(request)) => return Ok(request),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "refused a request");
                return Err(NoRequest::Answered(error.response(), error.into()));
            }
        }
    }
}

/// Reads the header that a proxy sends first, and not a byte more: what is behind it is for others.
async fn read_header(stream: &mut Stream) -> Result<Option<Proxied>, Error> {
    let mut bytes = Vec::new();
    loop {
        let start = bytes.len();
        bytes.resize(start + proxy_protocol::certainly_missing(&bytes), 0);
        let read = stream.read(&mut bytes[start..]).await?;
        if read == 0 {
            return Err(Error::Lost);
        }
        bytes.truncate(start + read);
        if let Some(header) = proxy_protocol::parse(&bytes).map_err(Error::other)? {
            return Ok(header.proxied);
        }
    }
}

/// Answers with a response, and waits for the peer's end: closing the socket under what it still sends would reset the connection, and
/// it might never see it.
async fn refuse(stream: &mut Stream, response: &Response, is_head: bool) -> Result<(), Error> {
    write(stream, response, is_head).await?;
    discard(stream).await;
    Ok(())
}

/// Writes a response, and says that nothing more will come.
pub(super) async fn write(stream: &mut Stream, response: &Response, is_head: bool) -> Result<(), Error> {
    stream.write_all(&encode(response, is_head)).await?;
    Ok(stream.shutdown().await?)
}

/// Reads what the peer still sends, until it ends.
pub(super) async fn discard(stream: &mut Stream) {
    let mut bytes = vec![0; 1024];
    while let Ok(1..) = stream.read(&mut bytes).await {}
}
