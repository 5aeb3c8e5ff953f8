//! Errors of `accept`: which of them concern one connection, which tell that sockets are short, and how long a server then waits.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

/// The most connections of a turn that may fail to be accepted: the others wait for the next turn.
const FAILURES_PER_TURN: usize = 16;

/// How long accepting rests when the system can't give another socket: until connections end, trying again is no use.
const PAUSE: Duration = Duration::from_millis(50);

/// The meaning of an error of `accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection that was to be accepted: others may be well.
    Peer,
    /// The system can't give another socket: one that is given up makes room.
    Shortage,
    /// The socket that accepts, or something unheard of.
    Other,
}

/// Errors that the network had for a connection before it was accepted; Linux passes them on.
const OF_PEERS: &[Errno] = &[
    Errno::CONNABORTED,
    Errno::CONNRESET,
    Errno::INTR,
    Errno::TIMEDOUT,
    Errno::NETDOWN,
    Errno::PROTO,
    Errno::NOPROTOOPT,
    Errno::HOSTDOWN,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Errno::NONET,
    Errno::HOSTUNREACH,
    Errno::OPNOTSUPP,
    Errno::NETUNREACH,
    Errno::PERM,
];

const OF_SHORTAGE: &[Errno] = &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];

impl Fault {
    pub fn of(error: &io::Error) -> Fault {
        match Errno::from_io_error(error) {
            Some(errno) if OF_PEERS.contains(&errno) => Fault::Peer,
            Some(errno) if OF_SHORTAGE.contains(&errno) => Fault::Shortage,
            _ => Fault::Other,
        }
    }
}

/// The consequence of an error of `accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterError {
    /// The next connection is accepted at once.
    GoOn,
    /// Accepting rests for this long.
    Rest(Duration),
    /// The same; the oldest handshake makes room for others, since a peer that holds a socket and says nothing has one to spare.
    RestAndDropOldest(Duration),
}

/// The failures of one turn of accepting.
#[derive(Debug, Default)]
pub struct Failures(usize);

impl Failures {
    /// Judges, and logs, one more of them.
    pub fn after(&mut self, error: &io::Error) -> AfterError {
        self.0 += 1;
        let fault = Fault::of(error);
        if fault == Fault::Peer && self.0 < FAILURES_PER_TURN {
            tracing::debug!(%error, "a connection ended before it was accepted");
            return AfterError::GoOn;
        }
        tracing::warn!(%error, "can't accept connections for now");
        match fault {
            Fault::Shortage => AfterError::RestAndDropOldest(PAUSE),
            _ => AfterError::Rest(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_short_makes_others_make_room() {
        for (fault, errors) in [
            (Fault::Shortage, &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM][..]),
            (
                Fault::Peer,
                &[
                    Errno::CONNABORTED,
                    Errno::CONNRESET,
                    Errno::INTR,
                    Errno::NETDOWN,
                    Errno::PROTO,
                    Errno::HOSTUNREACH,
                    Errno::OPNOTSUPP,
                    Errno::NETUNREACH,
                    Errno::PERM,
                ],
            ),
            (Fault::Other, &[Errno::BADF, Errno::INVAL, Errno::NOTSOCK]),
        ] {
            for &errno in errors {
                assert_eq!(Fault::of(&errno.into()), fault, "{errno:?}");
            }
        }
        assert_eq!(Fault::of(&io::ErrorKind::Other.into()), Fault::Other);
    }

    #[test]
    fn peers_that_leave_do_not_pause_accepting_unless_there_is_no_end_of_them() {
        let mut failures = Failures::default();
        let left = io::Error::from(Errno::CONNABORTED);
        for _ in 1..FAILURES_PER_TURN {
            assert_eq!(failures.after(&left), AfterError::GoOn);
        }
        assert_eq!(failures.after(&left), AfterError::Rest(PAUSE));
        assert_eq!(Failures::default().after(&Errno::MFILE.into()), AfterError::RestAndDropOldest(PAUSE));
        assert_eq!(Failures::default().after(&Errno::INVAL.into()), AfterError::Rest(PAUSE));
    }
}
