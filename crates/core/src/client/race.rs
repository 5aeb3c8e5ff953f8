//! Happy eyeballs (RFC 8305): which addresses to try, and when, without I/O and without a clock.
//!
//! The addresses alternate between the families, begun with the one that the resolver prefers. Each attempt has a head start of
//! 250 ms over the next, unless it fails before; the first that connects wins, and the others are dropped.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The head start of each attempt (RFC 8305, section 5: "Connection Attempt Delay").
pub const HEAD_START: Duration = Duration::from_millis(250);

/// Attempts to connect to one of several addresses.
#[derive(Debug)]
pub struct Race {
    /// Not tried yet.
    waiting: VecDeque<SocketAddr>,
    /// Those under way, and when they are given up.
    running: Vec<(SocketAddr, Option<Instant>)>,
    failed: Vec<(SocketAddr, io::Error)>,
    /// When the next may begin, as long as another one is under way.
    next: Option<Instant>,
    /// Whether the next may begin at once.
    is_due: bool,
    /// How long each attempt may take.
    limit: Option<Duration>,
    /// How many were given up as that had passed.
    late: usize,
}

/// The next step of the race.
#[derive(Debug, PartialEq, Eq)]
pub enum RaceStep {
    /// Begin to connect to this one.
    Start(SocketAddr),
    /// Drop this attempt: it has taken too long. It counts as failed.
    GiveUp(SocketAddr),
    /// Wait for one of those under way, until then at most.
    Wait(Option<Instant>),
    /// No address is left.
    Lost,
}

impl Race {
    pub fn new(addresses: Vec<SocketAddr>, limit: Option<Duration>) -> Race {
        Race {
            waiting: interleaved(addresses),
            running: Vec::new(),
            failed: Vec::new(),
            next: None,
            is_due: true,
            limit,
            late: 0,
        }
    }

    /// The next step; to be called again until the step is to wait, and whenever something has changed.
    pub fn advance(&mut self, now: Instant) -> RaceStep {
        let is_late = |(_, deadline): &(SocketAddr, Option<Instant>)| deadline.is_some_and(|due| due <= now);
        if let Some(position) = self.running.iter().position(is_late) {
            let (address, _) = self.running.remove(position);
            let limit = self.limit.unwrap_or_default();
            let error = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
            self.late += 1;
            self.is_due = true;
            self.failed.push((address, error));
            return RaceStep::GiveUp(address);
        }
        if (self.is_due || self.next.is_some_and(|next| next <= now))
            && let Some(address) = self.waiting.pop_front()
        {
            self.running.push((address, self.limit.and_then(|limit| now.checked_add(limit))));
            self.next = (!self.waiting.is_empty()).then(|| now + HEAD_START);
            self.is_due = false;
            return RaceStep::Start(address);
        }
        if self.running.is_empty() {
            return RaceStep::Lost;
        }
        let deadlines = self.running.iter().filter_map(|(_, deadline)| *deadline);
        RaceStep::Wait(deadlines.chain(self.next).min())
    }

    /// An attempt has failed: the next need not wait any longer (RFC 8305, section 5).
    pub fn failed(&mut self, address: SocketAddr, error: io::Error) {
        tracing::debug!(%address, %error, "can't connect");
        self.running.retain(|(running, _)| *running != address);
        self.failed.push((address, error));
        self.is_due = true;
    }

    /// All that failed, in order, where [`advance`](Race::advance) says that the race is lost; and whether all of them were given
    /// up as they took too long.
    pub fn into_failures(self) -> (Vec<(SocketAddr, io::Error)>, bool) {
        let all_late = self.late > 0 && self.late == self.failed.len();
        (self.failed, all_late)
    }
}

