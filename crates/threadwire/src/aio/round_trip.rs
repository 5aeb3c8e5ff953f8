//! Round trips on tokio: pings that the program asks for, one measurement after the other.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use threadwire_core::session::round_trip::Measurement;
use threadwire_proto::keepalive::Hold;
use tokio::time::timeout;

use super::attendant::now;
use super::core::Core;
use super::state::{Env, State};
use super::waiters::Waiters;
use crate::Error;
use crate::error::TimeoutKind;

/// The measurement that is under way.
pub(super) struct Measuring {
    /// Until it is done.
    measurement: Option<Measurement>,
    /// Whether the ping of this round was answered, and the next one has not left.
    is_answered: bool,
    pub(super) waker: Option<Waker>,
    /// Those who want to measure next.
    next: Waiters,
}

/// Measures how long a ping with this payload takes to come back.
pub(super) fn one(
    core: &Arc<Core>,
    payload: &[u8],
) -> impl Future<Output = Result<Duration, Error>> + Send + 'static {
    let (core, measurement) = (Arc::clone(core), Measurement::of(payload));
    async move { measure(core, measurement).await.map(Measurement::only) }
}

/// Measures.
pub(super) async fn measure(core: Arc<Core>, measurement: Measurement) -> Result<Vec<Duration>, Error> {
    if measurement.is_done() {
        return Ok(measurement.into_times());
    }
    let (mut number, mut measurement) = (None, Some(measurement));
    let begin = |cx: &mut Context<'_>| {
        core.with(|state, _| state.poll_begin_measuring(&mut measurement, cx, &mut number))
    };
    poll_fn(begin).await?;
    let _turn = Turn(&core);
    let limit = Measurement::limit(&core.config);
    loop {
        core.with(State::send_probe)?;
        let pong = poll_fn(|cx| core.with(|state, env| state.poll_pong(cx, env)));
        // Also where a native thread waits for it.
        let pong = in_runtime(&core, || timeout(limit, pong)).await;
        if let Some(times) = pong.map_err(|_elapsed| Error::Timeout(TimeoutKind::Pong))?? {
            return Ok(times);
        }
    }
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
        self.0.with(|state, env| {
            let measuring = state.measuring.take();
            if state.session.release_keepalive(Hold::Measuring, now()) {
                state.schedule(env);
            }
            if let Some(mut measuring) = measuring {
                state.wake_all(&mut measuring.next);
            }
        });
    }
}

impl State {
    fn poll_begin_measuring(
        &mut self,
        measurement: &mut Option<Measurement>,
        cx: &mut Context<'_>,
        number: &mut Option<u64>,
    ) -> Poll<Result<(), Error>> {
        if !self.session.is_open() {
            return Poll::Ready(Err(Error::Closed));
        }
        if let Some(measuring) = &mut self.measuring {
            measuring.next.note(number, cx.waker());
            return Poll::Pending;
        }
        self.measuring = Some(Box::new(Measuring {
            measurement: measurement.take(),
            is_answered: false,
            waker: None,
            next: Waiters::default(),
        }));
        self.session.hold_keepalive(Hold::Measuring, now());
        Poll::Ready(Ok(()))
    }

    fn measurement(&mut self) -> Option<&mut Measurement> {
        self.measuring.as_mut()?.measurement.as_mut()
    }

    /// Sends the ping of a round, at once.
    fn send_probe(&mut self, env: Env<'_>) -> Result<(), Error> {
        let Some(measurement) = self.measurement() else { return Err(Error::Closed) };
        let payload = measurement.begin(now());
        self.send_ping(&payload, env)
    }

    /// A pong has arrived that may be one of these.
    pub(super) fn measure_pong(&mut self, payload: &[u8], now: Instant) {
        if self.measurement().is_some_and(|measurement| measurement.pong_arrived(payload, now))
            && let Some(measuring) = &mut self.measuring
        {
            measuring.is_answered = true;
            let waker = measuring.waker.take();
            self.wake(waker);
        }
    }

    /// Waits for the pong of a round. After the last one, it is what was measured.
    fn poll_pong(
        &mut self,
        cx: &mut Context<'_>,
        env: Env<'_>,
    ) -> Poll<Result<Option<Vec<Duration>>, Error>> {
        // Also where somebody receives: from here on the attendant hears of input, and the pong does not wait for the receiver.
        self.look(env);
        let is_open = self.session.is_open();
        let Some(measuring) = &mut self.measuring else { return Poll::Ready(Err(Error::Closed)) };
        if std::mem::take(&mut measuring.is_answered) {
            let done = measuring.measurement.take_if(|measurement| measurement.is_done());
            return Poll::Ready(Ok(done.map(Measurement::into_times)));
        }
        if !is_open {
            return Poll::Ready(Err(Error::Closed));
        }
        measuring.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
