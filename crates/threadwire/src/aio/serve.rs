//! A task for each connection of a server, and their end.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use threadwire_proto::Level;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::guarded::guarded;
use super::server::Server;
use super::shutdown::{Control, Ending, in_time};
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
        let control = Arc::clone(&self.control);
        let mut tasks = JoinSet::new();
        let mut ending = control.subscribe();
        let mut ending = pin!(ending.wait_for(Option::is_some));
        let mut signal = pin!(signal);
        let mut next = async |server: &mut Server, tasks: &mut JoinSet<()>| {
            poll_fn(|cx| {
                while let Poll::Ready(Some(ended)) = tasks.poll_join_next(cx) {
                    log(ended);
                }
                if signal.as_mut().poll(cx).is_ready() || ending.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                server.poll_accept(cx).map(Some)
            })
            .await
        };
        while let Some(request) = next(&mut self, &mut tasks).await {
            // In a box, as the task lives on: its size is memory of an idle connection.
            let opening = Box::pin(request.open(Level::Messages));
            tasks.spawn(run(opening, Arc::clone(&control), Arc::clone(&handler)));
        }
        if control.ending().is_none() {
            self.stopper().stop();
        }
        let Some(Ending { order, deadline, .. }) = control.ending() else { return Ok(()) };
        let mut refusing = pin!(self.turn_away(&order));
        let mut is_refused = false;
        let handled = poll_fn(|cx| {
            is_refused = is_refused || refusing.as_mut().poll(cx).is_ready();
            while let Some(ended) = ready!(tasks.poll_join_next(cx)) {
                log(ended);
            }
            Poll::Ready(())
        });
        if in_time(deadline.and_then(|deadline| deadline.checked_add(GRACE)), handled).await.is_none() {
            while let Some(ended) = tasks.try_join_next() {
                log(ended);
            }
            if !tasks.is_empty() {
                tracing::warn!(
                    tasks = tasks.len(),
                    "dropped handlers that did not end with their connections"
                );
            }
        } else if !is_refused {
            let is_stop = control.ending().is_some_and(|ending| ending.is_stop);
            let soon = Instant::now().checked_add(FAREWELL);
            let is_short = is_stop || order.shutdown.keep_listening;
            let until = if is_short { soon.into_iter().chain(deadline).min() } else { deadline };
            if in_time(until, refusing).await.is_none() {
                tracing::debug!("dropped refused handshakes that did not end");
            }
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

/// Runs the handler of a connection, once that is open.
async fn run<F: Future>(
    opening: Pin<Box<impl Future<Output = Result<(crate::Request, Connection), Error>>>>,
    control: Arc<Control>,
    handler: Arc<impl Fn(crate::Request, Connection) -> F>,
) {
    let pending = control.expect();
    let (handle, membership, handling) = match opening.await {
        Ok((request, connection)) => {
            let handle = connection.handle();
            let membership = control.enter(handle.clone(), request.peer_addr());
            (handle, membership, handler(request, connection))
        }
        Err(error) => return tracing::debug!(%error, "dropped a connection before it was open"),
    };
    drop(pending);
    if let Err(panicked) = guarded(handling).await {
        tracing::error!(error = %Error::panicked(panicked), "a handler panicked");
    }
    membership.end(&*handle.wait_closed().await);
}
