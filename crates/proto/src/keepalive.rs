//! Keepalive: when to ping a peer, and when to call it silent (RFC 6455, section 5.5.2).
//!
//! A peer that vanishes without ending TCP looks like one that has nothing to say. So it is pinged, and whoever does
//! not answer is given up. Three decisions make that fair and exact:
//!
//! - **Alive means bytes.** Whatever is received shows that the peer lives: half of a long message as well as a pong.
//!   A pong that waits behind that message can't come in time, and need not.
//! - **Our own silence is not the peer's.** While we do not read, nothing can be heard, and no verdict is given
//!   ([`Hold`]).
//! - **Deadlines, not rounds.** What is received resolves the wait for an answer at once, and the time to the next ping
//!   has nothing to do with that wait. (In picows, whose strategies these are, the wait lasts for the whole reply
//!   timeout however early the pong comes, so that pings are never closer than both timeouts together.)
//!
//! [`Keepalive`] is the settings, [`Pulse`] the state of one connection. There is no clock in it and nothing is sent by
//! it: time is an argument, and what a ping looks like is the caller's choice. [`RoundTrips`](crate::RoundTrips) gives
//! payloads that measure as well.
//!
//! # Example
//!
//! ```
//! use std::time::{Duration, Instant};
//! use threadwire_proto::keepalive::{Check, Keepalive, Pulse};
//!
//! let second = Duration::from_secs(1);
//! let start = Instant::now();
//! let mut pulse = Pulse::new(&Keepalive::default(), start);
//!
//! // The caller's timer rings when it was set to, and is set anew if bytes have come in the meantime.
//! let timer = pulse.deadline().unwrap();
//! assert_eq!(timer, start + 20 * second);
//! pulse.heard(start + 5 * second);
//! assert_eq!(pulse.check(timer), Check::NotYet);
//! let timer = pulse.deadline().unwrap();
//! assert_eq!(timer, start + 25 * second);
//!
//! // Nothing came for 20 s: a ping is due, and after another 20 s without a byte the peer is called silent.
//! assert_eq!(pulse.check(timer), Check::Ping);
//! let timer = pulse.deadline().unwrap();
//! assert_eq!(pulse.check(timer), Check::Silent { for_: 40 * second });
//! ```

use std::time::{Duration, Instant};

/// When a peer is pinged, and for how long it may stay silent then. A connection without keepalive has none: the type
/// for that is `Option<Keepalive>`.
///
/// Both times are taken for at least [`SHORTEST`](Keepalive::SHORTEST) and at most [`LONGEST`](Keepalive::LONGEST), so
/// that no setting makes a caller spin or a clock overflow. [`Duration::MAX`] means *never*: as `reply_timeout` it
/// pings, and never calls a peer silent.
///
/// ```
/// use std::time::Duration;
/// use threadwire_proto::{Keepalive, PingStrategy};
///
/// // Proxies that drop idle connections want something to be sent, whatever is received.
/// let keepalive = Keepalive::default().strategy(PingStrategy::Periodically);
/// assert_eq!(keepalive.idle_timeout, Duration::from_secs(20));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepalive {
    /// [`WhenIdle`](PingStrategy::WhenIdle): for how long nothing must have been received before a ping is due.
    /// [`Periodically`](PingStrategy::Periodically): the time from one ping to the next. 20 s by default.
    pub idle_timeout: Duration,
    /// The time that the first byte after a ping may take. 20 s by default. May be longer than `idle_timeout`.
    pub reply_timeout: Duration,
    /// The condition that makes a ping due. [`PingStrategy::WhenIdle`] by default.
    pub strategy: PingStrategy,
}

crate::setters! {
    Keepalive { idle_timeout: Duration, reply_timeout: Duration, strategy: PingStrategy }
}

impl Keepalive {
    /// The shortest time, for which shorter ones (also zero) are taken: 1 ms.
    pub const SHORTEST: Duration = Duration::from_millis(1);
    /// The longest time, for which longer ones are taken: thirty years.
    pub const LONGEST: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        let timeout = Duration::from_secs(20);
        Keepalive { idle_timeout: timeout, reply_timeout: timeout, strategy: PingStrategy::default() }
    }
}

/// The condition that makes a ping due. picows' `PING_WHEN_IDLE` and `PING_PERIODICALLY`.
///
/// ```
/// use threadwire_proto::PingStrategy;
/// assert_eq!(PingStrategy::default(), PingStrategy::WhenIdle);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PingStrategy {
    /// Nothing was received for [`Keepalive::idle_timeout`]: a peer that talks is never pinged. One ping, and then no
    /// other until something is received.
    #[default]
    WhenIdle,
    /// The last ping was [`Keepalive::idle_timeout`] ago, whatever was received since: for what lies between us and the
    /// peer and wants traffic in our direction, and for regular measurements.
    Periodically,
}

