//! Keepalive: what [`Pulse`] says is done here, and it is told what it has to know.
//!
//! The times come from the loop's turns, not from a clock read for each connection. In a turn sockets are read before
//! timers ring, so what lies unread in the socket counts as life before a verdict is given.

use std::rc::Rc;
use std::time::{Duration, Instant};

use threadwire_proto::keepalive::{Check, Hold, Keepalive, Pulse};
use threadwire_proto::{CloseCode, Message, RoundTripSummary, RoundTrips};
use threadwire_worker::{EventLoop, TimeKeeper, TimerId};

use super::{Connection, Extras, Phase, WeakConnection};
use crate::TimeoutKind;
use crate::flow::Flow;
use crate::{Error, Listener};

/// For how long this side may not read before [`Closed::unread_for`](crate::Closed::unread_for) tells of it.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// What a connection with keepalive has.
pub(super) struct Keeping {
    pulse: Pulse,
    timer: Option<TimerId>,
    /// What the present ping carries: also if it is one of the program's own, whose pong it recognises by itself.
    probe: [u8; 8],
    /// Whether that was not sent yet.
    is_fresh: bool,
    _time: TimeKeeper,
    /// How much had left when that was looked at last.
    written: u64,
    /// How often a peer was silent from which nothing is read, since it has taken something.
    silences: u32,
}

/// A time in which we did not read, and when it ended.
#[derive(Clone, Copy)]
pub(super) struct Unread {
    ended: Instant,
    lasted: Duration,
}

/// What a program does about it.
impl Connection {
    /// Sends a ping for keepalive: what [`Listener::on_ping_due`] does by default. Its payload is one by which its pong is
    /// recognised, where round trips are kept ([`Config::keep_round_trips`]); otherwise it has none.
    ///
    /// [`Config::keep_round_trips`]: crate::Config::keep_round_trips
    pub fn probe(&self) -> Result<(), Error> {
        let payload = self.with_extras(|extras| {
            let trips = extras.trips.as_mut()?;
            match &mut extras.keeping {
                Some(keeping) if keeping.is_fresh => {
                    keeping.is_fresh = false;
                    Some(keeping.probe)
                }
                _ => Some(trips.begin(Instant::now())),
            }
        });
        self.ping(payload.as_ref().map_or(&[], |payload| &payload[..]))
    }

    /// The answer to a ping of the program's own making was found in a message, after the fact: for pongs that are recognised
    /// in [`Listener::on_message`] rather than in [`Listener::is_pong`] (picows' `notify_user_specific_pong_received`).
    pub fn pong_received(&self) {
        self.with_extras(|extras| {
            let now = Instant::now();
            let keeping = extras.keeping.as_mut()?;
            if keeping.pulse.awaits_reply()
                && let Some(trips) = &mut extras.trips
            {
                trips.pong(&keeping.probe, now);
            }
            keeping.pulse.answered(now);
            Some(())
        });
        self.set_inspects();
    }

    /// How long pings took to come back so far, if [`Config::keep_round_trips`](crate::Config::keep_round_trips) is on and one
    /// has.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::{Client, Config, Connection, Keepalive, Message, wait_until};
    /// # use threadwire::{Accept, Server};
    /// # let echo = || Accept::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let often = Keepalive::default().idle_timeout(Duration::from_millis(5));
    /// let config = Config::default().keepalive(often).keep_round_trips(true);
    /// let ws = Client::new(&url)?.config(config).connect(|_: &Connection, _: Message<'_>| Ok(()))?;
    /// wait_until(None, || ws.round_trips().is_some())?;
    /// let trips = ws.round_trips().unwrap();
    /// println!("{:?} now, {:?} usually, {:?} at worst", trips.last, trips.p50, trips.max);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn round_trips(&self) -> Option<RoundTripSummary> {
        self.with_extras(|extras| extras.trips.as_ref()?.summary())
    }
}

/// What the connection does about it.
impl Connection {
    pub(super) fn with_extras<R>(&self, work: impl FnOnce(&mut Extras) -> Option<R>) -> Option<R> {
        work(self.0.extras.borrow_mut().as_deref_mut()?)
    }

    /// The connection has just opened.
    pub(super) fn begin_keeping(&self) {
        let config = &self.0.site.config;
        if let Some(keepalive) = &config.keepalive {
            self.keep_alive(keepalive);
        }
        if config.keep_round_trips {
            let mut extras = self.0.extras.borrow_mut();
            extras.get_or_insert_default().trips = Some(Box::new(RoundTrips::new()));
        }
    }

