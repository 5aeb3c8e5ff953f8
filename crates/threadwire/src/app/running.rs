//! App on a worker of its own.

use threadwire_worker::{Ended as WorkerEnded, Worker};

use super::{App, AppHandle, Ended};
use crate::Error;

/// Runs an app on a worker of its own, a child of this thread's worker. It is made there, by `make`, and may therefore have
/// closures that can't leave their thread; its handle is there at once. Fails with [`Error::Io`] if the system refuses
/// another thread.
///
/// ```
/// use threadwire::{App, app};
/// # use threadwire::{Reply, Connection, Message, Server};
/// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
/// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
/// # let url = format!("ws://{}", server.local_addr()?);
///
/// let running = app::spawn(move || {
///     Ok(App::new(&url)?.on_open(|ws| ws.send("hello")).on_message(|_ws, message| println!("{message}")))
/// })?;
/// // Whatever else there is to do.
/// running.handle().close()?;
/// running.join()?;
/// # Ok::<(), threadwire::Error>(())
/// ```
pub fn spawn(make: impl FnOnce() -> Result<App, Error> + Send + 'static) -> Result<Running, Error> {
    let handle = AppHandle::new();
    let adopted = handle.clone();
    let worker = Worker::builder().name("threadwire app").spawn(move || {
        let run = || make()?.with_handle(adopted).run_forever();
        Ok(run())
    })?;
    Ok(Running { handle, worker })
}

/// An app that runs on a worker of its own: see [`spawn`]. Dropping it ends nothing.
#[derive(Debug)]
pub struct Running {
    handle: AppHandle,
    worker: Worker<Result<Ended, Error>>,
}

impl Running {
    /// The app's handle.
    pub fn handle(&self) -> AppHandle {
        self.handle.clone()
    }

    /// The app's worker, to be given events, or [stopped](threadwire_worker::Remote::stop).
    pub fn worker(&self) -> &Worker<Result<Ended, Error>> {
        &self.worker
    }

    /// Waits until the app has ended, while this thread's loop goes on, and returns what
    /// [`run_forever`](App::run_forever) did: also [`Error::Stopped`], if this thread's worker is stopped or the app's
    /// is, and [`Error::Panicked`] if what made the app panicked.
    pub fn join(self) -> Result<Ended, Error> {
        match self.worker.join()? {
            WorkerEnded::Done(result) => result,
            WorkerEnded::Stopped => Err(Error::Stopped),
            WorkerEnded::Failed(error) => Err(Error::of_program(error)),
            WorkerEnded::Panicked(payload) => Err(Error::panicked(payload)),
        }
    }
}