/// The same addresses, each once, by turns of the one family and the other (RFC 8305, section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let prefers_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == prefers_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = VecDeque::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return all;
        }
        for address in pair.into_iter().flatten() {
            if !all.contains(&address) {
                all.push_back(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn refused() -> io::Error {
        io::ErrorKind::ConnectionRefused.into()
    }

    const A4: &str = "192.0.2.1:80";
    const B4: &str = "192.0.2.2:80";
    const C4: &str = "192.0.2.3:80";
    const A6: &str = "[2001:db8::1]:80";
    const B6: &str = "[2001:db8::2]:80";

    fn start(address: &str) -> RaceStep {
        RaceStep::Start(address.parse().unwrap())
    }

    #[test]
    fn families_take_turns_and_the_resolver_says_which_is_first() {
        for (given, order) in [
            (&[A4, B4, C4, A6, B6][..], &[A4, A6, B4, B6, C4][..]),
            (&[A6, B6, A4], &[A6, A4, B6]),
            (&[A4, B4, A4], &[A4, B4]),
            (&[A6], &[A6]),
            (&[], &[]),
        ] {
            assert_eq!(interleaved(addresses(given)), addresses(order));
        }
    }

    #[test]
    fn each_attempt_has_a_head_start() {
        let now = Instant::now();
        let mut race = Race::new(addresses(&[A6, A4, B6]), None);
        assert_eq!(race.advance(now), start(A6));
        assert_eq!(race.advance(now), RaceStep::Wait(Some(now + HEAD_START)));
        let almost = now + HEAD_START - Duration::from_nanos(1);
        assert_eq!(race.advance(almost), RaceStep::Wait(Some(now + HEAD_START)));
        assert_eq!(race.advance(now + HEAD_START), start(A4));
        assert_eq!(race.advance(now + 2 * HEAD_START), start(B6));
        assert_eq!(race.advance(now + 2 * HEAD_START), RaceStep::Wait(None));
    }

    #[test]
    fn a_failure_lets_the_next_begin_at_once_and_the_last_loses() {
        let now = Instant::now();
        let mut race = Race::new(addresses(&[A6, A4, B6]), None);
        assert_eq!(race.advance(now), start(A6));
        race.failed(A6.parse().unwrap(), refused());
        assert_eq!(race.advance(now), start(A4));
        assert_eq!(race.advance(now + HEAD_START), start(B6));
        race.failed(B6.parse().unwrap(), refused());
        assert_eq!(race.advance(now + HEAD_START), RaceStep::Wait(None));
        race.failed(A4.parse().unwrap(), refused());
        assert_eq!(race.advance(now + HEAD_START), RaceStep::Lost);
        let (failed, all_late) = race.into_failures();
        assert_eq!(failed.iter().map(|(address, _)| *address).collect::<Vec<_>>(), addresses(&[A6, B6, A4]));
        assert!(!all_late);
    }

    #[test]
    fn an_attempt_that_takes_too_long_is_given_up() {
        let (now, limit) = (Instant::now(), HEAD_START * 2);
        let mut race = Race::new(addresses(&[A6, A4]), Some(limit));
        assert_eq!(race.advance(now), start(A6));
        assert_eq!(race.advance(now + HEAD_START), start(A4));
        assert_eq!(race.advance(now + HEAD_START), RaceStep::Wait(Some(now + limit)));
        assert_eq!(race.advance(now + limit), RaceStep::GiveUp(A6.parse().unwrap()));
        assert_eq!(race.advance(now + limit), RaceStep::Wait(Some(now + HEAD_START + limit)));
        assert_eq!(race.advance(now + HEAD_START + limit), RaceStep::GiveUp(A4.parse().unwrap()));
        assert_eq!(race.advance(now + HEAD_START + limit), RaceStep::Lost);
        let (failed, all_late) = race.into_failures();
        assert!(all_late && failed.iter().all(|(_, error)| error.kind() == io::ErrorKind::TimedOut));
    }

    #[test]
    fn without_addresses_it_is_lost() {
        assert_eq!(Race::new(Vec::new(), None).advance(Instant::now()), RaceStep::Lost);
    }
}