    fn keep_alive(&self, keepalive: &Keepalive) {
        let event_loop = EventLoop::current();
        let time = event_loop.keep_time();
        let pulse = Pulse::new(keepalive, Instant::now());
        let keeping = Keeping {
            pulse,
            timer: None,
            probe: [0; 8],
            is_fresh: false,
            _time: time,
            written: 0,
            silences: 0,
        };
        self.0.extras.borrow_mut().get_or_insert_default().keeping = Some(keeping);
        self.0.flow.set(Flow { timed: true, ..self.0.flow.get() });
        self.set_pulse_timer();
    }

    fn with_keeping<R>(&self, work: impl FnOnce(&mut Keeping) -> R) -> Option<R> {
        self.with_extras(|extras| extras.keeping.as_mut().map(work))
    }

    /// Sets the timer to the pulse's deadline.
    fn set_pulse_timer(&self) {
        let weak = WeakConnection(Rc::downgrade(&self.0));
        self.with_keeping(|keeping| {
            let event_loop = EventLoop::current();
            if let Some(timer) = keeping.timer.take() {
                event_loop.cancel(timer);
            }
            keeping.timer = keeping.pulse.deadline().map(|deadline| {
                event_loop.at(deadline, move || {
                    if let Some(connection) = weak.upgrade() {
                        // As a source of the loop, so that what it calls is known by the connection's name.
                        connection.0.flow.set(Flow { pulse_due: true, ..connection.0.flow.get() });
                        connection.mark_dirty();
                    }
                })
            });
        });
    }

    /// The deadline has come. What counts is the time of the last poll: what has come since is not read.
    pub(super) fn look_at_pulse(&self) {
        self.0.flow.set(Flow { pulse_due: false, ..self.0.flow.get() });
        if EventLoop::current().is_too_deep() {
            // No callback may be called now. The timer rings when the waits have ended.
            return self.set_pulse_timer();
        }
        if self.0.phase.get() != Phase::Running || !self.is_open() {
            return;
        }
        if self.0.listener.borrow().is_none() {
            // A callback waits, and what the peer says waits with it.
            return self.hold_pulse(Hold::NotReading);
        }
        let now = EventLoop::current().turned_at();
        match self.with_keeping(|keeping| keeping.pulse.check(now)) {
            Some(Check::Ping) => self.ping_is_due(),
            Some(Check::Silent { .. }) if self.is_given_more_time() => {}
            Some(Check::Silent { for_ }) => return self.give_up_silent(for_),
            Some(Check::NotYet) | None => {}
        }
        self.set_pulse_timer();
    }

    fn ping_is_due(&self) {
        self.with_extras(|extras| {
            let keeping = extras.keeping.as_mut()?;
            keeping.probe = extras.trips.as_mut()?.begin(Instant::now());
            keeping.is_fresh = true;
            Some(())
        });
        self.set_inspects();
        self.call(|listener| {
            self.guard(|| match listener.on_ping_due(self) {
                // So much waits for the peer that it shows by taking some of it whether it lives.
                Err(Error::Limit { .. }) => Ok(()),
                result => result,
            });
        });
        self.settle();
    }

    /// Where nothing is read from a peer that does not read either, it can only show that it lives by taking what it is sent, and
    /// the system tells of that in large pieces.
    fn is_given_more_time(&self) -> bool {
        const TIMES: u32 = 5;
        let is_throttled = self.0.flow.get().throttled;
        let silences = self.with_keeping(|keeping| {
            keeping.silences += 1;
            keeping.silences
        });
        is_throttled && silences.is_some_and(|silences| silences < TIMES)
    }

    /// Nothing is to be expected of the peer: it is told why, and TCP is dropped.
    #[cold]
    fn give_up_silent(&self, silent_for: Duration) {
        self.note(Error::Timeout(TimeoutKind::Silence { silent_for }));
        let reason = format!("no sign of life for {:.1} s", silent_for.as_secs_f64());
        // Where that fails, the peer is told nothing.
        let _ = self.close_with(CloseCode::GOING_AWAY, &reason);
        self.write();
        self.abort();
    }

    /// Bytes have arrived.
    #[inline]
    pub(super) fn heard(&self) {
        if self.0.flow.get().timed {
            let now = EventLoop::current().turned_at();
            self.with_keeping(|keeping| keeping.pulse.heard(now));
        }
    }

