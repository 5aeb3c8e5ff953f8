//! The way to a server, as [`Route`] says it, on tokio.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use threadwire_proto::{Level, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connection::Connection;
use super::core::Opening;
use super::stream::Stream;
use crate::on_loop::dial::UNIX_PAUSE;
use crate::{Config, Error};
use threadwire_core::agreed::Agreed;
use threadwire_core::client::dns_threads;
use threadwire_core::client::exchange::{Exchange, Outcome, Upgraded};
use threadwire_core::client::race::{Race, RaceStep};
use threadwire_core::client::route::{Next, Route, Secure, Task};
use threadwire_core::client::socket::{Own, Sockets};
use threadwire_core::config::setting::Way;
#[cfg(feature = "tls")]
use threadwire_core::tls::TlsFailure;

/// Opens a connection in time, over a stream if there is one already.
pub(super) async fn drive(
    mut route: Route,
    stream: Option<Stream>,
    level: Level,
) -> Result<Connection, Error> {
    route.config().check(if level == Level::Frames { &Way::TASKS_IN_PARTS } else { &Way::TASKS })?;
    let config = Arc::new(route.config().clone());
    let mut exchange = None;
    let opened = timeout(config.open_timeout, go(&mut route, stream, &mut exchange, (&config, level))).await;
    opened.unwrap_or_else(|_| Err(refusal(&mut exchange).unwrap_or_else(|| route.too_late())))
}

/// What was refused already when the time is up: it says more.
fn refusal(exchange: &mut Option<Exchange>) -> Option<Error> {
    exchange.as_mut()?.refusal()
}

async fn go(
    route: &mut Route,
    mut stream: Option<Stream>,
    exchange: &mut Option<Exchange>,
    (config, level): (&Arc<Config>, Level),
) -> Result<Connection, Error> {
    loop {
        let task = route.task()?;
        let step = step(route, task, &mut stream, exchange, (config, level));
        if let Some(connection) = step.await? {
            return Ok(connection);
        }
    }
}

/// Does what is to be done, in its time. The exchange that is under way is left in `exchange`.
async fn step(
    route: &mut Route,
    task: Task,
    stream: &mut Option<Stream>,
    exchange: &mut Option<Exchange>,
    (config, level): (&Arc<Config>, Level),
) -> Result<Option<Connection>, Error> {
    match task {
        Task::Resolve { host, port } => {
            let found = limited(route, offload(move || dns_threads::look_up(&host, port))).await?;
            route.found(found)?;
        }
        Task::Connect(race) => *stream = Some(connect(route, race).await?),
        Task::ConnectUnix(path) => {
            let socket = limited(route, connect_unix(&path)).await?;
            *stream = Some(Stream::of(socket.map_err(|error| route.unix_failed(path, error))?));
        }
        Task::Open(open, target) => {
            let socket = limited(route, offload(move || Ok(open(&target)?.0))).await??;
            *stream = Some(own(socket, route.sockets())?);
        }
        Task::Secure(task) => {
            let below = stream.take().ok_or(Error::Lost)?;
            let secured = limited(route, secure(task, below)).await?;
            *stream = Some(secured.map_err(|error| route.failed(error))?);
        }
        Task::Exchange(begun) => {
            let mut below = stream.take().ok_or(Error::Lost)?;
            if begun.is_last() {
                below = below.traced(config, Role::Client);
            }
            let spoken = limited(route, converse(exchange.insert(begun), &mut below)).await;
            let outcome = match spoken {
                Ok(outcome) => outcome?,
                Err(late) => return Err(refusal(exchange).unwrap_or(late)),
            };
            let received = exchange.take().map(|exchange| exchange.received).unwrap_or_default();
            match route.said(outcome)? {
                Next::GoOn => *stream = Some(below),
                Next::Elsewhere => {}
                Next::Open(Upgraded { subprotocol, headers, deflate, head }) => {
                    let agreed = Box::new(Agreed { subprotocol, headers, guest: None });
                    return Ok(Some(Connection::open(Opening {
                        role: Role::Client,
                        level,
                        stream: below,
                        config: Arc::clone(config),
                        agreed: Some(agreed),
                        deflate,
                        output: Vec::new(),
                        received,
                        early: head,
                    })));
                }
            }
        }
    }
    Ok(None)
}

