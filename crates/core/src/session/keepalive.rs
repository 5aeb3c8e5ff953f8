//! Keepalive of a session: when the peer is pinged, when it is called silent, and for how long this side did not read.
//!
//! [`Pulse`] decides; it is told here what it has to know. In a driver's turn the stream is read before [`tick`](Session::tick) is
//! called, so what lies unread in it counts as life before a verdict is given.

use std::time::{Duration, Instant};

use threadwire_proto::keepalive::{Check, Hold, Pulse};
use threadwire_proto::{CloseCode, RoundTripSummary, RoundTrips};

use super::buffers::Buffers;
use super::progress::Stall;
use super::{Env, Session};
use crate::config::Config;
use crate::error::{Error, TimeoutKind};
use crate::transport::Transport;

/// For how long this side may not read before [`Closed::unread_for`](crate::Closed::unread_for) tells of it.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// How often a peer may be silent from which nothing is read as it does not read either: it can only show that it lives by taking
/// what it is sent, and the system tells of that in large pieces.
const SILENCES_OF_THROTTLED: u32 = 5;

/// Keepalive of one session, and its kept round trips.
pub(super) struct KeepAlive {
    pulse: Option<Pulse>,
    /// The times of keepalive's pings.
    trips: Option<Box<RoundTrips>>,
    /// The payload of the ping under way, also of one of the program's own, whose pong the program recognises by itself.
    probe: [u8; 8],
    /// Whether that was not sent yet.
    is_fresh: bool,
    /// How much had left when that was looked at last.
    written: u64,
    /// How often a throttled peer was silent since it has taken something.
    silences: u32,
    /// Since when nobody reads, where that is known only in hindsight.
    away_since: Option<Instant>,
    /// The last time in which we did not read.
    unread: Option<Unread>,
}

/// A time in which we did not read, and when it ended.
#[derive(Clone, Copy)]
struct Unread {
    ended: Instant,
    lasted: Duration,
}

/// What is due when a session's time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing. The timer is to be set anew.
    Nothing,
    /// A ping of whatever kind: see [`begin_probe`](Session::begin_probe).
    Ping,
    /// The peer is silent: see [`give_up_silent`](Session::give_up_silent).
    Silent { for_: Duration },
    /// The peer does not go on: see [`give_up_stalled`](Session::give_up_stalled).
    Stalled(Stall),
    /// Closing has taken too long, and has ended.
    Expired,
}

/// The timer.
impl Session {
    /// The session has opened, or has come to another thread.
    pub fn begin_keepalive(&mut self, config: &Config, now: Instant) {
        let pulse = config.keepalive.as_ref().map(|keepalive| Pulse::new(keepalive, now));
        let trips = config.keep_round_trips.then(|| Box::new(RoundTrips::new()));
        if pulse.is_none() && trips.is_none() {
            return;
        }
        self.is_timed = pulse.is_some();
        self.extras().keep_alive = Some(KeepAlive {
            pulse,
            trips,
            probe: [0; 8],
            is_fresh: false,
            written: 0,
            silences: 0,
            away_since: None,
            unread: None,
        });
    }

    /// There is nothing to keep alive any more. What was measured stays.
    pub fn end_keepalive(&mut self) {
        self.is_timed = false;
        self.end_watch();
        if let Some(keep_alive) = self.keep_alive() {
            keep_alive.pulse = None;
        }
    }

    fn keep_alive(&mut self) -> Option<&mut KeepAlive> {
        self.extras.as_mut()?.keep_alive.as_mut()
    }

    fn pulse(&mut self) -> Option<&mut Pulse> {
        self.keep_alive()?.pulse.as_mut()
    }

    /// Whether there is keepalive, which has to know when something arrives.
    #[inline]
    pub fn is_timed(&self) -> bool {
        self.is_timed
    }