    /// Counts it as a sign of life if the peer has taken something since the last time.
    #[cold]
    pub(super) fn heard_by_taking(&self) {
        let written = self.0.link.borrow().written();
        self.with_keeping(|keeping| {
            if std::mem::replace(&mut keeping.written, written) != written {
                keeping.silences = 0;
                keeping.pulse.heard(EventLoop::current().turned_at());
            }
        });
    }

    /// A pong has arrived.
    #[cold]
    pub(super) fn pong_arrived(&self, payload: &[u8]) {
        let is_probe = self.with_extras(|extras| {
            let now = Instant::now();
            if let Some(keeping) = &mut extras.keeping {
                keeping.pulse.answered(now);
            }
            extras.trips.as_mut()?.pong(payload, now)
        });
        if is_probe.is_none() {
            self.measured(payload);
        }
        self.set_inspects();
    }

    /// When a callback is called, if that matters.
    #[inline]
    pub(super) fn begin_call(&self) -> Option<Instant> {
        self.0.flow.get().timed.then(|| EventLoop::current().turned_at())
    }

    /// It has returned. If the loop has turned meanwhile, it has waited.
    pub(super) fn end_call(&self, begun: Instant) {
        let ended = EventLoop::current().turned_at();
        let lasted = ended.saturating_duration_since(begun);
        if lasted >= WORTH_TELLING {
            self.with_extras(|extras| extras.unread.replace(Unread { ended, lasted }));
        }
        if self.0.flow.get().reads() {
            self.release_pulse(Hold::NotReading);
        }
    }

    /// From now on no verdict is given.
    pub(super) fn hold_pulse(&self, why: Hold) {
        self.with_keeping(|keeping| keeping.pulse.hold(why, Instant::now()));
    }

    /// The reason for that is gone.
    pub(super) fn release_pulse(&self, why: Hold) {
        let now = Instant::now();
        let released = self.with_keeping(|keeping| keeping.pulse.release(why, now)).flatten();
        let Some(lasted) = released else { return };
        if why == Hold::NotReading {
            let unread = Unread { ended: now, lasted };
            self.with_extras(|extras| {
                // Of a callback that has waited, more is known.
                let known = extras.unread.filter(|known| known.lasted > lasted && known.ended + lasted > now);
                extras.unread = known.or(Some(unread));
                Some(())
            });
        }
        self.set_pulse_timer();
    }

    /// The connection ends: there is nothing to keep alive.
    pub(super) fn end_keeping(&self) {
        let keeping = self.with_extras(|extras| extras.keeping.take());
        if let Some(timer) = keeping.and_then(|keeping| keeping.timer) {
            EventLoop::current().cancel(timer);
        }
        self.0.flow.set(Flow { timed: false, ..self.0.flow.get() });
    }

    /// For how long we did not read, if that was just before now, and long: the peer may have given us up because of it.
    pub(super) fn unread_for(&self) -> Option<Duration> {
        let stall = EventLoop::current().last_stall();
        let stall = stall.map(|(ended, lasted)| Unread { ended, lasted });
        let held = self.with_extras(|extras| extras.unread);
        let now = Instant::now();
        let just_ended = |unread: &Unread| {
            unread.lasted >= WORTH_TELLING && now.saturating_duration_since(unread.ended) <= unread.lasted
        };
        [stall, held].into_iter().flatten().filter(just_ended).map(|unread| unread.lasted).max()
    }
}

/// Messages that are looked at before the listener gets them.
impl Connection {
    /// Finds out whether they are.
    pub(super) fn set_inspects(&self) {
        let awaits_reply = self.with_keeping(|keeping| keeping.pulse.awaits_reply()).unwrap_or(false);
        let has_others = |extras: &mut Extras| !(extras.watchers.is_empty() && extras.receivers.is_empty());
        let is_watched = self.with_extras(|extras| has_others(extras).then_some(())).is_some();
        self.0.flow.set(Flow { inspects: awaits_reply || is_watched, ..self.0.flow.get() });
    }

    /// Looks at a message. True if the listener is not to get it.
    #[cold]
    pub(super) fn inspect(&self, listener: &mut dyn Listener, message: Message<'_>) -> bool {
        let awaits_reply = self.with_keeping(|keeping| keeping.pulse.awaits_reply()).unwrap_or(false);
        if awaits_reply && listener.is_pong(self, message) {
            self.pong_received();
            return true;
        }
        self.tell_watchers(message);
        self.tell_receivers(message);
        false
    }
}