/// A duty that is due: the answer of [`Pulse::check`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use threadwire_proto::keepalive::{Check, Keepalive, Pulse};
///
/// let now = Instant::now();
/// match Pulse::new(&Keepalive::default(), now).check(now + Duration::from_secs(20)) {
///     Check::NotYet => unreachable!("nothing was heard for 20 s"),
///     Check::Ping => { /* send one, and set the timer */ }
///     Check::Silent { for_ } => eprintln!("the peer was silent for {for_:?}"),
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing. [`Pulse::deadline`] says when to ask again.
    NotYet,
    /// Send a ping, of whatever kind. It counts as sent.
    Ping,
    /// The peer is silent: not one byte was received for [`Keepalive::reply_timeout`] after a ping.
    Silent {
        /// For how long nothing was received in all, that is, since the last byte before that ping. Time before the
        /// last [`Pulse::release`] is left out.
        for_: Duration,
    },
}

/// Why no verdict may be given for a while. The two are independent of each other: a connection may be held for both.
///
/// ```
/// use std::time::{Duration, Instant};
/// use threadwire_proto::keepalive::{Hold, Keepalive, Pulse};
///
/// let now = Instant::now();
/// let mut pulse = Pulse::new(&Keepalive::default(), now);
/// pulse.hold(Hold::NotReading, now);
/// pulse.hold(Hold::Measuring, now);
/// pulse.release(Hold::NotReading, now + Duration::from_secs(1));
/// assert!(pulse.is_held());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// We do not read: the program can't keep up, or has paused. The peer may have said much that we have not seen.
    NotReading,
    /// Pings of the program's own are under way (picows holds keepalive back while it measures round trips, too), and a
    /// ping of ours between them would spoil the result. Whoever measures has to give up by itself some time
    /// ([`RoundTrips::waiting_since`](crate::RoundTrips::waiting_since)): until then a peer that has vanished is not
    /// noticed.
    Measuring,
}

/// The keepalive of one connection: what was heard from the peer, and what is due because of it.
///
/// The caller has four duties:
///
/// 1. [`heard`](Pulse::heard) with every read that brought bytes;
/// 2. one timer, set to [`deadline`](Pulse::deadline). When it rings, [`check`](Pulse::check), and set it to the new
///    deadline. Received bytes only ever move the deadline later, so nothing need be done about the timer then: it
///    rings early, `check` says [`NotYet`](Check::NotYet), and it is set again. The module has an example;
/// 3. read before `check`, when both are possible: what lies unread in the socket is life, too. A thread that was busy
///    for a while finds both at once, and how far it is past the deadline is its own delay, not the peer's;
/// 4. [`hold`](Pulse::hold) and [`release`](Pulse::release) where it stops reading and begins again.
///
/// Time that runs backwards is taken for time that stands still. Size: 120 bytes on 64-bit systems, and no heap.
#[derive(Clone, Debug)]
pub struct Pulse {
    idle: Duration,
    reply: Duration,
    strategy: PingStrategy,
    /// The last sign of life; after a hold, its end.
    heard: Instant,
    /// No ping is due before this. While an idle peer's answer is awaited, it moves on with every look, so that the
    /// deadline is never later than it would be if a byte had come since (see `deadline`).
    ping_at: Instant,
    /// When the peer is to be called silent. `None` once it was heard since the last ping.
    silent_at: Option<Instant>,
    /// Whether the reply itself is outstanding, which bytes of another kind leave as it is.
    awaits_reply: bool,
    not_reading_since: Option<Instant>,
    measuring_since: Option<Instant>,
}

impl Pulse {
    /// A connection that has just opened: the first ping is due after [`Keepalive::idle_timeout`].
    pub fn new(keepalive: &Keepalive, now: Instant) -> Pulse {
        let bounded = |time: Duration| time.clamp(Keepalive::SHORTEST, Keepalive::LONGEST);
        let idle = bounded(keepalive.idle_timeout);
        Pulse {
            idle,
            reply: bounded(keepalive.reply_timeout),
            strategy: keepalive.strategy,
            heard: now,
            ping_at: now + idle,
            silent_at: None,
            awaits_reply: false,
            not_reading_since: None,
            measuring_since: None,
        }
    }

    /// Bytes were received, whichever: the peer lives, and any wait for its answer is over. Once for each read will
    /// do.
    #[inline]
    pub fn heard(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        self.silent_at = None;
    }