/// What a step comes to, if it does within the limit that it has.
async fn limited<T>(route: &Route, step: impl Future<Output = T>) -> Result<T, Error> {
    match route.limit() {
        None => Ok(step.await),
        Some(limit) => timeout(limit, step).await.map_err(|_| route.late()),
    }
}

/// Has some work done elsewhere that would block.
async fn offload<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let (tell, told) = oneshot::channel();
    // Dropping the future drops the wait, so the work is not begun any more.
    let _wanted = dns_threads::offload(work, move |result| drop(tell.send(result)));
    told.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
}

type Running = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Connects to one of several addresses.
async fn connect(route: &Route, mut race: Race) -> Result<Stream, Error> {
    let sockets = route.sockets();
    let mut running: Vec<(SocketAddr, Running)> = Vec::new();
    loop {
        match race.advance(Instant::now().into_std()) {
            RaceStep::Start(address) => match begin(sockets, address) {
                Ok(attempt) => running.push((address, attempt)),
                Err(error) => race.failed(address, error),
            },
            RaceStep::GiveUp(address) => running.retain(|(other, _)| *other != address),
            RaceStep::Lost => return Err(route.lost(race)),
            RaceStep::Wait(until) => {
                let first = first(&mut running);
                let first = match until {
                    None => Some(first.await),
                    Some(until) => timeout_at(Instant::from_std(until), first).await.ok(),
                };
                match first {
                    None => {}
                    Some((_, Ok(socket))) => {
                        return Ok(Stream::tcp_with(socket, sockets.leaves_at_once()));
                    }
                    Some((address, Err(error))) => race.failed(address, error),
                }
            }
        }
    }
}

fn begin(sockets: &Sockets, address: SocketAddr) -> io::Result<Running> {
    let socket = TcpSocket::from_std_stream(sockets.make(address)?.into());
    Ok(Box::pin(socket.connect(address)))
}

/// The first that is ready, which is taken out.
fn first(
    running: &mut Vec<(SocketAddr, Running)>,
) -> impl Future<Output = (SocketAddr, io::Result<TcpStream>)> {
    poll_fn(|cx| {
        for position in 0..running.len() {
            let (address, attempt) = &mut running[position];
            if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
                let address = *address;
                drop(running.swap_remove(position));
                return Poll::Ready((address, result));
            }
        }
        Poll::Pending
    })
}

async fn connect_unix(path: &PathBuf) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            // The server's queue is full, and it is not announced when that changes.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(UNIX_PAUSE).await,
            result => return result,
        }
    }
}

/// A stream over a socket of the program's.
fn own(socket: Own, sockets: &Sockets) -> io::Result<Stream> {
    Ok(match socket {
        Own::Tcp(socket) => {
            socket.set_nonblocking(true)?;
            Stream::tcp_with(TcpStream::from_std(socket)?, sockets.leaves_at_once())
        }
        Own::Unix(socket) => {
            socket.set_nonblocking(true)?;
            Stream::of(UnixStream::from_std(socket)?)
        }
    })
}

#[cfg(feature = "tls")]
async fn secure(secure: Secure, below: Stream) -> Result<Stream, Error> {
    let secured = below.secured(secure.session()?).await;
    secured.map_err(|(_, error)| TlsFailure::explain(error, &secure.host))
}

#[cfg(not(feature = "tls"))]
async fn secure(secure: Secure, _below: Stream) -> Result<Stream, Error> {
    Err(secure.impossible())
}

/// Writes and reads, until it is over.
async fn converse(exchange: &mut Exchange, stream: &mut Stream) -> Result<Outcome, Error> {
    loop {
        let output = std::mem::take(&mut exchange.output);
        let mut broken = stream.write_all(&output).await.err();
        if broken.is_none() {
            broken = stream.flush().await.err();
        }
        let read = stream.read_buf(&mut exchange.received).await;
        let count = read.map_err(|error| exchange.failed(error))?;
        if let Some(outcome) = exchange.advance(count, &mut broken)? {
            return Ok(outcome);
        }
    }
}
