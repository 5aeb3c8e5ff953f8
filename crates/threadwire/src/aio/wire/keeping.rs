//! Keepalive: what [`Pulse`] says is done here, and it is told what it has to know.
//!
//! It is looked at where nothing has arrived, so what lies unread in the socket counts as life before a verdict is given. While
//! nobody receives there is no verdict, and no ping.

use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use threadwire_proto::keepalive::{Check, Pulse};
use threadwire_proto::{CloseCode, CloseFrame, OpCode, RoundTripSummary, RoundTrips, SendOptions};
use tokio::time::{Sleep, sleep_until};

use super::{Means, Wire};
use crate::error::TimeoutKind;
use crate::{Config, Error};

/// What a connection with keepalive has, or one that keeps round trips.
pub(super) struct Keeping {
    pulse: Option<Pulse>,
    trips: Option<RoundTrips>,
    /// Rings at the deadline, or before it: bytes that arrive only move the deadline.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Keeping {
    pub(super) fn new(config: &Config) -> Option<Box<Keeping>> {
        let pulse = config.keepalive.as_ref().map(|keepalive| Pulse::new(keepalive, Instant::now()));
        let trips = config.keep_round_trips.then(RoundTrips::new);
        (pulse.is_some() || trips.is_some()).then(|| Box::new(Keeping { pulse, trips, timer: None }))
    }
}

impl Wire {
    /// Bytes have arrived.
    #[inline]
    pub(super) fn heard(&mut self) {
        if let Some(keeping) = &mut self.keeping
            && let Some(pulse) = &mut keeping.pulse
        {
            pulse.heard(Instant::now());
        }
    }

    /// A pong has arrived.
    pub(super) fn pong_arrived(&mut self, payload: &[u8]) {
        let Some(keeping) = &mut self.keeping else { return };
        let now = Instant::now();
        if let Some(pulse) = &mut keeping.pulse {
            pulse.answered(now);
        }
        if let Some(trips) = &mut keeping.trips {
            trips.pong(payload, now);
        }
    }

    pub(in crate::aio) fn round_trips(&self) -> Option<RoundTripSummary> {
        self.keeping.as_ref()?.trips.as_ref()?.summary()
    }

    /// Nothing has arrived: does what is due because of it, and has `cx` woken when the next thing is. With `is_known`, it is
    /// the one that the timer would wake already.
    #[inline]
    pub(in crate::aio) fn look_at_pulse(&mut self, cx: &mut Context<'_>, is_known: bool, means: Means<'_>) {
        if self.keeping.is_some() {
            self.look_at_pulse_now(cx, is_known, means);
        }
    }

    fn look_at_pulse_now(&mut self, cx: &mut Context<'_>, mut is_known: bool, means: Means<'_>) {
        while self.is_open() {
            let Some(Keeping { pulse: Some(pulse), trips, timer }) = self.keeping.as_deref_mut() else {
                return;
            };
            let Some(deadline) = pulse.deadline() else { return };
            let timer = match timer {
                Some(timer) => timer,
                none => {
                    is_known = false;
                    let _runtime = means.runtime.enter();
                    none.insert(Box::pin(sleep_until(deadline.into())))
                }
            };
            if !timer.is_elapsed() && (is_known || timer.as_mut().poll(cx).is_pending()) {
                return;
            }
            is_known = false;
            let now = Instant::now();
            let check = pulse.check(now);
            if let Some(deadline) = pulse.deadline() {
                timer.as_mut().reset(deadline.into());
            }
            match check {
                Check::NotYet => {}
                Check::Ping => {
                    let payload = trips.as_mut().map(|trips| trips.begin(now));
                    let payload = payload.as_ref().map_or(&[][..], |payload| &payload[..]);
                    // It is open, and the payload is short.
                    let _ = self.send_frame(OpCode::Ping, true, payload, SendOptions::default(), means);
                    self.write(means);
                }
                Check::Silent { for_ } => return self.give_up_silent(for_, means),
            }
        }
    }

    /// Nothing is to be expected of the peer: it is told why, and TCP is dropped.
    #[cold]
    fn give_up_silent(&mut self, silent_for: Duration, means: Means<'_>) {
        self.note(Error::Timeout(TimeoutKind::Silence { silent_for }));
        let reason = format!("no sign of life for {:.1} s", silent_for.as_secs_f64());
        // Where that fails, the peer is told nothing.
        let _ = self.close(CloseFrame { code: Some(CloseCode::GOING_AWAY), reason: &reason }, means.local);
        self.write(means);
        self.abort(None, means.local);
    }
}