    /// When [`check`](Pulse::check) must be called next, exactly. `None` while the connection is held.
    ///
    /// Received bytes never move it to an earlier time. So where `idle_timeout` is the shorter of the two, `check` is
    /// wanted every `idle_timeout` during a wait, though it may say [`NotYet`](Check::NotYet): after a byte in that
    /// time, the next ping may be due before the wait would have ended.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadwire_proto::keepalive::{Check, Keepalive, Pulse};
    ///
    /// let second = Duration::from_secs(1);
    /// let start = Instant::now();
    /// let mut pulse = Pulse::new(&Keepalive::default().idle_timeout(second), start);
    /// assert_eq!(pulse.check(start + second), Check::Ping);
    /// assert_eq!(pulse.deadline(), Some(start + 2 * second));
    /// pulse.heard(start + second * 3 / 2);
    /// assert_eq!(pulse.deadline(), Some(start + second * 5 / 2));
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        if self.is_held() {
            return None;
        }
        let ping_at = self.ping_at();
        Some(self.silent_at.map_or(ping_at, |silent_at| silent_at.min(ping_at)))
    }

    /// The duty that is due at `now`. Where both a verdict and a ping are, the verdict comes first.
    ///
    /// After [`Ping`](Check::Ping) the peer has [`Keepalive::reply_timeout`] to be heard, counted from `now`; another
    /// periodic ping does not prolong that. [`Silent`](Check::Silent) is usually the end of the connection. For a caller
    /// that only takes note of it, it is given again every `reply_timeout` until the peer is heard.
    pub fn check(&mut self, now: Instant) -> Check {
        if self.is_held() {
            return Check::NotYet;
        }
        if self.silent_at.is_some_and(|silent_at| silent_at <= now) {
            self.silent_at = Some(now + self.reply);
            return Check::Silent { for_: now.saturating_duration_since(self.heard) };
        }
        if now < self.ping_at() {
            return Check::NotYet;
        }
        self.ping_at = now + self.idle;
        if self.strategy == PingStrategy::WhenIdle && self.silent_at.is_some() {
            return Check::NotYet;
        }
        self.silent_at.get_or_insert(now + self.reply);
        self.awaits_reply = true;
        Check::Ping
    }

    /// Whether the reply to a ping is outstanding: a program that makes pings of its own, such as the text
    /// `{"op":"ping"}`, need look for its pongs among the messages only then.
    ///
    /// That is another question than whether the peer lives. Other messages show that as well, and yet the pong is still
    /// to be recognised when it comes; so this stays true from [`Check::Ping`] to [`answered`](Pulse::answered),
    /// however much is [`heard`](Pulse::heard).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadwire_proto::keepalive::{Check, Keepalive, Pulse};
    ///
    /// let now = Instant::now();
    /// let mut pulse = Pulse::new(&Keepalive::default(), now);
    /// let now = now + Duration::from_secs(20);
    /// assert_eq!(pulse.check(now), Check::Ping);
    /// pulse.heard(now);
    /// let mut delivered = Vec::new();
    /// for message in [r#"{"price":7}"#, r#"{"op":"pong"}"#, r#"{"op":"pong"}"#] {
    ///     if pulse.awaits_reply() && message == r#"{"op":"pong"}"# {
    ///         pulse.answered(now);
    ///     } else {
    ///         delivered.push(message);
    ///     }
    /// }
    /// assert_eq!(delivered, [r#"{"price":7}"#, r#"{"op":"pong"}"#], "the second pong answers no ping of ours");
    /// ```
    #[inline]
    pub fn awaits_reply(&self) -> bool {
        self.awaits_reply
    }

    /// The reply to the last ping has come: a pong frame, or what the program takes for one (picows'
    /// `is_user_specific_pong` and `notify_user_specific_pong_received`). A sign of life as well.
    pub fn answered(&mut self, now: Instant) {
        self.awaits_reply = false;
        self.heard(now);
    }

    /// From now on, no ping is due and no verdict is given, for this reason. To hold again for the same one changes
    /// nothing.
    pub fn hold(&mut self, why: Hold, now: Instant) {
        self.since(why).get_or_insert(now);
    }

    /// This reason is over. Returns for how long it lasted (where we did not read, that is what to report); `None` if
    /// the connection was not held for it.
    ///
    /// Without another reason, both times start anew: a ping is due after `idle_timeout`, or, if a ping had been sent
    /// before and nothing was heard since, the peer has `reply_timeout` from now to be heard. Set the timer again.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadwire_proto::keepalive::{Check, Hold, Keepalive, Pulse};
    ///
    /// let second = Duration::from_secs(1);
    /// let start = Instant::now();
    /// let mut pulse = Pulse::new(&Keepalive::default(), start);
    /// pulse.hold(Hold::NotReading, start + 2 * second);
    /// assert_eq!((pulse.deadline(), pulse.check(start + 60 * second)), (None, Check::NotYet));
    /// assert_eq!(pulse.release(Hold::NotReading, start + 90 * second), Some(88 * second));
    /// assert_eq!(pulse.deadline(), Some(start + 110 * second));
    /// ```
    pub fn release(&mut self, why: Hold, now: Instant) -> Option<Duration> {
        let since = self.since(why).take()?;
        // If another reason is left, none of this is seen before that is released, and it is done anew then.
        self.heard = self.heard.max(now);
        self.ping_at = self.heard + self.idle;
        if let Some(silent_at) = &mut self.silent_at {
            *silent_at = self.heard + self.reply;
        }
        Some(now.saturating_duration_since(since))
    }

    /// Whether the connection is held, for whichever reason.
    pub fn is_held(&self) -> bool {
        self.not_reading_since.is_some() || self.measuring_since.is_some()
    }

    fn since(&mut self, why: Hold) -> &mut Option<Instant> {
        match why {
            Hold::NotReading => &mut self.not_reading_since,
            Hold::Measuring => &mut self.measuring_since,
        }
    }

    fn ping_at(&self) -> Instant {
        match self.strategy {
            PingStrategy::WhenIdle => self.ping_at.max(self.heard + self.idle),
            PingStrategy::Periodically => self.ping_at,
        }
    }
}
