//! Delivery of a message to a room, and its report.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use threadwire_worker::{EventLoop, Lock, Remote, Stopped};

/// What has become of a message to a [`Room`](crate::Room): for how many members. Or of all of them:
/// [`Room::totals`](crate::Room::totals).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Taken for delivery: written to the system, or waiting behind what was sent before. (A message that waits may still be
    /// dropped for a newer one, where the policy is [`WhenFull::DropOldest`](crate::WhenFull::DropOldest):
    /// [`Connection::dropped`](crate::Connection::dropped) counts those.)
    pub delivered: u64,
    /// Dropped as there was no room: for the member ([`Config::max_buffered`](crate::Config::max_buffered)), or on the way to its worker
    /// ([`Room::bounded`](crate::Room::bounded)).
    pub dropped: u64,
    /// Not sent since the member is not open any more, or has itself sent only some of the fragments of a message.
    pub skipped: u64,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Report) {
        self.delivered += other.delivered;
        self.dropped += other.dropped;
        self.skipped += other.skipped;
    }
}

/// A [`Report`] that several threads add to.
#[derive(Default)]
pub(crate) struct Counts {
    delivered: AtomicU64,
    dropped: AtomicU64,
    skipped: AtomicU64,
}

impl Counts {
    pub(crate) fn add(&self, report: Report) {
        let all = [
            (&self.delivered, report.delivered),
            (&self.dropped, report.dropped),
            (&self.skipped, report.skipped),
        ];
        for (count, more) in all.into_iter().filter(|(_, more)| *more > 0) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub(crate) fn report(&self) -> Report {
        Report {
            delivered: self.delivered.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
        }
    }
}

/// A message that is on its way to the members of a [`Room`](crate::Room). It may be dropped: the message gets there all
/// the same.
pub struct Delivery(Option<Arc<Progress>>);

/// How far a message has come.
#[derive(Default)]
struct Progress {
    /// How many threads have not dealt with it.
    left: AtomicUsize,
    counts: Counts,
    waiting: Lock<Option<Remote>>,
}

/// One thread's part of a delivery. Dropped, it counts as dealt with: nobody was there any more.
pub(crate) struct Part(Option<Arc<Progress>>);

impl Delivery {
    /// A delivery by so many threads, and its parts.
    pub(super) fn new(threads: usize) -> (Delivery, impl Iterator<Item = Part>) {
        let progress = (threads > 0)
            .then(|| Arc::new(Progress { left: AtomicUsize::new(threads), ..Progress::default() }));
        let parts = progress.clone();
        (Delivery(progress), (0..threads).map(move |_| Part(parts.clone())))
    }

    /// Waits until every worker with members has dealt with the message, and says what became of it. The loop of this
    /// thread goes on meanwhile, and what was gathered leaves; so a callback of a member may ask too.
    ///
    /// A thread with members whose loop does not turn for a time is waited for as long.
    ///
    /// A program that sends faster than its workers deliver can hold itself back with it; how much may be on its way to each of them
    /// is limited in any case ([`Room::bounded`](crate::Room::bounded)).
    ///
    /// # Errors
    ///
    /// If the worker that waits is stopped. The message is delivered all the same.
    ///
    /// ```
    /// use threadwire::{Connection, Message, Room, connect};
    /// # use threadwire::{Reply, Server};
    /// # let server = Server::bind("127.0.0.1:0")?.serve(|_| Reply::with(|_: &Connection, _: Message<'_>| Ok(())))?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let ws = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?;
    /// let room = Room::new();
    /// room.join(&ws);
    /// let report = room.send("hello").report()?;
    /// assert_eq!((report.delivered, report.dropped, report.skipped), (1, 0, 0));
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn report(self) -> Result<Report, Stopped> {
        let Some(progress) = &self.0 else { return Ok(Report::default()) };
        let event_loop = EventLoop::current();
        if !progress.is_over() {
            *progress.waiting.lock() = Some(event_loop.remote());
        }
        event_loop.wait(None, || progress.is_over())?;
        Ok(progress.counts.report())
    }

    /// Whether every worker has dealt with the message, so that [`report`](Delivery::report) would not wait.
    pub fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(|progress| progress.is_over())
    }
}

impl Progress {
    fn is_over(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }
}

impl Part {
    /// The thread has dealt with the message.
    pub(super) fn finish(self, report: Report) {
        if let Some(progress) = &self.0 {
            progress.counts.add(report);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let Some(progress) = self.0.take() else { return };
        if progress.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            // A waiter that registers after this finds, under the same lock, that the delivery is over.
            let waiting = progress.waiting.lock().take();
            if let Some(waiting) = waiting {
                waiting.wake();
            }
        }
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}