    /// When [`tick`](Session::tick) is to be called: what keepalive waits for and the next look at what is incomplete while the
    /// connection is open, and the end of the time for closing after that.
    pub fn deadline(&mut self, now: Instant) -> Option<Instant> {
        if !self.is_open() {
            return self.closing_deadline(now);
        }
        let pulse = self.pulse().and_then(|pulse| pulse.deadline());
        pulse.into_iter().chain(self.look_at()).min()
    }

    /// The duty that is due now. `reads` says that what arrives is read.
    pub fn tick(&mut self, now: Instant, reads: bool, env: Env<'_>) -> Due {
        if !self.is_open() {
            let was_closing = self.closing_deadline(now).is_some();
            self.expire(now);
            let has_expired = was_closing && self.closing_deadline(now).is_none();
            return if has_expired { Due::Expired } else { Due::Nothing };
        }
        if let Some(stall) = self.look(now, reads, env) {
            return Due::Stalled(stall);
        }
        let is_throttled = self.is_throttled;
        let Some(keep_alive) = self.keep_alive() else { return Due::Nothing };
        match keep_alive.pulse.as_mut().map(|pulse| pulse.check(now)) {
            Some(Check::Ping) => Due::Ping,
            Some(Check::Silent { for_ }) => {
                keep_alive.silences += 1;
                match is_throttled && keep_alive.silences < SILENCES_OF_THROTTLED {
                    true => Due::Nothing,
                    false => Due::Silent { for_ },
                }
            }
            Some(Check::NotYet) | None => Due::Nothing,
        }
    }

    /// Nothing is to be expected of the peer: it is told why, and then TCP ends.
    #[cold]
    pub fn give_up_silent(&mut self, silent_for: Duration, io: &mut impl Transport, buffers: &Buffers) {
        drop(self.note(Error::Timeout(TimeoutKind::Silence { silent_for })));
        let reason = format!("no sign of life for {:.1} s", silent_for.as_secs_f64());
        self.close_now(io, CloseCode::GOING_AWAY, &reason, buffers);
    }
}

/// Pings and pongs.
impl Session {
    /// A ping is due: its payload is chosen, where round trips are kept.
    pub fn begin_probe(&mut self, now: Instant) {
        if let Some(keep_alive) = self.keep_alive()
            && let Some(trips) = &mut keep_alive.trips
        {
            keep_alive.probe = trips.begin(now);
            keep_alive.is_fresh = true;
        }
    }

    /// The payload of a ping for keepalive; `None` if no round trips are kept: it needs none then.
    pub fn take_probe(&mut self, now: Instant) -> Option<[u8; 8]> {
        let keep_alive = self.keep_alive()?;
        let trips = keep_alive.trips.as_mut()?;
        match std::mem::take(&mut keep_alive.is_fresh) {
            true => Some(keep_alive.probe),
            false => Some(trips.begin(now)),
        }
    }

    /// A pong has arrived. Whether it answers a ping of keepalive.
    pub fn pong_arrived(&mut self, payload: &[u8], now: Instant) -> bool {
        let Some(keep_alive) = self.keep_alive() else { return false };
        if let Some(pulse) = &mut keep_alive.pulse {
            pulse.answered(now);
        }
        keep_alive.trips.as_mut().is_some_and(|trips| trips.pong(payload, now).is_some())
    }

    /// The program says that its own ping was answered, in a message.
    pub fn probe_answered(&mut self, now: Instant) {
        let Some(keep_alive) = self.keep_alive() else { return };
        let Some(pulse) = &mut keep_alive.pulse else { return };
        if pulse.awaits_reply()
            && let Some(trips) = &mut keep_alive.trips
        {
            trips.pong(&keep_alive.probe, now);
        }
        pulse.answered(now);
    }

    /// Whether the answer to a ping of keepalive is outstanding.
    pub fn awaits_pong(&mut self) -> bool {
        self.pulse().is_some_and(|pulse| pulse.awaits_reply())
    }

