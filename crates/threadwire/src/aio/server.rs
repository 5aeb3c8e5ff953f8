//! Connections that others open.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpStream, ToSocketAddrs, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

#[cfg(feature = "tls")]
use super::request::receive_in_tls;
use super::request::{Request, receive};
use super::stream::Stream;
use crate::server::{accept, listen};
#[cfg(feature = "tls")]
use crate::tls::ServerTls;
use crate::{Config, Error};

/// The most handshakes under way: beyond, connections wait in the system's queue.
const MOST_HANDSHAKES: usize = 1024;

/// A server: it listens from [`bind`](Server::bind) on, and accepts with [`accept`](Server::accept) or
/// [`serve`](Server::serve).
///
/// ```
/// use threadwire::{Error, aio};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let mut server = aio::Server::bind("127.0.0.1:0").await?;
/// let url = format!("ws://{}/", server.local_addr()?);
/// tokio::spawn(async move {
///     loop {
///         let request = server.accept().await?;
///         tokio::spawn(async move {
///             let mut ws = request.upgrade().await?;
///             while let Some(message) = ws.recv().await? {
///                 ws.send(&message).await?;
///             }
///             Ok::<(), Error>(())
///         });
///     }
///     # #[allow(unreachable_code)]
///     Ok::<(), Error>(())
/// });
/// let mut ws = aio::connect(&url).await?;
/// ws.send("hello").await?;
/// assert_eq!(ws.recv().await?.unwrap(), "hello");
/// # Ok(())
/// # }
/// ```
pub struct Server {
    listener: TcpListener,
    pub(super) config: Arc<Config>,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
    handshakes: JoinSet<Result<Request, Error>>,
    /// Set while the system can't give another socket.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Server {
    /// Listens at an address, `HOST:PORT` or a [`SocketAddr`]; port 0 has the system choose one. Fails with [`Error::Listen`].
    pub async fn bind(addr: impl ToSocketAddrs + fmt::Debug) -> Result<Server, Error> {
        let name = format!("{addr:?}").trim_matches('"').to_owned();
        let fail = |source| Error::Listen { addr: name.clone(), source };
        let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        for addr in lookup_host(addr).await.map_err(fail)? {
            result = listen(addr, false).and_then(TcpListener::from_std);
            if result.is_ok() {
                break;
            }
        }
        let listener = result.map_err(fail)?;
        Ok(Server {
            listener,
            config: Arc::default(),
            #[cfg(feature = "tls")]
            tls: None,
            handshakes: JoinSet::new(),
            pause: None,
        })
    }

    /// Limits and timeouts; [`Config::default`] without this.
    pub fn config(mut self, config: Config) -> Server {
        self.config = Arc::new(config);
        self
    }

    /// Speaks TLS with all clients, `wss://`; without this with none.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ServerTls) -> Server {
        self.tls = Some(tls);
        self
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next request, as soon as all of it has arrived: a peer that is slow in sending its own holds up nobody, and is given
    /// up after [`Config::open_timeout`]. What is no request is answered and dropped.
    ///
    /// It may be dropped at any time: nothing is lost. Connections are accepted while it is awaited.
    ///
    /// # Errors
    ///
    /// None for now: what the system refuses (too many open files) is logged and tried again.
    pub async fn accept(&mut self) -> Result<Request, Error> {
        Ok(poll_fn(|cx| self.poll_accept(cx)).await)
    }

    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Request> {
        loop {
            while let Poll::Ready(Some(done)) = self.handshakes.poll_join_next(cx) {
                match done {
                    Ok(Ok(request)) => return Poll::Ready(request),
                    Ok(Err(error)) => tracing::debug!(%error, "dropped a connection before it was open"),
                    Err(error) => tracing::error!(%error, "a handshake failed"),
                }
            }
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.pause = None;
            }
            if self.handshakes.len() >= MOST_HANDSHAKES {
                return Poll::Pending;
            }
            let Poll::Ready(accepted) = self.listener.poll_accept(cx) else { return Poll::Pending };
            match accepted {
                Ok((socket, peer)) => self.begin(socket, peer),
                Err(error) if accept::belongs_to_the_peer(&error) => {
                    tracing::debug!(%error, "a connection ended before it was accepted");
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept connections for now");
                    self.pause = Some(Box::pin(sleep(accept::PAUSE)));
                }
            }
        }
    }

    fn begin(&mut self, socket: TcpStream, peer: SocketAddr) {
        tracing::debug!(%peer, "accepted");
        let (stream, config) = (Stream::tcp(socket), Arc::clone(&self.config));
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let tls = tls.current();
            self.handshakes.spawn(receive_in_tls(stream, tls, peer, config));
            return;
        }
        self.handshakes.spawn(receive(stream, peer, config));
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .field("handshakes", &self.handshakes.len())
            .finish_non_exhaustive()
    }
}
