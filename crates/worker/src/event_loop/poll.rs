//! Polling: a loop sleeps until something comes, or spins (busy polling).
//!
//! A loop that spins is awake as far as the inbox is concerned: a sender has nobody to wake, and the loop finds what came
//! in its next look. A lost wake-up between the last look and the sleep is ruled out by the inbox, which lets no loop fall
//! asleep for which something has come.

use std::hint;
use std::io;
use std::time::{Duration, Instant};

use super::EventLoop;
use super::source_table::translate;
use super::waker::{self, WAKER};
use crate::Token;

/// The deadline of a poll, if nothing comes before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PollDeadline {
    /// There is something to do already.
    Now,
    At(Instant),
    Never,
}

impl PollDeadline {
    pub(super) fn timeout(self) -> Option<Duration> {
        match self {
            PollDeadline::Now => Some(Duration::ZERO),
            PollDeadline::At(due) => Some(due.saturating_duration_since(Instant::now())),
            PollDeadline::Never => None,
        }
    }
}

impl EventLoop {
    /// Has the loop poll without sleeping for up to `spin` since something last happened to it (a socket, a timer, an
    /// event or a call); only then it sleeps. A wait that begins when it has rested for as long makes it spin again.
    /// `None`, the default, lets it sleep at once; with [`Duration::MAX`] it never does.
    ///
    /// This buys latency with a core: sockets and mail are noticed without the system having to wake the thread, and senders
    /// save the system call that does so. While it spins, the thread uses 100 % of a core whether there
    /// is something to do or not, also while the worker is [paused](crate::Remote::pause). It pays only where that core
    /// is free: two threads that spin on one core slow each other down.
    ///
    /// Only the loop's own waits spin. A thread that blocks elsewhere sleeps there.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire_worker::{EventLoop, sleep};
    ///
    /// EventLoop::current().set_busy_poll(Some(Duration::from_micros(50)));
    /// sleep(Duration::from_millis(1))?; // spins for 50 µs of it
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    pub fn set_busy_poll(&self, spin: Option<Duration>) {
        self.busy_poll.set(spin.filter(|spin| !spin.is_zero()));
        self.quiet_since.set(None);
    }

    /// Polls, and puts the tokens of ready sources into the queue.
    pub(super) fn poll(&self, until: Option<Instant>, may_call: bool) {
        let due = self.due(until, may_call);
        if let Some(spin) = self.busy_poll.get() {
            if due == PollDeadline::Now {
                self.quiet_since.set(None);
            } else if self.spin(spin, due, may_call) {
                return;
            }
        }
        let mut timeout = due.timeout();
        let sleeps = timeout != Some(Duration::ZERO);
        let mut has_come = sleeps && !self.worker.inbox.fall_asleep(may_call);
        if has_come {
            timeout = Some(Duration::ZERO);
        }
        has_come |= self.poll_sockets(timeout);
        if sleeps {
            has_come |= self.worker.inbox.wake_up();
        }
        if has_come {
            self.quiet_since.set(None);
        }
    }

    /// Polls without sleeping until something comes, or it is due (then true), or nothing has happened for as long as `spin`
    /// (then false).
    fn spin(&self, spin: Duration, due: PollDeadline, may_call: bool) -> bool {
        // A new wait spins anew, as the program may have asked for something meanwhile. But waits that are always over before
        // they sleep, or shortly after, must not add up to a loop that never sleeps.
        let has_rested = |since: Instant| since.elapsed() >= spin.saturating_mul(2);
        if self.quiet_since.get().is_some_and(has_rested) {
            self.quiet_since.set(None);
        }
        loop {
            // The sockets too if there is mail, so that a flood of it does not hide them.
            let has_mail = self.worker.inbox.look(may_call);
            let is_ready = self.poll_sockets(Some(Duration::ZERO));
            if has_mail || is_ready {
                self.quiet_since.set(None);
                return true;
            }
            let now = Instant::now();
            if let PollDeadline::At(due) = due
                && due <= now
            {
                return true;
            }
            let quiet_since = self.quiet_since.get().unwrap_or(now);
            self.quiet_since.set(Some(quiet_since));
            if now.saturating_duration_since(quiet_since) >= spin {
                return false;
            }
            hint::spin_loop();
        }
    }

    /// Returns whether the waits are to be asked again: a socket is ready, or a signal of the system came between.
    fn poll_sockets(&self, timeout: Option<Duration>) -> bool {
        let mut poller = self.poller.borrow_mut();
        let Some(poller) = &mut *poller else {
            waker::park(timeout);
            return false;
        };
        match poller.poll.poll(&mut poller.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) => panic!("an event loop can't poll: {error}"),
        }
        let mut is_ready = false;
        for event in poller.events.iter().filter(|event| event.token() != WAKER) {
            self.requeue(Token(event.token()), translate(event));
            is_ready = true;
        }
        is_ready
    }

    /// How long the next poll may take.
    pub(super) fn due(&self, until: Option<Instant>, may_call: bool) -> PollDeadline {
        if may_call && (!self.ready.borrow().is_empty() || !self.mail.borrow().is_empty()) {
            return PollDeadline::Now;
        }
        let timer = if may_call { self.timers.borrow().next() } else { None };
        match (until, timer) {
            (Some(until), Some(timer)) => PollDeadline::At(until.min(timer)),
            (Some(due), None) | (None, Some(due)) => PollDeadline::At(due),
            (None, None) => PollDeadline::Never,
        }
    }
}
