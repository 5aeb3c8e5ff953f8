//! Shared parts of the tests of the async face.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use futures_core::Stream;
use threadwire::aio::{self, Connection};
use threadwire::{Client, Config, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::peer::{Host, Peer};
use super::{PATIENCE, bounded, patient};

/// A stream of what an iterator has.
pub fn stream_of<I: IntoIterator<IntoIter: Unpin>>(items: I) -> impl Stream<Item = I::Item> {
    Items(items.into_iter())
}

struct Items<I>(I);

impl<I: Iterator + Unpin> Stream for Items<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

/// A runtime of one thread.
pub fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A runtime of three threads.
pub fn several() -> Runtime {
    Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap()
}

/// Runs a test on both kinds of runtime, and fails it where it would hang.
pub fn on_runtimes<F>(test: impl Fn() -> F + Send + Sync + 'static)
where
    F: Future<Output = ()>,
{
    let test = Arc::new(test);
    for runtime in [single, several] {
        let test = Arc::clone(&test);
        bounded(move || {
            let runtime = runtime();
            runtime.block_on(async { timeout(PATIENCE, test()).await.expect("it hangs") });
            // A failed test does not wait for blocking tasks.
            runtime.shutdown_background();
        });
    }
}

/// A connection of a client, to a peer that is made by hand.
pub async fn client(
    config: Config,
    peer: impl FnOnce(Peer) + Send + 'static,
) -> (Connection, JoinHandle<()>) {
    let host = Host::listen();
    let url = host.url();
    let host = host.run(|host| peer(host.upgrade(b"")));
    (aio::connect(&Client::new(&url).unwrap().config(config)).await.unwrap(), host)
}

/// A connection of a server, to a peer that is made by hand.
pub async fn server(
    config: Config,
    peer: impl FnOnce(Peer) + Send + 'static,
) -> (Connection, JoinHandle<()>) {
    let mut server = aio::Server::bind("127.0.0.1:0").await.unwrap().config(config);
    let addr = server.local_addr().unwrap();
    let thread = std::thread::spawn(move || peer(Peer::open(addr, "/")));
    (server.accept().await.unwrap().upgrade().await.unwrap(), thread)
}

/// Waits for a thread without holding the runtime up.
pub async fn join<T: Send + 'static>(thread: JoinHandle<T>) -> T {
    match tokio::task::spawn_blocking(|| thread.join()).await.unwrap() {
        Ok(value) => value,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

/// Two ends in memory: a client's and a server's.
pub async fn pair() -> (Connection, Connection) {
    pair_over(64 << 10, patient()).await
}

/// The same, with so much room between them.
pub async fn pair_over(room: usize, config: Config) -> (Connection, Connection) {
    let (here, there) = tokio::io::duplex(room);
    let client = Client::new("ws://127.0.0.1/").unwrap().config(config.clone());
    let (client, server) = tokio::join!(aio::connect_over(here, &client), aio::accept_over(there, config));
    (client.unwrap(), server.unwrap())
}

/// Echoes until the end.
pub async fn echo(mut ws: Connection) -> Result<(), Error> {
    while let Some(message) = ws.recv().await? {
        ws.send(&message).await?;
    }
    Ok(())
}

/// A stream whose other side is a script: it gives what it is told to give, and keeps what is written.
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    input: Vec<u8>,
    at: usize,
    /// Bytes are given one at a time, each after a read that has to wait.
    halting: bool,
    waits: bool,
    ended: bool,
    /// Nothing can be written.
    stuck: bool,
    written: Vec<u8>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How often something was written.
#[derive(Clone, Default)]
pub struct Writes(Arc<AtomicUsize>);

impl Writes {
    /// How many since the last time.
    pub fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

impl Script {
    /// One that gives a byte at a time, and has every other read wait.
    pub fn halting() -> Script {
        let script = Script::default();
        script.0.lock().unwrap().halting = true;
        script
    }

    /// The other side says something.
    pub fn say(&self, bytes: &[u8]) {
        let mut lines = self.0.lock().unwrap();
        lines.input.extend_from_slice(bytes);
        lines.reader.take().into_iter().for_each(Waker::wake);
    }

    /// The other side says no more.
    pub fn end(&self) {
        let mut lines = self.0.lock().unwrap();
        lines.ended = true;
        lines.reader.take().into_iter().for_each(Waker::wake);
    }

    /// Whether writing has to wait.
    pub fn stick(&self, stuck: bool) {
        let mut lines = self.0.lock().unwrap();
        lines.stuck = stuck;
        if !stuck {
            lines.writer.take().into_iter().for_each(Waker::wake);
        }
    }

    /// The bytes written since the last time.
    pub fn take_written(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap().written)
    }
}

impl AsyncRead for Script {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut lines = self.0.lock().unwrap();
        let lines = &mut *lines;
        if lines.halting {
            lines.waits = !lines.waits;
            if lines.waits {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let most = if lines.halting { 1 } else { buffer.remaining() };
        let bytes = &lines.input[lines.at..];
        let bytes = &bytes[..bytes.len().min(most)];
        if bytes.is_empty() && !lines.ended {
            lines.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        buffer.put_slice(bytes);
        lines.at += bytes.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut lines = self.0.lock().unwrap();
        if lines.stuck {
            lines.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        lines.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A stream that counts its writes.
pub struct Counted<S> {
    /// The stream.
    pub stream: S,
    /// The count.
    pub writes: Writes,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // Before: the other end may be as fast.
        self.writes.0.fetch_add(1, Ordering::SeqCst);
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if result.is_pending() {
            self.writes.0.fetch_sub(1, Ordering::SeqCst);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
