//! Keepalive on a loop: the session says what is due, and the listener is asked what a ping looks like.
//!
//! The times come from the loop's turns, not from a clock read for each connection. In a turn sockets are read before
//! timers ring, so what lies unread in the socket counts as life before a verdict is given.

use std::rc::Rc;
use std::time::Instant;

use threadwire_proto::keepalive::Hold;
use threadwire_proto::{Message, RoundTripSummary};
use threadwire_worker::{EventLoop, TimeKeeper, TimerId};

use super::flags::Flags;
use super::{Connection, Extras, Phase, WeakConnection};
use crate::{Error, Listener};
use threadwire_core::session::keepalive::Due;
use threadwire_core::session::progress::Stall;

/// What a connection with keepalive has on its loop.
pub(super) struct KeepaliveTimer {
    timer: Option<TimerId>,
    _time: TimeKeeper,
}

/// What a program does about it.
impl Connection {
    /// Sends a ping for keepalive: what [`Listener::on_ping_due`] does by default. Its payload is one by which its pong is
    /// recognised, where round trips are kept ([`Config::keep_round_trips`]); otherwise it has none.
    ///
    /// [`Config::keep_round_trips`]: crate::Config::keep_round_trips
    pub fn probe(&self) -> Result<(), Error> {
        let payload = self.0.session.borrow_mut().take_probe(Instant::now());
        self.ping(payload.as_ref().map_or(&[], |payload| &payload[..]))
    }

    /// The answer to a ping of the program's own making was found in a message, after the fact: for pongs that are recognised
    /// in [`Listener::on_message`] rather than in [`Listener::is_pong`] (picows' `notify_user_specific_pong_received`).
    pub fn pong_received(&self) {
        self.0.session.borrow_mut().probe_answered(Instant::now());
        self.set_inspects();
    }

    /// How long pings took to come back so far, if [`Config::keep_round_trips`](crate::Config::keep_round_trips) is on and one
    /// has.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::{Client, Config, Connection, Keepalive, Message, wait_until};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
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
        self.0.session.borrow().round_trips()
    }
}

/// What the connection does about it.
impl Connection {
    pub(super) fn with_extras<R>(&self, work: impl FnOnce(&mut Extras) -> Option<R>) -> Option<R> {
        work(self.0.extras.borrow_mut().as_deref_mut()?)
    }

    /// The connection has just opened.
    pub(super) fn begin_keeping(&self) {
        self.0.session.borrow_mut().begin_keepalive(&self.0.site.config, Instant::now());
        if self.0.session.borrow().is_timed() {
            self.keep_time();
        }
    }

    /// From here on there is a timer.
    fn keep_time(&self) {
        let _time = EventLoop::current().keep_time();
        let mut extras = self.0.extras.borrow_mut();
        extras.get_or_insert_default().keepalive.get_or_insert(KeepaliveTimer { timer: None, _time });
        drop(extras);
        self.set_pulse_timer();
    }

    /// Something is left over at the end of a turn: whether it goes on is looked at from time to time.
    #[cold]
    pub(super) fn watch(&self) {
        if self.0.phase.get() != Phase::Running || !self.is_open() {
            return;
        }
        let mut session = self.0.session.borrow_mut();
        let was_throttled = session.is_throttled();
        let stall = session.watch(Instant::now(), self.env());
        let reads_on = was_throttled && !session.is_throttled();
        drop(session);
        if let Some(stall) = stall {
            return self.give_up_stalled(stall);
        }
        if reads_on {
            self.read_on();
        }
        self.keep_time();
    }

    #[cold]
    fn give_up_stalled(&self, stall: Stall) {
        self.0.session.borrow_mut().give_up_stalled(stall, self.env());
        self.mark_dirty();
    }

    /// Sets the timer to the session's deadline.
    fn set_pulse_timer(&self) {
        let weak = WeakConnection(Rc::downgrade(&self.0));
        let is_timed = self.0.session.borrow().is_timed();
        let deadline = match self.is_open() {
            true => self.0.session.borrow_mut().deadline(Instant::now()),
            false => None,
        };
        self.with_extras(|extras| {
            let keepalive = extras.keepalive.as_mut()?;
            let event_loop = EventLoop::current();
            if let Some(timer) = keepalive.timer.take() {
                event_loop.cancel(timer);
            }
            if deadline.is_none() && !is_timed {
                // All that was left over has gone.
                extras.keepalive = None;
                return None;
            }
            keepalive.timer = deadline.map(|deadline| {
                event_loop.at(deadline, move || {
                    if let Some(connection) = weak.upgrade() {
                        // As a source of the loop, so that what it calls is known by the connection's name.
                        connection.set(Flags::PULSE_DUE, true);
                        connection.mark_dirty();
                    }
                })
            });
            Some(())
        });
    }

