//! Round trips on tokio: pings that the program asks for, one measurement after the other.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use threadwire_core::session::buffers::Buffers;
use threadwire_proto::RoundTrips;
use threadwire_proto::keepalive::{Hold, Keepalive};
use tokio::time::timeout;

use super::core::Core;
use super::waiters::Waiters;
use crate::Error;
use crate::error::TimeoutKind;

/// How long a pong may take, where no keepalive says so.
const PATIENCE: Duration = Duration::from_secs(20);

/// The measurement that is under way.
#[derive(Default)]
pub(super) struct Measuring {
    pub(super) trips: RoundTrips,
    /// How long the last ping took, until that is noted.
    time: Option<Duration>,
    pub(super) waker: Option<Waker>,
    /// Those who want to measure next.
    next: Waiters,
}

impl Measuring {
    /// A pong has arrived. Who is to be woken, if it is the one.
    pub(super) fn pong_arrived(&mut self, payload: &[u8], now: Instant) -> Option<Waker> {
        self.time = Some(self.trips.pong(payload, now)?);
        self.waker.take()
    }
}

/// Measures how long a ping takes to come back, this many times. With `reads`, whoever measures is the receiver as well.
pub(super) async fn measure(core: &Core, rounds: usize, reads: bool) -> Result<Vec<Duration>, Error> {
    if rounds == 0 {
        return Ok(Vec::new());
    }
    let mut number = None;
    poll_fn(|cx| core.poll_begin_measuring(cx, &mut number)).await?;
    let _turn = Turn(core);
    let keepalive = core.config.keepalive;
    let limit = keepalive.map_or(PATIENCE, |it| it.reply_timeout.max(Keepalive::SHORTEST));
    let mut times = Vec::new();
    while times.len() < rounds {
        core.send_probe()?;
        // Also where a native thread waits for it.
        let pong = in_runtime(core, || timeout(limit, poll_fn(|cx| core.poll_pong(cx, reads))));
        times.push(pong.await.map_err(|_elapsed| Error::Timeout(TimeoutKind::Pong))??);
    }
    Ok(times)
}

/// Makes a future whose timers are those of the connection's runtime.
fn in_runtime<F>(core: &Core, make: impl FnOnce() -> F) -> F {
    let _entered = core.runtime().enter();
    make()
}

/// Whose turn it is to measure: dropped, it is the next one's.
struct Turn<'a>(&'a Core);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let measuring = state.measuring.take();
        state.session.release_keepalive(Hold::Measuring, Instant::now());
        if let Some(mut measuring) = measuring {
            let mut next = Vec::new();
            measuring.next.take_all(&mut next);
            next.into_iter().for_each(|waker| state.wake(Some(waker)));
        }
    }
}

impl Core {
    fn poll_begin_measuring(
        &self,
        cx: &mut Context<'_>,
        number: &mut Option<u64>,
    ) -> Poll<Result<(), Error>> {
        let mut state = self.lock();
        if !state.session.is_open() {
            return Poll::Ready(Err(Error::Closed));
        }
        if let Some(measuring) = &mut state.measuring {
            measuring.next.note(number, cx.waker());
            return Poll::Pending;
        }
        state.measuring = Some(Box::default());
        state.session.hold_keepalive(Hold::Measuring, Instant::now());
        Poll::Ready(Ok(()))
    }

    /// Sends the ping of a round, at once.
    fn send_probe(&self) -> Result<(), Error> {
        let buffers = Buffers::current();
        let mut state = self.lock();
        let Some(measuring) = &mut state.measuring else { return Err(Error::Closed) };
        measuring.time = None;
        let payload = measuring.trips.begin(Instant::now());
        state.send_ping(&payload, self.env(&buffers))
    }

    fn poll_pong(&self, cx: &mut Context<'_>, reads: bool) -> Poll<Result<Duration, Error>> {
        let buffers = Buffers::current();
        let mut state = self.lock();
        if reads {
            state.read_ahead(cx, self.env(&buffers));
        }
        let is_open = state.session.is_open();
        let Some(measuring) = &mut state.measuring else { return Poll::Ready(Err(Error::Closed)) };
        match measuring.time.take() {
            Some(time) => Poll::Ready(Ok(time)),
            None if !is_open => Poll::Ready(Err(Error::Closed)),
            None => {
                measuring.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
