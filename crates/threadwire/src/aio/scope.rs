//! Task scope: tasks that end with a connection.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::task::JoinHandle;

use super::core::Core;
use super::sending::Ending;

/// Where tasks are spawned that are to end when the connection does: whatever they wait for, they are dropped then.
/// [`Connection::scope`](super::Connection::scope) makes one; dropping it ends nothing.
///
/// ```
/// use std::time::Duration;
/// use threadwire::{Error, aio};
///
/// async fn serve(mut ws: aio::Connection) -> Result<(), Error> {
///     let clock = ws.handle();
///     ws.scope().spawn(async move {
///         // No end in sight, and none is needed.
///         while clock.send_async("tick").await.is_ok() {
///             tokio::time::sleep(Duration::from_secs(1)).await;
///         }
///     });
///     while let Some(message) = ws.recv().await? {
///         ws.send(&message).await?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Scope(Arc<Core>);

impl Scope {
    pub(super) fn new(core: &Arc<Core>) -> Scope {
        Scope(Arc::clone(core))
    }

    /// Spawns a task on the connection's runtime. It ends with `None` if the connection ends first.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let mut ending = Ending::new(&self.0);
        self.0.runtime().spawn(async move {
            let mut future = pin!(future);
            poll_fn(|cx| match pin!(&mut ending).poll(cx) {
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => future.as_mut().poll(cx).map(Some),
            })
            .await
        })
    }
}

impl std::fmt::Debug for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.describe(f, "Scope")
    }
}
