//! Errors of tasks: what a task ends with, and what whoever joins it makes of that.

use std::error::Error;

use super::Ended;
use crate::Stopped;

/// Any error, as tasks may return it.
pub(crate) type AnyError = Box<dyn Error + Send + Sync>;

/// The end of a task that has no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was stopped.
    Stopped,
    /// It failed.
    Error(AnyError),
}

impl From<Stopped> for Failure {
    fn from(_: Stopped) -> Failure {
        Failure::Stopped
    }
}

/// An error that lies on top of [`Stopped`] is what some wait made of a stop.
impl From<AnyError> for Failure {
    fn from(error: AnyError) -> Failure {
        let mut below: Option<&(dyn Error + 'static)> = Some(&*error);
        while let Some(error) = below {
            if error.is::<Stopped>() {
                return Failure::Stopped;
            }
            below = error.source();
        }
        Failure::Error(error)
    }
}

/// An error of the program's as text, which may panic at being printed.
pub(crate) fn printed(error: &dyn Error) -> String {
    threadwire_guard::run(|| error.to_string())
        .unwrap_or_else(|panicked| format!("an error that can't be printed, as that panics: {panicked}"))
}

/// The reason why a worker has left no result, see [`Ended::into_result`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The worker was stopped.
    #[error("the task was stopped")]
    Stopped,
    /// The task returned this error. It reads as that error, and has that error's source.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
    /// The task panicked, with this message.
    #[error("the task panicked: {0}")]
    Panicked(String),
}

impl<R> Ended<R> {
    /// The result of the task, or the reason why there is none: so `?` gives it to whoever joins.
    ///
    /// ```
    /// use threadwire_worker::Worker;
    /// let worker = Worker::spawn_fallible(|| Ok("12".parse::<u32>()?));
    /// let number: u32 = worker.join()?.into_result()?;
    /// assert_eq!(number, 12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_result(self) -> Result<R, TaskError> {
        match self {
            Ended::Done(result) => Ok(result),
            Ended::Stopped => Err(TaskError::Stopped),
            Ended::Failed(error) => Err(TaskError::Failed(error)),
            Ended::Panicked(payload) => {
                let panicked = threadwire_guard::Panicked::from(payload);
                Err(TaskError::Panicked(panicked.message().to_owned()))
            }
        }
    }
}