    /// How long keepalive's pings took to come back.
    pub fn round_trips(&self) -> Option<RoundTripSummary> {
        self.extras.as_ref()?.keep_alive.as_ref()?.trips.as_ref()?.summary()
    }
}

/// Signs of life, and times without a verdict.
impl Session {
    /// Bytes have arrived.
    #[inline]
    pub fn heard(&mut self, now: impl FnOnce() -> Instant) {
        if self.is_timed {
            let now = now();
            if let Some(pulse) = self.pulse() {
                pulse.heard(now);
            }
        }
    }

    /// Counts it as a sign of life if the peer has taken something since the last time.
    #[cold]
    pub(super) fn heard_by_taking(&mut self, now: Instant) {
        let written = self.outbox.written();
        let Some(keep_alive) = self.keep_alive() else { return };
        if std::mem::replace(&mut keep_alive.written, written) != written {
            keep_alive.silences = 0;
            if let Some(pulse) = &mut keep_alive.pulse {
                pulse.heard(now);
            }
        }
    }

    /// From now on no verdict is given.
    pub fn hold_keepalive(&mut self, why: Hold, now: Instant) {
        if let Some(pulse) = self.pulse() {
            pulse.hold(why, now);
        }
    }

    /// The reason for that is gone. Whether there was one: then the timer is to be set anew.
    pub fn release_keepalive(&mut self, why: Hold, now: Instant) -> bool {
        let Some(keep_alive) = self.keep_alive() else { return false };
        let released = keep_alive.pulse.as_mut().and_then(|pulse| pulse.release(why, now));
        let Some(lasted) = released else { return false };
        if why == Hold::NotReading {
            // Of a callback that has waited, more is known.
            let known = keep_alive.unread.filter(|known| known.lasted > lasted && known.ended + lasted > now);
            keep_alive.unread = known.or(Some(Unread { ended: now, lasted }));
        }
        true
    }

    /// For so long nothing was read, as a callback has waited.
    pub fn was_unread(&mut self, lasted: Duration, ended: Instant) {
        if lasted >= WORTH_TELLING
            && let Some(keep_alive) = self.keep_alive()
        {
            keep_alive.unread = Some(Unread { ended, lasted });
        }
    }

    /// From now on nobody reads, for how long is not known. Only what turns out to be long counts: where it does not, keepalive goes
    /// on as if nothing was.
    #[inline]
    pub fn leaves_unread(&mut self, now: impl FnOnce() -> Instant) {
        if self.is_timed
            && let Some(keep_alive) = self.keep_alive()
        {
            keep_alive.away_since.get_or_insert_with(now);
        }
    }

    /// Somebody reads again.
    #[inline]
    pub fn reads_again(&mut self, now: impl FnOnce() -> Instant) {
        if self.is_timed {
            let Some(since) = self.keep_alive().and_then(|it| it.away_since.take()) else { return };
            let now = now();
            if now.saturating_duration_since(since) >= WORTH_TELLING {
                self.hold_keepalive(Hold::NotReading, since);
                self.release_keepalive(Hold::NotReading, now);
            }
        }
    }

    /// For how long we did not read, if that was just before now, and long: the peer may have given us up because of it. `stall` is
    /// the last one of the thread that reads: when it ended, and how long it lasted.
    pub fn unread_for(&self, stall: Option<(Instant, Duration)>, now: Instant) -> Option<Duration> {
        let stall = stall.map(|(ended, lasted)| Unread { ended, lasted });
        let keep_alive = self.extras.as_ref().and_then(|extras| extras.keep_alive.as_ref());
        let known = keep_alive.and_then(|it| it.unread);
        let just_ended = |unread: &Unread| {
            unread.lasted >= WORTH_TELLING && now.saturating_duration_since(unread.ended) <= unread.lasted
        };
        [stall, known].into_iter().flatten().filter(just_ended).map(|unread| unread.lasted).max()
    }
}