    /// The deadline has come. What counts is the time of the last poll: what has come since is not read.
    pub(super) fn look_at_pulse(&self) {
        self.set(Flags::PULSE_DUE, false);
        if EventLoop::current().is_too_deep() {
            // No callback may be called now. The timer rings when the waits have ended.
            return self.set_pulse_timer();
        }
        if self.0.phase.get() != Phase::Running || !self.is_open() {
            return;
        }
        if self.0.listener.borrow().is_none() {
            // A callback waits, and what the peer says waits with it.
            self.hold_pulse(Hold::NotReading);
            self.0.session.borrow_mut().put_off_look(Instant::now(), self.env());
            return self.set_pulse_timer();
        }
        let reads = self.reads();
        let was_throttled = self.0.session.borrow().is_throttled();
        let due = self.0.session.borrow_mut().tick(EventLoop::current().turned_at(), reads, self.env());
        match due {
            Due::Ping => self.ping_is_due(),
            Due::Silent { for_ } => {
                self.0.session.borrow_mut().give_up_silent(for_, &self.0.registry.buffers);
                return self.mark_dirty();
            }
            Due::Stalled(stall) => self.give_up_stalled(stall),
            Due::Nothing | Due::Expired => {}
        }
        if was_throttled && self.is_open() && !self.0.session.borrow().is_throttled() {
            self.read_on();
        }
        self.set_pulse_timer();
    }

    fn ping_is_due(&self) {
        self.0.session.borrow_mut().begin_probe(Instant::now());
        self.set_inspects();
        self.call(|listener| {
            self.guard(|| match listener.on_ping_due(self) {
                // So much waits for the peer that it shows by taking some of it whether it lives.
                Err(Error::Limit(_)) => Ok(()),
                result => result,
            });
        });
        self.settle();
    }

    /// A pong has arrived.
    #[cold]
    pub(super) fn pong_arrived(&self, payload: &[u8]) {
        let is_probe = self.0.session.borrow_mut().pong_arrived(payload, Instant::now());
        if !is_probe {
            self.measured(payload);
        }
        self.set_inspects();
    }

    /// When a callback is called, if that matters.
    #[inline]
    pub(super) fn begin_call(&self) -> Option<Instant> {
        self.0.session.borrow().is_timed().then(|| EventLoop::current().turned_at())
    }

    /// It has returned. If the loop has turned meanwhile, it has waited.
    pub(super) fn end_call(&self, begun: Instant) {
        let ended = EventLoop::current().turned_at();
        self.0.session.borrow_mut().was_unread(ended.saturating_duration_since(begun), ended);
        if self.reads() {
            self.release_pulse(Hold::NotReading);
        }
    }

    /// From now on no verdict is given.
    pub(super) fn hold_pulse(&self, why: Hold) {
        self.0.session.borrow_mut().hold_keepalive(why, Instant::now());
    }

    /// The reason for that is gone.
    pub(super) fn release_pulse(&self, why: Hold) {
        let released = self.0.session.borrow_mut().release_keepalive(why, Instant::now());
        if released {
            self.set_pulse_timer();
        }
    }

    /// The connection ends: there is nothing to keep alive.
    pub(super) fn end_keeping(&self) {
        let keepalive = self.with_extras(|extras| extras.keepalive.take());
        if let Some(timer) = keepalive.and_then(|keepalive| keepalive.timer) {
            EventLoop::current().cancel(timer);
        }
        self.0.session.borrow_mut().end_keepalive();
    }
}

/// Messages that are looked at before the listener gets them.
impl Connection {
    /// Finds out whether they are.
    pub(super) fn set_inspects(&self) {
        let awaits_pong = self.0.session.borrow_mut().awaits_pong();
        let has_others = |extras: &mut Extras| !(extras.watchers.is_empty() && extras.receivers.is_empty());
        let is_watched = self.with_extras(|extras| has_others(extras).then_some(())).is_some();
        self.set(Flags::INSPECTS, awaits_pong || is_watched);
    }

    /// Looks at a message. True if the listener is not to get it.
    #[cold]
    pub(super) fn inspect(&self, listener: &mut dyn Listener, message: Message<'_>) -> bool {
        let awaits_pong = self.0.session.borrow_mut().awaits_pong();
        if awaits_pong && listener.is_pong(self, message) {
            self.pong_received();
            return true;
        }
        self.tell_watchers(message);
        self.tell_receivers(message);
        false
    }
}
