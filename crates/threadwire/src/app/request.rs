//! Requests and replies over an app, paired by ids.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use threadwire_core::error::RequestId;
use threadwire_proto::OwnedMessage;
use threadwire_worker::{Defer, PromiseError};

use super::handle::AppState;
use crate::error::{RequestRefused, TimeoutKind};
use crate::{Closed, Error};

/// An answer, or how the connection ended (if that is known) before there was one.
type ReplyResult = Result<OwnedMessage, Option<Arc<Closed>>>;

/// The requests that wait. Some are of replies that nobody has any more, for a moment.
#[derive(Default)]
pub(super) struct Requests {
    waiting: HashMap<RequestId, (u64, Defer<ReplyResult>)>,
    count: u64,
}

impl Requests {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Begins to wait for an answer. Returns a number for it.
    pub(super) fn add(&mut self, id: &RequestId) -> Result<(u64, Defer<ReplyResult>), RequestRefused> {
        if self.waiting.contains_key(id) {
            return Err(RequestRefused::Duplicate { id: id.clone() });
        }
        self.count += 1;
        let answer = Defer::new();
        self.waiting.insert(id.clone(), (self.count, answer.clone()));
        Ok((self.count, answer))
    }

    pub(super) fn take(&mut self, id: &RequestId) -> Option<Defer<ReplyResult>> {
        self.waiting.remove(id).map(|(_, answer)| answer)
    }

    /// Waits no more for the request of this id and number.
    fn forget(&mut self, id: &RequestId, number: u64) {
        if self.waiting.get(id).is_some_and(|(waiting, _)| *waiting == number) {
            self.waiting.remove(id);
        }
    }

    pub(super) fn take_all(&mut self) -> Vec<Defer<ReplyResult>> {
        self.waiting.drain().map(|(_, (_, answer))| answer).collect()
    }
}

/// The answer to a [request](super::AppHandle::request), which may still have to come. It can be waited for on any thread,
/// while that thread's loop goes on, or awaited in a task of any executor.
///
/// Every way to get it fails with [`Error::Ended`] if the connection ends before (however it ends, as
/// [`Closed`] tells; [`Error::Closed`] if nobody can tell any more). To drop it is to wait no more: should the answer
/// come after all, it goes to [`on_message`](super::App::on_message).
///
/// There is an example at [`AppHandle::request`](super::AppHandle::request).
#[must_use = "the answer goes to on_message if this is dropped"]
pub struct PendingReply {
    id: RequestId,
    number: u64,
    answer: Defer<ReplyResult>,
    shared: Arc<AppState>,
}

impl PendingReply {
    pub(super) fn new(
        id: RequestId,
        number: u64,
        answer: Defer<ReplyResult>,
        shared: Arc<AppState>,
    ) -> PendingReply {
        PendingReply { id, number, answer, shared }
    }

    /// The id of the request.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// Waits for the answer. Fails with [`Error::Stopped`] if this thread's worker is stopped; and with
    /// [`RequestRefused::InCallback`] in a callback of the same app, where the answer would never come.
    pub fn get(&self) -> Result<OwnedMessage, Error> {
        self.check()?;
        open(self.answer.get())
    }

    /// The same for at most `timeout`: then it fails with [`Error::Timeout`] ([`TimeoutKind::Receive`]), and the answer may
    /// still come.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::app::PendingReply;
    /// use threadwire::Error;
    ///
    /// fn is_slow(reply: &PendingReply) -> Result<bool, Error> {
    ///     match reply.get_timeout(Duration::from_secs(1)) {
    ///         Err(error) if error.is_timeout() => Ok(true),
    ///         answer => answer.map(|_| false),
    ///     }
    /// }
    /// # let _ = is_slow;
    /// ```
    pub fn get_timeout(&self, timeout: Duration) -> Result<OwnedMessage, Error> {
        self.check()?;
        open(self.answer.get_timeout(timeout))
    }

    /// The answer, if it is there. Never waits.
    pub fn try_get(&self) -> Option<Result<OwnedMessage, Error>> {
        self.answer.try_get().map(open)
    }

    fn check(&self) -> Result<(), Error> {
        if !self.answer.is_settled() && self.shared.is_in_callback_here() {
            return Err(RequestRefused::InCallback.into());
        }
        Ok(())
    }
}

fn open(answer: Result<ReplyResult, PromiseError>) -> Result<OwnedMessage, Error> {
    match answer {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(Some(closed))) => Err(Error::Ended(closed)),
        Ok(Err(None)) => Err(Error::Closed),
        Err(PromiseError::TimedOut) => Err(Error::Timeout(TimeoutKind::Receive)),
        Err(PromiseError::Stopped(_)) => Err(Error::Stopped),
        Err(error) => Err(Error::other(error)),
    }
}

/// Ready when there is an answer, or will be none. (To [`block_on`](threadwire_worker::block_on) it in a callback of the same app
/// would never end: no answer is read before that returns.)
impl Future for PendingReply {
    type Output = Result<OwnedMessage, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context).map(open)
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        let (id, number) = (&self.id, self.number);
        self.shared.with_requests(|requests| requests.forget(id, number));
    }
}

impl fmt::Debug for PendingReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingReply")
            .field("id", &self.id.to_string())
            .field("has_come", &self.answer.is_settled())
            .finish_non_exhaustive()
    }
}
