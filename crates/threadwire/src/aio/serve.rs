//! A task for each connection of a server, and their end.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use slab::Slab;
use threadwire_proto::CloseCode;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connection::Connection;
use super::handle::Handle;
use super::request::Request;
use super::server::Server;
use crate::Error;

/// How much longer than closing may take the tasks are given to end.
const GRACE: Duration = Duration::from_millis(100);

/// How long those that are refused have to read that and to end, when nobody else is left.
const FAREWELL: Duration = Duration::from_millis(500);

impl Server {
    /// Accepts every request, and runs `handler` for each connection, in a task of its own. Does not return, and ends all
    /// connections when it is dropped.
    ///
    /// A handler that panics ends its own connection.
    pub async fn serve<F>(
        self,
        handler: impl Fn(crate::Request, Connection) -> F + Send + Sync + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.serve_until(pending::<()>(), handler).await
    }

    /// The same until `signal` is ready. Then nothing more is accepted; who waits for that, or has not finished its handshake, is answered
    /// with 503. All connections are closed with 1001: their receives end, and with them the handlers. Returns when all have ended;
    /// handlers that have not [`Config::close_timeout`](crate::Config::close_timeout) later are dropped, and so are those that were refused and
    /// stay, half a second after the last handler has ended.
    ///
    /// ```
    /// use threadwire::{Error, aio};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let server = aio::Server::bind("127.0.0.1:0").await?;
    /// let url = format!("ws://{}", server.local_addr()?);
    /// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    /// let serving = tokio::spawn(server.serve_until(stopped, |_request, mut ws| async move {
    ///     while let Some(message) = ws.recv().await? {
    ///         ws.send(&message).await?;
    ///     }
    ///     Ok::<(), Error>(())
    /// }));
    /// let mut ws = aio::connect(&url).await?;
    /// drop(stop);
    /// assert!(ws.recv().await?.is_none(), "1001 is a normal end");
    /// serving.await.unwrap()?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn serve_until<F>(
        mut self,
        signal: impl Future + Send,
        handler: impl Fn(crate::Request, Connection) -> F + Send + Sync + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.watch()?;
        let handler = Arc::new(handler);
        let open = Arc::new(Open::default());
        let mut tasks = JoinSet::new();
        let mut signal = pin!(signal);
        let mut next = async |server: &mut Server, tasks: &mut JoinSet<()>| {
            poll_fn(|cx| {
                while let Poll::Ready(Some(ended)) = tasks.poll_join_next(cx) {
                    log(ended);
                }
                match signal.as_mut().poll(cx) {
                    Poll::Ready(_) => Poll::Ready(None),
                    Poll::Pending => server.poll_accept(cx).map(Some),
                }
            })
            .await
        };
        while let Some(request) = next(&mut self, &mut tasks).await {
            tasks.spawn(run(request, Arc::clone(&open), Arc::clone(&handler)));
        }
        let grace = self.settings().close_timeout.saturating_add(GRACE);
        open.close();
        let mut refusing = pin!(self.turn_away());
        let mut is_refused = false;
        let handled = poll_fn(|cx| {
            is_refused = is_refused || refusing.as_mut().poll(cx).is_ready();
            while let Some(ended) = ready!(tasks.poll_join_next(cx)) {
                log(ended);
            }
            Poll::Ready(())
        });
        if timeout(grace, handled).await.is_err() {
            while let Some(ended) = tasks.try_join_next() {
                log(ended);
            }
            if !tasks.is_empty() {
                tracing::warn!(
                    tasks = tasks.len(),
                    "dropped handlers that did not end with their connections"
                );
            }
        } else if !is_refused && timeout(FAREWELL.min(grace), refusing).await.is_err() {
            tracing::debug!("dropped refused handshakes that did not end");
        }
        tasks.shutdown().await;
        Ok(())
    }
}

fn log(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(error = %Error::panicked(error.into_panic()), "a handler panicked");
    }
}

async fn run<F: Future>(
    request: Request,
    open: Arc<Open>,
    handler: Arc<impl Fn(crate::Request, Connection) -> F>,
) {
    // In a box, as the task lives on: its size is memory of an idle connection.
    match Box::pin(request.open()).await {
        Ok((request, connection)) => {
            let _place = open.enter(connection.handle());
            handler(request, connection).await;
        }
        Err(error) => tracing::debug!(%error, "dropped a connection before it was open"),
    }
}

/// The connections that are open, to be closed at the end.
#[derive(Default)]
struct Open(Mutex<Handles>);

#[derive(Default)]
struct Handles {
    list: Slab<Handle>,
    is_closed: bool,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Handles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Open>, handle: Handle) -> Place {
        let mut handles = self.lock();
        if handles.is_closed {
            say_goodbye(&handle);
        }
        Place { open: Arc::clone(self), key: handles.list.insert(handle) }
    }

    fn close(&self) {
        let mut handles = self.lock();
        handles.is_closed = true;
        let all: Vec<Handle> = handles.list.iter().map(|(_, handle)| handle.clone()).collect();
        drop(handles);
        all.iter().for_each(say_goodbye);
    }
}

fn say_goodbye(handle: &Handle) {
    // The code may be sent.
    let _ = handle.close_with(CloseCode::GOING_AWAY, "");
}

struct Place {
    open: Arc<Open>,
    key: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        let handle = self.open.lock().list.try_remove(self.key);
        drop(handle);
    }
}
