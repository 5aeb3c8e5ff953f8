//! Patience of sends that wait for room: how many may inside of callbacks, and how long without progress.
//!
//! A callback that waits turns the loop inside of itself, and ends after all that was begun in there. So peers that do not read could
//! hold a thread, each by one callback: when waits are nested as deep as may be, nobody is called any more. Two bounds
//! keep that from happening: few sends wait inside of callbacks at a time, and each only while its peer takes something now and then.

use std::time::{Duration, Instant};

use threadwire_worker::{EventLoop, Stopped};

use super::registry::Registry;

/// The most sends that wait inside of callbacks on one thread: a quarter of how deep waits may nest.
pub(crate) const MOST_WAITING: usize = 8;
const _: () = assert!(4 * MOST_WAITING <= EventLoop::MAX_NESTING);

/// The outcome of such a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// What was waited for is there.
    Rewarded,
    /// The peer took nothing for too long.
    Exhausted,
    /// It was not waited at all, as too many wait already.
    Refused,
}

/// Waits until `done` says so, while the loop goes on. Inside of a callback that lasts no longer than `timeout` without a change of
/// `progress`.
pub(crate) fn wait_for_room(
    timeout: Duration,
    mut progress: impl FnMut() -> u64,
    mut done: impl FnMut() -> bool,
) -> Result<Patience, Stopped> {
    let event_loop = EventLoop::current();
    if event_loop.is_outermost() {
        event_loop.wait(None, done)?;
        return Ok(Patience::Rewarded);
    }
    let registry = Registry::current();
    let waiting = registry.waiting_sends.get();
    if waiting >= MOST_WAITING {
        return Ok(if done() { Patience::Rewarded } else { Patience::Refused });
    }
    registry.waiting_sends.set(waiting + 1);
    let _waiting = Waiting { registry: &registry };
    let (mut before, mut since) = (progress(), Instant::now());
    loop {
        let until = since.checked_add(timeout);
        let is_done = event_loop.wait(until, || {
            let now = progress();
            if now != before {
                (before, since) = (now, Instant::now());
            }
            done()
        })?;
        if is_done {
            return Ok(Patience::Rewarded);
        }
        if since.elapsed() >= timeout {
            return Ok(Patience::Exhausted);
        }
    }
}

/// A send that waits, until this is dropped.
struct Waiting<'a> {
    registry: &'a Registry,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.registry.waiting_sends.set(self.registry.waiting_sends.get() - 1);
    }
}
